"""Commands read the settings of the daemon that they are about."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from streamclust.admin import settings


def test_the_state_directory_is_that_of_the_file_and_the_environment(tmp_path, monkeypatch):
    path = tmp_path / "c.yaml"
    path.write_text("source: {type: files, paths: [x]}\nstate: {dir: /from/file}\n")
    args = argparse.Namespace(config=path)
    assert settings.state_dir(args) == Path("/from/file")

    monkeypatch.setenv("STREAMCLUST_STATE__DIR", "/from/environment")
    assert settings.state_dir(args) == Path("/from/environment")


def test_a_number_of_threads_that_was_chosen_stays(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    settings.one_thread()
    assert (os.environ["OMP_NUM_THREADS"], os.environ["OPENBLAS_NUM_THREADS"]) == ("3", "1")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS")
