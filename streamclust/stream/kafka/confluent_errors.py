"""What the errors of confluent-kafka mean for us, and the texts that name their cause."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from streamclust.core.errors import (
    Fenced,
    MessageTooLarge,
    NotAllowed,
    Rebalanced,
    StreamclustError,
    TransientError,
)

if TYPE_CHECKING:
    from confluent_kafka import KafkaError

FENCED = frozenset({"_FENCED", "FENCED_INSTANCE_ID", "PRODUCER_FENCED", "INVALID_PRODUCER_EPOCH"})
"""Another process has our name."""
FATAL = FENCED | {"_FATAL"}
"""The object that raised it is of no more use."""
MOVED_ON = frozenset({"ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "REBALANCE_IN_PROGRESS", "_ASSIGNMENT_LOST"})
"""The group has, without us."""
TOO_LARGE = frozenset({"MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE", "INVALID_MSG_SIZE"})
"""One message is."""
REFUSED = frozenset(
    {
        "TOPIC_AUTHORIZATION_FAILED",
        "GROUP_AUTHORIZATION_FAILED",
        "CLUSTER_AUTHORIZATION_FAILED",
        "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
        "POLICY_VIOLATION",
        "TOPIC_EXCEPTION",
        "INVALID_CONFIG",
        "INVALID_PARTITIONS",
        "INVALID_REPLICATION_FACTOR",
        "INVALID_TRANSACTION_TIMEOUT",
    }
)
"""For good, by the broker."""
HOPELESS = frozenset({"_AUTHENTICATION", "SASL_AUTHENTICATION_FAILED", "UNSUPPORTED_SASL_MECHANISM", "_SSL"})
"""A connection that fails so will fail again at once."""
NO_LONGER_THERE = frozenset({"_AUTO_OFFSET_RESET", "OFFSET_OUT_OF_RANGE", "_LOG_TRUNCATION"})
"""The position of a partition is not in the topic."""
MISSING = frozenset({"UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_PARTITION", "_UNKNOWN_TOPIC"})
"""The partition does not exist."""


class Causes:
    """Remembers what the library says beside the errors that it raises; those seldom name the cause."""

    def __init__(self) -> None:
        self._texts: deque[str] = deque(maxlen=3)
        self._log = logging.getLogger(__name__)
        self.fatal: KafkaError | None = None
        self.hopeless = False
        self.all_down = False

    def error(self, error: KafkaError) -> None:
        """Take an error that no call waits for: the library's `error_cb`."""
        self._log.debug("%s", error)
        name = error.name()
        if error.fatal():
            self.fatal = error
        self.hopeless |= name in HOPELESS
        if name == "_ALL_BROKERS_DOWN":
            self.all_down = True
        elif (text := error.str()) not in self._texts:
            self._texts.append(text)

    def log(self, _level: int, message: str, *values: Any) -> None:
        """Take a line of the library's log, as a logger does; it is of interest to those who look for faults only."""
        self._log.debug(message, *values)

    def forget(self) -> None:
        """Forget: the connection stands."""
        self._texts.clear()
        self.hopeless = self.all_down = False

    def text(self) -> str:
        """Return the last ones, in brackets, or nothing."""
        return f" ({'; '.join(self._texts)})" if self._texts else ""


def library_errors() -> tuple[type[Exception], ...]:
    """Return what calls of the library raise; `error_of` looks inside."""
    from confluent_kafka import KafkaException

    return KafkaException, SystemError


def error_of(error: Exception) -> KafkaError:
    """Return what an exception of the library carries.

    A fatal error that comes to light in front of a callback is raised as the cause of a SystemError;
    any other SystemError is raised again.
    """
    from confluent_kafka import KafkaException

    if isinstance(error, SystemError):
        if not isinstance(error.__cause__, KafkaException):
            raise error
        error = error.__cause__
    carried: KafkaError = error.args[0]
    return carried


def translated(
    error: KafkaError, doing: str, otherwise: type[TransientError], causes: Causes | None = None
) -> StreamclustError:
    """Return our error for one of the library's; `otherwise` for all that may work later."""
    name = error.name()
    text = f"{doing}: {name}: {error.str()}{causes.text() if causes else ''}"
    if name == "FENCED_INSTANCE_ID":
        text = f"another process is the member of the group that source.member names ({text})"
    kinds: tuple[tuple[frozenset[str], type[StreamclustError]], ...] = (
        (FENCED, Fenced),
        (MOVED_ON, Rebalanced),
        (REFUSED, NotAllowed),
        (TOO_LARGE, MessageTooLarge),
    )
    return next((kind(text) for names, kind in kinds if name in names), otherwise(text))
