from __future__ import annotations

import pytest
from web_client import bearer, client, site, tokens

from streamclust.core.clock import ManualClock
from streamclust.web.guard import CSP, HEADERS
from streamclust.web.limits import BODY_MOST, SESSIONS, WRONG_TOKENS

UNDO = "/api/v1/clusters/undo"
STATUS = "/api/v1/status"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """One server for all, whose clock can be moved."""
    clock = ManualClock()
    with client(site(tmp_path_factory.mktemp("state"), clock)) as made:
        yield made, clock


@pytest.fixture
def asker(served):
    made, clock = served
    clock.sleep(60)  # nobody has tried too often
    return made


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8765", "localhost:8765", "localhost", "LOCALHOST:1", "[::1]:8765", "192.168.1.7", "station7"]
)
def test_our_names_and_any_address_may_be_asked_for(tmp_path, host):
    with client(site(tmp_path, hosts=["station7"])) as asker:
        assert asker.get(STATUS, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8765",
        "127.0.0.1.evil.example",
        "localhost.evil.example:8765",
        "",
        "a@localhost",
        "::1x",
    ],
)
@pytest.mark.parametrize("path", [STATUS, "/", "/js/main.js"])
def test_a_name_that_a_foreign_server_gives_out_gets_nothing(asker, host, path):
    answer = asker.get(path, headers={"Host": host})
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://127.0.0.1:8765", "Sec-Fetch-Site": "cross-site"},
    ],
)
@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE", "PUT"])
def test_another_page_changes_nothing(asker, method, headers):
    path = "/api/v1/session" if method == "DELETE" else UNDO
    answer = asker.request(method, path, headers=headers)
    assert answer.status_code == 403
    assert "Other pages" in answer.json()["detail"]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_our_own_page_and_a_program_may(asker, scheme):
    ours = f"{scheme}://{asker.base_url.netloc.decode()}"
    for headers in ({}, {"Origin": ours}, {"Origin": ours, "Sec-Fetch-Site": "same-origin"}):
        assert asker.delete("/api/v1/session", headers=headers).status_code == 204


def test_another_page_reads_nothing_but_a_link_to_here_can_be_followed(asker):
    foreign = {"Sec-Fetch-Site": "cross-site"}
    assert asker.get(STATUS, headers={**foreign, "Sec-Fetch-Mode": "no-cors"}).status_code == 403
    assert asker.get(STATUS, headers={**foreign, "Sec-Fetch-Mode": "navigate"}).status_code == 200
    assert asker.get("/", headers={**foreign, "Sec-Fetch-Mode": "navigate"}).status_code == 200


def test_there_is_no_cors(asker):
    asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    answer = asker.options(UNDO, headers=asked)
    assert answer.status_code in {403, 405}
    for path in (STATUS, "/"):
        answer = asker.get(path, headers={"Origin": "http://evil.example"})
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", [STATUS, "/", "/js/main.js", "/nothing", "/api/v1/nothing", "/api/v1/models/x"])
def test_every_answer_has_the_headers_that_keep_a_page_safe(asker, path):
    answer = asker.get(path)
    assert {name: answer.headers.get(name) for name in HEADERS} == dict(HEADERS)
    assert answer.headers["cache-control"] == ("no-store" if path.startswith("/api/") else "no-cache")


def test_an_error_inside_has_them_too_and_is_told_to_the_log_only(tmp_path, monkeypatch):
    reported: list[str] = []

    def broken(_site):
        raise RuntimeError("secret /etc/shadow")

    monkeypatch.setattr("streamclust.web.api_models.versions", broken)
    with client(site(tmp_path, reported=reported)) as asker:
        answer = asker.get("/api/v1/models")
    assert answer.status_code == 500
    assert "shadow" not in answer.text
    assert "Traceback" not in answer.text
    assert answer.headers["content-security-policy"] == CSP
    assert "RuntimeError: secret" in reported[0]


def test_the_policy_runs_no_inline_script_and_no_foreign_one():
    rules = dict(rule.strip().split(" ", 1) for rule in CSP.split(";"))
    assert rules["default-src"] == rules["script-src"] == rules["style-src"] == "'self'"
    assert rules["object-src"] == rules["base-uri"] == rules["frame-ancestors"] == "'none'"
    assert "unsafe" not in CSP


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
def test_what_a_form_of_another_page_could_send_is_not_taken(asker, kind):
    answer = asker.post("/api/v1/session", content=b'{"token": "x"}', headers={"Content-Type": kind})
    assert answer.status_code == 415


def test_a_body_that_is_too_large_or_compressed_is_refused_before_it_is_read(asker):
    json_ = {"Content-Type": "application/json"}
    large = asker.post("/api/v1/session", content=b" " * (BODY_MOST + 1), headers=json_)
    assert large.status_code == 413
    packed = asker.post("/api/v1/session", content=b"x", headers={**json_, "Content-Encoding": "gzip"})
    assert packed.status_code == 415


def test_a_body_without_a_length_is_counted_as_it_comes(asker):
    def endless():
        for _ in range(BODY_MOST // 65536 + 2):
            yield b" " * 65536

    answer = asker.post("/api/v1/session", content=endless(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


def test_who_tries_many_tokens_waits(tmp_path):
    with client(site(tmp_path, tokens=tokens(ada=["read"]))) as asker:
        given = [asker.post("/api/v1/session", json={"token": f"wrong{n}"}).status_code for n in range(SESSIONS + 1)]
        assert given == [401] * SESSIONS + [429]
        guessed = [
            asker.get(STATUS, headers={"Authorization": "Bearer x"}).status_code for _ in range(WRONG_TOKENS + 1)
        ]
        assert guessed == [401] * WRONG_TOKENS + [429]
        assert asker.get(STATUS, headers=bearer("ada")).status_code == 200
