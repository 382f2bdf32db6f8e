"""`streamclust demo`: real recordings through the daemon, accelerated, and where to look at the results."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import signal
import sys
import threading
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml
from rich.console import Console

from streamclust import config, daemon
from streamclust.core.auto_profile import RECORDED, SLACK
from streamclust.core.clock import Clock, SystemClock
from streamclust.core.errors import ConfigError, UsageError
from streamclust.core.profiles import PROFILES
from streamclust.core.reports import TurnReport
from streamclust.core.specs import Config, FilesSource
from streamclust.core.types import NS, Positions, Record
from streamclust.core.web_specs import WebSpec
from streamclust.serve.terminal import Dashboard
from streamclust.serving import alone
from streamclust.store.activations import Activation
from streamclust.store.models import ModelStore
from streamclust.store.results import DATABASE, ClusterSummary, open_readonly
from streamclust.store.state import StateDir
from streamclust.stream.archive import ArchiveSource
from streamclust.web import missing

if TYPE_CHECKING:
    from streamclust.web.server import WebServer

MARK = ".streamclust-demo"
"""A file that only a demo puts into its directory; without it nothing is deleted."""
SECONDS = 30.0
"""How long it takes on a terminal when nothing is said."""
CLUSTERS = 6
INTERRUPTED = 130
"""Exit code of a demo that was stopped: a daemon that is told to stop has done its work, a person's command has not."""
LEAST_WINDOWS = 4 * CLUSTERS
"""Fewer windows than this make no clusters."""
NEARBY = Path("../shared/data/seismic")
NEARBY_FILES = "rutford_icestream_*.mseed"
OBSPY_FILES = ("signal/tests/data/ref_STS2", "signal/tests/data/ref_unknown")
"""Of the recordings that obspy brings along the longest ones: two seismometers side by side, an hour at 200 Hz."""


class Recordings(NamedTuple):
    """What is played."""

    title: str
    paths: tuple[str, ...]


class Survey(NamedTuple):
    """What the recordings are like."""

    streams: int
    rate_hz: float
    """The rate of most of the signal."""
    start_ns: int
    end_ns: int
    stream_seconds: Mapping[str, float]
    """Seconds of signal of each stream."""

    @property
    def span_seconds(self) -> float:
        """From the first sample to the last."""
        return (self.end_ns - self.start_ns) / NS


class _Nowhere:
    """Positions of a look at the recordings: none, and none are kept."""

    def positions(self) -> Positions:
        return {}

    def save_positions(self, positions: Positions) -> None:
        """Forget them."""


class Show(NamedTuple):
    """How it is shown."""

    seconds: float | None = None
    """How long it should take. None is `SECONDS` on a terminal, else as fast as it goes."""
    plain: bool = False
    """Lines even on a terminal."""
    serve: bool = False
    """Keep the page until a signal comes."""


def run_demo(state: Path, data: Path | None, show: Show) -> int:
    """Play recordings through the daemon and say what came of it; return the exit code.

    That is 130 when a signal stopped it before the end of the recordings, else the daemon's.

    Parameters
    ----------
    state
        Directory of the demo, made anew each time.
    data
        A recording, or a directory of them; None takes what is at hand.
    show
        How it is shown; the page is there where people look: on a terminal, and when it is to be kept.

    Raises
    ------
    UsageError
        `state` is something else than an earlier demo; or `data` has nothing to make windows of.
    StateLocked
        Another demo runs in `state`.
    """
    _check_directory(state)
    clock = SystemClock()
    console = Console(stderr=True, force_terminal=False if show.plain else None)
    recordings = find(data)
    seen = survey(recordings.paths, clock)
    seconds = SECONDS if show.seconds is None and console.is_terminal else show.seconds
    settings = settings_for(recordings, seen, state, seconds)
    _say(_opening(recordings, seen, settings))
    prepare(state, settings)
    loaded = config.load(state / "config.yaml", {}).config
    ended = False
    with ExitStack() as pages, ExitStack() as stack:
        page = _page(loaded, clock, pages) if show.serve or console.is_terminal else None
        if show.serve and page is None:
            _say("No page: it needs the extra [web], pip install 'streamclust[web]'")
        dashboard = stack.enter_context(Dashboard(clock, console, (seen.start_ns, seen.end_ns)))

        def watch(report: TurnReport) -> None:
            nonlocal ended
            ended = ended or report.ended
            dashboard.update(report)

        code = daemon.run(_without_page(loaded), clock=clock, watch=watch)
        stack.close()
        _say(closing(state, loaded))
        if show.serve and page is not None and ended and not code:
            _say(f"\nThe page is at {page} until you press Ctrl-C.")
            _until_signal()
    return code if code or ended else INTERRUPTED


