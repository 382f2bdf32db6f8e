"""The house rules that no linter knows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "streamclust"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name not in {"__init__.py", "__main__.py"})
CODE = sorted(path for folder in ("streamclust", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
TESTED_ELSEWHERE = {
    "core/clock.py": "every test that takes a clock",
    "core/errors.py": "every test of an error",
    "core/profile_spec.py": "tests/test_config.py",
    "core/profiles.py": "tests/test_config.py",
    "core/reports.py": "tests/serve/test_metrics.py",
    "core/specs.py": "tests/test_config.py",
    "stream/ports.py": "the contract suites",
    "stream/sinks/jsonl.py": "tests/stream/sinks/",
    "stream/sinks/parquet.py": "tests/stream/sinks/",
    "stream/sinks/sqlite.py": "tests/stream/sinks/",
    "stream/sinks/stdout.py": "tests/stream/sinks/",
}


def name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_each_module_has_its_mirror(path):
    if name(path) in TESTED_ELSEWHERE:
        return
    mirror = ROOT / "tests" / path.relative_to(PACKAGE).parent / f"test_{path.name}"

    assert mirror.exists(), f"{name(path)} has no {mirror.relative_to(ROOT)}"


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_each_file_says_its_job_first_and_stays_short(path):
    text = path.read_text()

    assert len(text.splitlines()) <= 400
    if not path.name.startswith(("test_", "conftest")):  # a test's job is its module's
        assert text.startswith(('"""', 'r"""')), "the first line says what the file does"


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_each_exception_from_the_linters_gives_its_reason(path):
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if re.search(r"#\s*(noqa|type: ignore)", line):
            assert "—" in line, f"line {number} silences a linter without a reason"
            assert not re.search(r"#\s*noqa\s*(—|$)", line), f"line {number} silences everything"


def test_no_file_names_a_machine_or_a_registry():
    hosts = re.compile(
        r"pypi\.org|files\.pythonhosted|repo1?\.maven|registry\.npmjs|deb\.debian|/work/|/root/"
        r"|docker\.io|ghcr\.io|quay\.io|download\.pytorch"
    )
    texts = [*CODE, ROOT / "README.md", ROOT / "Makefile", ROOT / "pyproject.toml", *(ROOT / "docs").rglob("*.md")]
    texts += [path for path in (ROOT / "deploy").rglob("*") if path.is_file()]
    for path in texts:
        if path != Path(__file__):
            found = hosts.search(path.read_text())
            assert not found, f"{path.relative_to(ROOT)} names {found.group() if found else ''}"


def test_every_group_of_settings_is_in_the_readme():
    from streamclust.core.specs import Config

    readme = (ROOT / "README.md").read_text()
    for field in Config.model_fields:
        assert f"`{field}`" in readme, f"README does not name `{field}`"
