"""What runs, live on a terminal; a plain line now and then where there is none."""

from __future__ import annotations

from collections import Counter, deque
from types import TracebackType
from typing import NamedTuple, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from streamclust.core.clock import Clock
from streamclust.core.reports import TurnReport
from streamclust.core.types import iso

REFRESH = 0.25
"""Seconds between two pictures on a terminal."""
PLAIN_EVERY = 5.0
"""Seconds between two plain lines."""
RATE_OVER = 10.0
"""Seconds over which rates are taken."""
ROWS = 20
"""Clusters shown; the smaller ones are summed up."""
BAR = 30
"""Characters of the longest bar."""


class _Mark(NamedTuple):
    at: float
    records: int
    windows: int


class Dashboard:
    """Sums turn reports and shows them while it is entered as a context. One thread uses it.

    Parameters
    ----------
    console
        Where to; standard error by default, so that events on standard output stay clean.
    span
        First and last time of a recording, ns: then the progress is shown instead of the lag.
    """

    def __init__(self, clock: Clock, console: Console | None = None, span: tuple[int, int] | None = None) -> None:
        self._clock = clock
        self._span = span
        self._console = console or Console(stderr=True)
        self._live: Live | None = None
        self._started = clock.monotonic()
        self._shown = self._started
        self._marks: deque[_Mark] = deque([_Mark(self._started, 0, 0)])
        self._records = 0
        self._nbytes = 0
        self._rejected = 0
        self._novel = 0
        self._clusters: Counter[str] = Counter()
        self._last = TurnReport()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(self._picture(), console=self._console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._show()
        if self._live is not None:
            self._live.stop()
            self._live = None

    def update(self, report: TurnReport) -> None:
        """Add one turn, and show the sums when it is time."""
        self._records += report.records
        self._nbytes += report.nbytes
        self._rejected += sum(report.rejected.values())
        self._novel += report.novel
        self._clusters.update(report.clusters)
        newest = report.newest_ns if report.newest_ns is not None else self._last.newest_ns
        self._last = TurnReport(
            streams=max(report.streams, self._last.streams),
            pending=report.pending,
            model=self._last.model if report.model is None else report.model,
            newest_ns=newest,
            ended=report.ended,
        )
        now = self._clock.monotonic()
        if now - self._shown >= (REFRESH if self._live else PLAIN_EVERY):
            self._show()

    @property
    def _windows(self) -> int:
        return self._clusters.total()

    def _show(self) -> None:
        now = self._clock.monotonic()
        self._shown = now
        self._marks.append(_Mark(now, self._records, self._windows))
        while len(self._marks) > 2 and now - self._marks[1].at >= RATE_OVER:
            self._marks.popleft()
        if self._live is not None:
            self._live.update(self._picture(), refresh=True)
        elif not self._console.is_terminal:
            self._console.print(Text(self._line()), soft_wrap=True)

    def _rates(self) -> tuple[float, float]:
        """Return records and windows per second over the last `RATE_OVER` seconds."""
        first, last = self._marks[0], self._marks[-1]
        seconds = last.at - first.at
        if seconds <= 0:
            return 0.0, 0.0
        return (last.records - first.records) / seconds, (last.windows - first.windows) / seconds

    def _reached(self) -> tuple[str, str]:
        """Event time of the newest sample, and how long ago that is."""
        newest = self._last.newest_ns
        if newest is None:
            return "-", "-"
        return f"{iso(newest)[:19]}Z", _duration((self._clock.now_ns() - newest) / 1e9)

    def _progress(self) -> str:
        """Part of the recording that has been read, as a bar."""
        if self._span is None or self._last.newest_ns is None:
            return "-"
        part = (self._last.newest_ns - self._span[0]) / max(1, self._span[1] - self._span[0])
        part = min(1.0, max(0.0, part))
        return f"{100 * part:3.0f} % {'━' * round(BAR * part)}"

    def _line(self) -> str:
        per_s = self._rates()
        reached, lag = self._reached()
        late = f"lag={lag}" if self._span is None else f"progress={self._progress().split('━')[0].strip()}"
        top = " ".join(f"{name}:{count}" for name, count in self._clusters.most_common(5))
        return (
            f"{_duration(self._clock.monotonic() - self._started)} "
            f"streams={self._last.streams} records={self._records} ({per_s[0]:.0f}/s) "
            f"windows={self._windows} ({per_s[1]:.0f}/s) novel={self._novel} rejected={self._rejected} "
            f"pending={self._last.pending} reached={reached} {late} {top}"
        ).rstrip()

    def _picture(self) -> Group:
        return Group(self._head(), self._table())

    def _head(self) -> Table:
        per_s = self._rates()
        reached, lag = self._reached()
        head = Table.grid(padding=(0, 2))
        for _ in range(4):
            head.add_column()
        model = "-" if self._last.model is None else str(self._last.model)
        cells = [
            ("running", _duration(self._clock.monotonic() - self._started)),
            ("streams", f"{self._last.streams:,}"),
            ("records", f"{self._records:,} ({per_s[0]:,.0f}/s)"),
            ("windows", f"{self._windows:,} ({per_s[1]:,.0f}/s)"),
            ("input", f"{self._nbytes / 1e6:,.1f} MB"),
            ("rejected", f"{self._rejected:,}"),
            ("novel", f"{self._novel:,}"),
            ("model", f"{model}, {self._last.pending:,} windows wait" if self._last.pending else model),
            ("reached", reached),
            ("lag", lag) if self._span is None else ("progress", self._progress()),
        ]
        for left, right in zip(cells[::2], cells[1::2], strict=True):
            head.add_row(Text(left[0], "dim"), Text(left[1]), Text(right[0], "dim"), Text(right[1]))
        return head

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for name in ("cluster", "windows", "share", ""):
            table.add_column(name, justify="right" if name in ("windows", "share") else "left", no_wrap=True)
        ranked = self._clusters.most_common()
        rows = ranked[:ROWS]
        if len(ranked) > ROWS:
            rest = ranked[ROWS:]
            rows.append((f"{len(rest)} more", sum(count for _, count in rest)))
        total, most = max(1, self._windows), max((count for _, count in rows), default=1)
        for name, count in rows:
            bar = "█" * max(1, round(BAR * count / most)) if count else ""
            table.add_row(Text(name), Text(f"{count:,}"), Text(f"{100 * count / total:.1f} %"), Text(bar, "cyan"))
        return table


def _duration(seconds: float) -> str:
    """Whole seconds below a minute, else d, h, min: the two largest.

    >>> _duration(3.4), _duration(75), _duration(90_000)
    ('3 s', '1 min 15 s', '1 d 1 h')
    """
    whole = round(abs(seconds))
    parts = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    used = [f"{count} {unit}" for count, unit in parts if count][:2] or ["0 s"]
    return ("-" if seconds <= -0.5 else "") + " ".join(used)
