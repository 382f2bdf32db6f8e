"""Fixtures of the source tests."""

from __future__ import annotations

import warnings

import pytest


@pytest.fixture(scope="session", autouse=True)
def _obspy():
    """Import obspy once with its own import-time deprecations silenced; the tests use it as an oracle."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import obspy  # noqa: F401 — only imported for what it warns of
