"""The page in a real Chromium: a recording is uploaded, worked on, and its result looked at."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from spike_traces import three_neurons
from web.browser import served
from web.filled import fill

from streamclust.core.profiles import PROFILES

SLOW_MS = 110_000
HOSTILE = "<img src=x onerror=alert(1)>.csv"


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A served state directory with a model; uploads as many as tests like."""
    made = fill(tmp_path_factory.mktemp("upload") / "state", 300, kept=24)
    with served(made.state, uploads={"per_client_per_minute": 1000}) as page:
        yield made, page


def as_file(name, data):
    return {"name": name, "mimeType": "application/octet-stream", "buffer": data}


def npy(x):
    out = io.BytesIO()
    np.save(out, x)
    return out.getvalue()


def sent(page, name, data, **fields):
    """Choose a file, fill the form, and send it."""
    page.locator("#file").set_input_files(as_file(name, data))
    for field, value in fields.items():
        node = page.locator(f"[name={field}]").first
        node.select_option(value) if field in ("profile", "clusters") else node.fill(value)
    page.locator("button[type=submit]").click()


def result(page):
    """Wait for the result; return the id of the upload."""
    page.locator(".result-head, .job-error").first.wait_for(timeout=SLOW_MS)
    assert page.locator(".job-error").all_inner_texts() == []
    return page.url.rpartition("/")[2]


def near(found, true, tolerance=0.001):
    """The share of true times with a found one at most so many seconds away."""
    at = np.searchsorted(found, true)
    before, after = found[np.maximum(at - 1, 0)], found[np.minimum(at, len(found) - 1)]
    return float((np.minimum(np.abs(true - before), np.abs(true - after)) < tolerance).mean())


def test_a_trace_of_three_neurons_gives_three_clusters_with_spike_times(shop, look):
    _, served_page = shop
    true = three_neurons(20.0)
    one = look(served_page.url)
    page = one.at("upload", ".drop")

    sent(page, "three.npy", npy(true.x.astype(np.float32)), rate="24000", title="My neurons")
    page.locator(".job, .result-head").first.wait_for()
    upload = result(page)
    page.locator(".trace-canvas").wait_for()
    found = page.request.get(f"{served_page.url}/api/v1/uploads/{upload}/result.json").json()
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    rows = list(csv.DictReader(download.value.path().read_text().splitlines()))

    assert page.locator("h1").inner_text() == "My neurons"
    assert page.locator(".result-cluster .mean-wave").count() == 3
    assert "spikes in 3 clusters" in page.locator(".result-said").inner_text()
    assert page.locator(".table tbody tr").first.inner_text().split()[1] == "s"
    assert len(rows) == len(found["spikes"])
    assert near(np.array([spike["seconds"] for spike in found["spikes"]]), true.times) > 0.9
    for neuron in range(3):
        mine = true.times[true.neurons == neuron]
        of = [np.array([s["seconds"] for s in found["spikes"] if s["cluster"] == c["id"]]) for c in found["clusters"]]
        assert max(near(times, mine) for times in of) > 0.8
    assert one.axe() == []
    assert "until" in page.locator(".result-links").inner_text()


def test_a_recording_as_miniseed_gives_coloured_windows_that_table_trace_and_map_share(shop, look):
    pytest.importorskip("obspy")
    from obspy import Stream, Trace, UTCDateTime, read

    example = read()[0]  # obspy's own example, 30 s; repeated with noise between to be long enough
    rng = np.random.default_rng(0)
    parts = [
        np.concatenate((example.data / example.data.std(), rng.normal(0, 0.05, len(example.data)))) for _ in range(20)
    ]
    trace = Trace((np.concatenate(parts) * 1000).astype(np.int32))
    trace.stats.update(
        {
            "network": "BW",
            "station": "RJOB",
            "channel": "EHZ",
            "sampling_rate": 100.0,
            "starttime": UTCDateTime(2009, 8, 24),
        }
    )
    out = io.BytesIO()
    Stream([trace]).write(out, format="MSEED")
    _, served_page = shop
    one = look(served_page.url)
    page = one.at("upload", ".drop")

    sent(page, "day.mseed", out.getvalue(), profile="seismic", clusters="2")
    result(page)
    page.locator(".thumb img").first.wait_for()
    row = page.locator(".table tbody tr").nth(3)
    row.click()

    assert page.locator(".result-cluster").count() == 2
    assert page.locator(".table tbody tr[aria-selected='true']").count() == 1
    assert "2009-08-24 00:00:00.000 UTC" in page.locator(".card", has_text="Recording").first.inner_text()
    page.locator(".result-cluster input").first.uncheck()
    names = set(page.locator(".table tbody .chip").all_inner_texts())
    assert len(names) == 1  # the other cluster's windows are hidden
    for label in ("CSV", "JSON", "Image", "Model", "Report"):
        href = page.locator(".downloads").get_by_role("link", name=label).get_attribute("href")
        assert page.request.get(f"{served_page.url}/{href}").ok, label
    link = page.url
    again = look(served_page.url).page  # the link in another browser
    again.goto(link)
    again.locator(".result-head h1", has_text="day.mseed").wait_for()
    phone = look(served_page.url, phone=True, dark=True)
    phone.page.goto(link)
    phone.page.locator(".result-head").wait_for()
    assert phone.sideways() <= 0
    assert phone.axe() == []


