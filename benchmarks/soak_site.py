"""What a soak runs: a broker behind a proxy, two workers of one group, a looped signal, and a reader of what comes out."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml
from soak_signal import NS, Piece, Publisher, Reader, one_loop
from soak_tally import Plan, Tally

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "tests"))

import daemons  # noqa: E402 — tests/ is on the path from here on
from kafka_broker import HOST, Cluster, Proxy, free_port  # noqa: E402 — likewise

WINDOW, HOP, LOOP = 10.24, 5.12, 512
"""Seconds; a loop is 100 hops."""
PARTITIONS = 6
PATIENCE_S = 120.0
WRONG_MODELS = frozenset(
    {"model.rolled_back", "model.rollback_failed", "model.refused", "retrain.refused", "retrain.killed"}
)
_COMMON = frozenset({"time", "level"})
RETENTION = {"retention_ms": 900_000, "segment_bytes": 32 * 1024 * 1024}
"""Of input and output: a soak of a day must not fill the disk."""


class Worker:
    """A daemon that is started, killed and started again; it dies with us, whatever ends us."""

    def __init__(self, name: str, config: Path) -> None:
        self.name, self.config, self.state = name, config, config.parent / "state"
        self.log = config.parent / "log.jsonl"
        self.lives = 0
        self.ended_wrong: list[str] = []
        """Codes of ends that nobody asked for."""
        self._born = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Of its process, while it runs."""
        process = self._process  # another thread may put it away
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Begin a life."""
        self.log.touch()
        self._born = self.log.stat().st_size
        self.lives += 1
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "streamclust", "run", "-c", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        self._watcher = subprocess.Popen(  # however we end, this pipe is closed then
            ["sh", "-c", 'read -r _; kill -KILL "$1"', "watcher", str(self._process.pid)],  # noqa: S607 — of any system
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def kill(self) -> None:
        """End it as a power cut would. May be called when it does not run."""
        self._end(signal.SIGKILL)

    def stop(self, timeout: float = 60.0) -> int:
        """End it in good order; return the exit code, -9 when it took too long."""
        return self._end(signal.SIGTERM, timeout)

    def told(self, kind: str) -> int:
        """Return how many events of one kind this life has logged."""
        with self.log.open("rb") as log:
            log.seek(self._born)
            return log.read().count(f'"event": "{kind}"'.encode())

    def said(self) -> dict[str, int]:
        """Return how often each kind of event is in the log of all lives; at most ten a minute are."""
        return dict(sorted(Counter(line["event"] for line in self._lines()).items()))

    def told_of_models(self) -> list[str]:
        """Return what the log of all lives says of models that went wrong, with what was compared."""
        found = [line for line in self._lines() if line["event"] in WRONG_MODELS]
        return [f"{line['time']} {json.dumps({k: v for k, v in line.items() if k not in _COMMON})}" for line in found]

    def _lines(self) -> list[dict[str, Any]]:
        lines = self.log.read_bytes().splitlines()
        return [json.loads(line) for line in lines if line.startswith(b"{") and line.endswith(b"}")]

    def revive(self) -> None:
        """Start it anew if it ended by itself, and remember that."""
        if self._process is not None and self._process.poll() is not None:
            self.kill()
            self.start()

    def tail(self, size: int = 600) -> str:
        """Return the end of its log."""
        return self.log.read_bytes()[-size:].decode(errors="replace")

    def _end(self, number: signal.Signals, timeout: float = 60.0) -> int:
        if self._process is None:
            return 0
        code = self._process.poll()
        if code is None:
            self._process.send_signal(number)
            try:
                code = self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self._process.kill()
                code = self._process.wait()
        else:
            self.ended_wrong.append(f"exit code {code}: {self.tail()}")
        self._forget()
        return code

    def _forget(self) -> None:
        """Put the watcher away, first of all: it must not kill who gets this pid next."""
        if self._watcher is not None:
            self._watcher.kill()
            self._watcher.wait()
            if self._watcher.stdin is not None:
                self._watcher.stdin.close()
        self._process = self._watcher = None


@dataclass(frozen=True, slots=True)
class Options:
    """What a soak is asked to do."""

    minutes: float
    streams: int
    speed: float
    delivery: str
    client: str
    seed: int


class Site:
    """All of it; a context at whose end nothing is left."""

    def __init__(self, folder: Path, options: Options) -> None:
        self._folder, self._options = folder, options
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._open(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _open(self, stack: ExitStack) -> None:
        self.plan, loop, models = self._rehearse()
        port = free_port()
        self.proxy = stack.enter_context(Proxy(HOST, port))
        broker = Cluster(self._folder / "broker", ports=port, advertised_ports=self.proxy.port)
        self.broker = stack.enter_context(broker)
        topics = {"input": PARTITIONS, "assignments": 3, "quarantine": 1}
        for name, partitions in topics.items():
            self.broker.new_topic(partitions, name=name, **RETENTION)
        self.steady, self.victim = (self._worker(name) for name in ("steady", "victim"))
        shutil.copytree(models, self.steady.state / "models")
        for worker in (self.steady, self.victim):
            stack.callback(worker.kill)
        self.output = Reader(self.broker.internal, "assignments", 3)
        stack.callback(self.output.close)
        self.rejects = Reader(self.broker.internal, "quarantine", 1)
        stack.callback(self.rejects.close)
        self.publisher = Publisher(self.broker.internal, "input", loop, self.plan.loop_ns, self._options.speed)

    def start(self, stopped: Callable[[], bool]) -> None:
        """Start the workers one after the other, so that the second finds the model of the first; then the signal."""
        for worker in (self.steady, self.victim):
            worker.start()
            until(lambda worker=worker: stopped() or worker.pid is None or worker.told("model.active"))
            if worker.pid is None:
                raise RuntimeError(f"{worker.name} did not start: {worker.tail(3000)}")
        self.publisher.start()

    def retrain(self, stopped: Callable[[], bool]) -> str:
        """Let a person train on the buffer of the steady worker; return what became of it."""
        command = [sys.executable, "-m", "streamclust", "retrain", "-c", str(self.steady.config), "--now", "--json"]
        with subprocess.Popen(
            ["nice", "-n", "10", *command],  # noqa: S607 — of any system
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        ) as process:  # fmt: skip
            deadline = time.monotonic() + 300
            while process.poll() is None and time.monotonic() < deadline and not stopped():
                time.sleep(0.2)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            told = process.stdout.read() if process.stdout else b""
        if not told:
            return "ended by the soak" if stopped() else f"no outcome, exit code {process.returncode}"
        ended = json.loads(told)
        return f"{ended['kind']} {ended['version'] or ''} {'; '.join(ended['reasons'])[:300]}".strip()

    def _rehearse(self) -> tuple[Plan, list[Piece], Path]:
        """Run over two loops as files: a model, and what each window of the signal gives under it."""
        home = self._folder / "rehearsal"
        data = daemons.recordings(home / "recordings", streams=self._options.streams, seconds=LOOP)
        loop = one_loop(data)
        streams = tuple(sorted({piece.stream for piece in loop}))
        plan = Plan(streams, daemons.T0, LOOP * NS, round(WINDOW * NS), round(HOP * NS), "soak/1")
        twice = home / "twice"
        twice.mkdir()
        both = [piece.shifted(shift_ns) for shift_ns in (0, LOOP * NS) for piece in loop]
        (twice / "records.mseed").write_bytes(b"".join(both))
        self.tally = Tally(plan)
        path = daemons.config(home, twice, sinks=[{"type": "jsonl"}], **self._common())
        daemons.run(path, timeout=600)
        events = daemons.lines(home / "state")
        for event in events:
            self.tally.learn(event)
        wanted = len(streams) * plan.windows(plan.start_ns + 2 * plan.loop_ns)
        if len(events) != wanted:
            raise RuntimeError(f"the grid has {wanted} windows, the rehearsal gave {len(events)}")
        return plan, loop, home / "state" / "models"

    def _common(self) -> dict[str, Any]:
        least = min(1000, 60 * self._options.streams)
        return {
            "profile": {"name": "soak", "window_seconds": WINDOW, "hop_seconds": HOP},
            "model": {"clusters": 4, "min_windows": least, "dimensions": 8},
        }

    def _worker(self, name: str) -> Worker:
        options = self._options
        names = {"assignments": "assignments", "quarantine": "quarantine"}
        exact = options.delivery == "exactly_once"
        source = {"type": "kafka", "topics": ["input"], "group": "soak", "session_timeout": 6, "max_turn": 30}
        sections: dict[str, Any] = self._common()
        sections["model"] |= {"share": "kafka"}
        path = daemons.config(
            self._folder / name,
            self._folder,
            source={**source, **({"member": name} if exact else {})},
            sinks=[{"type": "kafka", "delivery": options.delivery}],
            kafka={"bootstrap": [self.proxy.address], "client": options.client, "topics": names, "request_timeout": 5},
            buffer={"max_bytes": 10_000_000},
            state={"quarantine_bytes": 1024 * 1024},
            retrain={
                "every": 300,
                "rest": 60,
                "look_every": 5,
                "keep_models": 3,
                "activate_after": 120 * options.speed,
            },
            **sections,
        )
        settings = yaml.safe_load(path.read_text())
        del settings["source"]["paths"]  # those of files
        path.write_text(yaml.safe_dump(settings))
        return Worker(name, path)


def until(done: Callable[[], Any], limit: float = PATIENCE_S) -> bool:
    """Wait until `done()` is true; False when it took too long."""
    deadline = time.monotonic() + limit
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
