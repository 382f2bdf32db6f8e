"""Apache Kafka for a person to play with: `make kafka`."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cluster import FULL_SPEED, Cluster, quiet
from jars import NoBroker

EXAMPLE = """\
Apache Kafka {version} answers at {bootstrap}; data and logs are in {folder}

Its topic `waves` has 4 partitions and waits for records. In a configuration of streamclust:

  kafka:
    bootstrap: [{listed}]
  source:
    type: kafka
    topics: [waves]
  sinks:
    - type: kafka

Ctrl-C stops it.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a cluster until Ctrl-C or SIGTERM; exit code 1 when none can be run."""
    parser = argparse.ArgumentParser(description="Start Apache Kafka on this machine, to play with.")
    parser.add_argument("--port", type=int, default=9092, help="of the first broker; the others take the next ones")
    parser.add_argument("--nodes", type=int, default=1, help="number of brokers")
    parser.add_argument("--folder", type=Path, help="keep the data here; without it, it is gone at the end")
    asked = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts it in the background ignores it
    with contextlib.ExitStack() as stack:
        folder = asked.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kafka-")))
        ports = range(asked.port, asked.port + asked.nodes)
        try:
            cluster = Cluster(folder.resolve(), asked.nodes, ports=ports, jvm=FULL_SPEED)
            with cluster:
                _play(cluster, folder)
        except (NoBroker, RuntimeError) as error:
            print(error, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            pass
    return 0


def _play(cluster: Cluster, folder: Path) -> None:
    with quiet():
        from kafka.errors import TopicAlreadyExistsError

    with contextlib.suppress(TopicAlreadyExistsError):
        cluster.new_topic(4, name="waves")
    listed = ", ".join(f'"{address}"' for address in cluster.bootstrap.split(","))
    text = EXAMPLE.format(version=cluster.version, bootstrap=cluster.bootstrap, folder=folder, listed=listed)
    print(text, flush=True)
    try:
        signal.pause()
    finally:
        print("stopping", flush=True)
        cluster.stop(None)


if __name__ == "__main__":
    raise SystemExit(main())
