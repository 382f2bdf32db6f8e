"""The real Kafka broker for tests and benchmarks: what tests/kafka/ offers, under a name that can be imported."""

from __future__ import annotations

import sys
from pathlib import Path

# tests/kafka must not become a package: it would be imported in place of the client library of that name.
sys.path.append(str(Path(__file__).resolve().parent / "kafka"))

from cluster import FAST_START, FULL_SPEED, HOST, Cluster, free_port
from jars import NoBroker
from proxy import Proxy

__all__ = ["FAST_START", "FULL_SPEED", "HOST", "Cluster", "NoBroker", "Proxy", "free_port"]
