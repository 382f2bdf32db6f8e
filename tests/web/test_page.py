"""The page in a real Chromium: overview, events, streams and help, as people of all kinds use them."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from contextlib import closing

import pytest
from web.browser import AXE, arrives, served, until
from web.filled import fill

from streamclust.core.types import NS
from streamclust.store.identities import IDENTITIES, Identities

PAGES = ("overview", "events", "streams", "help")
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
BACKWARDS = "\u202egpj.exe\u2066 \u200f"


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A served state directory to which tests may add events."""
    made = fill(tmp_path_factory.mktemp("page") / "state", 3000, kept=48)
    with served(made.state) as page:
        yield made, page


@pytest.fixture(scope="module")
def bad_names(tmp_path_factory):
    """A served state directory whose names of clusters and streams are attacks."""
    made = fill(tmp_path_factory.mktemp("hostile") / "state", 300, kept=12)
    with closing(Identities(made.state / IDENTITIES)) as identities:
        identities.name(made.of_kind[0], HOSTILE, "eve", made.newest_ns)
        identities.name(made.of_kind[3], "to be replaced", "eve", made.newest_ns + 1)
    with closing(sqlite3.connect(made.state / IDENTITIES)) as raw:  # as no version of ours would write it
        assert raw.execute("UPDATE identities SET name = ? WHERE id = ?", (BACKWARDS, made.of_kind[3])).rowcount == 1
        raw.commit()
    with served(made.state) as page:
        arrives(page, HOSTILE, made.newest_ns, made.of_kind[0])
        arrives(page, made.streams[1], made.newest_ns, made.of_kind[3])
        yield made, page


def first_row(page):
    return page.locator("table.events tbody tr[data-window]").first


def chosen(page):
    return page.locator("table.events tr[aria-selected='true']").get_attribute("data-window")


def number(text):
    """The number that a text begins with; thin spaces stand between thousands."""
    return int(re.match(r"[\d\u2009]+", text)[0].replace("\u2009", ""))


def shown_range(page):
    return page.locator(".heat-range").inner_text()


def test_the_overview_tells_state_clusters_and_the_newest_windows(shop, look):
    _, served_page = shop
    page = look(served_page.url).at("overview", ".latest tbody tr[data-window]")

    facts = page.locator(".facts").inner_text()
    assert "ready" in facts
    assert "version 1" in facts
    assert "seismic" in facts
    assert page.locator(".heat-labels").inner_text().split("\n")[-1] == "novel"
    assert "rockfall" in page.locator(".heat-labels").inner_text()
    assert page.locator(".latest tbody tr").count() == 14


def test_windows_appear_on_the_overview_while_they_arrive(shop, look):
    made, served_page = shop
    page = look(served_page.url).at("overview", ".latest tbody tr[data-window]")
    until(page, "document.documentElement.dataset.live === 'on'")
    before = page.locator(".fact").nth(3).inner_text()

    event = arrives(served_page, made.streams[0], made.newest_ns + 100 * NS, made.of_kind[2], novel=True)

    row = page.locator(f".latest tr[data-window='{event.window_id}']")
    row.wait_for()
    assert "rockfall" in row.inner_text()
    assert "novel" in row.inner_text()
    until(page, "(before) => document.querySelectorAll('.fact')[3].innerText !== before", before)


def test_a_window_of_the_chosen_stream_moves_the_strip(shop, look):
    made, served_page = shop
    page = look(served_page.url).at("overview", ".strip-now .chip")
    until(page, "document.documentElement.dataset.live === 'on'")
    stream = page.locator("select[aria-label='Stream of the strip']").input_value()

    arrives(served_page, stream, made.newest_ns + 300 * NS, made.of_kind[4])

    page.locator(".strip-now", has_text="icequake").wait_for()
    assert "icequake" in page.locator(".strip-canvas").get_attribute("aria-label")


def test_the_map_zooms_by_wheel_and_drag_and_a_double_click_shows_all(shop, look):
    _, served_page = shop
    page = look(served_page.url).at("overview", ".heat-labels li")
    until(page, "document.querySelector('.heat-range').innerText.includes('windows')")
    whole, box = shown_range(page), page.locator(".heat-canvas").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + 80)

    page.mouse.move(*middle)
    page.mouse.wheel(0, -400)
    until(page, "(old) => document.querySelector('.heat-range').innerText !== old", whole)
    zoomed = shown_range(page)
    page.mouse.move(middle[0] - 100, middle[1])
    page.mouse.down()
    page.mouse.move(middle[0] + 100, middle[1], steps=4)
    page.mouse.up()
    until(page, "(old) => document.querySelector('.heat-range').innerText !== old", zoomed)
    page.mouse.dblclick(*middle)

    until(
        page, "(old) => document.querySelector('.heat-range').innerText.split(' · ')[1] === old", whole.split(" · ")[1]
    )
    assert "overview" in page.url


