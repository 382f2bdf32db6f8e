from __future__ import annotations

from streamclust.web import api_uploads
from streamclust.web.upload_paths import PATHS


def test_each_route_is_described_and_nothing_else():
    told = {(path, method.upper()) for path, item in PATHS.items() for method in item if method != "parameters"}
    routes = {
        (r.path.removeprefix("/api/v1"), m)
        for r in api_uploads.routes
        for m in r.methods - {"HEAD"}
        if "{name}" not in r.path
    }
    files = {(f"/uploads/{{id}}/{name}", "GET") for name in api_uploads._FILES}
    assert told == routes | files
