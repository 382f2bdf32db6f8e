"""Real Apache Kafka brokers (KRaft) on 127.0.0.1, for tests and benchmarks."""

from __future__ import annotations

import base64
import contextlib
import random
import signal
import socket
import subprocess
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from jars import HERE, Jars, fetched, locked

HOST = "127.0.0.1"
HEAP = ("-Xms128m", "-Xmx512m", "-XX:-UsePerfData", "-Xlog:cds=off", "-Xlog:cds+dynamic=off")
FAST_START = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""Up in half the time, at the cost of its top speed; `jvm=FULL_SPEED` is for benchmarks."""
FULL_SPEED = ("-XX:+UseG1GC",)
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0


def free_port() -> int:
    """Return a port nobody listens on, below those that outgoing connections get (which may connect to themselves)."""
    while True:
        port = random.randint(15_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return port


@dataclass(slots=True)
class Node:
    """One broker, which is also a controller, and its process while it runs."""

    number: int
    folder: Path
    clients: int
    """Port for everybody."""
    advertised: int
    """Port that clients are told: `clients`, or that of a proxy before it."""
    internal: int
    """Port for other nodes and for asking whether it is ready: never behind a proxy."""
    controller: int
    process: subprocess.Popen[bytes] | None = None
    watcher: subprocess.Popen[bytes] | None = None

    @property
    def output(self) -> Path:
        """File of what the broker writes: warnings, and why it died."""
        return self.folder / "broker.log"

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self.process is not None and self.process.poll() is None

    def forget(self) -> None:
        """Put the ended process and its watcher away."""
        for process in (self.watcher, self.process):  # first the watcher: it must not kill who gets this pid next
            if process is not None:
                process.kill()
                process.wait()
                if process.stdin is not None:
                    process.stdin.close()
        self.process = self.watcher = None


class Cluster:
    """Some brokers with one metadata quorum; as a context, started and closed.

    Parameters
    ----------
    folder
        Data, settings and logs; what is in it already is used again.
    nodes
        Number of brokers, each also a controller; their ids are 0, 1, 2...
    ports, advertised_ports
        Of the listener for clients, one per node; free ones when not given. Advertise the ports of proxies to keep
        clients behind them. A single number is that of node 0.
    jvm
        Options of Java: `FAST_START` or `FULL_SPEED`.
    jars
        Those that `prepared` gives, unless others are to be tried.
    settings
        Of Kafka, with `_` for each dot: ``log_retention_ms=1000``. The listeners are called CLIENTS, INTERNAL and
        CONTROLLER, so that clients can be made to use SASL or TLS by
        ``listener_security_protocol_map="CLIENTS:SASL_PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT"``.

    Raises
    ------
    NoBroker
        Java, Maven or the jars are missing.
    """

    def __init__(
        self,
        folder: Path,
        nodes: int = 1,
        *,
        ports: int | Sequence[int] = (),
        advertised_ports: int | Sequence[int] = (),
        jvm: Sequence[str] = FAST_START,
        jars: Jars | None = None,
        **settings: Any,
    ) -> None:
        self._jars = jars or prepared()
        self._jvm = jvm
        self._folder = folder
        self._settings = {name.replace("_", "."): value for name, value in settings.items()}
        asked, advertised = _listed(ports), _listed(advertised_ports)
        self.nodes: tuple[Node, ...] = ()
        for i in range(nodes):
            port = asked[i] if i < len(asked) else free_port()
            told = advertised[i] if i < len(advertised) else port
            self.nodes += (Node(i, folder / f"node-{i}", port, told, free_port(), free_port()),)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def bootstrap(self) -> str:
        """Addresses for clients, host:port with commas."""
        return ",".join(f"{HOST}:{node.advertised}" for node in self.nodes)

    @property
    def version(self) -> str:
        """Version of Apache Kafka, as its jar says."""
        return next(self._jars.folder.glob("kafka_2.13-*.jar")).stem.partition("-")[2]

    @property
    def internal(self) -> str:
        """Addresses that no proxy and no password is before."""
        return ",".join(f"{HOST}:{node.internal}" for node in self.nodes)

    def start(self, i: int | None = None) -> None:
        """Start node `i`, or all that do not run, and wait until they answer.

        Raises
        ------
        RuntimeError
            One ended at once or did not answer in time; with the end of its log.
        """
        starting = [node for node in self._chosen(i) if not node.running]
        self._format(starting)
        for node in starting:
            node.forget()
            self._launch(node)
        for node in starting:
            self._wait_ready(node)

    def stop(self, i: int | None = 0) -> None:
        """Let node `i`, or all, end in good order; one that takes too long (no quorum) is killed."""
        nodes = [node for node in self._chosen(i) if node.process is not None]
        self._signal(nodes, signal.SIGTERM, signal.SIGCONT)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for node in nodes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                node.process.wait(max(0.0, deadline - time.monotonic()))
            node.forget()

    def kill(self, i: int = 0) -> None:
        """End node `i` now, as a power cut would end its process."""
        self.nodes[i].forget()

    def pause(self, i: int = 0) -> None:
        """Freeze node `i`: its connections stay open and nothing answers."""
        self._signal([self.nodes[i]], signal.SIGSTOP)

    def cont(self, i: int = 0) -> None:
        """Let a frozen node go on."""
        self._signal([self.nodes[i]], signal.SIGCONT)

    def close(self) -> None:
        """End all nodes at once. May be called twice."""
        for node in self.nodes:
            if node.process is not None:
                node.process.kill()  # all of them first: they end side by side
        for node in self.nodes:
            node.forget()

    def new_topic(self, partitions: int = 1, *, name: str | None = None, **settings: Any) -> str:
        """Create a topic, under a name of its own unless told, and wait until its partitions have leaders.

        `settings` are Kafka's, with `_` for each dot: ``retention_ms=1000``.
        """
        with quiet():
            from kafka.admin import KafkaAdminClient
        name = name or f"topic-{uuid.uuid4().hex[:12]}"
        configs = {key.replace("_", "."): _text(value) for key, value in settings.items()}
        with KafkaAdminClient(bootstrap_servers=self.internal) as admin:
            admin.create_topics({name: {"num_partitions": partitions, "configs": configs}}, wait_for_metadata=True)
        return name

    def log(self, i: int = 0, lines: int = 40) -> str:
        """Return the end of what node `i` wrote."""
        path = self.nodes[i].output
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""

    def _chosen(self, i: int | None) -> tuple[Node, ...]:
        return self.nodes if i is None else (self.nodes[i],)

    def _signal(self, nodes: Iterable[Node], *signals: signal.Signals) -> None:
        for node in nodes:
            for number in signals:
                if node.process is not None:
                    node.process.send_signal(number)

    def _format(self, nodes: Sequence[Node]) -> None:
        new = [node for node in nodes if not (node.folder / "data" / "meta.properties").exists()]
        cluster_id = self._cluster_id()
        for node in nodes:
            node.folder.mkdir(parents=True, exist_ok=True)
            settings = self._settings_of(node)
            text = "".join(f"{name}={_text(value)}\n" for name, value in settings.items())
            (node.folder / "server.properties").write_text(text)
        tools = []
        for node in new:  # side by side
            command = self._java(
                *FAST_START, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", "server.properties"
            )
            with node.output.open("ab") as output:
                tool = subprocess.Popen(
                    command, cwd=node.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
                )
            tools.append((node, tool))
        failed = [node for node, tool in tools if tool.wait(READY_TIMEOUT_S)]
        if failed:
            raise RuntimeError(f"node {failed[0].number} was not formatted:\n{self.log(failed[0].number)}")

    def _cluster_id(self) -> str:
        path = self._folder / "cluster.id"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_"))
        return path.read_text()

    def _settings_of(self, node: Node) -> dict[str, Any]:
        listeners = {"CLIENTS": node.clients, "INTERNAL": node.internal, "CONTROLLER": node.controller}
        told = {"CLIENTS": node.advertised, "INTERNAL": node.internal}
        return {
            "process.roles": "broker,controller",
            "node.id": node.number,
            "log.dirs": node.folder / "data",
            "controller.quorum.voters": ",".join(f"{n.number}@{HOST}:{n.controller}" for n in self.nodes),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "INTERNAL",
            "listeners": ",".join(f"{name}://{HOST}:{port}" for name, port in listeners.items()),
            "advertised.listeners": ",".join(f"{name}://{HOST}:{port}" for name, port in told.items()),
            "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in listeners),
            **_small(len(self.nodes)),
            **self._settings,
        }

    def _java(self, *arguments: str) -> list[str]:
        archive = [f"-XX:SharedArchiveFile={self._jars.archive}"] if self._jars.archive.exists() else []
        log = f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}"
        return [self._jars.java, *HEAP, *archive, log, "-cp", self._jars.classpath, *arguments]

    def _launch(self, node: Node) -> None:
        with node.output.open("ab") as output:
            node.process = subprocess.Popen(
                self._java(*self._jvm, "kafka.Kafka", "server.properties"),
                cwd=node.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for us; we stop it then
            )
        # However we end, this pipe is closed, and the watcher ends the broker.
        node.watcher = subprocess.Popen(
            ["sh", "-c", 'read -r _; kill -KILL "$1"', "watcher", str(node.process.pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def _wait_ready(self, node: Node) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not _answers(node):
            if not node.running:
                raise RuntimeError(f"node {node.number} ended at its start:\n{self.log(node.number)}")
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"node {node.number} gave no answer in {READY_TIMEOUT_S:g} s:\n{self.log(node.number)}"
                )
            time.sleep(0.02)


def prepared() -> Jars:
    """Return the jars with the class archive that a first broker leaves behind; raises NoBroker."""
    jars = fetched()
    if not jars.archive.exists():
        with locked(jars.folder):
            if not jars.archive.exists():
                _make_archive(jars)
    return jars


def _make_archive(jars: Jars) -> None:
    part = jars.archive.with_suffix(".part")
    with tempfile.TemporaryDirectory() as folder:
        jvm = (*FAST_START, f"-XX:ArchiveClassesAtExit={part}")
        with Cluster(Path(folder), jars=replace(jars, archive=part), jvm=jvm) as first:
            first.stop()
    if part.exists():  # a Java that cannot make one starts slowly, and works
        part.rename(jars.archive)


def _answers(node: Node) -> bool:
    """Whether the node tells its metadata, and is one of the brokers in it."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, node.internal), timeout=1):
        return node.number in _brokers(f"{HOST}:{node.internal}")
    return False