def test_a_cell_tells_its_count_and_a_click_opens_its_windows(shop, look):
    made, served_page = shop
    page = look(served_page.url).at("overview", ".heat-labels li")
    until(page, "document.querySelector('.heat-range').innerText.includes('windows')")
    rows, common = page.locator(".heat-labels li").all_inner_texts(), made.of_kind[0]
    box = page.locator(".heat-canvas").bounding_box()
    place = (box["x"] + box["width"] / 2, box["y"] + 60 + 24 * rows.index(common) + 12)

    page.mouse.move(*place)
    told = page.locator(".tip:not([hidden])").inner_text()
    page.mouse.click(*place)
    page.wait_for_url(re.compile(r"#/events\?"))

    assert common in told
    assert f"cluster={common}" in page.url
    page.locator(".events-bar p", has_text="event").wait_for()
    assert number(page.locator(".events-bar p").inner_text()) == number(told.splitlines()[1]) > 0


def test_the_events_page_keeps_few_rows_in_the_document_however_far_one_scrolls(shop, look):
    _, served_page = shop
    page = look(served_page.url).at("events", "tbody tr[data-window]")
    rows = "document.querySelectorAll('table.events tbody tr').length"

    most = 0
    for _ in range(200):
        page.evaluate("document.querySelector('.virtual').scrollTop += 4000")
        until(page, "!document.querySelector('table.events .blank')")
        most = max(most, page.evaluate(rows))
        if "loaded" not in page.locator(".events-bar p").inner_text():
            break
    page.evaluate("document.querySelector('.virtual').scrollTop = 1e9")
    until(page, "!document.querySelector('table.events .blank')")

    total = number(page.locator(".events-bar p").inner_text())
    assert total >= 3000
    assert int(page.locator("tbody tr[data-window]").last.get_attribute("data-index")) == total - 1
    assert most < 120


def test_a_filter_holds_in_the_list_the_address_and_the_exports(shop, look):
    made, served_page = shop
    page = look(served_page.url).at("events", "tbody tr[data-window]")

    page.locator("select[name=cluster]").select_option(made.of_kind[4])
    until(
        page,
        "[...document.querySelectorAll('table.events td.c1 .chip')].every((c) => c.innerText.includes('icequake'))",
    )

    assert f"cluster={made.of_kind[4]}" in page.url
    assert {link.get_attribute("href") for link in page.locator(".exports a").all()} == {
        f"api/v1/events?cluster={made.of_kind[4]}&order=newest&format={name}" for name in ("csv", "jsonl", "parquet")
    }
    with page.expect_download() as download:
        page.locator(".exports a", has_text="CSV").click()
    lines = download.value.path().read_text().splitlines()
    assert len(lines) > 1
    assert all(made.of_kind[4] in line for line in lines[1:])


def test_a_time_that_is_none_is_told_at_the_field(shop, look):
    _, served_page = shop
    page = look(served_page.url).at("events", "tbody tr[data-window]")

    page.locator("input[name=from]").fill("yesterday")
    page.locator("input[name=from]").press("Enter")

    assert "UTC" in page.locator("input[name=from]").evaluate("(node) => node.validationMessage")


def test_a_kept_window_is_shown_with_waveform_and_spectrogram(shop, look):
    made, served_page = shop
    page = look(served_page.url).at(f"events?window={made.kept[0]}", ".detail .picture")

    page.locator(".detail .wave").wait_for()
    until(page, "document.querySelector('.detail .picture').naturalWidth > 0")
    assert made.kept[0] in page.locator(".detail").inner_text()


def test_times_are_utc_wherever_the_reader_is(shop, look):
    made, served_page = shop
    page = look(served_page.url).at(f"events?window={made.kept[0]}", ".detail .pairs")
    start = page.evaluate(
        "(id) => fetch(`api/v1/events/${id}`).then((answer) => answer.json()).then((event) => event.start)",
        made.kept[0],
    )

    assert f"{start[:10]} {start[11:23]} UTC" in page.locator(".detail").inner_text()


@pytest.mark.parametrize("route", ["overview", "events", "streams", "help"])
def test_hostile_names_are_text(bad_names, look, route):
    _, served_page = bad_names
    view = look(served_page.url)
    page = view.at(
        route,
        {"overview": ".latest tr[data-window]", "events": "tr[data-window]", "streams": "tr[data-stream]"}.get(
            route, "h1"
        ),
    )
    page.wait_for_load_state("networkidle") if route == "help" else page.wait_for_timeout(300)

    assert page.locator("#page img[src='x'], nav img").count() == 0
    assert "owned" not in page.title()
    if route != "help":
        assert (
            HOSTILE.replace("\u202e", "") in page.locator("#page").inner_text()
            or "<img" in page.locator("#page").inner_text()
        )
        assert not re.search(r"[\u202a-\u202e\u2066-\u2069]", page.locator("#page").inner_text())


