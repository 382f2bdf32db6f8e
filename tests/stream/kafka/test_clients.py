from __future__ import annotations

import subprocess
import sys
from typing import get_args

from streamclust.core.kafka_specs import KafkaSpec
from streamclust.stream.kafka.clients import CLIENTS


def test_every_client_of_the_settings_can_be_made():
    assert CLIENTS.keys() == set(get_args(KafkaSpec.model_fields["client"].annotation))


def test_no_library_is_imported_before_it_is_asked_for():
    code = "import sys, streamclust.stream.kafka.clients; print([m for m in ('kafka', 'confluent_kafka') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "[]"
    )
