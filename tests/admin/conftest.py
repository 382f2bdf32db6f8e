"""The state directory that the commands are about."""

from __future__ import annotations

import os

import pytest


@pytest.fixture
def state(tmp_path, monkeypatch):
    """A state directory, which the environment names."""
    for name in [n for n in os.environ if n.startswith("STREAMCLUST_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("STREAMCLUST_STATE__DIR", str(tmp_path / "state"))
    (tmp_path / "state").mkdir()
    return tmp_path / "state"
