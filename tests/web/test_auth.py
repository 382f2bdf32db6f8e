from __future__ import annotations

import pytest
from starlette.routing import Route
from web_client import bearer, client, site, token, tokens

from streamclust.core.clock import ManualClock
from streamclust.core.web_specs import SCOPES
from streamclust.web.app import routes
from streamclust.web.auth import COOKIE, needed

STATUS = "/api/v1/status"
READER, UPLOADER, OPERATOR = {"read"}, {"read", "upload"}, {"read", "upload", "operate"}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """One server for all, whose clock can be moved."""
    clock = ManualClock()
    given = tokens(reader=["read"], uploader=["upload"], operator=["operate", "upload"])
    with client(site(tmp_path_factory.mktemp("state"), clock, tokens=given)) as made:
        yield made, clock


@pytest.fixture
def asker(served):
    made, clock = served
    clock.sleep(60)  # nobody has tried too often
    made.cookies.clear()
    return made


def every_route():
    """Method and path of every route of the API."""
    return [
        (method, route.path)
        for route in routes()
        if isinstance(route, Route)
        for method in sorted(route.methods or ())
        if method != "HEAD"
    ]


@pytest.mark.parametrize(("method", "path"), every_route(), ids=str)
def test_every_route_wants_the_scope_that_it_should(asker, method, path):
    """Nobody, a wrong token, and each kind of caller: a new route is closed until somebody opens it."""
    filled = path
    for name in ("cluster", "id", "version", "window_id", "window", "upload", "upload_id"):
        filled = filled.replace(f"{{{name}}}", "1")
    wanted = needed(method, filled)
    if wanted is None:
        assert filled.startswith(("/api/v1/session", "/api/v1/openapi.json", "/api/v1/uploads/"))
        return
    assert method == "GET" or wanted in {"upload", "operate"}
    if filled == "/api/v1/live":
        return  # it has no end; its scope is that of all that is read
    assert asker.request(method, filled).status_code == 401
    assert asker.request(method, filled, headers={"Authorization": "Bearer wrong"}).status_code == 401
    for name, scopes in (("reader", READER), ("uploader", UPLOADER), ("operator", OPERATOR)):
        status = asker.request(method, filled, headers=bearer(name)).status_code
        assert (status in {401, 403}) == (wanted not in scopes), (name, status)


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/api/v1/events", "read"),
        ("HEAD", "/api/v1/events", "read"),
        ("PATCH", "/api/v1/clusters/C1", "operate"),
        ("POST", "/api/v1/uploads", "upload"),
        ("GET", "/api/v1/uploads", "operate"),
        ("GET", "/api/v1/uploads/abc", None),
        ("GET", "/api/v1/uploads/abc/report.html", None),
        ("DELETE", "/api/v1/uploads/abc", "upload"),
        ("POST", "/api/v1/uploads/abc/learn", "operate"),
        ("DELETE", "/api/v1/anything", "operate"),
        ("PUT", "/api/v2/new", "operate"),
        ("GET", "/api/v2/new", "read"),
        ("GET", "/", None),
        ("POST", "/api/v1/session", None),
    ],
)
def test_what_is_not_named_is_closed(method, path, scope):
    assert needed(method, path) == scope


def test_without_tokens_everyone_on_this_machine_may_do_everything(tmp_path):
    with client(site(tmp_path)) as asker:
        assert asker.get(STATUS).json()["scopes"] == list(SCOPES)


def test_a_token_says_what_its_holder_may_do(asker):
    assert asker.get(STATUS, headers=bearer("reader")).json()["scopes"] == ["read"]
    assert asker.get(STATUS, headers=bearer("operator")).json()["scopes"] == list(SCOPES)
    refused = asker.get(STATUS)
    assert refused.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Basic dG9rZW4=", "Bearer \u00e9", f"bearer{token('reader')}", "Bearer " + "x" * 5000],
)
def test_what_is_no_token_is_refused(asker, header):
    assert asker.get(STATUS, headers={"Authorization": header.encode("latin-1")}).status_code == 401


def test_the_page_shows_its_token_once_and_keeps_a_cookie_that_no_script_reads(asker):
    answer = asker.post("/api/v1/session", json={"token": token("reader")})
    assert answer.json() == {"name": "reader", "scopes": ["read"]}
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert asker.get(STATUS).status_code == 200
    assert asker.delete("/api/v1/session").status_code == 204
    asker.cookies.delete(COOKIE)
    assert asker.get(STATUS).status_code == 401


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"token": 1}', b'{"token": ""}', b'{"token": "\\u00e9"}', b"[" * 100_000]
)
def test_a_session_without_a_token_is_refused(asker, body):
    answer = asker.post("/api/v1/session", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422


def test_the_page_itself_is_open_so_that_it_can_ask_for_a_token(asker):
    assert asker.get("/").status_code == 200
    assert asker.get("/api/v1/openapi.json").status_code == 200


def test_no_token_and_no_hash_is_in_any_answer(asker, tmp_path):
    for path in (STATUS, "/api/v1/openapi.json", "/api/v1/models", "/api/v1/nothing"):
        text = asker.get(path, headers=bearer("operator")).text
        assert token("operator") not in text
        assert "sha256" not in text
