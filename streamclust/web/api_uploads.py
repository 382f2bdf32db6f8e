"""The API's answers about uploads: take a recording, say how far it is, give what came of it."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from streamclust.core.auto_profile import named
from streamclust.core.errors import UsageError
from streamclust.core.profiles import PROFILES
from streamclust.store.activations import newest
from streamclust.web import upload_files
from streamclust.web.answers import dumps, ok, time
from streamclust.web.auth import scope
from streamclust.web.held import Held
from streamclust.web.params import Params, json_body
from streamclust.web.people import people_of
from streamclust.web.problems import Problem, bad_request, conflict, invalid, not_found
from streamclust.web.site import Site, site_of
from streamclust.web.upload_formats import HEAD, label, recognised
from streamclust.web.upload_paths import PATHS
from streamclust.web.upload_store import FOLDER, OVER, Job, is_id, sole
from streamclust.web.upload_worker import Model
from streamclust.web.uploads import New, Uploads, View

__all__ = ["PATHS", "routes", "running"]

FIELDS: Final = ("profile", "clusters", "mode", "rate", "title", "channels")
MOST_CLUSTERS: Final = 20
_PIECE: Final = 1 << 18
_EVERY: Final = 0.25
"""Seconds between two looks at an upload that someone listens to."""
_ALIVE: Final = 15.0
LISTENERS: Final = 64
_FILES: Final[Mapping[str, tuple[str, str]]] = {
    "result.json": ("application/json", "inline"),
    "events.csv": ("text/csv; charset=utf-8", "attachment"),
    "events.json": ("application/json", "attachment"),
    "image.png": ("image/png", "inline"),
    "model.zip": ("application/zip", "attachment"),
    "report.html": ("text/html; charset=utf-8", "inline"),
}
"""What can be fetched: its type, and whether a browser shows it or saves it."""
_REPORT_CSP: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"
"""The report brings its own style; no script in it could run."""


@asynccontextmanager
async def running(site: Site) -> AsyncIterator[Uploads | None]:
    """Work on uploads inside of the block; None where another server of the state directory does."""
    with sole(site.state / FOLDER, site.report) as ours:
        if not ours:
            yield None
            return
        reserve = site.config.state.reserve_bytes
        settings, model = site.config.web.uploads, partial(_model, site)
        uploads = Uploads(settings, site.state, site.clock, model, site.report, reserve_bytes=reserve)
        uploads.start()
        try:
            yield uploads
        finally:
            await anyio.to_thread.run_sync(uploads.close)


def _model(site: Site) -> Model:
    """Return what the daemon assigns by now."""
    log = site.models.activations()
    folder = site.state / "models" / str(newest(log).version) if log else None
    config = site.config
    return Model(config.profile.model_dump(mode="json"), config.windows.model_dump(mode="json"), folder, _known(site))


def _known(site: Site) -> dict[str, dict[str, str | None]]:
    """Return what people call each cluster, and its colour; those of what it is shown as."""
    people = people_of(site)
    shown = {cluster: people.shown(cluster) for cluster in people.identities}
    return {key: {"name": people.name(one), "colour": people.colour(one)} for key, one in shown.items()}


def _uploads(request: Request) -> Uploads:
    found: Uploads | None = getattr(request.app.state, "api_uploads", None)
    if found is None:
        raise Problem(503, "Another server of this state directory takes the uploads.", {"Retry-After": "30"})
    return found


def _id(request: Request) -> str:
    text = str(request.path_params["id"])
    if not is_id(text):
        raise not_found("There is no such upload, or it is no longer kept.")
    return text


def shown(view: View) -> dict[str, Any]:
    """Return an upload as the API tells of it."""
    job = view.job
    here = f"/api/v1/uploads/{job.id}"
    done = job.state == "done"
    names = [name for name in _FILES if done and (name not in {"model.zip", "report.html"} or job.mode == "cluster")]
    return {
        "id": job.id,
        "title": job.title,
        "filename": job.filename,
        "format": job.format,
        "size": job.size,
        "state": job.state,
        "position": view.position if job.state == "queued" else None,
        "progress": view.progress,
        "step": view.step,
        "error": job.error,
        "created": time(job.created_ns),
        "expires": time(job.expires_ns),
        "mode": job.mode,
        "profile": job.profile,
        "clusters": job.clusters,
        "rate": job.rate,
        "channels": job.channels,
        "result": dict(job.result) if job.result is not None else None,
        "learn": job.learn,
        "learn_error": job.learn_error,
        "links": {
            "self": here,
            "page": f"/#/upload/{job.id}",
            "events": f"{here}/events",
            **{name.replace(".", "_"): f"{here}/{name}" for name in names},
        },
    }


async def _create(request: Request) -> Response:
    caller = scope(request, "upload")
    Params(request)
    uploads = _uploads(request)
    owner = caller.name or caller.client
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise Problem(415, "Content-Type must be multipart/form-data.")
    uploads.admit(owner)
    try:
        job = await _taken(request, uploads, owner)
    except OSError as error:
        site_of(request).report(f"upload: {error}")
        raise Problem(
            507, "The disk does not take the recording now; try again later.", {"Retry-After": "60"}
        ) from error
    here = f"/api/v1/uploads/{job.id}"
    return ok({"id": job.id, "url": here}, 202, {"Location": here})


async def _taken(request: Request, uploads: Uploads, owner: str) -> Job:
    """Take in what a request sends."""
    async with request.form(max_files=1, max_fields=len(FIELDS), max_part_size=4096) as form:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise invalid("file: must be given")
        head = await file.read(HEAD)
        try:
            new = _new(form, owner, label(file.filename or ""), recognised(file.filename or "", head))
        except UsageError as error:
            raise Problem(415 if str(error).startswith("file: its name") else 422, str(error)) from error
        return await anyio.to_thread.run_sync(uploads.add, new, file.file)


def _new(form: FormData, owner: str, filename: str, fmt: str) -> New:
    """Return what a form says."""
    fields: dict[str, str] = {}
    for name, value in form.multi_items():
        if name == "file":
            continue
        if name not in FIELDS or name in fields or not isinstance(value, str):
            raise invalid(f"form: unknown or repeated field {name[:40]!r}; known are file, {', '.join(FIELDS)}")
        if value.strip():
            fields[name] = value.strip()
    title = "".join(mark for mark in fields.get("title", "") if mark.isprintable())[:200]
    profile = fields.get("profile", "auto")
    if profile != "auto" and named(profile) is None:
        raise invalid(f"profile: must be auto or one of {', '.join(sorted(PROFILES))} (got {profile[:40]!r})")
    mode = fields.get("mode", "cluster")
    if mode not in {"cluster", "assign"}:
        raise invalid(f"mode: must be cluster or assign (got {mode[:40]!r})")
    channels = fields.get("channels", "separate")
    if channels not in {"separate", "together"}:
        raise invalid(f"channels: must be separate or together (got {channels[:40]!r})")
    return New(title or filename, filename, fmt, mode, profile, _clusters(fields), _rate(fields), owner, channels)


def _clusters(fields: Mapping[str, str]) -> int | str:
    text = fields.get("clusters", "auto")
    if text == "auto":
        return text
    if not re.fullmatch(r"[0-9]{1,3}", text, re.ASCII) or not 2 <= int(text) <= MOST_CLUSTERS:
        raise invalid(f"clusters: must be auto or a whole number from 2 to {MOST_CLUSTERS} (got {text[:40]!r})")
    return int(text)


def _rate(fields: Mapping[str, str]) -> float | None:
    if "rate" not in fields:
        return None
    try:
        rate = float(fields["rate"])
    except ValueError:
        rate = 0.0
    if not 1e-6 <= rate <= 1e7:
        raise invalid(f"rate: must be a sampling rate in Hz > 0 (got {fields['rate'][:40]!r})")
    return rate


async def _list(request: Request) -> Response:
    scope(request, "operate")
    Params(request)
    views = await anyio.to_thread.run_sync(_uploads(request).views)
    return ok({"items": [shown(view) for view in views]})


async def _one(request: Request) -> Response:
    Params(request)
    return ok(shown(_uploads(request).view(_id(request))))


async def _delete(request: Request) -> Response:
    caller = scope(request, "upload")
    Params(request)
    uploads, job_id = _uploads(request), _id(request)
    if "operate" not in caller.scopes and uploads.view(job_id).job.owner != (caller.name or caller.client):
        raise Problem(403, "Only who sent an upload, or an operator, may take it away.")
    left = await anyio.to_thread.run_sync(uploads.cancel, job_id)
    return Response(status_code=204) if left is None else ok(shown(left))


async def _learn(request: Request) -> Response:
    scope(request, "operate")
    Params(request)
    await json_body(request, ())
    if not site_of(request).config.retrain.enabled:
        raise conflict("Learning is off here (retrain.enabled: false).")
    view = await anyio.to_thread.run_sync(_uploads(request).learn, _id(request))
    return ok(shown(view), 202)


async def _events(request: Request) -> Response:
    Params(request)
    uploads, job_id = _uploads(request), _id(request)
    uploads.view(job_id)
    if uploads.listeners >= LISTENERS:
        raise Problem(429, "Too many listen to uploads; ask again later.", {"Retry-After": "5"})
    uploads.listeners += 1

    def leave() -> None:
        uploads.listeners -= 1

    return Held(_messages(uploads, job_id), leave, "text/event-stream", {"X-Accel-Buffering": "no"})


async def _messages(uploads: Uploads, job_id: str) -> AsyncIterator[bytes]:
    """Yield how far an upload is whenever that has changed, and its end."""
    last, quiet = b"", 0.0
    while True:
        try:
            view = uploads.view(job_id)
        except Problem:
            yield _said("failed", dumps({"error": "it was taken away"}))
            return
        state = view.job.state
        data = dumps(shown(view))
        if state in OVER:
            yield _said("done" if state == "done" else "failed", data)
            return
        if data != last:
            last, quiet = data, 0.0
            yield _said("progress", data)
        elif quiet >= _ALIVE:
            quiet = 0.0
            yield b": alive\n\n"
        quiet += _EVERY
        await anyio.sleep(_EVERY)


def _said(event: str, data: bytes) -> bytes:
    return b"event: " + event.encode() + b"\ndata: " + data + b"\n\n"


async def _file(request: Request) -> Response:
    Params(request)
    name = str(request.path_params["name"])
    known = _FILES.get(name)
    uploads, job_id = _uploads(request), _id(request)
    view = uploads.view(job_id)
    if known is None:
        raise not_found("There is no such part of the result.")
    if view.job.state != "done":
        raise conflict(f"There is no result: this upload is {view.job.state}.")
    fd = await anyio.to_thread.run_sync(uploads.store.open_result, job_id, name)
    if fd is None:
        raise not_found("There is no such part of this result.")
    headers = {
        "Content-Disposition": f'{known[1]}; filename="{_saved(view, name)}"',
        "Content-Length": str(os.fstat(fd).st_size),
    }
    if name == "report.html":
        headers["Content-Security-Policy"] = _REPORT_CSP
    return Held(_pieces(fd), partial(os.close, fd), known[0], headers)


def _saved(view: View, name: str) -> str:
    """Return under which name a browser saves a file."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", Path(view.job.filename).stem)[:40].strip("_") or "upload"
    return f"{stem}-{name}"


