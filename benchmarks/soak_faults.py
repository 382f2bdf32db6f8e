"""The faults of a soak: each kind once a round, in an order that a seed gives."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from soak_site import Options, Site

from poison import poison  # isort: skip — soak_site puts tests/ on the path


class Faults(threading.Thread):
    """One fault after the other, each kind once a round, until told to stop."""

    def __init__(self, site: Site, options: Options, stopped: Callable[[], bool]) -> None:
        super().__init__(name="faults")
        self._site, self._stopped_too = site, stopped
        self._rng = random.Random(options.seed)  # noqa: S311 — a seed that is printed is no secret
        self._pause = min(45.0, options.minutes * 60 / 12)
        self._over = threading.Event()
        self.done: list[tuple[float, str]] = []
        """When, in monotonic seconds, and what."""
        self.failed: list[str] = []

    def stop(self) -> None:
        """End it, and what it is about."""
        self._over.set()
        self.join()

    def run(self) -> None:
        """Go round."""
        kinds = [self._kill, self._poison, self._cut, self._away, self._retrain]
        while not self._stopped():
            self._rng.shuffle(kinds)
            for kind in kinds:
                self._over.wait(self._pause * self._rng.uniform(0.5, 1.5))
                if self._stopped():
                    return
                at = time.monotonic()
                try:
                    told = kind()
                except (RuntimeError, OSError, ValueError) as error:
                    self.failed.append(f"{kind.__name__}: {error}")
                    return
                self.done.append((at, told))

    def _stopped(self) -> bool:
        return self._over.is_set() or self._stopped_too()

    def _kill(self) -> str:
        self._site.victim.kill()
        self._over.wait(self._rng.choice([0.0, 3.0, 10.0]))
        self._site.victim.start()
        return "kill -9 and restart"

    def _poison(self) -> str:
        self._site.publisher.poison(poison())
        return "poison messages"

    def _cut(self) -> str:
        self._site.proxy.cut()
        if self._rng.random() < 0.5:
            return "connections cut"
        self._site.proxy.refuse()
        self._over.wait(4.0)
        self._site.proxy.allow()
        return "connections cut and refused"

    def _away(self) -> str:
        hard = self._rng.random() < 0.5
        if hard:
            self._site.broker.kill()
        else:
            self._site.broker.stop()
        self._over.wait(self._rng.uniform(1.0, 6.0))
        self._site.broker.start()
        return f"broker {'killed' if hard else 'stopped'} and started"

    def _retrain(self) -> str:
        return f"retrain: {self._site.retrain(self._stopped)}"
