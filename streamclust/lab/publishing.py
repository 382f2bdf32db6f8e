"""The command `publish`: files, an SDS archive or a SeedLink server into a topic of Kafka."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from streamclust.console import Entry
    from streamclust.core.clock import Clock
    from streamclust.core.kafka_specs import KafkaSpec
    from streamclust.core.profile_spec import Spec
    from streamclust.stream.kafka.delivery import Delivery, Tally
    from streamclust.stream.raw import RawSource

STATE = Path("publish-state")
S = TypeVar("S", bound="Spec")


def entry() -> Entry:
    """Return the command."""
    from streamclust.console import Entry

    return Entry(
        "publish", "send recordings, an archive or a SeedLink server's data into a Kafka topic",
        "streamclust publish day/*.mseed --topic waveforms --bootstrap broker:9092",
        "miniSEED records go out as they are, other formats as envelopes (docs/messages.md). "
        "A run that was interrupted, however that was, is gone on with by the same command, without holes or doubles.",
        _arguments, _publish,
    )  # fmt: skip


def _arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("paths", nargs="*", metavar="PATH", help="files, directories or globs")
    sub.add_argument("--sds", metavar="ROOT", help="an SDS archive instead")
    sub.add_argument("--seedlink", metavar="HOST:PORT", help="a SeedLink server instead")
    sub.add_argument(
        "--streams", nargs="+", metavar="NET.STA.LOC.CHA", help="of --sds or --seedlink; * and ? (all of --sds)"
    )
    sub.add_argument("--topic", required=True, help="where the records go; created when missing")
    sub.add_argument("--bootstrap", metavar="HOST:PORT,...", help="some of the brokers (127.0.0.1:9092)")
    sub.add_argument("-c", "--config", type=Path, metavar="FILE", help="configuration, whose section kafka is used")
    sub.add_argument("--partitions", type=int, metavar="N", help="of a topic that is created (12)")
    sub.add_argument(
        "--key", choices=("station", "stream"), default="station", help="what shares a partition (station)"
    )
    sub.add_argument("--speed", type=_speed, default="max", metavar="X", help="times real time, or max (max)")
    sub.add_argument("--start", metavar="TIME", help="ISO 8601 UTC; with --sds --follow also: now")
    sub.add_argument("--end", metavar="TIME", help="ISO 8601 UTC, exclusive")
    sub.add_argument("--follow", action="store_true", help="go on as the archive of --sds grows")
    sub.add_argument("--state", type=Path, default=STATE, metavar="DIR", help=f"what is remembered ({STATE})")
    sub.add_argument("--json", action="store_true", help="print one JSON value, for programs")


def _speed(text: str) -> float | str:
    """Argument type: ``max``, or a number > 0."""
    if text == "max":
        return text
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be max or greater than 0 (got {text})")
    return value


def _publish(args: argparse.Namespace) -> int:
    from uuid import uuid4

    from streamclust.console import say, say_json
    from streamclust.core.clock import SystemClock
    from streamclust.stream.kafka.clients import CLIENTS
    from streamclust.stream.kafka.delivery import Watch
    from streamclust.stream.kafka.publish import Asked, Publisher
    from streamclust.stream.kafka.published import PublishState

    clock = SystemClock()
    source = _source(args, clock)
    spec = _kafka(args)
    state = PublishState(args.state, args.topic)
    try:
        with _stopping() as stop, _progress(_total(args)) as told:
            asked = Asked(args.topic, uuid4().hex, args.key)
            done = Publisher(CLIENTS[spec.client](spec), spec, asked, state, clock, Watch(stop, told)).run(source)
    finally:
        state.close()
    if args.json:
        say_json(as_json(done))
    else:
        say(as_text(done))
    return 130 if done.interrupted else 1 if done.tally.failures else 0


def as_json(done: Delivery) -> dict[str, Any]:
    """Return the report as one JSON object."""
    tally = done.tally
    return {
        "topic": done.topic,
        "records": tally.records,
        "bytes": tally.nbytes,
        "streams": len(tally.streams),
        "already_there": tally.already,
        "skipped": tally.skipped,
        "rejected": dict(tally.rejected),
        "failures": tally.failures,
        "seconds": round(done.seconds, 3),
        "records_per_second": round(tally.records / max(done.seconds, 1e-9), 1),
        "partitions_used": done.partitions,
        "ends": dict(done.ends),
        "interrupted": done.interrupted,
        "notes": list(tally.notes),
    }


def as_text(done: Delivery) -> str:
    """Return the report as lines for a person."""
    tally = done.tally
    rejected = "".join(f", {count:,} {reason}" for reason, count in sorted(tally.rejected.items()))
    head = "interrupted: " if done.interrupted else ""
    what = f"{tally.records:,} records of {len(tally.streams):,} streams ({tally.nbytes / 1e6:,.1f} MB)"
    where = f"{done.topic}, in {done.partitions} of {len(done.ends)} partitions"
    rate = tally.records / max(done.seconds, 1e-9)
    lines = [*tally.notes, f"{head}{what} are in {where}"]
    lines.append(f"{done.seconds:,.1f} s, {rate:,.0f} records/s, {tally.failures:,} failures")
    if tally.already:
        lines.append(f"{tally.already:,} more were there already, from a run that was interrupted")
    if tally.skipped or tally.rejected:
        lines.append(f"not sent: {tally.skipped:,} records without samples{rejected}")
    lines.append("ends: " + ", ".join(f"{label.rpartition('/')[2]}: {end:,}" for label, end in done.ends.items()))
    return "\n".join(lines)


def _source(args: argparse.Namespace, clock: Clock) -> Callable[[Mapping[str, int]], RawSource]:
    """Positions -> what the arguments name; wrong arguments raise before anything is touched."""
    from streamclust.core.errors import UsageError
    from streamclust.stream import raw
    from streamclust.stream.seedlink import SeedLink

    if (bool(args.paths), args.sds is not None, args.seedlink is not None).count(True) != 1:
        raise UsageError("one of PATH..., --sds ROOT and --seedlink HOST:PORT must be given")
    if args.follow and args.sds is None:
        raise UsageError("--follow: goes with --sds")
    if args.streams and args.paths:
        raise UsageError("--streams: goes with --sds or --seedlink")
    if args.seedlink is not None:
        if not args.streams:
            raise UsageError("--streams: must be given with --seedlink")
        if args.end is not None or args.speed != "max":
            raise UsageError("--end and --speed: do not go with --seedlink, which has no end and its own speed")
        SeedLink(args.seedlink, args.streams, {}, clock, args.start)
        return lambda positions: SeedLink(args.seedlink, args.streams, positions, clock, args.start)
    sds = _sds_spec(args)
    if args.sds is not None:
        return lambda positions: raw.raw_sds(sds, positions, clock)
    files = _files_spec(args)
    return lambda positions: raw.raw_files(files, sds.span_ns, positions, clock)


def _sds_spec(args: argparse.Namespace) -> Any:
    """Return the settings of an archive; those of files use its span."""
    from pydantic import ValidationError

    from streamclust.core.errors import UsageError
    from streamclust.core.specs import SdsSource

    if args.start == "now" and not args.follow:
        raise UsageError("--start now: goes with --sds --follow")
    found = {
        "type": "sds", "root": args.sds or ".", "start": args.start, "end": args.end, "follow": args.follow,
        "speed": args.speed, **({"streams": args.streams} if args.streams else {}),
    }  # fmt: skip
    try:
        return SdsSource.model_validate(found)
    except ValidationError as error:
        words = "; ".join(str(e["msg"]).removeprefix("Value error, ") for e in error.errors())
        raise UsageError(words.replace("source.", "--")) from None


def _files_spec(args: argparse.Namespace) -> Any:
    from streamclust.core.specs import FilesSource

    return FilesSource(type="files", paths=list(args.paths), speed=args.speed)


def _kafka(args: argparse.Namespace) -> KafkaSpec:
    """Return the connection: of the configuration, or the default one, with what the arguments say."""
    import os

    from streamclust.config import load
    from streamclust.core.kafka_specs import KafkaSource, KafkaSpec

    spec = KafkaSpec() if args.config is None else load(args.config, os.environ).config.kafka
    data = spec.model_dump()
    if args.bootstrap is not None:
        data["bootstrap"] = [one.strip() for one in args.bootstrap.split(",") if one.strip()]
    if args.partitions is not None:
        data["topics"]["partitions"] = args.partitions
    _checked("--topic", KafkaSource, {"type": "kafka", "topics": [args.topic]})
    return _checked("--bootstrap, --partitions", KafkaSpec, data)


def _checked(options: str, spec: type[S], data: dict[str, Any]) -> S:
    """Return the settings that arguments make."""
    from pydantic import ValidationError

    from streamclust.core.errors import UsageError
    from streamclust.core.wording import translate

    try:
        return spec.model_validate(data)
    except ValidationError as error:
        problem = translate(error, spec.model_json_schema(), {})[0]
        raise UsageError(f"{options}: {problem.expected} (got {problem.got})") from None


def _total(args: argparse.Namespace) -> int | None:
    """Bytes that will be read, as far as that can be told beforehand."""
    from streamclust.core.errors import ConfigError
    from streamclust.stream.archive import expanded

    if not args.paths:
        return None
    try:
        return sum(Path(path).stat().st_size for path in expanded(args.paths))
    except (ConfigError, OSError):
        return None


@contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Give what says whether SIGINT or SIGTERM came; a second one interrupts at once."""
    came: list[int] = []

    def note(number: int, _frame: object) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _progress(total: int | None) -> Iterator[Callable[[Tally], None]]:
    """Give what shows how far it is: a bar on a terminal; elsewhere notes only, each a line to standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines()
        return
    columns = BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("publishing", total=total)

        def told(tally: Tally) -> None:
            note = f"  {tally.notes[-1][:100]}" if tally.notes else ""
            done = min(tally.read_bytes, total) if total is not None else 0
            progress.update(task, completed=done, description=f"{tally.records:,} records{ascii(note)[1:-1]}")

        yield told


def _lines() -> Callable[[Tally], None]:
    shown: list[str] = []

    def told(tally: Tally) -> None:
        for note in tally.notes[len(shown) :]:
            shown.append(note)
            sys.stderr.write(f"{ascii(note)[1:-1]}\n")

    return told
