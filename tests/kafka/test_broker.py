import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError
from kafka_broker import HOST, Cluster, NoBroker, Proxy, free_port

ROOT = Path(__file__).resolve().parents[2]
POM = (ROOT / "tests/kafka/pom.xml").read_text()


def produced(bootstrap, topic, values, **settings):
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", **settings)
    try:
        return [producer.send(topic, value, partition=0).get(timeout=30).offset for value in values]
    finally:
        producer.close()


def consumed(bootstrap, topic, count, seconds=30.0):
    """The first `count` values of partition 0, or those that came in time."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False)
    got = []
    try:
        part = TopicPartition(topic, 0)
        consumer.assign([part])
        consumer.seek_to_beginning(part)
        until = time.monotonic() + seconds
        while len(got) < count and time.monotonic() < until:
            for records in consumer.poll(timeout_ms=200).values():
                got += [record.value for record in records]
    finally:
        consumer.close()
    return got


def leader_of(bootstrap, topic):
    with KafkaAdminClient(bootstrap_servers=bootstrap) as admin:
        return admin.describe_topics([topic])[0]["partitions"][0]["leader_id"]


def alive(pid):
    """Whether a process of this id runs; one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_it_is_apache_kafka_of_the_version_that_the_pom_names(kafka):
    with KafkaAdminClient(bootstrap_servers=kafka.bootstrap) as admin:
        features = admin.describe_features()

    assert kafka.version.startswith("4.1.")
    assert f"<version>{kafka.version}</version>" in POM
    assert features["metadata.version"]["supported"][1] == 27  # 4.1-IV1; 4.0 has 25, 4.2 more
    assert {"kraft.version", "transaction.version", "group.version"} <= set(features)


def test_what_is_produced_is_consumed(kafka, topic):
    name = topic()
    values = [b"%d" % i for i in range(100)]

    assert produced(kafka.bootstrap, name, values) == list(range(100))
    assert consumed(kafka.bootstrap, name, 100) == values


def test_topics_have_the_partitions_and_settings_asked_for_and_none_is_made_by_itself(kafka, topic):
    name = topic(3, cleanup_policy="compact")

    with KafkaAdminClient(bootstrap_servers=kafka.bootstrap) as admin:
        assert len(admin.describe_topics([name])[0]["partitions"]) == 3
    with pytest.raises(KafkaError):
        produced(kafka.bootstrap, f"{name}-other", [b""], max_block_ms=1000)


def test_it_keeps_its_data_over_stop_and_kill(own_kafka):
    cluster = own_kafka()
    name = cluster.new_topic()
    produced(cluster.bootstrap, name, [b"1"])
    cluster.stop()
    cluster.start()
    produced(cluster.bootstrap, name, [b"2"])
    cluster.kill()
    cluster.start()
    produced(cluster.bootstrap, name, [b"3"])

    assert consumed(cluster.bootstrap, name, 3) == [b"1", b"2", b"3"]


def test_three_nodes_elect_a_new_leader_when_one_is_killed(own_kafka):
    cluster = own_kafka(3)
    name = cluster.new_topic()
    produced(cluster.bootstrap, name, [b"before"])
    old = leader_of(cluster.bootstrap, name)

    cluster.kill(old)

    produced(cluster.bootstrap, name, [b"after"])
    assert leader_of(cluster.bootstrap, name) != old
    assert consumed(cluster.bootstrap, name, 2) == [b"before", b"after"]


def test_a_frozen_broker_answers_again_when_it_goes_on(own_kafka):
    cluster = own_kafka()
    name = cluster.new_topic()
    cluster.pause()
    with pytest.raises(KafkaError):
        KafkaAdminClient(bootstrap_servers=cluster.bootstrap, bootstrap_timeout_ms=500, request_timeout_ms=400)
    cluster.cont()

    assert produced(cluster.bootstrap, name, [b"1"]) == [0]


def test_clients_stay_behind_a_proxy_whose_address_is_advertised(own_kafka):
    port = free_port()
    with Proxy(HOST, port) as proxy:
        cluster = own_kafka(ports=port, advertised_ports=proxy.port)
        name = cluster.new_topic()
        producer = KafkaProducer(bootstrap_servers=cluster.bootstrap, acks="all")
        producer.send(name, b"1").get(timeout=30)
        assert cluster.bootstrap == proxy.address
        assert proxy.connections > 0

        proxy.refuse()
        proxy.cut()
        waiting = producer.send(name, b"2")
        assert consumed(cluster.internal, name, 2, seconds=1) == [b"1"]
        proxy.allow()
        waiting.get(timeout=30)
        producer.close()

        assert consumed(cluster.bootstrap, name, 2) == [b"1", b"2"]


def test_settings_of_kafka_can_be_given(own_kafka):
    cluster = own_kafka(auto_create_topics_enable=True, num_partitions=2)

    produced(cluster.bootstrap, "by-itself", [b"1"])

    with KafkaAdminClient(bootstrap_servers=cluster.bootstrap) as admin:
        assert len(admin.describe_topics(["by-itself"])[0]["partitions"]) == 2


def test_it_runs_for_a_person_until_ctrl_c(kafka, tmp_path):
    port = free_port()
    command = [sys.executable, str(ROOT / "tests/kafka/broker.py"), "--port", str(port), "--folder", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as person:
        printed = ""
        while "Ctrl-C" not in printed:
            line = person.stdout.readline()
            assert line, printed
            printed += line
        assert f'bootstrap: ["{HOST}:{port}"]' in printed
        assert produced(f"{HOST}:{port}", "waves", [b"1"]) == [0]
        person.send_signal(signal.SIGINT)
        person.communicate(timeout=30)

    assert person.returncode == 0
    assert (tmp_path / "node-0/data/.kafka_cleanshutdown").exists()


def test_a_broker_that_cannot_start_says_why(own_kafka):
    with pytest.raises(RuntimeError, match=r"num\.io\.threads"):
        own_kafka(num_io_threads="many")


def test_brokers_end_with_the_process_that_started_them(kafka, tmp_path):
    code = (
        "import sys; from pathlib import Path; from kafka_broker import Cluster\n"
        "cluster = Cluster(Path(sys.argv[1])); cluster.start()\n"
        "print(cluster.nodes[0].process.pid, flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        broker = int(owner.stdout.readline())
        assert alive(broker)
        owner.send_signal(signal.SIGKILL)
    until = time.monotonic() + 10
    while alive(broker) and time.monotonic() < until:
        time.sleep(0.01)

    assert not alive(broker)


def test_without_java_or_maven_tests_skip_and_under_ci_they_fail(own_kafka, tmp_path, monkeypatch):
    monkeypatch.setenv("STREAMCLUST_TEST_KAFKA_CACHE", str(tmp_path / "empty"))
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(java.parent))
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(NoBroker, match="mvn is not installed"):
        Cluster(tmp_path)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(pytest.skip.Exception, match="java is not installed"):
        own_kafka()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="java is not installed"):
        own_kafka()
