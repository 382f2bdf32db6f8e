"""The page in a real Chromium: a server on a state directory, a browser, and what every look at a page must hold."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from streamclust.core.clock import SystemClock
from streamclust.core.specs import Config
from streamclust.core.types import Event
from streamclust.signal.grid import window_id
from streamclust.store.models import ModelStore
from streamclust.store.results import DATABASE, Results
from streamclust.web.live import Hub
from streamclust.web.server import serve
from streamclust.web.site import Site, Vitals

AXE = Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js"
DESK = {"width": 1360, "height": 900}
PHONE = {"width": 360, "height": 740}
PATIENCE_MS = 30_000


class Served(NamedTuple):
    """A page that answers."""

    url: str
    """Without a slash at the end."""
    site: Site
    hub: Hub
    reports: list[str]
    """What failed inside."""


@contextlib.contextmanager
def served(state: Path, *, running: bool = True, **settings) -> Iterator[Served]:
    """Serve the page of a state directory, as in a daemon that is well, or without one; `settings` go into the section `web`.

    A model that is to be used holds at once, and the reports say who wanted it.
    """
    config = Config.model_validate(
        {
            "state": {"dir": str(state)},
            "source": {"type": "files", "paths": [str(state)]},
            "web": {"port": 0, **settings},
        }
    )
    hub, reports = Hub(), []

    clock = SystemClock()

    def activate(version, by, reason):
        reports.append(f"{by} wants model {version}: {reason}")
        ModelStore(state / "models").activate(version, by=by, reason=reason, at_ns=clock.now_ns())

    reasons = () if running else ("daemon: none runs on this state directory",)
    site = Site(config, state, clock, lambda: Vitals(running, reasons, running=running), activate, reports.append)
    server = serve(site, hub)
    server.start()
    try:
        yield Served(server.address.rstrip("/"), site, hub, reports)
    finally:
        server.close()
        site.pool.close()


def arrives(into: Served, stream: str, start_ns: int, cluster: str | None, *, novel: bool = False, **changes) -> Event:
    """Let one window be classified, as the daemon does: durable first, then told to whoever listens."""
    profile = into.site.config.profile
    event = Event(
        *(window_id(stream, start_ns, profile.label), stream, start_ns, start_ns + profile.window_ns, 100.0),
        profile=profile.label,
        model=1,
        cluster=cluster,
        name=None,
        memberships={} if cluster is None else {cluster: 1.0},
        novelty=0.999 if novel else 0.5,
        is_novel=novel,
        peak=800.0,
        rms=150.0,
        gap_fraction=0.0,
        flags=(),
        processed_at_ns=start_ns + profile.window_ns,
    )._replace(**changes)
    with contextlib.closing(Results(into.site.state / DATABASE)) as results:
        results.commit([event], (), {}, event.processed_at_ns)
    into.hub.offer([event])
    return event


def missing(what: str) -> None:
    """Skip the tests of this module; under CI that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must run the tests of the page: {what}")
    pytest.skip(what)


@contextlib.contextmanager
def launched():
    """Start a Chromium; the tests that need one are skipped where there is none."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        missing(f"playwright is not installed: {error}")
    if path is None:
        missing("no chromium on the PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def until(page, expression: str, arg=None):
    """Wait until a JavaScript expression (a function of `arg` where given) is true; return what it is.

    Playwright's own wait evaluates text in the page, later than its call, and the page's Content-Security-Policy forbids that.
    """
    for _ in range(PATIENCE_MS // 40):
        found = page.evaluate(expression, arg)
        if found:
            return found
        page.wait_for_timeout(40)
    pytest.fail(f"not within {PATIENCE_MS / 1000:.0f} s: {expression}")


class Look:
    """One window of the browser on a served page; `done` says what went wrong in it."""

    def __init__(self, browser, url: str, *, phone: bool = False, dark: bool = False) -> None:
        self.url = url
        self.requests: list[str] = []
        self.wrong: list[str] = []
        self.context = browser.new_context(
            viewport=PHONE if phone else DESK,
            color_scheme="dark" if dark else "light",
            has_touch=phone,
            is_mobile=phone,
            reduced_motion="reduce",
            locale="en-GB",
            timezone_id="America/Anchorage",  # far from UTC: a local time would show
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("console", self._console)
        self.page.on("response", self._answered)

    def _console(self, message) -> None:
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self.wrong.append(f"{message.type}: {message.text}")

    def _answered(self, response) -> None:
        if response.status >= 400:
            self.wrong.append(f"{response.status}: {response.url}")

    def at(self, route: str, ready: str = "h1"):
        """Go to ``#/route`` and wait until what `ready` selects is there; return playwright's page."""
        self.page.goto(f"{self.url}/#/{route}")
        self.page.locator(f"#page[data-page='{re.split('[/?]', route, maxsplit=1)[0]}'] {ready}").first.wait_for()
        return self.page

    def foreign(self) -> list[str]:
        """Return the requests that went to another host than the page's own."""
        own = urlsplit(self.url).netloc
        return [
            url for url in self.requests if urlsplit(url).scheme not in ("data", "blob") and urlsplit(url).netloc != own
        ]

    def sideways(self) -> int:
        """Return how many px the page is wider than the window."""
        return self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")

    def axe(self) -> list[str]:
        """Return what axe-core finds serious or critical, one line each."""
        self.page.evaluate(AXE.read_text(encoding="utf-8"))
        found = self.page.evaluate(
            "axe.run(document, {resultTypes: ['violations']}).then((result) => result.violations)"
        )
        return [
            f"{rule['id']} ({rule['impact']}): {node['html'][:160]}: {node['failureSummary'][:300]}"
            for rule in found
            if rule["impact"] in ("serious", "critical")
            for node in rule["nodes"][:4]
        ]

    def done(self) -> None:
        """Close it; every look must have stayed on its host and without an error."""
        wrong, foreign = list(self.wrong), self.foreign()
        self.context.close()
        assert not foreign, foreign
        assert not wrong, wrong


@pytest.fixture(scope="module")
def chromium():
    """A browser for one module: while it lives, its thread runs an event loop."""
    with launched() as browser:
        yield browser


@pytest.fixture
def look(chromium):
    """Opens windows, `look(url, phone=True, dark=True)`, and sees to it that nothing went wrong in them."""
    opened = []

    def make(url, **how):
        opened.append(Look(chromium, url, **how))
        return opened[-1]

    yield make
    for one in opened:
        one.done()
