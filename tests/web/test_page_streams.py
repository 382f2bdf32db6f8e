"""The page in a real Chromium: the streams, with a daemon, beside one that does nothing, and without one."""

from __future__ import annotations

import re

import pytest
from web.browser import arrives, served
from web.filled import fill

from streamclust.core.types import NS


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A served state directory to which tests may add events."""
    made = fill(tmp_path_factory.mktemp("page") / "state", 3000, kept=48)
    with served(made.state) as page:
        yield made, page


def test_streams_are_listed_with_state_and_quality(shop, look):
    made, served_page = shop
    page = look(served_page.url).at("streams", "tbody tr[data-stream]")

    assert {row.get_attribute("data-stream") for row in page.locator("tbody tr").all()} == set(made.streams)
    page.get_by_label("Search streams").fill("davox")
    assert page.locator("tbody tr").count() == 1
    assert "CH.DAVOX..HHZ" in page.locator("tbody").inner_text()


def test_without_a_daemon_no_stream_is_live_and_the_last_data_have_their_date(shop, look):
    made, _ = shop
    with served(made.state, running=False) as alone:
        page = look(alone.url).at("streams", "tbody tr[data-stream]")
        states = set(page.locator(".s-state").all_inner_texts())
        last = page.locator(".s-last").first.inner_text()
        side = page.locator(".nav-foot").inner_text()
        page = look(alone.url).at("overview", ".facts")
        page.locator(".facts", has_text="no daemon").wait_for()

        assert states == {"stopped"}
        assert re.search(r"2026-0[67]-\d\d \d\d:\d\d UTC", last)
        assert re.search(r"last data 2026-0[67]-\d\d", side)
        assert re.search(r"Streams\s+0 of \d", page.locator(".facts").inner_text())


def test_a_daemon_that_classifies_old_data_has_live_streams_and_one_that_does_not_has_none(look, tmp_path):
    made = fill(tmp_path / "state", 60, kept=0)
    with served(made.state) as replay:
        page = look(replay.url).at("streams", "tbody tr[data-stream]")
        before = set(page.locator(".s-state").all_inner_texts())
        arrives(
            replay,
            made.streams[0],
            made.newest_ns + 100 * NS,
            made.of_kind[0],
            processed_at_ns=replay.site.clock.now_ns(),
        )
        page.reload()
        page.locator(".s-state", has_text="live").first.wait_for()

        assert before == {"silent"}
        assert set(page.locator(".s-state").all_inner_texts()) == {"live"}