def _page(settings: Config, clock: Clock, stack: ExitStack) -> str | None:
    """Serve the page until `stack` ends, on a free port when the usual one is taken; return where, None without the extra."""
    if missing() is not None:
        return None
    store = ModelStore(Path(settings.state.dir) / "models")

    def activate(version: int, by: str, reason: str) -> Activation:
        return store.activate(version, by=by, reason=reason, at_ns=clock.now_ns())

    def opened(web: WebSpec) -> WebServer:
        return alone(settings.model_copy(update={"web": web}), clock, activate, lambda line: _say(f"page: {line}"))

    try:
        server = opened(settings.web)
    except ConfigError:
        server = opened(settings.web.model_copy(update={"port": 0}))
    stack.callback(server.close)
    server.start()
    _say(f"The page: {server.address}")
    return server.address


def _without_page(settings: Config) -> Config:
    return settings.model_copy(update={"web": settings.web.model_copy(update={"enabled": False})})


def _until_signal() -> None:
    """Return at the first SIGINT or SIGTERM."""
    stop = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda _number, _frame: stop.set()) for number in numbers]
    stop.wait()
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def find(data: Path | None) -> Recordings:
    """Return the recordings to play: those given, those nearby, or those that obspy brings along.

    Raises
    ------
    UsageError
        There are none.
    """
    if data is not None:
        if not data.exists():
            raise UsageError(f"--data: must be a file or a directory (got {data})")
        return Recordings(str(data), (str(data.resolve()),))
    nearby = sorted(NEARBY.glob(NEARBY_FILES))
    if nearby:
        return Recordings("Rutford Ice Stream, Antarctica", tuple(str(path.resolve()) for path in nearby))
    spec = importlib.util.find_spec("obspy")
    roots = list(spec.submodule_search_locations or ()) if spec else []
    found = tuple(str(Path(root, name)) for root in roots for name in OBSPY_FILES if Path(root, name).is_file())
    if not found:
        raise UsageError("obspy came without its recordings here; give one with --data FILE")
    return Recordings("recordings that come with obspy", found)


def survey(paths: tuple[str, ...], clock: Clock) -> Survey:
    """Read the recordings once from end to end.

    Raises
    ------
    UsageError
        There is no signal in them.
    """
    source = ArchiveSource(FilesSource(type="files", paths=list(paths)), _Nowhere(), clock)
    streams: defaultdict[str, float] = defaultdict(float)
    rates: defaultdict[float, float] = defaultdict(float)
    starts: list[int] = []
    ends: list[int] = []
    try:
        ended = False
        while not ended:
            polled = source.poll(4096, 0.0)
            for record in polled.records:
                length = _seconds(record)
                streams[record.stream] += length
                rates[record.rate_hz] += length
                starts.append(record.start_ns)
                ends.append(record.start_ns + round(length * NS))
            ended = polled.ended
    finally:
        source.close()
    if not starts:
        raise UsageError(f"no signal can be read from {', '.join(paths)}")
    return Survey(len(streams), max(rates, key=lambda r: rates[r]), min(starts), max(ends), dict(streams))


def _seconds(record: Record) -> float:
    return len(record.samples) / record.rate_hz


def profile_for(rate_hz: float) -> str:
    """Return the built-in profile of recordings with the highest rate that these have.

    >>> profile_for(200.0), profile_for(99.9)
    ('icequake', 'seismic')

    Raises
    ------
    UsageError
        They are slower than every profile.
    """
    fitting = [name for name in ("spikes", *RECORDED) if PROFILES[name]["rate_hz"] <= SLACK * rate_hz]
    if not fitting:
        least = PROFILES[RECORDED[-1]]["rate_hz"]
        raise UsageError(f"the recordings must have at least {least:g} samples a second (got {rate_hz:g})")
    return fitting[0]