@pytest.mark.parametrize("route", PAGES)
def test_a_phone_never_scrolls_sideways(bad_names, look, route):
    _, served_page = bad_names
    view = look(served_page.url, phone=True)
    view.at(route, "h1").wait_for_load_state()
    view.page.wait_for_timeout(400)

    assert view.sideways() == 0
    assert view.page.locator("nav").bounding_box()["y"] > 600  # within the reach of a thumb


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
@pytest.mark.parametrize("route", PAGES)
def test_axe_finds_nothing_serious(shop, look, route, phone, dark):
    _, served_page = shop
    view = look(served_page.url, phone=phone, dark=dark)
    view.at(
        route,
        {"events": "tr[data-window]", "streams": "tr[data-stream]", "overview": ".heat-labels li"}.get(route, "h1"),
    )

    assert view.axe() == []


def test_axe_finds_nothing_serious_in_a_detail_and_a_dialog(shop, look):
    made, served_page = shop
    view = look(served_page.url)
    page = view.at(f"events?window={made.kept[0]}", ".detail .picture")
    assert view.axe() == []

    page.keyboard.press("?")
    page.locator("dialog[open]").wait_for()
    assert view.axe() == []


def test_dark_follows_the_system_and_the_choice_lasts(shop, look):
    _, served_page = shop
    page = look(served_page.url, dark=True).at("help")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)

    page.locator(".nav-foot").get_by_role("button", name="Light").click()
    light = page.evaluate(background)
    page.reload()

    assert dark == "rgb(14, 17, 22)"
    assert light == page.evaluate(background) == "rgb(245, 246, 248)"


def test_everything_is_reached_by_keyboard_alone(shop, look):
    _, served_page = shop
    page = look(served_page.url).at("overview", ".heat-labels li")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "Skip to the page"

    page.keyboard.press("g")
    page.keyboard.press("e")
    page.locator("#page[data-page=events] tr[data-window]").first.wait_for()
    page.keyboard.press("j")
    first = chosen(page)
    page.keyboard.press("j")
    second = chosen(page)
    page.keyboard.press("k")
    assert first != second
    assert chosen(page) == first
    page.keyboard.press("Escape")
    assert page.locator(".detail").is_hidden()

    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "stream"
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert "Next event" in page.locator("dialog[open]").inner_text()
    page.keyboard.press("Escape")
    until(page, "!document.querySelector('dialog')")


def test_the_map_is_read_and_opened_by_keyboard(shop, look):
    _, served_page = shop
    page = look(served_page.url).at("overview", ".heat-labels li")
    until(page, "document.querySelector('.heat-range').innerText.includes('windows')")
    page.locator(".heat-canvas").focus()

    for key in ("ArrowLeft", "ArrowLeft", "ArrowDown"):
        page.keyboard.press(key)
    said = page.locator(".heat + [aria-live]").inner_text()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"#/events\?.*cluster="))

    assert re.search(r": [\d\u2009]+ windows, \d{4}-\d\d-\d\d .* UTC", said)


def test_the_numbers_of_the_map_are_a_table_too(shop, look):
    _, served_page = shop
    page = look(served_page.url).at("overview", ".heat-labels li")

    rows = page.get_by_role("table", name="Windows per cluster in the time shown").get_by_role("row")
    assert rows.count() == page.locator(".heat-labels li").count() + 1


@pytest.mark.parametrize(
    ("route", "says"),
    [("overview", "No window was classified yet"), ("events", "No events"), ("streams", "No streams")],
)
def test_before_the_first_window_each_page_says_so(look, tmp_path, route, says):
    with served(tmp_path) as page_of_nothing:
        view = look(page_of_nothing.url)
        view.at(route).get_by_text(says).first.wait_for()

        assert view.axe() == []


def test_the_first_window_ever_fills_the_overview_without_a_reload(look, tmp_path):
    with served(tmp_path) as young:
        page = look(young.url).at("overview")
        page.get_by_text("No window was classified yet").first.wait_for()
        until(page, "document.documentElement.dataset.live === 'on'")
        page.wait_for_timeout(600)

        arrives(young, "FDSN:XX_A__H_H_Z", 1_782_000_000 * NS, "C1")

        page.locator(".latest tr[data-window]").wait_for()
        page.locator(".strip-now .chip").wait_for()
        page.locator(".heat-labels").get_by_text("C1").wait_for()


def test_a_server_with_tokens_asks_for_one_and_then_shows_the_page(shop, look, tmp_path):
    made, _ = shop
    token = "correct horse battery staple"  # noqa: S105 — of this test only
    spec = {"sha256": hashlib.sha256(token.encode()).hexdigest(), "name": "ada", "scopes": ["read"]}
    with served(made.state, tokens=[spec]) as page_of_ada:
        view = look(page_of_ada.url)
        view.page.goto(f"{page_of_ada.url}/#/overview")
        view.page.locator("dialog[open] input").fill(token)
        view.page.keyboard.press("Enter")

        view.page.locator(".facts .badge", has_text="ready").wait_for()
        assert view.page.locator("dialog").count() == 0
        view.wrong.clear()  # the refusals before the token


def test_axe_is_what_its_authors_published():
    listed = dict(reversed(line.split()) for line in (AXE.parents[1] / "SHA256SUMS").read_text().splitlines())

    assert hashlib.sha256(AXE.read_bytes()).hexdigest() == listed["axe-core/axe.min.js"]