async def _pieces(fd: int) -> AsyncIterator[bytes]:
    while part := await anyio.to_thread.run_sync(os.read, fd, _PIECE):
        yield part


async def _waveform(request: Request) -> Response:
    params = Params(request, ("stream", "from", "to", "points"))
    span = tuple(params.number(name, 0.0, 0.0, 1e12) if name in params else None for name in ("from", "to"))
    points = params.whole("points", 1000, 10, 4000)
    stream = params.text("stream", 64)
    uploads, job_id = _uploads(request), _id(request)
    _finished(uploads, job_id)
    found = await anyio.to_thread.run_sync(
        upload_files.envelope, uploads.store, job_id, stream, (span[0], span[1]), points
    )
    return ok(found)


async def _spectrogram(request: Request) -> Response:
    params = Params(request, ("stream",))
    stream = params.text("stream", 64)
    uploads, job_id = _uploads(request), _id(request)
    _finished(uploads, job_id)

    def picture() -> bytes:
        names = upload_files.streams(uploads.store, job_id)
        wanted = stream if stream is not None else next(iter(names), "")
        if wanted not in names:
            raise not_found("There is no such stream in this upload.")
        return upload_files.whole(uploads.store, job_id, f"spectrogram{names.index(wanted)}.png")

    return Response(await anyio.to_thread.run_sync(picture), media_type="image/png")


