"""What a command imports: a check of settings must not wait for numerical libraries."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"numpy", "scipy", "onnxruntime", "obspy", "pymseed", "kafka", "rich", "torch", "sklearn", "onnx", "pyarrow"}


def imported_by(code: str) -> set[str]:
    program = (
        f"import sys, json\n{code}\nsys.stderr.write(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    "module", ["core.specs", "core.errors", "core.profiles", "core.clock", "core.wording", "config", "cli", "doctor"]
)
def test_settings_and_command_line_import_nothing_heavy(module):
    assert imported_by(f"import streamclust.{module}") & HEAVY == set()


@pytest.mark.parametrize("module", ["core.clock", "core.errors", "cli"])
def test_help_waits_not_even_for_the_checker_of_settings(module):
    assert imported_by(f"import streamclust.{module}") & (HEAVY | {"pydantic", "yaml"}) == set()


@pytest.mark.parametrize("command", [["config", "check"], ["config", "show"], ["config", "schema"], ["models", "list"]])
def test_a_command_about_settings_or_models_imports_nothing_heavy(command, tmp_path):
    argv = [*command, *(["-c", str(ROOT / "config.yaml")] if command != ["config", "schema"] else [])]
    code = f"import os; os.environ['STREAMCLUST_STATE__DIR'] = {str(tmp_path)!r}\n"
    code += f"from streamclust.cli import main; assert main({argv!r}) == 0"
    assert imported_by(code) & HEAVY == set()


def test_help_imports_nothing_heavy():
    code = "from streamclust.cli import main\ntry: main(['run', '--help'])\nexcept SystemExit: pass"
    assert imported_by(code) & (HEAVY | {"pydantic", "yaml"}) == set()


def modules_after(code: str) -> set[str]:
    program = f"import sys, json\n{code}\nsys.stderr.write(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


SLOW = {"torch", "sklearn", "onnx", "umap", "pyarrow", "obspy", "scipy.signal", "scipy.stats", "matplotlib"}
FIRST_FIT = """
import numpy as np
from streamclust.core.specs import ProfileSpec
from streamclust.train.fit import FitOptions, TrainingData, fit
profile = ProfileSpec(window_seconds=0.64, hop_seconds=0.64, encoder={encoder!r}, stft={{"nfft": 16, "hop": 4}})
x = np.random.default_rng(0).normal(size=(80, 1, 9, 13)).astype(np.float32)
x[::2, :, 3] += 9
at = np.arange(80) * 10**9
fit(TrainingData(profile, x, ["a"] * 80, at, at + 10**8, at * 1.0, at * 1.0), FitOptions("auto", {method!r}))
"""


def test_the_daemon_starts_without_what_only_training_encoders_and_odd_files_need():
    assert modules_after("import streamclust.daemon") & (SLOW | {"onnxruntime", "scipy.optimize"}) == set()


@pytest.mark.parametrize("method", ["gmm", "kmeans"])
def test_the_first_fit_imports_nothing_that_trains_networks(method):
    found = modules_after(FIRST_FIT.format(method=method, encoder="none"))
    assert found & (SLOW | {"onnxruntime"}) == set()
    assert "onnxruntime" in modules_after(FIRST_FIT.format(method=method, encoder="seismic"))
