"""The producers of kafka-python behind our ports: every acknowledgement is checked, every wait has an end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from kafka import KafkaProducer, errors
from kafka.structs import MemberState, OffsetAndMetadata, TopicPartition

from streamclust.core.clock import Clock
from streamclust.core.errors import Fenced, MessageTooLarge, Rebalanced, SinkUnavailable, StreamclustError
from streamclust.core.kafka_specs import KafkaSpec
from streamclust.stream.kafka.ports import Outgoing, Part
from streamclust.stream.kafka.python_connection import RESET_ON_CLOSE, connected, meaning, milliseconds, settings

_LARGEST = 64 << 20  # bytes before compression; the broker and the topic have their own limits
_JOIN_S = 2.0
_TAKEN = (errors.ProducerFencedError, errors.InvalidProducerEpochError)


def producer_configs(spec: KafkaSpec, compression: str) -> dict[str, Any]:
    """Return the settings of a producer; may raise OSError as `settings` does."""
    timeout_ms = milliseconds(spec.request_timeout)
    return {
        **settings(spec),
        "acks": "all",
        "enable_idempotence": True,
        "compression_type": None if compression == "none" else compression,
        "batch_size": 262_144,
        "linger_ms": 5,
        "max_request_size": _LARGEST,
        "max_block_ms": timeout_ms,
        "delivery_timeout_ms": 2 * timeout_ms + 1000,
        "socket_options": [*KafkaProducer.DEFAULT_CONFIG["socket_options"], RESET_ON_CLOSE],
        "metrics_enabled": False,
    }


class PythonProducer:
    """Sends with kafka-python. After a failed flush the producer under it is thrown away with all that it still holds."""

    def __init__(self, spec: KafkaSpec, compression: str, clock: Clock) -> None:
        self._spec = spec
        self._compression = compression
        self._clock = clock
        self._pending: list[Any] = []
        self._largest = 0
        self._kafka: Any = self._made()

    def _made(self) -> Any:
        return connected(
            lambda net: KafkaProducer(**producer_configs(self._spec, self._compression), kafka_client=net),
            self._spec,
            SinkUnavailable,
        )

    def send(self, message: Outgoing) -> None:
        """See `ports.Producer.send`."""
        if self._kafka is None:
            self._kafka = self._made()
        try:
            self._pending.append(_hand_over(self._kafka, message))
        except (errors.KafkaError, OSError, ValueError) as error:  # ValueError: metadata know no such partition
            raise _named(meaning(error, SinkUnavailable), message) from error
        self._largest = max(self._largest, len(message.value or b""))

    def flush(self, timeout: float) -> None:
        """See `ports.Producer.flush`."""
        pending, self._pending = self._pending, []
        largest, self._largest = self._largest, 0
        try:
            _await(pending, self._clock, self._clock.monotonic() + timeout)
        except errors.KafkaError as error:
            self.close()
            mine = meaning(error, SinkUnavailable)
            if isinstance(mine, MessageTooLarge):
                raise MessageTooLarge(f"the largest of them has {largest} bytes ({error})") from error
            raise mine from error

    def close(self) -> None:
        """See `ports.Producer.close`."""
        kafka, self._kafka = self._kafka, None
        self._pending = []
        if kafka is not None:
            _abort(kafka)


class PythonTransactionalProducer:
    """Transactions of kafka-python, each under a limit of time.

    kafka-python's own `send_offsets_to_transaction` and `commit_transaction` wait without an end, and the commit says
    nothing of messages that expired: so we wait for each result ourselves. After any failure the producer is thrown away
    and made anew, which aborts what is left; where a commit was cut off, nothing is sent again before that was done
    and the caller was told, so that `Consumer.committed` is the truth when it looks.
    """

    def __init__(
        self, spec: KafkaSpec, transactional_id: str, timeout_s: float, compression: str, clock: Clock
    ) -> None:
        self._spec = spec
        self._transactional_id = transactional_id
        self._timeout_s = timeout_s
        self._compression = compression
        self._clock = clock
        self._cut_off = False
        self._kafka: Any = self._made()

    def _made(self) -> Any:
        configs = {
            "transactional_id": self._transactional_id,
            "transaction_timeout_ms": milliseconds(self._timeout_s),
        }

        def make(net: Callable[..., Any]) -> Any:
            shared = producer_configs(self._spec, self._compression) | {"retry_backoff_ms": 5}
            kafka = KafkaProducer(**shared, **configs, kafka_client=net)
            try:
                kafka.init_transactions()
            except BaseException:
                _abort(kafka)
                raise
            return kafka

        return connected(make, self._spec, SinkUnavailable)

    def transact(self, messages: Sequence[Outgoing], offsets: Mapping[Part, int], group: Any) -> None:
        """See `ports.TransactionalProducer.transact`."""
        if not messages and not offsets:
            return
        if offsets and group.state is not MemberState.STABLE:
            raise Rebalanced("the group is moving partitions")
        self._ready()
        begun = self._clock.monotonic()
        try:
            self._whole(messages, offsets, group, begun + 2 * self._spec.request_timeout)
        except (errors.KafkaError, OSError, ValueError) as error:
            raise self._failed(error, self._clock.monotonic() - begun) from error
        self._cut_off = False

    def _ready(self) -> None:
        if self._kafka is not None:
            return
        self._kafka = self._made()
        if self._cut_off:
            self._cut_off = False
            raise SinkUnavailable(
                "the transaction whose commit was cut off is decided only now: compare what is committed"
            )

    def _whole(self, messages: Iterable[Outgoing], offsets: Mapping[Part, int], group: Any, deadline: float) -> None:
        kafka = self._kafka
        manager = kafka._transaction_manager  # noqa: SLF001 — its public twins wait without a limit of time
        kafka.begin_transaction()
        futures = [_hand_over(kafka, message) for message in messages]
        _await(futures, self._clock, deadline)
        if offsets:
            wanted = {TopicPartition(*part): OffsetAndMetadata(offset, "", -1) for part, offset in offsets.items()}
            self._finish(manager.send_offsets_to_transaction(wanted, group), deadline)
        result = manager.begin_commit()
        self._cut_off = True
        self._finish(result, deadline)

    def _finish(self, result: Any, deadline: float) -> None:
        self._kafka._sender.wakeup()  # noqa: SLF001 — as its public twins do
        if not result.wait(timeout_ms=milliseconds(deadline - self._clock.monotonic())):
            raise errors.KafkaTimeoutError("the transaction took longer than twice kafka.request_timeout")

    def _failed(self, error: BaseException, took_s: float) -> StreamclustError:
        """Throw the producer away, make it anew if that is possible now, and return what to raise."""
        manager = self._kafka._transaction_manager  # noqa: SLF001 — what is raised often hides the cause, this is it
        causes = [cause for cause in (error, manager.last_error, *error.args) if isinstance(cause, BaseException)]
        self._discard()
        if any(isinstance(cause, _TAKEN) for cause in causes) and took_s < self._timeout_s:
            return Fenced(f"another process uses the transactional id {self._transactional_id}")
        found = [meaning(cause, SinkUnavailable) for cause in causes]
        mine = next((one for one in found if not isinstance(one, SinkUnavailable)), found[0])
        if isinstance(mine, Fenced):
            return mine
        try:
            self._kafka = self._made()
        except StreamclustError:
            return mine  # the next call tries again
        self._cut_off = False
        return mine

    def _discard(self) -> None:
        kafka, self._kafka = self._kafka, None
        if kafka is not None:
            _abort(kafka)

    def close(self) -> None:
        """See `ports.TransactionalProducer.close`. What is open is aborted by the broker, or by the next of this id."""
        self._discard()


def _hand_over(kafka: Any, message: Outgoing) -> Any:
    return kafka.send(
        message.topic,
        value=message.value,
        key=message.key,
        headers=list(message.headers),
        partition=message.partition,
        timestamp_ms=message.timestamp_ms,
    )


def _await(futures: Iterable[Any], clock: Clock, deadline: float) -> None:
    """Wait for each; raises its error, or KafkaTimeoutError at `deadline` (of `clock.monotonic`)."""
    for future in futures:
        if not future.succeeded():
            future.get(timeout=max(0.0, deadline - clock.monotonic()))


def _named(error: StreamclustError, message: Outgoing) -> StreamclustError:
    size = len(message.value or b"")
    if isinstance(error, MessageTooLarge):
        return MessageTooLarge(f"{size} bytes for topic {message.topic} ({error.detail})")
    return type(error)(f"topic {message.topic}: {error}")


def _abort(kafka: Any) -> None:
    """End a producer with all that it holds; its public `close` would go on sending, and raise instead of ending.

    When its thread does not come back in time it ends by itself within `request_timeout`, without sending messages.
    """
    sender = kafka._sender  # noqa: SLF001 — nothing public drops what is not sent
    sender.force_close()
    sender.join(_JOIN_S)
    kafka._unregister_cleanup()  # noqa: SLF001 — or the interpreter keeps it until it exits
    kafka._closed = True  # noqa: SLF001 — or its `__del__` tries to send
