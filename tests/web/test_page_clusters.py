"""The page in a real Chromium: clusters and what people do to them, the map, novelty, models."""

from __future__ import annotations

from contextlib import closing

import pytest
from web.browser import served, until
from web.filled import fill
from web.retrained import retrained

from streamclust.core.types import NS
from streamclust.store.identities import IDENTITIES, Identities

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


def card(page, cluster):
    return page.locator(f".cluster-card[data-id='{cluster}']")


def pick(page, cluster):
    """Move the focus to a cluster's card with the keyboard alone."""
    for _ in range(20):
        page.keyboard.press("j")
        if page.evaluate("document.activeElement.closest('.cluster-card')?.dataset.id") == cluster:
            return
    raise AssertionError(f"no card of {cluster}")


def known(state, cluster):
    with closing(Identities(state / IDENTITIES)) as identities:
        return identities.identities()[cluster], identities.journal()


def toast(page, text):
    page.locator(".toast", has_text=text).first.wait_for()


def test_the_gallery_shows_each_cluster_with_pictures_rates_and_description(shop, look):
    made, served_page = shop
    page = look(served_page.url).at("clusters", ".cluster-card")

    rockfall = card(page, made.of_kind[2])
    rockfall.locator("img").wait_for()
    rockfall.locator("canvas").wait_for()
    text = rockfall.inner_text()

    assert page.locator(".cluster-card").count() == 5  # one of six is merged
    assert "rockfall" in text
    assert "mostly in the afternoon" in text
    assert all(part in text for part in ("Windows", "24 h", "1 h", "Share"))
    assert rockfall.locator("img").evaluate("image => image.complete && image.naturalWidth > 0")


def test_a_cluster_is_named_by_keyboard_alone_and_the_name_is_undone(own, look):
    made, served_page = own
    cluster = made.of_kind[0]
    page = look(served_page.url).at("clusters", ".cluster-card")

    pick(page, cluster)
    page.keyboard.press("l")
    page.locator("dialog input").wait_for()
    page.keyboard.type("quiet nights")
    page.keyboard.press("Enter")
    toast(page, f"{cluster} is now called quiet nights")
    card(page, cluster).get_by_text("quiet nights").wait_for()
    named, journal = known(made.state, cluster)
    focus = page.evaluate("document.activeElement.closest('.cluster-card')?.dataset.id")
    page.keyboard.press("z")
    toast(page, "Undone")
    card(page, cluster).get_by_text("quiet nights").wait_for(state="detached")
    after, _ = known(made.state, cluster)

    assert named.name == "quiet nights"
    assert (journal[0].field, journal[0].identity) == ("name", cluster)
    assert journal[0].who
    assert focus == cluster
    assert after.name is None


def test_a_name_survives_a_retrain_and_the_lineage_shows_the_new_model(ripe, look):
    made, served_page = ripe
    cluster = made.of_kind[0]
    page = look(served_page.url).at(f"clusters/{cluster}", ".curation")
    page.keyboard.press("l")
    page.locator("dialog input").fill("background")
    page.keyboard.press("Enter")
    page.locator("h1", has_text="background").wait_for()

    old, new = retrained(served_page)
    page.reload()
    page.locator(".curation").wait_for()

    assert old["model.safetensors"] != new["model.safetensors"]
    assert "background" in page.locator("h1").inner_text()
    assert "v2" in page.locator(".lineage").text_content()
    page = look(served_page.url).at("clusters", ".cluster-card")
    assert "background" in card(page, cluster).inner_text()
    page = look(served_page.url).at("models", "tbody tr")
    page.locator("tr", has_text="v2").get_by_text("in use").wait_for()


def test_note_colour_mute_watch_and_merge_are_done_journalled_and_undone(own, look):
    made, served_page = own
    cluster, other = made.of_kind[3], made.of_kind[4]
    page = look(served_page.url).at(f"clusters/{cluster}", ".curation")

    page.get_by_role("button", name="Say who you are").click()
    page.locator("dialog input").fill("grace")
    page.keyboard.press("Enter")
    page.keyboard.press("n")
    page.locator("dialog textarea").fill("P and S\nwith a coda")
    page.get_by_role("button", name="Save").click()
    page.locator(".note", has_text="P and S").wait_for()
    page.keyboard.press("c")
    page.get_by_role("button", name="#cc79a7").click()
    page.get_by_role("button", name="Save").click()
    toast(page, "Colour of")
    page.keyboard.press("x")
    page.locator(".badge", has_text="muted").wait_for()
    page.keyboard.press("w")
    page.locator(".badge", has_text="watched").wait_for()
    page.keyboard.press("m")
    page.locator("dialog select").select_option(other)
    page.locator("dialog").get_by_role("button", name="Merge").click()
    page.locator(".badge", has_text="shown as").wait_for()
    now, journal = known(made.state, cluster)

    assert (now.note, now.colour, now.mute, now.alarm, now.merged_into) == (
        "P and S\nwith a coda", "#cc79a7", True, True, other,
    )  # fmt: skip
    assert [action.who for action in journal[:5]] == ["grace"] * 5
    page.locator(".table td", has_text="grace").first.wait_for()
    for count in range(1, 6):  # one after the other
        page.keyboard.press("z")
        until(
            page, "(count) => document.querySelectorAll('tr .badge').length >= count", count
        )  # an undo in the journal
    after, _ = known(made.state, cluster)
    assert (after.note, after.colour, after.mute, after.alarm, after.merged_into) == (None, None, False, False, None)


