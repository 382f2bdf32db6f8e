"""One trainer at a time, on the real broker: who has the right, who has lost it, and that only the one can activate."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from daemons import wait_for
from kafka_clients import CLIENTS
from small_models import PROFILE, model

from streamclust.core.clock import SystemClock
from streamclust.core.errors import Fenced, SourceUnavailable
from streamclust.core.kafka_specs import KafkaSpec
from streamclust.store.models import ModelStore
from streamclust.stream.kafka import lease as leases
from streamclust.stream.kafka.lease import Lease
from streamclust.stream.kafka.models import TopicModels, Wish

ACQUIRE_S = 20.0


class Site:
    """Trainers of one group over one topic of models."""

    def __init__(self, name, path, bootstrap, topic, group, stack):
        self.name, self.path, self.group = name, path, group
        self.spec = KafkaSpec(bootstrap=[bootstrap], client=name, topics={"models": topic}, request_timeout=8)
        self.stack = stack

    def client(self):
        return CLIENTS[self.name]()(self.spec)

    def lease(self, **options):
        made = Lease(self.client(), self.spec, self.group, SystemClock(), **options)
        self.stack.callback(made.close)
        return made

    def models(self, name):
        made = TopicModels(ModelStore(self.path / name), self.client(), self.spec, SystemClock(), PROFILE, 1)
        self.stack.callback(made.close)
        return made


@pytest.fixture(params=sorted(CLIENTS))
def site(request, tmp_path, kafka, unique):
    CLIENTS[request.param]()
    with ExitStack() as stack:
        topic = kafka.new_topic(cleanup_policy="compact")
        yield Site(request.param, tmp_path, kafka.bootstrap, topic, unique, stack)


def versions(models):
    models.refresh(0.0)
    return [entry.version for entry in models.activations()]


def test_only_one_has_the_right_and_the_next_gets_it_when_it_is_given_back(site):
    one, other = site.lease(), site.lease()
    assert one.acquire(ACQUIRE_S)
    assert one.last_ns() == 0
    assert not other.acquire(3.0)
    one.keep()
    one.done(1_700_000_000_000_000_000)
    one.close()

    assert other.acquire(ACQUIRE_S)
    assert other.last_ns() == 1_700_000_000_000_000_000
    with pytest.raises(Fenced):
        one.keep()


def test_an_activation_goes_through_the_right_and_all_who_read_see_it(site):
    lease, models = site.lease(), site.models("a")
    models.offer(model(1), 0)
    assert lease.acquire(ACQUIRE_S)
    models.activate(model(2), Wish(2, 100, 5, "retrain"), lease.send)

    assert versions(models) == [1, 2]
    assert versions(site.models("late")) == [1, 2]
    assert lease.last_ns() > 1_700_000_000_000_000_000


def test_a_topic_that_ends_with_a_transaction_is_read_to_its_end(site):
    lease, models = site.lease(), site.models("a")
    models.offer(model(1), 0)
    assert lease.acquire(ACQUIRE_S)
    send = models._send
    models._send = lambda messages: (
        messages[0].value is None or send(messages)
    )  # what ends the transaction is never sent
    with pytest.raises(SourceUnavailable):
        models.activate(model(2), Wish(2, 100, 5, "retrain"), lease.send)

    assert versions(site.models("late")) == [1, 2]


def test_an_activation_under_a_right_that_was_never_had_or_is_given_back_is_not_sent(site):
    lease, models = site.lease(), site.models("a")
    models.offer(model(1), 0)
    with pytest.raises(Fenced):
        models.activate(model(2), Wish(2, 100, 5, "retrain"), lease.send)
    assert lease.acquire(ACQUIRE_S)
    lease.close()
    with pytest.raises(Fenced):
        models.activate(model(2), Wish(2, 100, 5, "retrain"), lease.send)

    assert versions(site.models("late")) == [1]


class Process:
    """A trainer in a process of its own; it takes the right, says so, trains until it is told, and activates."""

    def __init__(self, site, number):
        given = {
            "client": site.name, "spec": site.spec.model_dump(mode="json"), "group": site.group,
            "store": str(site.path / f"p{number}"), "seed": number,
        }  # fmt: skip
        self.words = site.path / f"words{number}"
        self.words.touch()
        self.told = site.path / f"told{number}"
        given["words"] = str(self.words)
        program = str(Path(__file__).parents[2] / "lone_trainer.py")
        with self.told.open("wb") as told:
            self.process = subprocess.Popen([sys.executable, program, json.dumps(given)], stdout=told)

    def says(self, word, timeout=60.0):
        def said():
            told = self.told.read_text().split()
            assert word in told or self.process.poll() is None, f"it ended and said {told}"
            return word in told

        wait_for(said, timeout)

    def hear(self, word):
        with self.words.open("a") as words:
            words.write(word + "\n")

    def end(self):
        self.process.kill()
        self.process.wait()


@pytest.mark.fault
@pytest.mark.slow
@pytest.mark.parametrize("where", ["training", "sending"])
def test_a_trainer_that_was_stopped_while_another_one_trained_activates_nothing(site, where):
    models = site.models("a")
    models.offer(model(1), 0)
    one = Process(site, 2)
    site.stack.callback(one.end)
    one.says("trains")
    if where == "sending":  # it stops itself between the last look at its right and the transaction
        one.hear("stop go")
        wait_for(lambda: Path(f"/proc/{one.process.pid}/stat").read_text().split()[2] == "T")
    else:
        one.process.send_signal(signal.SIGSTOP)
    other = Process(site, 3)
    site.stack.callback(other.end)
    other.says("trains")
    one.process.send_signal(signal.SIGCONT)
    if where == "training":
        one.hear("go")
    one.says("fenced")
    other.hear("go")
    other.says("activated")

    assert versions(site.models("late")) == [1, 3]


@pytest.mark.fault
@pytest.mark.slow
def test_a_process_that_has_gone_leaves_the_right_to_others_soon(site):
    one = Process(site, 2)
    site.stack.callback(one.end)
    one.says("trains")
    one.process.kill()
    began = time.monotonic()

    assert site.lease().acquire(40.0)
    assert time.monotonic() - began < leases.SESSION_S + 10
