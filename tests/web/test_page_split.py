"""The page in a real Chromium: a cluster that a person wants split."""

from __future__ import annotations

from contextlib import closing

import pytest
from web.browser import served
from web.filled import fill

from streamclust.store.identities import IDENTITIES, Identities


@pytest.fixture
def own(tmp_path):
    """A served state directory of one test."""
    made = fill(tmp_path / "state", 300, kept=24)
    with served(made.state) as page:
        yield made, page


def test_a_split_is_asked_for_with_a_key_shown_as_pending_and_undone(own, look):
    made, served_page = own
    cluster = made.of_kind[2]
    page = look(served_page.url).at(f"clusters/{cluster}", ".curation")

    page.keyboard.press("s")
    page.locator("dialog select").select_option("3")
    page.locator("dialog").get_by_role("button", name="Split").click()

    page.locator(".badge", has_text="to be split").wait_for()
    page.get_by_text("Will be split into 3 parts by the next training.", exact=True).wait_for()
    page.locator(".table td", has_text=f"{cluster} shall be split into 3 parts").first.wait_for()
    assert page.locator(".curation button[aria-pressed=true]").all_inner_texts() == ["Split"]
    with closing(Identities(made.state / IDENTITIES)) as identities:
        assert identities.splits() == {cluster: 3}
        identities.not_split({cluster: 3}, {cluster: "it has 50 windows to learn from, and 3 parts need 60"})
    page = look(served_page.url).at("clusters", ".cluster-card")
    assert "not split yet" in page.locator(f".cluster-card[data-id='{cluster}']").inner_text()
    page = look(served_page.url).at(f"clusters/{cluster}", ".curation")
    assert "The last one did not: it has 50 windows" in page.locator(".cluster-head").inner_text()
    page.get_by_role("button", name="Split", exact=True).click()
    page.get_by_role("button", name="Do not split").click()
    page.locator(".badge", has_text="not split yet").wait_for(state="detached")
    with closing(Identities(made.state / IDENTITIES)) as identities:
        assert identities.splits() == {}
    page.keyboard.press("z")
    page.locator(".badge", has_text="to be split").wait_for()
