"""The right to train: at most one process of a group has it, and only that one can activate a model.

It is the one partition of the models topic in a consumer group of its own. Two trainers at once need no clock to be told
apart: an activation is sent in a transaction together with a commit of that group. The broker refuses the commit of a member that the
group has given up (it was stopped, or cut off, and another one has the partition since), and with it the activation;
and whoever has the right takes the transactional id, which aborts what another one has left open.
The offset that is committed is no position: it is the time at which the last training ended, ms since 1970 UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Self

from streamclust.core.clock import Clock
from streamclust.core.errors import Fenced, Rebalanced, TransientError
from streamclust.core.kafka_specs import KafkaSpec
from streamclust.stream.kafka.ports import (
    Client,
    Consumer,
    ConsumerOptions,
    Fetched,
    Outgoing,
    Part,
    TransactionalProducer,
)
from streamclust.stream.kafka.topics import make_sure

SESSION_S: Final = 10.0
"""A trainer that the group does not hear of for so long has lost the right; the brokers' own least is 6 s."""
TRANSACTION_S: Final = 15.0
"""A transaction that takes longer is aborted by the brokers."""
_WAIT: Final = 0.2


class Lease:
    """The right to train, which is had from `acquire` until it is lost for good, or `close`.

    Parameters
    ----------
    group
        The consumer group of the workers.
    turn_s
        Longest time between two calls of `keep`; the right is lost after it.
    """

    def __init__(self, client: Client, kafka: KafkaSpec, group: str, clock: Clock, turn_s: float = 600.0) -> None:
        self._client = client
        self._kafka = kafka
        self._clock = clock
        self._part = Part(kafka.topics.models, 0)
        self._name = f"{group}-trainer"
        self._turn_s = max(turn_s, 2 * SESSION_S)
        self._consumer: Consumer | None = None
        self._producer: TransactionalProducer | None = None
        self._lost = False

    def acquire(self, wait_s: float) -> bool:
        """Take the right, unless another process has it and keeps it for `wait_s` seconds; then nothing is left open.

        Raises
        ------
        SourceUnavailable, SinkUnavailable, NotAllowed
            The brokers do not answer, or refuse.
        """
        make_sure(self._client, self._kafka, ["models"])
        deadline = self._clock.monotonic() + wait_s
        try:
            self._consumer = self._client.consumer(
                ConsumerOptions(
                    topics=(self._part.topic,),
                    group=self._name,
                    session_timeout_s=SESSION_S,
                    max_turn_s=self._turn_s,
                )
            )
            while self._part not in self._consumer.assigned():
                if self._clock.monotonic() > deadline:
                    self.close()
                    return False
                self._consumer.poll(1, _WAIT)
            self._lost = False
            self._producer = self._client.transactional(self._name, TRANSACTION_S)
            self.keep()
        except BaseException:
            self.close()
            raise
        return True

    def keep(self) -> None:
        """Stay a member of the group; a call now and then, at least every `turn_s` seconds.

        Raises
        ------
        Fenced
            The right is lost, and with it what was made under it.
        """
        consumer = self._held()
        try:
            fetched = consumer.poll(1, 0.0)
        except TransientError:
            return  # brokers that are away give the right to nobody; `fenced` asks them
        self._see(consumer, fetched)

    def last_ns(self) -> int:
        """Return when the last training of any process of the group ended, ns since 1970 UTC; 0 when none is known.

        Raises
        ------
        SourceUnavailable
            The brokers do not answer.
        """
        at_ms = self._held().committed([self._part]).get(self._part)
        return (at_ms or 0) * 1_000_000

    def done(self, at_ns: int) -> None:
        """Let all processes of the group know when a training ended, that activated nothing.

        Raises
        ------
        Fenced
            The right is lost.
        SourceUnavailable
            The brokers do not answer.
        """
        consumer = self._stable()
        try:
            consumer.commit({self._part: at_ns // 1_000_000})
        except Rebalanced as error:
            raise self._gone() from error

    def send(self, messages: Sequence[Outgoing]) -> None:
        """Send messages if, and only if, the right is held when they come to be seen.

        Raises
        ------
        Fenced
            It is not; none of them will ever be seen.
        SinkUnavailable
            Nobody knows whether they were sent.
        """
        consumer = self._stable()
        if self._producer is None:
            raise self._gone()
        offsets = {self._part: self._clock.now_ns() // 1_000_000}
        try:
            self._producer.transact(messages, offsets, consumer.group())
        except Rebalanced as error:
            raise self._gone() from error

    def close(self) -> None:
        """Give the right back. May be called twice."""
        producer, consumer = self._producer, self._consumer
        self._producer = self._consumer = None
        if producer is not None:
            producer.close()
        if consumer is not None:
            consumer.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _held(self) -> Consumer:
        if self._consumer is None or self._lost:
            raise self._gone()
        return self._consumer

    def _see(self, consumer: Consumer, fetched: Fetched) -> None:
        """Lost once is lost for good: another one may have trained before it came back."""
        if self._part in fetched.lost or self._part not in consumer.assigned():
            raise self._gone()

    def _stable(self) -> Consumer:
        """Wait until the group is not moving, which it is while another process comes or goes."""
        consumer = self._held()
        deadline = self._clock.monotonic() + self._kafka.request_timeout
        while True:
            self._see(consumer, consumer.poll(1, 0.0))
            try:
                consumer.group()
            except Rebalanced:
                if self._clock.monotonic() > deadline:
                    raise self._gone() from None
                self._see(consumer, consumer.poll(1, _WAIT))
            else:
                return consumer

    def _gone(self) -> Fenced:
        self._lost = True
        return Fenced(f"another process has the right to train: this one lost its place in the group {self._name}")