def _brokers(address: str) -> frozenset[int]:
    with quiet():
        from kafka.admin import KafkaAdminClient
        from kafka.errors import KafkaError
    try:
        with KafkaAdminClient(bootstrap_servers=address, request_timeout_ms=5000) as admin:
            return frozenset(broker["broker_id"] for broker in admin.describe_cluster()["brokers"])
    except KafkaError:
        return frozenset()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """While kafka-python is imported: it reads its schemas in a way that Python 3.11 warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def _small(nodes: int) -> dict[str, Any]:
    """Kafka's settings for a quick start, little memory, and short waits for what a test waits for."""
    copies = min(nodes, 3)
    return {
        "default.replication.factor": copies,
        "min.insync.replicas": max(1, copies - 1),
        "offsets.topic.replication.factor": copies,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": max(1, copies - 1),
        "transaction.state.log.num.partitions": 4,
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": 500,
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
        "auto.create.topics.enable": False,
        "log.initial.task.delay.ms": 500,
        "log.retention.check.interval.ms": 500,
        "log.segment.delete.delay.ms": 500,
        "log.cleaner.backoff.ms": 500,
        "log.cleaner.dedupe.buffer.size": 4 * 1024 * 1024,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "broker.heartbeat.interval.ms": 300,
        "broker.session.timeout.ms": 3000,
    }


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _listed(ports: int | Sequence[int]) -> Sequence[int]:
    return [ports] if isinstance(ports, int) else ports
