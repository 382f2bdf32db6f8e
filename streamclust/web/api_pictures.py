"""The API's pictures: spectrograms and waveforms of windows, what a cluster looks like on average, its waveforms to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from streamclust.core.errors import StateError
from streamclust.store.kept import Kept
from streamclust.web import clusters, pictures, queries, waveforms
from streamclust.web.answers import TIME, in_path, json_of, objects, ok, time
from streamclust.web.params import Params
from streamclust.web.people import people_of
from streamclust.web.problems import Problem, not_found
from streamclust.web.site import Site, site_of


def _window(request: Request) -> tuple[Site, Kept | None]:
    """Return the window that is asked about, None when it is not kept (now, or ever); 404 when it never was."""
    Params(request)
    site, window_id = site_of(request), request.path_params["window_id"]
    found = pictures.kept(site, window_id)
    if found is None and not _happened(site, window_id):
        raise not_found("There is no such window.")
    return site, found


def _happened(site: Site, window_id: str) -> bool:
    try:
        with site.results() as reading:
            return queries.event(reading, window_id) is not None
    except StateError:
        return False


def _spectrogram(request: Request) -> Response:
    site, window = _window(request)
    if window is None:
        return _nothing()
    return _png(pictures.of_power(pictures.above(window, site.bundles.current())))


def _waveform(request: Request) -> Response:
    site, window = _window(request)
    if window is None or window.wave is None:
        return _nothing()
    start = {"start": time(window.start_ns), "end": time(window.end_ns)}
    return ok({**start, **waveforms.points(window.wave, site.config.profile.rate_hz)})


def _mean(request: Request) -> Response:
    Params(request)
    site = site_of(request)
    found = pictures.mean(pictures.some(site, _members(site, request)), site.bundles.current())
    if found is not None:
        return _png(pictures.of_power(found))
    clusters.one(site, request.path_params["cluster"])
    return _nothing()


def _mseed(request: Request) -> Response:
    Params(request)
    site, cluster = site_of(request), request.path_params["cluster"]
    found = waveforms.waves(site, _members(site, request))
    if not found:
        raise _none_kept()
    name = "".join(sign for sign in cluster if sign.isascii() and sign.isalnum())[:40] or "cluster"
    headers = {"Content-Disposition": f'attachment; filename="streamclust-{name}.mseed"'}
    records = waveforms.mseed(found, site.config.profile.rate_hz)
    return StreamingResponse(records, headers=headers, media_type="application/vnd.fdsn.mseed")


def _members(site: Site, request: Request) -> tuple[str, ...]:
    try:
        return people_of(site).members(request.path_params["cluster"])
    except StateError as error:
        raise _none_kept() from error


def _none_kept() -> Problem:
    return not_found("No window of this cluster is kept.")


def _nothing() -> Response:
    """Say that there is no picture of what is there: no fault of who asks, and none for a browser to complain about."""
    return Response(status_code=204)


def _png(picture: bytes) -> Response:
    return Response(picture, media_type="image/png")


_WINDOW_URL: Final = "/api/v1/windows/{window_id}"
_CLUSTER_URL: Final = "/api/v1/clusters/{cluster}"
routes: Sequence[BaseRoute] = (
    Route(f"{_WINDOW_URL}/spectrogram.png", _spectrogram),
    Route(f"{_WINDOW_URL}/waveform", _waveform),
    Route(f"{_CLUSTER_URL}/spectrogram.png", _mean),
    Route(f"{_CLUSTER_URL}/waveforms.mseed", _mseed),
)

_WINDOW: Final = in_path("window_id", {"type": "string", "minLength": 1}, "Of an event.")
_CLUSTER: Final = in_path(
    "cluster", {"type": "string", "minLength": 1}, "Id of a cluster, with what is merged into it."
)
_NOTHING: Final = {"204": {"description": "It is there, and not kept: only a sample of all windows is."}}
_VALUES: Final = {"type": "array", "items": {"type": ["number", "null"]}}


def _file(media: str, description: str) -> dict[str, Any]:
    content = {media: {"schema": {"type": "string", "format": "binary"}}}
    return {"200": {"description": description, "content": content}}


PATHS: Final[Mapping[str, Any]] = {
    "/windows/{window_id}/spectrogram.png": {
        "get": {
            "summary": "The spectrogram of a kept window: dB above the usual noise of its stream, high frequencies on top.",
            "parameters": [_WINDOW],
            "responses": {
                **_file("image/png", "Time from left to right; -3 dB is dark, 25 dB or the window's most is light."),
                **_NOTHING,
            },
        }
    },
    "/windows/{window_id}/waveform": {
        "get": {
            "summary": "The waveform of a kept window, as the spectrogram was made of it; few have one.",
            "description": "At most 2000 values a channel: the least and the greatest of each part. `rate` is of these values, a second. `channels` is there for groups; `samples` is the first one.",
            "parameters": [_WINDOW],
            "responses": {
                "200": json_of(
                    {
                        **objects({"start": TIME, "end": TIME, "rate": {"type": "number"}, "samples": _VALUES}),
                        "description": "Detrended and filtered as the profile says.",
                    }
                ),
                **_NOTHING,
            },
        }
    },
    "/clusters/{cluster}/spectrogram.png": {
        "get": {
            "summary": "The mean spectrogram of kept windows of a cluster.",
            "parameters": [_CLUSTER],
            "responses": {**_file("image/png", "As that of a window."), **_NOTHING},
        }
    },
    "/clusters/{cluster}/waveforms.mseed": {
        "get": {
            "summary": "The kept waveforms of a cluster as miniSEED.",
            "description": "Float32 at the profile's rate, detrended and filtered as it says; at most 500 windows.",
            "parameters": [_CLUSTER],
            "responses": _file("application/vnd.fdsn.mseed", "Records of 4096 bytes."),
        }
    },
}
