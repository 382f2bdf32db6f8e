"""Two workers under faults for a long time, at many times real time: windows lost, altered or repeated, and what grows."""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common import markdown
from kafka_common import load
from soak_faults import Faults
from soak_figures import MIB, Sample, complaints, disk, judged, sample, slopes, table
from soak_site import Options, Site

from streamclust.store.models import ModelStore

SAMPLE_S, SAY_S = 10.0, 60.0


@dataclass
class Watch:
    """What is seen of a site from the first message on."""

    site: Site
    faults: Faults
    samples: list[Sample]
    began: float
    rejected: set[tuple[bytes, bytes]]
    """Partition and offset of quarantined messages."""

    @property
    def seconds(self) -> float:
        """Since the signal began."""
        return time.monotonic() - self.began

    def follow(self, seconds: float, stopped: Callable[[], bool]) -> None:
        """Read, sample and tell for this long."""
        end, next_sample, next_word = self.began + seconds, self.began, self.began + SAY_S
        while (now := time.monotonic()) < end and not stopped():
            self.read(0.2)
            if now >= next_sample:
                next_sample += SAMPLE_S
                self._look()
            if now >= next_word:
                next_word += SAY_S
                print(self.word(), flush=True)
            if self.faults.failed:
                return

    def read(self, seconds: float) -> None:
        """Take what has come."""
        for message in self.site.output.read(seconds):
            self.site.tally.take(json.loads(message.value()))
        for message in self.site.rejects.read(0):
            headers = dict(message.headers() or ())
            self.rejected.add((headers["partition"], headers["offset"]))

    def drain(self, quiet: float) -> None:
        """Read until every window is there, or nothing new comes for so many seconds."""
        tally, ends = self.site.tally, self.site.publisher.ends_ns
        last, at = -1, time.monotonic()
        while self.rejects_missing or tally.received < tally.expected(ends):
            self.read(0.2)
            if tally.received + len(self.rejected) != last:
                last, at = tally.received + len(self.rejected), time.monotonic()
            if time.monotonic() - at > quiet:
                return

    @property
    def rejects_missing(self) -> int:
        """Poison messages that are not in the quarantine."""
        return max(0, self.site.publisher.poisoned - len(self.rejected))

    def word(self) -> str:
        """Return one line of progress."""
        tally, publisher = self.site.tally, self.site.publisher
        expected = tally.expected(dict(publisher.ends_ns))
        uses = []
        for worker in (self.site.steady, self.site.victim):
            mine = [one for one in self.samples if one.worker == worker.name]
            if mine:
                one = mine[-1]
                uses.append(
                    f"{one.worker} {one.rss / MIB:.0f} MiB {one.fds} fds {one.threads} threads {one.disk / MIB:.0f} MiB disk"
                )
        return (
            f"{self.seconds / 60:5.1f} min: {publisher.sent} records, {expected} windows expected, "
            f"{expected - tally.received} to come, {tally.repeated} repeated, {tally.altered} altered; "
            f"{'; '.join(uses)}; {len(self.faults.done)} faults, load {load()}"
        )

    def _look(self) -> None:
        for worker in (self.site.steady, self.site.victim):
            found = sample(worker, self.seconds)
            if found is not None:
                self.samples.append(found)
        self.site.steady.revive()


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Yield what says whether Ctrl-C (or SIGTERM) came; a second one ends at once."""
    asked = threading.Event()

    def handle(number: int, _frame: object) -> None:
        if asked.is_set():
            raise SystemExit(128 + number)
        asked.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def soak(site: Site, options: Options, stopped: Callable[[], bool]) -> tuple[Watch, list[str]]:
    """Run for the time asked for, bring all to its end, and return what was seen and what ended wrongly."""
    site.start(stopped)
    print("the signal begins", flush=True)
    faults = Faults(site, options, stopped)
    watch = Watch(site, faults, [], time.monotonic(), set())
    faults.start()
    try:
        watch.follow(options.minutes * 60, stopped)
    finally:
        faults.stop()
        site.publisher.stop()
    print("the signal has ended; waiting for the last windows", flush=True)
    watch.drain(quiet=60.0)
    wrong = list(faults.failed)
    for worker in (site.steady, site.victim):
        code = worker.stop()
        wrong += [f"{worker.name} ended with code {code}: {worker.tail()}"] if code else []
        wrong += [f"{worker.name} ended by itself, {end}" for end in worker.ended_wrong]
    for _ in range(5):
        watch.read(0.3)
    return watch, wrong


def report(
    watch: Watch, wrong: list[str], options: Options, began_disk: Mapping[str, Mapping[str, int]]
) -> dict[str, Any]:
    """Print what came of it; return the same for programs."""
    site = watch.site
    ends = site.publisher.ends_ns
    verdict = site.tally.verdict(ends)
    lines = {worker.name: slopes(watch.samples, worker.name) for worker in (site.steady, site.victim)}
    memory = lines[site.steady.name].get("rss")
    versions = max(len(ModelStore(worker.state / "models").versions()) for worker in (site.steady, site.victim))
    once = options.delivery == "exactly_once"
    wrong = [*complaints(verdict, lines[site.steady.name], versions, once=once), *wrong]
    if watch.rejects_missing:
        wrong.append(f"{watch.rejects_missing} poison messages are not in the quarantine")
    counted = Counter(told.partition(":")[0] for _, told in watch.faults.done)
    print(f"\nfaults: {', '.join(f'{count} {kind}' for kind, count in sorted(counted.items())) or 'none'}")
    for told in (told for _, told in watch.faults.done if told.startswith("retrain")):
        print(f"  {told}")
    print(f"events by model version: {dict(sorted(site.tally.models.items()))}\n")
    print(
        markdown(
            "Windows", [{**verdict._asdict(), "poison": site.publisher.poisoned, "quarantined": len(watch.rejected)}]
        )
    )
    print(
        markdown("Slopes after warm-up", [row for name, found in lines.items() for row in table(name, found)] or [{}])
    )
    said = {worker.name: worker.said() for worker in (site.steady, site.victim)}
    for name, kinds in said.items():
        print(f"log of {name}: {', '.join(f'{count} {kind}' for kind, count in kinds.items())}\n")
    models = {worker.name: worker.told_of_models() for worker in (site.steady, site.victim)}
    for name, told in models.items():
        print("".join(f"{name}: {line}\n" for line in told))
    sizes = {worker.name: disk(worker.state) for worker in (site.steady, site.victim)}
    rows = [
        {
            "worker": name,
            "entry": entry,
            "at first kB": began_disk[name].get(entry, 0) // 1000,
            "at last kB": size // 1000,
        }
        for name, found in sizes.items()
        for entry, size in sorted(found.items())
    ]
    print(markdown("State directories", rows))
    print(f"models in a state directory: {versions}\n{site.steady.name}: {judged(memory)}\n")
    for example in site.tally.examples:
        print(f"altered: {example}")
    for stream, start_ns in site.tally.missing(ends):
        print(f"missing: {stream} {start_ns}")
    print("\n".join(f"FAILED: {one}" for one in wrong) or "passed")
    return {
        "options": asdict(options),
        "seconds": watch.seconds,
        "verdict": verdict._asdict(),
        "failed": wrong,
        "poison": {"sent": site.publisher.poisoned, "quarantined": len(watch.rejected)},
        "models": dict(site.tally.models),
        "faults": [{"seconds": at - watch.began, "what": told} for at, told in watch.faults.done],
        "slopes": {name: {key: line._asdict() for key, line in found.items()} for name, found in lines.items()},
        "disk": {"first": began_disk, "last": sizes, "versions": versions},
        "log": said,
        "wrong_models": models,
        "samples": [one._asdict() for one in watch.samples],
    }


def arguments(argv: Sequence[str]) -> tuple[Options, Path | None]:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=150.0, help="of signal and faults, default 150")
    parser.add_argument("--streams", type=int, default=40, help="at 100 Hz, default 40")
    parser.add_argument("--speed", type=float, default=50.0, help="times real time, default 50")
    parser.add_argument("--delivery", choices=("at_least_once", "exactly_once"), default="at_least_once")
    parser.add_argument("--client", choices=("kafka-python", "confluent"), default="kafka-python")
    parser.add_argument("--seed", type=int, default=None, help="of the faults; any when not given")
    parser.add_argument("--out", type=Path, help="JSON file for all figures and samples")
    found = parser.parse_args(argv)
    seed = found.seed if found.seed is not None else random.SystemRandom().randrange(1 << 30)
    return Options(found.minutes, found.streams, found.speed, found.delivery, found.client, seed), found.out


def main(argv: Sequence[str]) -> int:
    """Run; return 0 when passed, 1 when not, 130 when it was interrupted."""
    options, out = arguments(argv)
    print(f"{options}; load {load()}", flush=True)
    with interruptible() as stopped, tempfile.TemporaryDirectory(prefix="soak-") as folder:
        try:
            with Site(Path(folder), options) as site:
                told = _soaked(site, options, stopped)
        except (
            RuntimeError,
            AssertionError,
        ):  # what could not be made ready, or a run of the tests' daemon that failed
            if stopped():
                return 130
            raise
        if out is not None:
            out.write_text(json.dumps(told))
        if stopped():
            return 130
        return 1 if told["failed"] else 0


def _soaked(site: Site, options: Options, stopped: Callable[[], bool]) -> dict[str, Any]:
    began_disk = {worker.name: disk(worker.state) for worker in (site.steady, site.victim)}
    watch, wrong = soak(site, options, stopped)
    return report(watch, wrong, options, began_disk)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