def settings_for(recordings: Recordings, seen: Survey, state: Path, seconds: float | None) -> dict[str, Any]:
    """Return the configuration of the demo, as it is written to its ``config.yaml``.

    Raises
    ------
    UsageError
        The recordings are too slow or too short for any profile.
    """
    name = profile_for(seen.rate_hz)
    window, hop = PROFILES[name]["window_seconds"], PROFILES[name]["hop_seconds"]
    windows = sum(max(0, int((length - window) / hop)) for length in seen.stream_seconds.values())
    if windows < LEAST_WINDOWS:
        raise UsageError(
            f"the recordings must give at least {LEAST_WINDOWS} windows of {window:g} s, "
            f"profile {name} (got {windows}); take longer ones"
        )
    return {
        "state": {"dir": str(state.resolve() / "state")},
        "retrain": {"on_drift": False, "after_windows": 10**9},
        "buffer": {"max_bytes": 200_000_000, "per_second": 1000.0},
        "source": {
            "type": "files",
            "paths": list(recordings.paths),
            "speed": "max" if seconds is None else seen.span_seconds / seconds,
        },
        "profile": {"name": name},
        "model": {"clusters": CLUSTERS, "min_windows": max(LEAST_WINDOWS // 2, min(1024, windows // 8))},
        "sinks": [{"type": "sqlite"}, {"type": "jsonl"}],
        "http": {"enabled": False},
        "log": {"level": "error"},
    }


def prepare(state: Path, settings: Mapping[str, Any]) -> None:
    """Make the demo's directory anew and write its configuration.

    Raises
    ------
    UsageError
        There is something else in the directory.
    StateLocked
        Another demo runs there.
    """
    _check_directory(state)
    state.mkdir(parents=True, exist_ok=True)
    (state / MARK).touch()
    inner = state / "state"
    if inner.exists():
        with StateDir.open(inner):
            shutil.rmtree(inner)
    (state / "config.yaml").write_text(yaml.safe_dump(dict(settings), sort_keys=False), encoding="utf-8")


def _check_directory(state: Path) -> None:
    if state.exists() and not (state / MARK).is_file() and (not state.is_dir() or any(state.iterdir())):
        raise UsageError(f"--state: must be new, empty, or the directory of an earlier demo (got {state})")


def _opening(recordings: Recordings, seen: Survey, settings: Mapping[str, Any]) -> str:
    speed = settings["source"]["speed"]
    pace = "as fast as it goes" if speed == "max" else f"{speed:.3g} times as fast as they were recorded"
    return (
        f"{recordings.title}: {seen.streams} streams, mostly {seen.rate_hz:g} Hz, "
        f"{sum(seen.stream_seconds.values()) / 3600:.1f} h of signal, profile {settings['profile']['name']}, {pace}"
    )


def closing(state: Path, settings: Config) -> str:
    """Return the text after the end: how many windows, the clusters, and how to look at them."""
    inner = Path(settings.state.dir)
    reader = open_readonly(inner / DATABASE)
    try:
        total, clusters = reader.counts()["assignments"], reader.clusters()
    finally:
        reader.close()
    version = ModelStore(inner / "models").current()
    here = state / "state"
    files = sorted((here / "events").glob("*.jsonl"))
    table = _table(total, clusters) if version is not None else "There were too few for a model."
    lines = [f"\n{total:,} windows.", table, f"\nin SQLite      {here / DATABASE}"]
    lines += [f"as JSON lines  {files[0]}"] if files else []
    lines.append(f"as a page      {_program()} web -c {shlex.quote(str(state / 'config.yaml'))}")
    return "\n".join([*lines, "\nLook at them:", *(f"  {line}" for line in _commands(state, version, files))])


def _table(total: int, clusters: list[ClusterSummary]) -> str:
    """Lay out one line a cluster, the largest first."""
    rows = [(c.cluster, c.windows) for c in sorted(clusters, key=lambda c: -c.windows)]
    if (rest := total - sum(count for _, count in rows)) > 0:
        rows.append(("none", rest))
    lines = [f"{name:<8} {count:>8,}  {100 * count / total:5.1f} %" for name, count in rows]
    return "\n".join(["cluster   windows    share", *lines])


def _commands(state: Path, version: int | None, files: list[Path]) -> list[str]:
    """Return shell lines that show the results, as they work from the current directory."""
    sql = "SELECT cluster, COUNT(*), ROUND(AVG(peak)), ROUND(AVG(rms)) FROM assignments GROUP BY 1"
    script = f'import sqlite3, sys; [print(*row) for row in sqlite3.connect(sys.argv[1]).execute("{sql}")]'
    lines = [f"{shlex.quote(_python())} -c '{script}' {shlex.quote(str(state / 'state' / DATABASE))}"]
    if version is not None:
        lines.append(f"{_program()} models show {version} -c {shlex.quote(str(state / 'config.yaml'))}")
    if files:
        lines.append(f"head -n 1 {shlex.quote(str(files[0]))}")
    return lines


def _python() -> str:
    return "python3" if shutil.which("python3") else sys.executable


def _program() -> str:
    """Return how streamclust is called here."""
    if shutil.which("streamclust"):
        return "streamclust"
    here = Path(sys.argv[0])
    if here.name == "streamclust":
        return shlex.quote(str(here))
    return f"{shlex.quote(sys.executable)} -m streamclust"


def _say(text: str) -> None:
    """One text to standard output; what the terminal cannot show is escaped."""
    encoding = sys.stdout.encoding or "ascii"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    sys.stdout.flush()