async def _window(request: Request) -> Response:
    Params(request)
    uploads, job_id = _uploads(request), _id(request)
    _finished(uploads, job_id)
    window_id = str(request.path_params["window_id"])
    if not re.fullmatch(r"[0-9a-f]{24}", window_id):
        raise bad_request("A window's id is 24 hexadecimal digits.")
    data = await anyio.to_thread.run_sync(upload_files.window_picture, uploads.store, job_id, window_id)
    return Response(data, media_type="image/png")


def _finished(uploads: Uploads, job_id: str) -> None:
    """Return when there is a result."""
    state = uploads.view(job_id).job.state
    if state != "done":
        raise conflict(f"There is no result: this upload is {state}.")


routes: Sequence[BaseRoute] = (
    Route("/api/v1/uploads", _create, methods=["POST"]),
    Route("/api/v1/uploads", _list),
    Route("/api/v1/uploads/{id}", _one),
    Route("/api/v1/uploads/{id}", _delete, methods=["DELETE"]),
    Route("/api/v1/uploads/{id}/learn", _learn, methods=["POST"]),
    Route("/api/v1/uploads/{id}/events", _events),
    Route("/api/v1/uploads/{id}/waveform", _waveform),
    Route("/api/v1/uploads/{id}/spectrogram.png", _spectrogram),
    Route("/api/v1/uploads/{id}/windows/{window_id}/spectrogram.png", _window),
    Route("/api/v1/uploads/{id}/{name}", _file),
)
