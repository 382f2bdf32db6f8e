"""Disks that fail, die or lose power at a chosen call; and events to write on them."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import jsonschema

from streamclust.core.errors import Reason
from streamclust.core.types import NS, Event, Reject
from streamclust.store.durable import RealDisk

ROOT = Path(__file__).parents[1]
T0 = 1_767_225_600 * NS  # 2026-01-01


class Died(BaseException):
    """The simulated process does nothing any more."""


class FaultyDisk:
    """The real disk until call number `at` (from 0); then `fault(call name)` is asked what happens.

    A fault is an OSError to raise once, or Died: then every later call dies as well. With
    `half`, a write takes half of its bytes before it fails.
    """

    def __init__(self, at=None, fault=None, *, half=False):
        self.at, self.fault, self.half = at, fault, half
        self.calls: list[str] = []
        self.real = RealDisk()
        self.dead = False

    def __getattr__(self, name):
        call = getattr(self.real, name)

        def run(*args):
            if self.dead:
                raise Died
            self.calls.append(name)
            if self.at is not None and len(self.calls) - 1 == self.at:
                if self.half and name == "write":
                    fd, data = args
                    self.real.write(fd, data[: len(data) // 2])
                self.dead = isinstance(self.fault, Died)
                raise self.fault
            return call(*args)

        return run


class FullDisk(RealDisk):
    """Takes `room` more bytes, the last write in part, then says ENOSPC until `room` grows."""

    def __init__(self, room, error):
        self.room, self.error = room, error

    def write(self, fd, data):
        if self.room <= 0:
            raise self.error
        taken = super().write(fd, data[: self.room])
        self.room -= taken
        return taken


class PowerDisk:
    """Flat files in memory that know what a power cut may leave of them.

    File content is safe after fsync of the file, names after fsync of the directory.
    `after_cut` gives every mix of: names old or new, unsafe content kept, half or gone.
    """

    def __init__(self, files):
        self.content = dict(enumerate(files.values()))
        self.safe = dict(self.content)
        self.names = {name: i for i, name in enumerate(files)}
        self.safe_names = dict(self.names)
        self.calls = 0
        self.die_at = None

    def _call(self):
        if self.die_at is not None and self.calls >= self.die_at:
            raise Died
        self.calls += 1

    def open(self, path, flags):
        self._call()
        if flags & 0o200000:  # O_DIRECTORY
            return -1
        if path.name not in self.names:
            inode = len(self.content)
            self.names[path.name] = inode
            self.content[inode] = self.safe[inode] = b""
        inode = self.names[path.name]
        if flags & 0o1000:  # O_TRUNC
            self.content[inode] = b""
        return inode

    def write(self, fd, data):
        self._call()
        part = bytes(data[: max(1, len(data) // 2)])
        self.content[fd] += part
        return len(part)

    def fsync(self, fd):
        self._call()
        if fd == -1:
            self.safe_names = dict(self.names)
        else:
            self.safe[fd] = self.content[fd]

    def close(self, fd):
        self._call()

    def rename(self, old, new):
        self._call()
        self.names[new.name] = self.names.pop(old.name)

    def unlink(self, path):
        self._call()
        del self.names[path.name]

    def after_cut(self, name):
        for names in (self.names, self.safe_names):
            inode = names.get(name)
            if inode is None:
                yield None
                continue
            now, safe = self.content[inode], self.safe[inode]
            yield from {now, safe} if now == safe else {now, safe, now[: len(now) // 2]}


@functools.cache
def validator():
    schema = json.loads((ROOT / "streamclust/core/event.schema.json").read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def validate(fields):
    """Raise jsonschema.ValidationError unless `fields` is an event of the contract."""
    validator().validate(fields)


def event(n=0, **changes):
    """Event number n, valid against the schema."""
    made = Event(
        window_id=f"{n:032x}",
        stream="FDSN:BW_RJOB__E_H_Z",
        start_ns=T0 + n * 20 * NS,
        end_ns=T0 + (n * 20 + 40) * NS,
        sampling_rate=100.0,
        profile="seismic/1",
        model=1,
        cluster=f"C{n % 3 + 1}",
        name=None,
        memberships={"C1": 0.25, "C2": 0.5, "C3": 0.25},
        novelty=0.03,
        is_novel=False,
        peak=12.5,
        rms=3.25,
        gap_fraction=0.0,
        flags=("clipped", "spike") if n % 2 else (),
        processed_at_ns=T0 + n,
    )
    return made._replace(**changes)


def events(begin, end):
    """Return events with the numbers [begin, end), each validated."""
    made = [event(n) for n in range(begin, end)]
    for one in made:
        validate(one.as_dict())
    return made


def reject(offset=0, payload=b"junk", reason=Reason.BAD_PAYLOAD):
    return Reject("file", offset, reason, "why", None, payload)
