"""Each check finds its trouble and says what to do about it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from streamclust import doctor
from streamclust.core.clock import ManualClock
from streamclust.core.specs import Config, FilesSource, HttpSpec, SdsSource, StateSpec
from streamclust.store.state import StateDir

ROOT = Path(__file__).parents[1]
NOW = ManualClock(1_770_000_000 * 10**9)


def one(checks, name):
    (check,) = [c for c in checks if c.name == name]
    return check


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "data").mkdir()
    path = tmp_path / "config.yaml"
    path.write_text(
        f"source: {{type: files, paths: ['{tmp_path}/data']}}\n"
        f"state: {{dir: '{tmp_path}/state', reserve_bytes: 1}}\nhttp: {{port: 0}}\n"
    )
    return path


def test_a_sound_installation_has_no_failed_check(settings):
    checks = doctor.diagnose(settings, {}, NOW)
    assert [c for c in checks if c.status == "fail"] == []
    assert not doctor.failed(checks)
    assert doctor.table(checks).endswith(f"{len(checks)} checks, none failed\n")
    assert doctor.table(checks).isascii()
    assert json.loads(json.dumps(doctor.as_json(checks)))["ok"] is True
    assert not (settings.parent / "state").exists()


def test_every_failed_or_noted_check_says_what_to_do(settings):
    settings.write_text("source: {type: files}\nwindows: {latness: 1}\n")
    checks = doctor.diagnose(settings, {}, ManualClock(0))
    failed = [c for c in checks if c.status == "fail"]
    assert [c.name for c in failed] == ["config", "config", "clock"]
    assert all(c.fix for c in failed)
    assert doctor.failed(checks)
    assert "3 failed" in doctor.table(checks)


def test_the_packages_looked_at_are_those_of_the_project_file():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(requirements):
        return [r.partition(">")[0].partition("[")[0] for r in requirements]

    wanted = dict(zip(names(project["dependencies"]), project["dependencies"], strict=True))
    assert list(doctor.DEPENDENCIES) == list(wanted)
    assert all(f">={lowest}" in wanted[name] for name, (_, lowest) in doctor.DEPENDENCIES.items())
    extras = {k: tuple(names(v)) for k, v in project["optional-dependencies"].items() if k != "dev"}
    assert {k: v[0] for k, v in doctor.EXTRAS.items()} == extras


@pytest.mark.parametrize(("version", "status"), [((3, 10, 9), "fail"), ((3, 11, 0), "ok"), ((3, 14, 0), "fail")])
def test_python_must_be_one_that_is_supported(version, status):
    assert doctor.check_python(version).status == status


def test_a_package_that_cannot_be_imported_fails_and_the_others_are_still_looked_at(settings):
    code = (
        "import sys\nsys.modules['onnxruntime'] = sys.modules['numpy'] = None\n"
        f"from streamclust.cli import main; sys.exit(main(['doctor', '--json', '-c', {str(settings)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    checks = {c["name"]: c for c in json.loads(done.stdout)["checks"]}
    assert done.returncode == 1
    assert checks["onnxruntime"]["status"] == checks["numpy"]["status"] == "fail"
    assert "pip install 'onnxruntime>=" in checks["onnxruntime"]["fix"]
    assert checks["pyyaml"]["status"] == "ok"
    assert checks["state.dir"]["status"] == "ok"


def test_without_an_extra_it_says_what_it_would_add_and_fails_only_when_it_is_wanted():
    bare = doctor.check_extras(frozenset(), {"torch": "2.6"}.get)
    assert [c.name for c in bare] == ["[train]", "[umap]", "[parquet]", "[web]", "[neuro]", "[confluent]", "[bench]"]
    assert {c.status for c in bare} == {"note"}
    assert "without scikit-learn, onnx; it adds training" in bare[0].detail
    assert bare[0].fix == "pip install 'streamclust[train]'"
    config = Config.model_validate({"source": {"type": "files", "paths": ["a"]}, "sinks": [{"type": "parquet"}]})
    wanted = doctor.check_extras(doctor.wanted_extras(config), {}.get)
    assert one(wanted, "[parquet]").status == "fail"
    assert one(wanted, "[train]").status == "note"
    assert doctor.installed_version("no-such-distribution-anywhere") is None


@pytest.mark.parametrize(
    ("seconds", "status"), [(0, "fail"), (1_735_689_599, "fail"), (1_735_689_600, "ok"), (2**33, "fail")]
)
def test_the_clock_must_stand_between_2025_and_2100(seconds, status):
    assert doctor.check_clock(ManualClock(seconds * 10**9)).status == status


def test_a_monotonic_clock_that_goes_back_fails():
    class Back(ManualClock):
        def monotonic(self) -> float:
            self.sleep(-1)
            return super().monotonic()

    assert doctor.check_clock(Back(NOW.now_ns())).status == "fail"


def test_a_state_directory_in_use_is_noted_with_its_process_and_left_unharmed(tmp_path):
    spec = StateSpec(dir=str(tmp_path / "state"), reserve_bytes=1)
    with StateDir.open(tmp_path / "state"):
        before = sorted(p.name for p in (tmp_path / "state").iterdir())
        check = one(doctor.check_state(spec), "state.dir")
        assert (check.status, str(os.getpid()) in check.detail) == ("note", True)
        assert sorted(p.name for p in (tmp_path / "state").iterdir()) == before
    checks = doctor.check_state(spec)
    assert [(c.name, c.status) for c in checks] == [("state.dir", "ok"), ("disk", "ok"), ("format", "ok")]
    StateDir.open(tmp_path / "state").close()


@pytest.mark.parametrize(
    ("text", "says"), [('{"format": 99}', "newer"), ("x", "cannot be read"), ('{"format": "a"}', "cannot be read")]
)
def test_a_state_directory_of_another_format_fails(tmp_path, text, says):
    (tmp_path / "VERSION").write_text(text)
    check = one(doctor.check_state(StateSpec(dir=str(tmp_path))), "format")
    assert check.status == "fail"
    assert says in check.detail


def test_a_state_directory_that_is_a_file_or_has_no_space_fails(tmp_path):
    (tmp_path / "file").touch()
    (check,) = doctor.check_state(StateSpec(dir=str(tmp_path / "file" / "state")))
    assert check.status == "fail"
    assert one(doctor.check_state(StateSpec(dir=str(tmp_path), reserve_bytes=10**18)), "disk").status == "fail"


def test_a_state_directory_that_cannot_be_written_fails():
    (check,) = doctor.check_state(StateSpec(dir="/proc/streamclust"))
    assert (check.name, check.status) == ("state.dir", "fail")


def test_paths_and_globs_of_the_source_must_match_something(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x.mseed").touch()
    paths = [str(tmp_path), f"{tmp_path}/**/*.mseed", f"{tmp_path}/*.sac"]
    checks = doctor.check_source(FilesSource(type="files", paths=paths))
    assert [c.status for c in checks] == ["ok", "ok", "fail"]


def test_an_archive_must_be_there_and_is_noted_while_it_is_empty(tmp_path):
    def status(root):
        (check,) = doctor.check_source(SdsSource(type="sds", root=str(root)))
        return check.status

    assert status(tmp_path / "none") == "fail"
    assert status(tmp_path) == "note"
    (tmp_path / "2026").mkdir()
    assert status(tmp_path) == "ok"


def test_a_port_in_use_fails_unless_the_daemon_itself_runs():
    with socket.create_server(("127.0.0.1", 0)) as server:
        spec = HttpSpec(port=server.getsockname()[1])
        assert doctor.check_port(spec, in_use_is_fine=False).status == "fail"
        assert doctor.check_port(spec, in_use_is_fine=True).status == "note"
        assert doctor.check_port(HttpSpec(port=spec.port, enabled=False), in_use_is_fine=False).status == "ok"
    assert doctor.check_port(HttpSpec(host="256.0.0.1", port=0), in_use_is_fine=False).status == "fail"
