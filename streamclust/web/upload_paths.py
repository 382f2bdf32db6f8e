"""The part of the OpenAPI document that describes uploads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from streamclust.core.profiles import PROFILES
from streamclust.web.answers import COUNT, SHARE, TIME, in_path, json_of, listed, objects, query

_TEXT: Final = {"type": "string"}
_TEXT_OR_NULL: Final = {"type": ["string", "null"]}
_NUMBER: Final = {"type": "number"}
_ID: Final = in_path(
    "id", {"type": "string", "pattern": "^[0-9a-f]{32}$"}, "Cannot be guessed; whoever has it sees the result."
)
_WINDOW: Final = in_path("window_id", {"type": "string", "pattern": "^[0-9a-f]{24}$"})
_UPLOAD: Final = objects(
    {
        "id": _TEXT,
        "title": _TEXT,
        "filename": _TEXT,
        "format": _TEXT,
        "size": {**COUNT, "description": "Bytes."},
        "state": {"enum": ["queued", "running", "done", "failed", "cancelled"]},
        "position": {"type": ["integer", "null"], "description": "1: the next one."},
        "progress": SHARE,
        "step": _TEXT,
        "error": _TEXT_OR_NULL,
        "created": TIME,
        "expires": TIME,
        "mode": {"enum": ["cluster", "assign"]},
        "profile": _TEXT,
        "clusters": {"type": ["integer", "string"]},
        "rate": {"type": ["number", "null"]},
        "channels": {"enum": ["separate", "together"]},
        "result": {"type": ["object", "null"]},
        "learn": {"enum": [None, "queued", "running", "done", "failed"]},
        "learn_error": _TEXT_OR_NULL,
        "links": {"type": "object", "additionalProperties": _TEXT},
    }
)
_RESULT: Final = objects(
    {
        "rate": {"type": ["number", "null"]},
        "start": {**TIME, "type": ["string", "null"]},
        "seconds": {"type": ["number", "null"], "description": "Null for windows that come as such."},
        "timeless": {
            "type": "boolean",
            "description": "True when the file says no time: no time of the result is then said.",
        },
        "streams": {"type": "array", "items": {"type": "object"}},
        "profile": _TEXT,
        "method": _TEXT,
        "k": objects({"chosen": COUNT, "why": _TEXT}),
        "clusters": {"type": "array", "items": {"type": "object"}},
        "windows": {"type": "array", "items": {"type": "object"}},
        "map": {"type": "array", "items": {"type": "array", "items": _NUMBER}},
        "mean_waveforms": {"type": ["object", "null"]},
        "spikes": {"type": ["array", "null"], "items": {"type": "object"}},
    }
)
_FORM: Final = {
    "type": "object",
    "required": ["file"],
    "additionalProperties": False,
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "miniSEED, SAC, WAV, CSV, npy, npz or EDF."},
        "profile": {"type": "string", "enum": ["auto", *sorted(PROFILES)], "default": "auto"},
        "clusters": {
            "type": "string",
            "pattern": "^(auto|[2-9]|1[0-9]|20)$",
            "default": "auto",
            "description": "Of spikes: neurons in each channel.",
        },
        "mode": {"type": "string", "enum": ["cluster", "assign"], "default": "cluster"},
        "rate": {"type": "number", "exclusiveMinimum": 0, "description": "Hz; for files that do not say it."},
        "title": {"type": "string", "maxLength": 200},
        "channels": {
            "type": "string",
            "enum": ["separate", "together"],
            "default": "separate",
            "description": "Spikes: each channel by itself, or all as the contacts of one probe, as of a tetrode.",
        },
    },
}


def _bytes(kind: str, description: str) -> dict[str, Any]:
    return {"200": {"description": description, "content": {kind: {"schema": {"type": "string", "format": "binary"}}}}}


def _get(summary: str, responses: Mapping[str, Any], *parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "parameters": [_ID],
        "get": {"summary": summary, "parameters": list(parameters), "responses": dict(responses)},
    }


_STREAM: Final = query("stream", {"type": "string", "maxLength": 64}, "The first one when it is not given.")
_SECONDS: Final = {"type": "number", "minimum": 0, "maximum": 1e12}
_TAKEN: Final = json_of(objects({"id": _TEXT, "url": _TEXT}), "It waits to be worked on.")

PATHS: Final[Mapping[str, Any]] = {
    "/uploads": {
        "post": {
            "summary": "Send a recording to be clustered by itself, or by the running model.",
            "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}},
            "responses": {"202": _TAKEN},
        },
        "get": {"summary": "All uploads, the newest first (operate).", "responses": {"200": json_of(listed(_UPLOAD))}},
    },
    "/uploads/{id}": {
        "parameters": [_ID],
        "get": {"summary": "How far an upload is, and what came of it.", "responses": {"200": json_of(_UPLOAD)}},
        "delete": {
            "summary": "Cancel one that is not over; remove one that is.",
            "responses": {"200": json_of(_UPLOAD, "It was cancelled."), "204": {"description": "It was removed."}},
        },
    },
    "/uploads/{id}/learn": {
        "parameters": [_ID],
        "post": {
            "summary": "Let the daemon learn from it (operate); nothing else ever brings an upload into its model.",
            "responses": {"202": json_of(_UPLOAD, "Its windows are being made ready.")},
        },
    },
    "/uploads/{id}/events": _get(
        "How far it is, as it goes on: events progress, then done or failed.",
        {"200": {"description": "Server-sent events.", "content": {"text/event-stream": {"schema": _TEXT}}}},
    ),
    "/uploads/{id}/result.json": _get("The whole result.", {"200": json_of(_RESULT)}),
    "/uploads/{id}/events.csv": _get("One line a window or spike.", _bytes("text/csv", "A table.")),
    "/uploads/{id}/events.json": _get(
        "One object a window or spike.", {"200": json_of({"type": "array", "items": {"type": "object"}})}
    ),
    "/uploads/{id}/image.png": _get("The recording with its windows in colour.", _bytes("image/png", "A picture.")),
    "/uploads/{id}/model.zip": _get(
        "The model that was made, for `streamclust assign`.", _bytes("application/zip", "A model.")
    ),
    "/uploads/{id}/report.html": _get("The report of the fit.", _bytes("text/html", "A page.")),
    "/uploads/{id}/waveform": _get(
        "Least and greatest samples in even steps.",
        {
            "200": json_of(
                objects(
                    {
                        "stream": _TEXT,
                        "start": {**TIME, "type": ["string", "null"]},
                        "step_seconds": _NUMBER,
                        "min": {"type": "array"},
                        "max": {"type": "array"},
                    }
                )
            )
        },
        _STREAM,
        query("from", _SECONDS, "Seconds from the beginning."),
        query("to", _SECONDS, "Seconds from the beginning."),
        query("points", {"type": "integer", "minimum": 10, "maximum": 4000, "default": 1000}),
    ),
    "/uploads/{id}/spectrogram.png": _get(
        "The spectrogram of a whole stream.", _bytes("image/png", "A picture."), _STREAM
    ),
    "/uploads/{id}/windows/{window_id}/spectrogram.png": {
        "parameters": [_ID, _WINDOW],
        "get": {"summary": "The spectrogram of one window.", "responses": _bytes("image/png", "A picture.")},
    },
}
