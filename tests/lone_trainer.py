"""A trainer as a process of its own, for tests of the right to train: takes it, waits for a word, and activates a model."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from small_models import PROFILE, model

from streamclust.core.clock import SystemClock
from streamclust.core.errors import Fenced
from streamclust.core.kafka_specs import KafkaSpec
from streamclust.store.models import ModelStore
from streamclust.stream.kafka.clients import CLIENTS
from streamclust.stream.kafka.lease import Lease
from streamclust.stream.kafka.models import TopicModels, Wish


def say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


def main(given: dict[str, object]) -> None:
    spec, clock = KafkaSpec.model_validate_json(json.dumps(given["spec"])), SystemClock()
    client = CLIENTS[str(given["client"])](spec)
    lease = Lease(client, spec, str(given["group"]), clock)
    models = TopicModels(ModelStore(Path(str(given["store"]))), client, spec, clock, PROFILE, 1)
    if not lease.acquire(60.0):
        say("refused")
        return
    models.refresh(0.0)
    seed = int(str(given["seed"]))
    model(seed)
    say("trains")
    words, word = Path(str(given["words"])), ""
    try:
        while "go" not in word:
            lease.keep()
            word = words.read_text()
            clock.sleep(0.05)
        stops = "stop" in word

        def fence(messages):
            if stops:
                transact = lease._producer.transact

                def stopped(*args):
                    os.kill(os.getpid(), signal.SIGSTOP)
                    transact(*args)

                lease._producer.transact = stopped
            lease.send(messages)

        models.activate(model(seed), Wish(seed, 1000 * seed, 0, "retrain"), fence)
    except Fenced:
        say("fenced")
    else:
        say("activated")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
