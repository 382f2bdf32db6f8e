"""The page in a real Chromium: what is novel, and the models: rolling back, promoting, losses, refused candidates."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest
from web.browser import served
from web.filled import fill, model
from web.retrained import retrained

from streamclust.store.activations import newest
from streamclust.store.buffer_reader import Filter
from streamclust.store.models import ModelStore
from streamclust.store.results import DATABASE
from streamclust.store.shelf import REASONS, REFUSED

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A served state directory whose clusters tests may change."""
    made = fill(tmp_path_factory.mktemp("clusters") / "state", 1200, kept=120)
    with served(made.state) as page:
        yield made, page


@pytest.fixture
def own(tmp_path):
    """A served state directory of one test."""
    made = fill(tmp_path / "state", 300, kept=24)
    with served(made.state) as page:
        yield made, page


def toast(page, text):
    page.locator(".toast", has_text=text).first.wait_for()


def test_the_most_novel_windows_are_listed_with_their_nearest_cluster(shop, look):
    _, served_page = shop
    page = look(served_page.url).at("novelty", ".novelty")

    page.keyboard.press("j")

    assert page.locator(".novelty").first.get_by_text("nearest").is_visible()
    assert page.evaluate("document.activeElement.className") == "novelty-link"
    page.keyboard.press("Enter")
    page.locator("#page[data-page='events'] h1").wait_for()


def test_promote_asks_first_and_rollback_goes_to_the_version_before(own, look):
    made, served_page = own
    bundle, _ = model()
    store = ModelStore(made.state / "models")
    store.publish(bundle.to_bytes())
    page = look(served_page.url).at("models", "tbody tr")

    page.get_by_role("button", name="v2").click()
    page.get_by_role("button", name="Promote").click()
    page.locator("dialog").get_by_role("button", name="Cancel").click()
    asked_nothing = list(served_page.reports)
    page.get_by_role("button", name="Promote").click()
    page.locator("dialog input").fill("looks better")
    page.locator("dialog").get_by_role("button", name="Promote").click()
    toast(page, "Version 2 is in use")

    assert asked_nothing == []
    assert [report.partition(" wants ")[2] for report in served_page.reports] == ["model 2: looks better"]


def test_an_operator_rolls_back_a_retrain_and_promotes_it_again(ripe, look):
    made, served_page = ripe
    retrained(served_page)
    page = look(served_page.url).at("models", "tbody tr")
    versions = page.get_by_label("Versions", exact=True)
    versions.locator("tr", has_text="v2").get_by_text("in use", exact=True).wait_for()

    page.get_by_role("button", name="Roll back").click()
    page.locator("dialog input").fill("too many alarms")
    page.locator("dialog").get_by_role("button", name="Roll back").click()
    toast(page, "Rolled back")
    versions.locator("tr", has_text="v1").get_by_text("in use", exact=True).wait_for()
    back = newest(ModelStore(made.state / "models").activations())
    page.get_by_role("button", name="v2").click()
    page.get_by_role("button", name="Promote").click()
    page.locator("dialog input").fill("it was right")
    page.locator("dialog").get_by_role("button", name="Promote").click()
    toast(page, "Version 2 is in use")
    versions.locator("tr", has_text="v2").get_by_text("in use", exact=True).wait_for()
    again = newest(ModelStore(made.state / "models").activations())

    assert (back.version, back.by) == (1, "rollback")
    assert back.reason.endswith("too many alarms")
    assert (again.version, again.reason) == (2, "it was right")
    page.get_by_label("Version 2", exact=True).get_by_text("it was right").wait_for()


def test_each_training_shows_its_loss_and_a_refused_candidate_why(ripe, look):
    made, served_page = ripe
    retrained(served_page)
    store = ModelStore(made.state / "models")
    why = {
        "reasons": ["entropy: must be >= 0.3 (got 0.1)"],
        "checks": [{"name": "entropy", "value": 0.1, "limit": 0.3, "ok": False, "text": "low"}],
    }
    ModelStore(store.directory / REFUSED).publish({**store.load(1), REASONS: json.dumps(why).encode()})
    page = look(served_page.url).at("models", "tbody tr")
    versions = page.get_by_label("Versions", exact=True)

    page.get_by_label("Version 2", exact=True).locator(".line-drawing").wait_for()
    assert page.get_by_label("Trainings", exact=True).locator(".spark").count() == 1
    row = versions.locator("tr.refused")
    assert "entropy: must be >= 0.3 (got 0.1)" in row.inner_text()
    row.get_by_role("button", name="candidate 1").click()
    shown = page.get_by_label("Candidate 1", exact=True)
    shown.locator(".reasons", has_text="entropy: must be").wait_for()
    assert shown.get_by_role("button").count() == 0  # nobody can promote it
    page.keyboard.press("j")
    page.get_by_label("Version 2", exact=True).wait_for()


def test_a_novel_window_that_is_kept_is_shown_with_its_waveform_and_beyond_all_says_so(own, look):
    made, served_page = own
    with closing(sqlite3.connect(made.state / DATABASE)) as raw:
        change = "UPDATE assignments SET is_novel = 1, novelty = 1.0 WHERE window_id = ?"
        raw.executemany(change, [(window_id,) for window_id in made.kept])
        raw.commit()
    page = look(served_page.url).at("novelty", ".novelty")

    tiles = page.locator(".novelty", has_text="> 0.9999")
    tiles.nth(len(made.kept) - 1).scroll_into_view_if_needed()
    page.locator(".novelty-wave canvas").first.wait_for()
    page.locator(".novelty-wave", has_text="waveform not kept").first.wait_for()

    assert tiles.count() == len(made.kept)
    assert "beyond all of them" in page.locator(".page-head").inner_text()


def test_a_kept_window_without_a_waveform_asks_for_none(own, look):
    _, served_page = own
    with served_page.site.buffer() as buffer:
        bare = next(window.window_id for window in buffer.read(Filter()) if window.wave is None)
    view = look(served_page.url)
    page = view.at(f"events?window={bare}", ".detail .picture")

    page.locator(".detail", has_text="waveform of this window is not kept").wait_for()
    assert not [url for url in view.requests if url.endswith("/waveform")]


@pytest.mark.parametrize("route", ["clusters/C1", "models", "novelty"])
def test_no_date_is_broken_on_a_phone(shop, look, route):
    _, served_page = shop
    page = look(served_page.url, phone=True).at(route, "time")

    heights = "[...document.querySelectorAll('#page time > span')].map((span) => span.getClientRects().length)"
    assert set(page.evaluate(heights)) == {1}
