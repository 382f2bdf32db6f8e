"""The rig of the contract tests: each test runs with each client."""

from __future__ import annotations

import pytest
from kafka_clients import CLIENTS, Rig


@pytest.fixture(params=CLIENTS)
def client_name(request):
    """The name of a client library that is installed."""
    CLIENTS[request.param]()
    return request.param


@pytest.fixture
def rig(client_name, kafka):
    """One client on the shared broker."""
    made = Rig(client_name, kafka)
    yield made
    made.close()
