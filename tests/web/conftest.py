from __future__ import annotations

import pytest
from web.browser import chromium, look  # noqa: F401 — fixtures of the tests that need a browser
from web.filled import fill


@pytest.fixture(scope="session")
def filled(tmp_path_factory):
    """A state directory as a daemon leaves it; nobody writes to it."""
    return fill(tmp_path_factory.mktemp("filled") / "state", 600, kept=24, relabelled=30)
