"""One training, whoever asks for it: alone in the state directory, alone in the group of workers, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from streamclust.child import Ended, alone
from streamclust.core.clock import Clock
from streamclust.core.errors import SinkUnavailable, StreamclustError
from streamclust.core.specs import Config
from streamclust.store.activations import Activation, newest, pinned
from streamclust.store.models import ModelStore
from streamclust.store.shelf import prepare
from streamclust.store.trainings import remembered

if TYPE_CHECKING:
    from streamclust.stream.kafka.ports import Outgoing
    from streamclust.train.relabel import Relabel as Labelled

JOIN_S: Final = 20.0
"""Seconds to wait for the right to train: a group needs some to see that a trainer is gone."""
FILL_S: Final = 120.0
"""Seconds to read samples of the topic into the buffer, at most; the next training goes on from there."""
BY: Final = "retrain"

Told = Callable[[str, float, "float | None"], None]
"""Is told a step, its share and the loss, where there is one."""


class Asked(NamedTuple):
    """What is asked for."""

    reason: str
    """Why, as it is recorded; when it is empty the training looks itself whether it is time, and says why."""


class Activate(Protocol):
    """Lets a stored version hold, for this worker or all of them."""

    def __call__(self, version: int, active_from_ns: int | None, reason: str) -> None:
        """Activate.

        Raises
        ------
        StreamclustError
            It is not activated: `Fenced`, when another process trains; `Unwanted`, when people said so meanwhile.
        """
        ...


class Site(NamedTuple):
    """What a training has to do with."""

    config: Config
    state: Path
    clock: Clock
    told: Told
    activate: Activate
    last_ns: int
    """When the last training of any process of the group ended, as far as others know; 0 when nobody says."""


Run = Callable[[Site, Asked], Ended]
"""The training itself."""


class Unwanted(StreamclustError):
    """People want another model, or the one that there is to stay; seen by a training, never by a command."""


def train(config: Config, state: Path, clock: Clock, told: Told, asked: Asked, run: Run | None = None) -> Ended:
    """Do one training, unless another one runs.

    Parameters
    ----------
    run
        The training itself; None is that of `train.trainer`.

    Raises
    ------
    StateLocked
        Another training runs in this state directory.
    StateError
        The state directory cannot be used.
    """
    begun = clock.monotonic()
    if config.model.share == "kafka":
        prepare(state)  # a job of its own has nothing there yet, and needs nothing
    with alone(state):
        try:
            ended = _trained(Site(config, state, clock, told, _nothing, 0), asked, run or _run)
        except Unwanted as error:
            ended = Ended("skipped", None, (str(error),), 0.0)
        except MemoryError as error:
            why = f"it needs more memory than retrain.memory_bytes gives, {config.retrain.memory_bytes} bytes more than at its start"
            ended = Ended("failed", None, (why, *filter(None, [str(error)])), 0.0)
        except (StreamclustError, OSError) as error:
            ended = Ended("failed", None, (f"{type(error).__name__}: {error}",), 0.0)
    return ended._replace(seconds=clock.monotonic() - begun)


def _nothing(version: int, active_from_ns: int | None, reason: str) -> None:
    raise NotImplementedError


def _trained(site: Site, asked: Asked, run: Run) -> Ended:
    store = ModelStore(site.state / "models")
    if site.config.model.share == "kafka":
        return _elected(site, store, asked, run)
    before = _begun(store.activations())

    def activate(version: int, active_from_ns: int | None, reason: str) -> None:
        _still(before, store.activations())
        at_ns = site.clock.now_ns()
        store.activate(version, active_from_ns=active_from_ns, by=BY, reason=reason[:1000], at_ns=at_ns)

    return run(site._replace(activate=activate), asked)


def _begun(log: Sequence[Activation]) -> int | None:
    """Return the version that a training begins with.

    Raises
    ------
    Unwanted
        People want it to stay.
    """
    pin = pinned(log)
    if pin is not None:
        why = f" ({pin.reason})" if pin.reason else ""
        raise Unwanted(
            f"version {pin.version} is pinned{why}; `streamclust models unpin` lets trainings change the model"
        )
    return newest(log).version if log else None


def _still(before: int | None, log: Sequence[Activation]) -> None:
    """Raise Unwanted when the model is pinned, or is another one than the training began with."""
    now = _begun(log)
    if now != before:
        raise Unwanted(f"version {now} was activated while a training began with version {before}; it stays")


def _elected(site: Site, store: ModelStore, asked: Asked, run: Run) -> Ended:
    """Train as the only one of the group; activate for all of them."""
    from streamclust.core.kafka_specs import KafkaSource
    from streamclust.signal.groups import Grouping
    from streamclust.stream.kafka.clients import CLIENTS
    from streamclust.stream.kafka.lease import Lease
    from streamclust.stream.kafka.models import TopicModels, Wish, publish_version

    config, clock = site.config, site.clock
    client = CLIENTS[config.kafka.client](config.kafka)
    group = config.source.group if isinstance(config.source, KafkaSource) else "streamclust"
    with Lease(client, config.kafka, group, clock, config.retrain.silent_after + 60) as lease:
        if not lease.acquire(JOIN_S):
            return Ended("skipped", None, ("another worker of the group trains",), 0.0)
        channels, keep = Grouping(config.windows).channels, config.retrain.keep_models
        models = TopicModels(store, client, config.kafka, clock, config.profile, channels, keep=keep)
        try:
            models.refresh(0.0)  # the topic says which model is the current one
            before = _begun(models.activations())

            def fence(messages: Sequence[Outgoing]) -> None:
                _still(before, models.activations())  # as far as the end of the topic, that was just read
                lease.send(messages)

            def activate(version: int, active_from_ns: int | None, reason: str) -> None:
                wish = Wish(version, active_from_ns, clock.now_ns(), BY, reason[:1000])
                publish_version(store, models, wish, fence)

            def told(step: str, share: float, loss: float | None) -> None:
                lease.keep()
                site.told(step, share, loss)

            told("samples", 0.0, None)
            with _filled(site, told):
                ended = run(site._replace(activate=activate, told=told, last_ns=lease.last_ns()), asked)
            if ended.kind in {"refused", "failed"}:
                lease.done(clock.now_ns())
            return ended
        finally:
            models.close()


@contextmanager
def _filled(site: Site, told: Told) -> Iterator[None]:
    """Have the samples of all workers in the buffer of this state directory."""
    from streamclust.store.buffer import BUFFER, Buffer
    from streamclust.stream.kafka.clients import CLIENTS
    from streamclust.stream.kafka.samples import SamplesReader

    config = site.config
    buffer = Buffer.open(site.state / BUFFER, config.buffer, config.profile.digest)
    try:
        reader = SamplesReader(
            CLIENTS[config.kafka.client](config.kafka), config.kafka, config.profile.digest, site.clock
        )
        end = site.clock.monotonic() + FILL_S
        while not reader.fill(buffer, 5.0).complete and site.clock.monotonic() < end:
            told("samples", max(0.0, 1 - (end - site.clock.monotonic()) / FILL_S), None)
        buffer.prune(site.clock.now_ns())
    finally:
        buffer.close()
    yield


def _run(site: Site, asked: Asked) -> Ended:
    """Do the training of `train.trainer`, if it is time."""
    from streamclust.train import trainer

    reason, taken, drift = _looked(site, asked)
    if not reason:
        why = "it is not the time: see retrain.every, after_windows and on_drift"
        return Ended("skipped", None, (why,), 0.0, drift=drift)
    model, profile = site.config.model, site.config.profile
    work = trainer.Site(
        site.state, site.clock, lambda step, share: site.told(step, share, None), site.activate, _relabel(site)
    )
    done = trainer.run(work, trainer.Settings(site.config.retrain, profile, model.novel_above, model.seed), reason)
    if done.kind == "promoted" and site.config.model.share == "directory":  # those of a topic are kept with it
        with suppress(SinkUnavailable):  # the next one tries again
            ModelStore(site.state / "models").prune(site.config.retrain.keep_models)
    loss = done.figures.get("loss")
    if loss is not None:
        site.told("done", 1.0, loss)
    return Ended(done.kind, done.version, done.reasons, done.seconds, taken, drift)


def _looked(site: Site, asked: Asked) -> tuple[str, int | None, Mapping[str, float]]:
    """Return why it is time, empty when it is not; how many windows were ever taken into the buffer; and the drift found."""
    from streamclust.store.buffer_reader import BUFFER, open_readonly
    from streamclust.train import drift, watch

    log = ModelStore(site.state / "models").activations()
    wanted = asked.reason or watch.wished(site.state)
    if not (site.state / BUFFER).is_file() or not log:
        return wanted or "there is nothing to train on", None, {}
    with closing(open_readonly(site.state / BUFFER, site.config.profile.digest)) as reader:
        taken = reader.taken()
        if wanted:
            return wanted, taken, {}
        memory = remembered(site.state)
        memory = memory._replace(last_ns=max(memory.last_ns, site.last_ns))
        series = watch.told(site.config, site.state, reader, newest(log).version)
        why = watch.decided(site.config.retrain, memory, reader, site.clock.now_ns(), series)
        return why or "", taken, drift.figures(series)


def _relabel(site: Site) -> Callable[[Sequence[Labelled]], None]:
    """Return what adds the labels of a new model to the results of the daemon."""
    from streamclust.store.results import Relabel, Results

    def relabel(some: Sequence[Labelled]) -> None:
        rows = [Relabel(x.window_id, x.model, x.cluster, x.memberships, x.novelty, x.is_novel) for x in some]
        with closing(Results(site.state / "streamclust.sqlite", site.config.state.quarantine_bytes)) as results:
            results.relabel(rows, site.clock.now_ns())

    return relabel
