"""The error tree: one class is one reaction.

::

    StreamclustError          base; never raised itself       reaction                       exit
     + ConfigError            a setting is wrong              do not start                   2
     + UsageError             a command's arguments are wrong do not start                   2
     + StateError             the state directory is unusable do not start, touch nothing    1
     |   + StateLocked        another daemon holds it         do not start                   1
     |   + StateVersion       written by a newer version      do not start                   1
     + BadRecord              one record cannot be used       quarantine it, read the next   -
     + TransientError         it may work later               wait and try the turn again    -
     |   + SourceUnavailable  the input cannot be read now
     |   + SinkUnavailable    an output cannot be written now (full disk, broker gone)
     |   + Rebalanced         the group moved partitions     forget what is not committed   -
     |       + TransactionAborted  nothing of it was given out  the same
     + Fenced                 another process has our name   exit; a person must look       1
     + NotAllowed             a broker refuses for good      exit; says what to do          1
     + SourceLost             data or connection are gone    exit; the supervisor restarts  1
     + DurabilityError        an fsync failed                 exit; the restart re-reads     1
     + ModelError             a model cannot be used          keep the live model            -
         + ProfileMismatch    made for another profile
         + CorruptModel       hash, shape or schema is wrong
         + FitFailed          a fit broke its guards          keep the live model            1
         + MissingExtra       a package is not installed      say which to install           1

A message says where, what would be right, and what came.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class StreamclustError(Exception):
    """Base of every error that streamclust raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One wrong setting: its dotted path, what came, and what would be right."""

    path: str
    got: str
    expected: str

    def __str__(self) -> str:
        """One line, as printed to the operator."""
        return f"{self.path}: {self.expected} (got {self.got})"


class ConfigError(StreamclustError):
    """Settings are wrong; carries every problem found, not only the first."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(map(str, problems)))


class UsageError(StreamclustError):
    """A command was called with arguments that cannot work."""


class StateError(StreamclustError):
    """The state directory cannot be used; nothing in it was touched."""


class StateLocked(StateError):
    """Another daemon runs on this state directory."""


class StateVersion(StateError):
    """The state directory was written by a newer version than this one."""


class Reason(StrEnum):
    """Why a record was rejected: a closed set, so it can label a metric."""

    TOO_SHORT = "too_short"
    TOO_LARGE = "too_large"
    UNKNOWN_FORMAT = "unknown_format"
    BAD_HEADER = "bad_header"
    BAD_LENGTH = "bad_length"
    BAD_COUNT = "bad_count"
    BAD_RATE = "bad_rate"
    BAD_TIME = "bad_time"
    BAD_CODE = "bad_code"
    BAD_ENCODING = "bad_encoding"
    BAD_BLOCKETTE = "bad_blockette"
    BAD_PAYLOAD = "bad_payload"
    BAD_SAMPLES = "bad_samples"
    CRC_MISMATCH = "crc_mismatch"
    FUTURE = "future"
    TOO_MANY_STREAMS = "too_many_streams"
    RATE_TOO_LOW = "rate_too_low"
    UNREADABLE_FILE = "unreadable_file"
    BAD_ENVELOPE = "bad_envelope"
    LOST_OFFSETS = "lost_offsets"


class BadRecord(StreamclustError):
    """One record cannot be used; the next one is read."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}" if detail else str(reason))


class MessageTooLarge(BadRecord):
    """One message is larger than the broker or the topic takes."""

    def __init__(self, detail: str = "") -> None:
        super().__init__(Reason.TOO_LARGE, detail)


class TransientError(StreamclustError):
    """It did not work now and nothing was lost; try again."""


class SourceUnavailable(TransientError):
    """The input cannot be read now."""


class SinkUnavailable(TransientError):
    """An output cannot be written now."""


class Rebalanced(TransientError):
    """The consumer group has moved on: what is not yet committed must be forgotten and read again."""


class TransactionAborted(Rebalanced):
    """A transaction failed, or nobody knows what became of it: what it held is read and made again."""


class Fenced(StreamclustError):
    """Another process uses our lasting name; only one of them may go on, and it is not this one."""


class NotAllowed(StreamclustError):
    """A broker refuses for good: authorisation, or a topic that is not there and may not be made."""


class SourceLost(StreamclustError):
    """Data that were to be read are gone and the policy is to stop, or the connection cannot be had back."""


class DurabilityError(StreamclustError):
    """The system could not say that data reached the disk; only a restart is safe."""


class ModelError(StreamclustError):
    """A model cannot be used; the live one stays."""


class ProfileMismatch(ModelError):
    """The model was made with another profile than the configured one."""


class CorruptModel(ModelError):
    """The model's files do not agree with their own hash, shapes or schema."""


class FitFailed(ModelError):
    """A fit collapsed or broke another guard; what it made must not be used."""


class MissingExtra(ModelError):
    """An optional package is needed and not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra [{extra}]: pip install 'streamclust[{extra}]'")
