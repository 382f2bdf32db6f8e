"""What every kafka-python object shares: its settings, what its errors mean, and why it could not connect."""

from __future__ import annotations

import logging
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from kafka import errors
from kafka.net.compat import KafkaNetClient
from kafka.net.selector import NetworkSelector

from streamclust.core.errors import Fenced, MessageTooLarge, NotAllowed, Rebalanced, StreamclustError, TransientError
from streamclust.core.kafka_specs import KafkaSpec, SecuritySpec

T = TypeVar("T")

RESET_ON_CLOSE = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
"""Closing drops what the system has not sent yet: nothing old can arrive after it was sent anew."""

_MOVED_ON = (
    errors.CommitFailedError,
    errors.RebalanceInProgressError,
    errors.IllegalGenerationError,
    errors.UnknownMemberIdError,
)
_TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
_REFUSED = (
    errors.AuthorizationError,
    errors.GroupMaxSizeReachedError,
    errors.InconsistentGroupProtocolError,
    errors.InvalidConfigurationError,
    errors.InvalidGroupIdError,
    errors.InvalidPartitionsError,
    errors.InvalidReplicationFactorError,
    errors.InvalidSessionTimeoutError,
    errors.InvalidTopicError,
    errors.InvalidTransactionTimeoutError,
    errors.PolicyViolationError,
    errors.UnsupportedVersionError,
)


def milliseconds(seconds: float) -> int:
    """Return a time as kafka-python wants it, never negative."""
    return max(0, round(seconds * 1000))


def settings(spec: KafkaSpec) -> dict[str, Any]:
    """Return what consumers, producers and admins have in common.

    Raises
    ------
    OSError
        A certificate or key cannot be read.
    """
    timeout_ms = milliseconds(spec.request_timeout)
    return {
        "bootstrap_servers": list(spec.bootstrap),
        "bootstrap_timeout_ms": timeout_ms,
        "request_timeout_ms": timeout_ms,
        "reconnect_backoff_max_ms": 1000,
        "retry_backoff_ms": 20,
        "metadata_max_age_ms": 30_000,
        "client_id": "streamclust",
        **_security(spec.security),
    }


def _security(spec: SecuritySpec) -> dict[str, Any]:
    found: dict[str, Any] = {"security_protocol": spec.protocol.upper()}
    if spec.protocol.endswith("ssl"):
        context = ssl.create_default_context(cafile=spec.ca_file)
        context.check_hostname = spec.check_hostname
        if spec.cert_file:
            context.load_cert_chain(spec.cert_file, spec.key_file, spec.key_password)
        found["ssl_context"] = context
    if spec.protocol.startswith("sasl"):
        found["sasl_mechanism"] = spec.mechanism
        found["sasl_plain_username"] = spec.username
        found["sasl_plain_password"] = spec.password
    return found


def meaning(error: BaseException, unavailable: type[TransientError]) -> StreamclustError:
    """Return the error of ours that says what to do; `unavailable` when it may pass."""
    if isinstance(error, errors.FencedInstanceIdError):
        return Fenced(f"another process is the member of the group that source.member names ({error})")
    if isinstance(error, _MOVED_ON):
        return Rebalanced(f"the group has moved on ({error})")
    if isinstance(error, _TOO_LARGE):
        return MessageTooLarge(str(error))
    if isinstance(error, _REFUSED):
        return NotAllowed(f"Kafka refuses: {error}")
    return unavailable(str(error) or type(error).__name__)


@contextmanager
def speaking(unavailable: type[TransientError], what: str) -> Iterator[None]:
    """Raise what kafka-python raises as an error of ours; `what` says in the message what was being done."""
    try:
        yield
    except (errors.KafkaError, OSError) as error:
        mine = meaning(error, unavailable)
        raise (unavailable(f"{what}: {mine}") if type(mine) is unavailable else mine) from error


def connected(make: Callable[[Callable[..., Any]], T], spec: KafkaSpec, unavailable: type[TransientError]) -> T:
    """Return what `make` makes with the net client that it is given, which is closed when that fails.

    kafka-python's own error names no cause; the last of its log records does.
    """
    made: list[KafkaNetClient] = []

    def net(**configs: Any) -> KafkaNetClient:
        client = KafkaNetClient(net=_Selector(**configs), **configs)
        client.cluster.config["allow_auto_create_topics"] = False  # kafka-python does not pass this setting on
        made.append(client)
        return client

    ear = _Ear()
    logger = logging.getLogger("kafka")
    logger.addHandler(ear)
    try:
        return make(net)
    except (errors.KafkaError, OSError) as error:
        for client in made:
            client.close()
        why = ear.cause() or str(error)
        if spec.security.protocol.startswith("sasl") and "disconnected" in why:
            # What the broker said is lost: kafka-python closes before it looks at it.
            why += "; that is how brokers end a failed authentication: check kafka.security.username, password and mechanism"
        raise unavailable(f"cannot connect to Kafka at {', '.join(spec.bootstrap)}: {why}") from error
    finally:
        logger.removeHandler(ear)


class _Selector(NetworkSelector):  # type: ignore[misc]  # — kafka-python has no types
    """Raises errors that hold nothing.

    kafka-python's own `run` refers to the error that it raises, and the error, by its traceback, to `run` and all that
    called it: after each poll in vain the whole turn, with its messages, would wait for the collector of cycles.
    """

    def run(self, coro: Any, *args: Any) -> Any:
        """Run it on the IO thread and wait for what it gives; errors come without the traceback there."""
        try:
            return super().run(coro, *args)
        except errors.KafkaError as error:
            raise error.with_traceback(None)  # noqa: B904 — it is the same error


class _Ear(logging.Handler):
    """Hears what kafka-python logs; made by `connected` for as long as it takes to connect."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message of a warning or an error."""
        self._heard.append(record.getMessage())

    def cause(self) -> str:
        """Return the last message that tells why; empty when there was none."""
        told = [text for text in self._heard if "failed" in text and not text.startswith("Bootstrap failed")]
        return (told or self._heard or [""])[-1]
