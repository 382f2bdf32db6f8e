"""Models of a compacted topic that all workers read, mirrored into each one's own directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from streamclust.core.clock import Clock
from streamclust.core.errors import (
    CorruptModel,
    MessageTooLarge,
    ModelError,
    NotAllowed,
    SinkUnavailable,
    SourceUnavailable,
    TransientError,
)
from streamclust.core.kafka_specs import KafkaSpec
from streamclust.core.specs import ProfileSpec
from streamclust.model.bundle import from_bytes
from streamclust.store.activations import Activation, newest, recent
from streamclust.store.models import ModelStore
from streamclust.stream.kafka import model_log
from streamclust.stream.kafka.model_log import Accepted, Draft, Keyed, ModelLog, announced, blank, drafted
from streamclust.stream.kafka.ports import Client, Consumer, ConsumerOptions, Outgoing, Part
from streamclust.stream.kafka.topics import make_sure
from streamclust.stream.live import require_channels

LOOK_EVERY = 1.0
"""Seconds between looks at the topic."""
AGAIN_AFTER = 30.0
"""Seconds until brokers that were away are asked again, while there is a model to go on with."""
MESSAGES = 16
"""Read at once, 8 MiB at most."""
_WAIT = 0.25
_QUIET = 4
"""Polls without a message until what is left to read is taken for what nobody sees: the end of a transaction."""
_TRIES = 5

Send = Callable[[Sequence[Outgoing]], None]
"""How activations are sent: `Lease.send`, for a process that must be the only one."""


class Wish(NamedTuple):
    """What is to be activated."""

    version: int
    active_from_ns: int | None
    at_ns: int
    by: str
    reason: str = ""


class TopicModels:
    """`ports.Models` over a topic; the first partition is read, without a group, and the store is a copy of it.

    Nothing is asked of a broker before the first `refresh`, `offer` or `activate`; until then, and while the brokers
    are away, the store's models hold. A topic without any model takes over those of the store.

    Parameters
    ----------
    kafka
        Names the topic; its `request_timeout` bounds how long is waited for the end of the topic.
    profile, channels
        Models for others are refused.
    keep
        Versions that stay in the store at least; never fewer than the topic keeps, `KEPT`.
    """

    def __init__(  # noqa: PLR0913 — what a mirror depends on; two can be left out
        self,
        store: ModelStore,
        client: Client,
        kafka: KafkaSpec,
        clock: Clock,
        profile: ProfileSpec,
        channels: int | None = None,
        *,
        keep: int = 2,
    ) -> None:
        self._fence: Send | None = None
        self._store = store
        self._client = client
        self._kafka = kafka
        self._part = Part(kafka.topics.models, 0)
        self._timeout = kafka.request_timeout
        self._clock = clock
        self._profile = profile
        self._channels = channels
        self._keep = keep
        self._reasons: tuple[str, ...] = ()
        self._consumer: Consumer | None = None
        self._draft: Draft | None = None
        self._look_at = float("-inf")
        self._begin()
        self._log = self._stored()

    @property
    def refused(self) -> Mapping[str, int]:
        """Why messages were refused -> how many, since the topic was last read from its beginning."""
        return self._read.refused

    def refresh(self, now: float) -> bool:
        """Read what has come to the topic; the first time to its end."""
        if now < self._look_at:
            return False
        before = self._log
        try:
            if self._complete:
                more = self._pump(0.0)
                self._look_at = now if more else now + LOOK_EVERY
            else:
                self._start()
                self._look_at = now + LOOK_EVERY
        except SourceUnavailable as error:
            self._drop()
            if not self._log:
                raise
            self._look_at = now + AGAIN_AFTER
            self._tell(f"goes on with model {newest(self._log).version}, which it knows already: {error}")
            return False
        if self._complete:
            self._mirror()
        return self._log != before

    def activations(self) -> Sequence[Activation]:
        """Return what counts in the topic, as far as it is mirrored."""
        return self._log

    def load(self, version: int) -> Mapping[str, bytes]:
        """Return the mirrored files of a version; CorruptModel."""
        return self._store.load(version)

    def offer(self, files: Mapping[str, bytes], at_ns: int) -> Activation:
        """Publish the first model, unless there is one; whichever comes first in the topic counts, for all."""
        self._start()
        if not self._log:
            version = self._draft.version if self._draft else self._store.next_version()
            self._append(files, Wish(version, 0, at_ns, "first fit"))
        self._draft = None
        if not self._log:
            raise SinkUnavailable(
                f"{self._part.topic}: the model that was sent must be there (got none that can be used)"
            )
        return newest(self._log)

    def activate(self, files: Mapping[str, bytes], wish: Wish, fence: Send | None = None) -> Activation:
        """Publish a version, unless the topic has it, and activate it; return that activation, which counts.

        A `fence` sends the activation instead of us, and raises when this process may not.

        Raises
        ------
        Fenced
            By `fence`; nothing was activated.
        TransientError
            Nobody knows whether it was taken.
        ModelError
            It cannot be used, or others were always faster.
        StateError
            Another model has that number in the topic.
        """
        self._fence = fence
        try:
            for _ in range(_TRIES):
                self._start()
                entry = self._append(files, wish)
                if entry is not None:
                    self._draft = None
                    return entry
        finally:
            self._fence = None
        raise ModelError(
            f"model {wish.version}: must be activated within {_TRIES} tries (got: others were faster each time)"
        )

    def settle(self) -> None:
        """Nothing is in force that is not durable."""

    def reasons(self) -> tuple[str, ...]:
        """Return what was refused, and when it goes on with what it knows."""
        told, self._reasons = self._reasons + self._read.reasons(), ()
        return told

    def close(self) -> None:
        """Leave the topic."""
        self._drop()

    def _begin(self) -> None:
        """Be about to read the topic from its beginning."""
        self._read = ModelLog(self._profile.digest, self._check)
        self._unsaved: list[Accepted] = []
        self._next: int | None = None
        self._complete = False

    def _check(self, files: Mapping[str, bytes]) -> None:
        bundle = from_bytes(files)
        bundle.require(self._profile)
        require_channels(bundle, self._channels)

    def _stored(self) -> tuple[Activation, ...]:
        try:
            log = self._store.activations()
        except CorruptModel as error:
            self._tell(str(error))
            log = ()
        if log:
            return log
        good = self._store.newest_good()
        return () if good is None else (Activation(1, good, 0, 0, "first fit", "was here before the topic"),)

    def _start(self) -> None:
        """Read to the end that the topic has now, mirror it, and give it our models when it has none."""
        deadline = self._clock.monotonic() + self._timeout
        try:
            self._read_to_end(deadline)
        except SourceUnavailable:
            self._drop()
            raise
        if not self._complete:
            self._share()
        self._complete = True
        self._mirror()

    def _share(self) -> None:
        """Give what was here before to a topic that has nothing, or only the beginning of it."""
        known, ours = self._read.activations[-1:], recent(self._log, model_log.KEPT)
        if known and known[0] not in ours:
            return
        for entry in ours[ours.index(known[0]) + 1 if known else 0 :]:
            try:
                files = self._store.load(entry.version)
                self._check(files)
            except ModelError as error:
                self._tell(f"model {entry.version} is not shared: {error}")
                continue
            wish = Wish(entry.version, entry.active_from_ns, entry.at_ns, entry.by, entry.reason)
            if self._append(files, wish, entry.seq) is None:
                return  # another worker was faster, and its models count

    def _append(self, files: Mapping[str, bytes], wish: Wish, first: int = 1) -> Activation | None:
        """Send a model and its activation; return that when it counts, None when another one came first.

        In a topic without any it gets the number `first`.
        """
        log = self._read
        known = log.models.get(wish.version)
        if known is None:
            self._check(files)
            self._draft = drafted(files, wish.version, self._draft)
            self._send(self._draft.parts)
            known = self._draft.sha
        else:
            self._store.store(wish.version, files)
        since = wish.active_from_ns
        if since is None:
            since = newest(log.activations).active_from_ns if log.activations else 0
        seq = log.next_seq if log.activations else first
        entry = Activation(seq, wish.version, since, wish.at_ns, wish.by, wish.reason)
        self._announce(announced(entry, known, self._profile.digest))
        self._read_to_end(self._clock.monotonic() + self._timeout)
        self._tidy()
        if self._complete:
            self._mirror()
        return entry if entry in self._read.activations else None

    def _announce(self, message: Keyed) -> None:
        """Send an activation. That of a fence ends with a mark of its transaction that no reader sees, so ours follows it."""
        if self._fence is None:
            self._send([message])
            return
        self._fence([Outgoing(self._part.topic, message.value, message.key, partition=self._part.number)])
        with suppress(TransientError):  # whoever reads does it
            self._send([blank()])

    def _tidy(self) -> None:
        """Remove what counts no more: after a compaction what came second might look as if it had come first."""
        if gone := self._read.removals():
            with suppress(TransientError):  # the next one who writes does it
                self._send(gone)

    def _send(self, messages: Sequence[Keyed]) -> None:
        """Send and see each message acknowledged; some at a time."""
        producer = self._client.producer()
        try:
            for at in range(0, len(messages), MESSAGES):
                for key, value in messages[at : at + MESSAGES]:
                    producer.send(Outgoing(self._part.topic, value, key, partition=self._part.number))
                producer.flush(self._timeout)
        except MessageTooLarge as error:
            raise NotAllowed(
                f"{self._part.topic}: must take messages of {model_log.PART_BYTES} bytes, see its max.message.bytes (got: {error})"
            ) from error
        finally:
            producer.close()

    def _read_to_end(self, deadline: float) -> None:
        """Read until the end that the topic has now.

        Raises
        ------
        SourceUnavailable
            The brokers are away, or the topic is not there.
        """
        consumer = self._connected()
        bounds = consumer.bounds([self._part]).get(self._part)
        if bounds is None:
            raise SourceUnavailable(f"{self._part.topic}: must be a topic (got none of that name)")
        quiet = 0
        while self._next is None or self._next < bounds.high:
            if self._clock.monotonic() > deadline:
                raise SourceUnavailable(f"{self._part.topic}: its end must be reached within {self._timeout:g} s")
            quiet = 0 if self._pump(_WAIT) else quiet + 1
            if quiet == _QUIET:
                self._write_past()

    def _write_past(self) -> None:
        """Let the topic end with a message that is seen."""
        try:
            self._send([blank()])
        except SinkUnavailable as error:
            raise SourceUnavailable(str(error)) from error

    def _pump(self, timeout: float) -> bool:
        """Read some messages; True when there may be more."""
        consumer = self._connected()
        self._save()
        fetched = consumer.poll(MESSAGES, timeout)
        if self._part in fetched.gone:
            self._tell(f"{self._part.topic}: it was cut or made anew, and is read again from its beginning")
            self._begin()
        if self._part in fetched.gained or self._part in fetched.gone:
            self._seek(consumer)
        for message in fetched.messages:
            if message.part == self._part:
                accepted = self._read.read(message.key, message.value)
                self._next = message.offset + 1
                self._unsaved += [accepted] if accepted else []
        self._save()
        return bool(fetched.messages)

    def _save(self) -> None:
        """Keep the models that have come; SinkUnavailable, StateError: see `ModelStore.store`."""
        while self._unsaved:
            activation, files = self._unsaved[0]
            if files is not None:
                self._store.store(activation.version, files)
            del self._unsaved[0]

    def _mirror(self) -> None:
        """Let the store's log be that of the topic; what is in force follows it."""
        self._save()
        log = self._read.activations
        if not log or log == self._log:
            return
        known = {entry.seq: entry for entry in self._log}
        self._store.rewrite(log)
        self._log = log
        if log[-1].seq < max(known, default=0) or any(known.get(entry.seq, entry) != entry for entry in log):
            self._tell(f"{self._part.topic} says otherwise than this worker knew which models hold, and was followed")
        with suppress(SinkUnavailable):  # the next one does it
            self._store.prune(max(self._keep, model_log.KEPT))

    def _connected(self) -> Consumer:
        if self._consumer is None:
            try:
                make_sure(self._client, self._kafka, ["models"])
            except SinkUnavailable as error:
                raise SourceUnavailable(str(error)) from error
            self._consumer = self._client.consumer(ConsumerOptions(topics=(self._part.topic,)))
            self._seek(self._consumer)
        return self._consumer

    def _seek(self, consumer: Consumer) -> None:
        """Go on behind the last message that was read, or begin at the beginning."""
        if self._next is None:
            bounds = consumer.bounds([self._part]).get(self._part)
            if bounds is None:
                raise SourceUnavailable(f"{self._part.topic}: must be a topic (got none of that name)")
            self._next = bounds.low
        consumer.seek(self._part, self._next)

    def _drop(self) -> None:
        """Leave the connection; a later one goes on behind the last message that was read."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()

    def _tell(self, reason: str) -> None:
        if reason not in self._reasons:
            self._reasons += (reason,)


def publish_version(store: ModelStore, models: TopicModels, wish: Wish, fence: Send | None = None) -> Activation:
    """Publish a stored version to all workers and activate it there; raises as `ModelStore.load` and `TopicModels.activate`."""
    return models.activate(store.load(wish.version), wish, fence)
