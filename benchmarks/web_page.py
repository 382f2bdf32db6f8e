"""How long the page takes to show the overview and the events of 100 000 windows, over the loopback, in Chromium."""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import arguments, show

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from web.browser import Look, launched, served
from web.filled import fill

WINDOWS = 100_000
READY = {
    "overview": "document.querySelector('.heat-range')?.innerText.includes('windows')"
    " && document.querySelector('.latest tr[data-window]') && document.querySelector('.strip-now .chip')"
    " && document.querySelector('.plot canvas')",
    "events": "document.querySelector('table.events tr[data-window]')",
    "streams": "document.querySelector('tr[data-stream]')",
    "clusters": "document.querySelector('#page[data-page=clusters] .card')",
}
"""When everything that is seen first is there."""
WATCH = """() => new Promise((done) => {
  const look = () => { if (READY) done(performance.now()); else requestAnimationFrame(look); };
  look();
})"""
SIZE = "performance.getEntriesByType('resource').reduce((sum, entry) => sum + entry.encodedBodySize, 0)"


def seconds_to(browser: Any, url: str, route: str) -> tuple[float, int, int]:
    """Return seconds from the click to the full page in an empty browser, the requests by then and their KiB."""
    look = Look(browser, url)
    look.page.goto(f"{url}/#/{route}", wait_until="commit")
    look.page.locator("#page h1").first.wait_for()
    taken = look.page.evaluate(WATCH.replace("READY", READY[route]))
    requests, size = len(look.requests), look.page.evaluate(SIZE)
    look.context.close()
    return taken / 1000, requests, round(size / 1024)


def measure(runs: int = 5) -> list[dict[str, Any]]:
    """Return one row per page: the median and the slowest of `runs` first visits."""
    rows = []
    with tempfile.TemporaryDirectory() as text:
        made = fill(Path(text) / "state", WINDOWS)
        with served(made.state) as page, launched() as browser:
            for route in READY:
                seconds_to(browser, page.url, route)  # the server's own first time
                taken, requests, sizes = zip(*(seconds_to(browser, page.url, route) for _ in range(runs)), strict=True)
                rows.append(
                    {
                        "page": route,
                        "windows": WINDOWS,
                        "median s": round(statistics.median(taken), 3),
                        "slowest s": round(max(taken), 3),
                        "requests": max(requests),
                        "KiB": max(sizes),
                    }
                )
    return rows


if __name__ == "__main__":
    options = arguments(__doc__, runs=5)
    show("The page in a browser", measure(options.runs), as_json=options.json)
