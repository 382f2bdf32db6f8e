from __future__ import annotations

import hashlib
import json
import socket

import pytest
import yaml

from streamclust.cli import main
from streamclust.core.web_specs import WebSpec


@pytest.fixture
def settings(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        yaml.safe_dump({"state": {"dir": str(tmp_path / "s")}, "source": {"type": "files", "paths": ["x"]}})
    )
    return path


def test_a_new_token_is_shown_once_and_the_settings_get_its_hash(capsys):
    assert main(["web", "--new-token", "control room", "--scopes", "read, upload", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    token = made.pop("token")
    assert len(token) >= 43
    assert made["sha256"] == hashlib.sha256(token.encode()).hexdigest()
    assert made["scopes"] == ["read", "upload"]


def test_the_lines_that_it_prints_are_settings(capsys):
    assert main(["web", "--new-token", "it's ada: #1", "--scopes", "operate"]) == 0
    said = capsys.readouterr().out
    tree = yaml.safe_load(said.partition("in the configuration:\n")[2])
    spec = WebSpec.model_validate({**tree["web"], "host": "0.0.0.0"})  # noqa: S104 — nothing is bound
    assert spec.tokens[0].name == "it's ada: #1"
    token = said.partition(": #1: ")[2].split()[0]
    assert spec.tokens[0].sha256 == hashlib.sha256(token.encode()).hexdigest()


@pytest.mark.parametrize(
    "flags", [["--new-token", "x", "--scopes", "root"], ["--new-token", ""], ["--new-token", "x" * 65]]
)
def test_a_token_that_cannot_be_is_refused(flags, capsys):
    assert main(["web", *flags]) == 2
    assert "--scopes" in (said := capsys.readouterr().err) or "--new-token" in said


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.7.7"])  # noqa: S104 — nothing is bound
def test_an_address_that_others_reach_is_refused_without_tokens(settings, host, capsys):
    assert main(["web", "-c", str(settings), "--host", host]) == 2
    assert "insecure" in capsys.readouterr().err


def test_a_port_that_is_taken_is_named(settings, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["web", "-c", str(settings), "--port", str(taken.getsockname()[1])]) == 2
    assert "web.port" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_port_is_a_number_that_there_is(settings, port):
    with pytest.raises(SystemExit) as stopped:
        main(["web", "-c", str(settings), "--port", port])
    assert stopped.value.code == 2
