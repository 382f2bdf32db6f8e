from __future__ import annotations

import shutil

import pytest
from web.browser import chromium, look, served  # noqa: F401 — fixtures of the tests that need a browser
from web.filled import fill


@pytest.fixture(scope="session")
def filled(tmp_path_factory):
    """A state directory as a daemon leaves it; nobody writes to it."""
    return fill(tmp_path_factory.mktemp("filled") / "state", 600, kept=24, relabelled=30)


@pytest.fixture(scope="session")
def grown(tmp_path_factory):
    """A state directory whose buffer has windows enough for a retrain; nobody writes to it."""
    return fill(tmp_path_factory.mktemp("grown") / "state", 300, kept=200)


@pytest.fixture
def ripe(tmp_path, grown):
    """A served copy of it, of one test."""
    made = grown._replace(state=shutil.copytree(grown.state, tmp_path / "state"))
    with served(made.state) as page:
        yield made, page