def test_windows_are_assigned_with_the_running_model(shop, look):
    made, served_page = shop
    rng = np.random.default_rng(0)
    page = look(served_page.url).at("upload", ".drop")

    page.get_by_label("Assign with the running model").check()
    hidden = not page.get_by_label("Number of clusters").is_visible()
    sent(page, "noise.npy", npy(rng.normal(0, 100, 100 * 600).astype(np.float32)), rate="100")
    result(page)

    assert hidden
    assert page.locator(".result-cluster").count() >= 1
    names = set(page.locator(".table tbody .chip").all_inner_texts())
    assert names <= {*made.clusters, "rockfall", "icequake"}
    assert page.get_by_role("link", name="Model").count() == 1  # of the bar of pages only


def test_an_upload_is_cancelled(shop, look):
    _, served_page = shop
    page = look(served_page.url).at("upload", ".drop")

    sent(page, "long.npy", npy(three_neurons(60.0).x.astype(np.float32)), rate="24000")
    page.locator(".job").get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Cancel it").click()

    page.locator("h1", has_text="Cancelled").wait_for()
    page.goto(f"{served_page.url}/#/upload")
    page.locator(".drop").wait_for()


def test_the_second_of_two_uploads_waits_with_its_place_in_the_queue(shop, look):
    _, served_page = shop
    data = npy(three_neurons(60.0).x.astype(np.float32))
    first = look(served_page.url).at("upload", ".drop")
    sent(first, "first.npy", data, rate="24000")
    first.locator(".job").wait_for()
    second = look(served_page.url).at("upload", ".drop")
    sent(second, "second.npy", data, rate="24000")

    second.locator(".job-step", has_text="Waiting: number 1 in the queue").wait_for()
    for page in (second, first):
        page.locator(".job").get_by_role("button", name="Cancel").click()
        page.get_by_role("button", name="Cancel it").click()
        page.locator("h1", has_text="Cancelled").wait_for()


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("paper.pdf", b"%PDF-1.7 ...", "its name must end in one of"),
        ("not.mseed", b"%PDF-1.7 ...", "its first bytes are not those of miniSEED"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_at_the_form(shop, look, name, data, says):
    _, served_page = shop
    one = look(served_page.url)
    page = one.at("upload", ".drop")

    sent(page, name, data)

    page.locator(".form-problem", has_text=says).wait_for()
    assert page.locator("button[type=submit]").is_enabled()
    assert [wrong for wrong in one.wrong if not wrong.startswith(("415: ", "422: "))] == []  # the refusal itself
    one.wrong.clear()


def test_a_file_that_breaks_inside_says_why_there_is_no_result(shop, look):
    made, served_page = shop
    page = look(served_page.url).at("upload", ".drop")

    sent(page, "short.npy", npy(np.zeros(5, np.float32)), rate="100")

    page.locator("h1", has_text="could not be clustered").wait_for(timeout=SLOW_MS)
    said = page.locator(".job-error").inner_text()
    assert len(said) > 10
    assert "Traceback" not in said
    assert str(made.state) not in said


def test_hostile_file_names_and_titles_are_text(shop, look):
    _, served_page = shop
    one = look(served_page.url)
    page = one.at("upload", ".drop")
    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))

    page.locator("#file").set_input_files(as_file(HOSTILE, b"1\n2\n3\n"))
    chosen = page.locator(".drop-file").inner_text()
    page.locator("[name=rate]").fill("100")
    page.locator("[name=title]").fill("<svg onload=alert(2)>")
    page.locator("button[type=submit]").click()
    page.locator(".job, .job-error").first.wait_for()
    page.locator(".job-error").wait_for(timeout=SLOW_MS)

    assert HOSTILE in chosen
    assert HOSTILE in page.locator("#page").inner_text()
    page.goto(f"{served_page.url}/#/upload")
    page.locator(".past", has_text="<svg onload=alert(2)>").wait_for()
    assert dialogs == []
    assert page.locator("img[src='x'], svg[onload], [onerror]").count() == 0


def test_an_upload_that_is_not_there_is_told(shop, look):
    _, served_page = shop
    one = look(served_page.url)

    page = one.at(f"upload/{'0' * 32}", ".empty")

    assert "There is no such upload" in page.locator("h1").inner_text()
    one.wrong.clear()  # the browser tells of the 404 itself


def test_the_form_offers_the_profiles_that_there_are(shop, look):
    _, served_page = shop
    page = look(served_page.url).at("upload", ".drop")

    offered = page.locator("[name=profile] option").evaluate_all("options => options.map((option) => option.value)")

    assert sorted(offered) == sorted(["auto", *PROFILES])
