"""The application: every route, what guards them, and what an error looks like.

A module of the API has `routes` and `PATHS`, the part of the OpenAPI document that describes them. One that has something
to start and stop has `running(site)`, an asynchronous context manager, too; what it yields is ``request.app.state.<module>``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Send
from starlette.types import Scope as Asgi

from streamclust.core.errors import StreamclustError
from streamclust.web import (
    api_clusters,
    api_events,
    api_map,
    api_models,
    api_pictures,
    api_series,
    api_status,
    api_uploads,
    auth,
    live,
    openapi,
)
from streamclust.web.guard import Guard
from streamclust.web.live import Hub, Live
from streamclust.web.problems import Problem, answer, of
from streamclust.web.site import TOLD, Site

STATIC: Final = Path(__file__).parent / "static"
THREADS: Final = 8
"""Requests that read the database or do other work at once; others wait."""


MODULES: Final[tuple[ModuleType, ...]] = (
    *(auth, api_status, api_clusters, api_events, api_series, api_map, api_pictures),
    *(api_models, api_uploads, live),
)


def build(site: Site, hub: Hub | None = None) -> Guard:
    """Return the application of a site.

    Parameters
    ----------
    hub
        What the daemon in this process fills with events; None: none runs here.
    """

    def tell() -> dict[str, Any]:
        return api_status.status(site, uploads=getattr(app.state, "api_uploads", None) is not None)

    lively = Live(site, hub, tell)
    app = Starlette(
        routes=routes(),
        exception_handlers={
            Problem: _problem,
            HTTPException: _http,
            StreamclustError: _ours,
            sqlite3.Error: _database,
            ClientDisconnect: _gone,
            Exception: partial(_unknown, site.report),
        },
        lifespan=partial(_lifespan, site, lively),
    )
    app.router.redirect_slashes = False
    app.router.default = partial(_page, StaticFiles(directory=STATIC, html=True, check_dir=False))
    app.state.site = site
    app.state.live = lively
    app.state.doorkeeper = auth.Doorkeeper(site.config.web)
    return Guard(app, site.config.web, app.state.doorkeeper, site.clock, lively.end)


def routes() -> list[BaseRoute]:
    """Return every route of the API; all else are the page's files."""
    tables: list[Mapping[str, Any]] = [module.PATHS for module in MODULES]
    return [*(route for module in MODULES for route in module.routes), openapi.route(tables)]


@asynccontextmanager
async def _lifespan(site: Site, lively: Live, app: Starlette) -> AsyncIterator[None]:
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    async with AsyncExitStack() as stack:
        stack.callback(site.close)
        for module in MODULES:
            running: Callable[[Site], Any] | None = getattr(module, "running", None)
            if running is not None:
                setattr(app.state, module.__name__.rpartition(".")[2], await stack.enter_async_context(running(site)))
        await stack.enter_async_context(lively.running())
        yield


async def _page(files: StaticFiles, scope: Asgi, receive: Receive, send: Send) -> None:
    """Answer what no route knows: a file of the page, or 404."""
    if scope["path"].startswith("/api"):
        raise Problem(404, "There is no such address; openapi.json lists those that are.")
    await files(scope, receive, send)


def _problem(_request: Request, error: Exception) -> Response:
    return answer(error) if isinstance(error, Problem) else answer(Problem(500, ""))


def _http(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return answer(Problem(500, ""))
    return answer(Problem(error.status_code, str(error.detail), error.headers))


def _ours(_request: Request, error: Exception) -> Response:
    return answer(of(error)) if isinstance(error, StreamclustError) else answer(Problem(500, ""))


def _database(_request: Request, error: Exception) -> Response:
    slow = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT
    what = "It took too long; ask for a shorter span of time." if slow else "The database cannot be read now."
    return answer(Problem(503, what, {"Retry-After": "5"}))


def _gone(_request: Request, _error: Exception) -> Response:
    """End what was asked by a client that went away before all of it had come: no failure of ours, and nobody hears the answer."""
    return answer(Problem(400, "The request did not come whole."))


def _unknown(report: Callable[[str], None], request: Request, error: Exception) -> Response:
    report(f"{request.method} {request.url.path[:200]}: {type(error).__name__}: {error}")
    error.add_note(TOLD)
    return answer(Problem(500, "Something went wrong here; the log says what.", {"Connection": "close"}))
