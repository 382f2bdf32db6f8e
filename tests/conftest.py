"""Fixtures of all tests: the real Kafka broker, and topics on it."""

from __future__ import annotations

import contextlib
import os
import uuid
import warnings

import pytest
from kafka_broker import Cluster, NoBroker

with warnings.catch_warnings():  # its schemas are read in a way that Python 3.11 warns of, once, at import
    warnings.simplefilter("ignore", DeprecationWarning)
    import kafka as _  # noqa: F401 — only imported for what it warns of


def pytest_configure(config):
    # kafka-python 3.0 leaves the sockets of refused connections to the garbage collector.
    refused = r"ignore:unclosed <socket\.socket .*laddr=\('0\.0\.0\.0':ResourceWarning"
    config.addinivalue_line("filterwarnings", refused)


def cluster(folder, nodes=1, **settings):
    """Make a cluster, or skip the test with what is missing; under CI that is a failure."""
    try:
        return Cluster(folder, nodes, **settings)
    except NoBroker as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must run the Kafka tests: {error}")
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def kafka(tmp_path_factory):
    """One broker for all tests of the session; they share it by names of topics and groups that nobody else has."""
    with cluster(tmp_path_factory.mktemp("kafka")) as shared:
        yield shared


@pytest.fixture
def own_kafka(tmp_path):
    """Makes started clusters for one test alone, to be stopped, killed and set up at will; `start=False` leaves it down."""
    with contextlib.ExitStack() as stack:

        def make(nodes=1, *, start=True, **settings):
            made = cluster(tmp_path / f"kafka-{uuid.uuid4().hex[:8]}", nodes, **settings)
            stack.callback(made.close)
            if start:
                made.start()
            return made

        yield make


@pytest.fixture
def topic(kafka):
    """Makes a topic on the shared broker and returns its name: `topic(partitions=2, retention_ms=1000)`."""
    return kafka.new_topic


@pytest.fixture
def unique():
    """A name that no other test has, for topics and groups."""
    return f"t{uuid.uuid4().hex[:12]}"