def test_the_detail_shows_exemplars_charts_streams_lineage_and_journal(shop, look):
    made, served_page = shop
    page = look(served_page.url).at(f"clusters/{made.of_kind[2]}", ".exemplars img")

    titles = page.locator(".card h2").all_inner_texts()

    for title in (
        "Exemplars",
        "Mean spectrogram",
        "Cumulative count",
        "Distributions",
        "Journal",
        "Lineage over retrains",
    ):
        assert title in titles
    assert page.locator(".histogram rect").count() > 5
    assert page.locator(".shares tbody tr").count() == len(made.streams)
    page.locator("td", has_text="mostly in the afternoon").wait_for()
    page.locator("summary", has_text="As a list").click()
    page.locator(".lineage-list li", has_text="was born in version 1").wait_for()


def test_a_cluster_that_is_not_there_is_told(shop, look):
    _, served_page = shop
    one = look(served_page.url)
    page = one.at("clusters/C999", ".empty")

    assert "could not be shown" in page.locator("h1").inner_text()
    one.wrong.clear()  # the browser tells of the 404 itself


def test_the_map_is_picked_from_and_a_lasso_lists_windows(shop, look):
    _, served_page = shop
    page = look(served_page.url).at("map", ".map-legend li")
    until(page, "document.querySelector('.scatter-canvas').width > 300")
    box = page.locator(".scatter-canvas").bounding_box()

    page.keyboard.press("a")
    page.mouse.move(box["x"] + 3, box["y"] + 3)
    page.mouse.down()
    for x, y in ((0.99, 0.01), (0.99, 0.99), (0.01, 0.99)):
        page.mouse.move(box["x"] + box["width"] * x, box["y"] + box["height"] * y, steps=4)
    page.mouse.up()
    page.locator(".map-side h2").wait_for()
    listed = page.locator(".map-side h2").inner_text()
    with page.expect_download() as download:
        page.locator(".map-side").get_by_role("button", name="CSV").click()
    lines = download.value.path().read_text().splitlines()

    assert listed == "120 windows"
    assert page.locator(".map-side .thumb").count() == 120
    assert (len(lines), lines[0]) == (121, "window_id,cluster,label,novel,x,y")
    page.locator(".map-legend input").first.uncheck()
    page.keyboard.press("Escape")
    page.locator(".map-side", has_text="Click on a point").wait_for()


def test_hostile_names_are_text_in_every_view_of_clusters(own, look):
    made, served_page = own
    cluster = made.of_kind[0]
    with closing(Identities(made.state / IDENTITIES)) as identities:
        identities.name(cluster, HOSTILE, "eve", made.newest_ns + 10 * NS)
        identities.note(cluster, HOSTILE, HOSTILE[:60], made.newest_ns + 11 * NS)
    one = look(served_page.url)

    for route, ready in (
        ("clusters", ".cluster-card"),
        (f"clusters/{cluster}", ".curation"),
        ("map", ".map-legend li"),
        ("models", "tbody tr"),
    ):
        page = one.at(route, ready)
        assert page.locator("img[src='x'], [onerror]").count() == 0
        assert "owned" not in page.title()
    assert HOSTILE in one.at(f"clusters/{cluster}", ".curation").locator("h1").inner_text()


@pytest.mark.parametrize("route", ["clusters", "clusters/C1", "map", "novelty", "models", "upload"])
@pytest.mark.parametrize(("phone", "dark"), [(False, False), (True, True)])
def test_axe_finds_nothing_serious_and_a_phone_does_not_scroll_sideways(shop, look, route, phone, dark):
    _, served_page = shop
    one = look(served_page.url, phone=phone, dark=dark)
    one.at(route, "h1")

    assert one.sideways() <= 0
    assert one.axe() == []
