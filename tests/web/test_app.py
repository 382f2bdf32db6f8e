from __future__ import annotations

import ast
import socket
import time
from pathlib import Path

import httpx
import pytest
from web_client import client, serving, site

from streamclust.web import app
from streamclust.web.site import Site

WEB = Path(app.__file__).parent


@pytest.fixture(scope="module")
def asker(tmp_path_factory):
    with client(site(tmp_path_factory.mktemp("state"))) as made:
        yield made


def test_every_module_of_the_api_is_mounted():
    modules = {path.stem for path in WEB.glob("api_*.py")}
    assert modules <= {module.__name__.rpartition(".")[2] for module in app.MODULES}


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/v1", "/api/v1/nothing", "/api/v2/status", "/api/v1/status/"])
def test_an_address_of_the_api_that_there_is_not_is_a_problem(asker, path):
    answer = asker.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_method_that_there_is_not_says_which_there_are(asker):
    answer = asker.post("/api/v1/status")
    assert answer.status_code == 405
    assert "GET" in answer.headers["allow"]
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "path",
    [
        "/../server.py", "/js/../../server.py", "/%2e%2e/server.py", "/..%2fserver.py", "/%2e%2e%2f%2e%2e%2fdaemon.py",
        "/js/%00", "//etc/passwd", "/..\\server.py", "/js", "/.hidden", "/C:%5Cwindows",
    ],
)  # fmt: skip
def test_no_file_but_the_pages_is_given_out(asker, path):
    answer = asker.get(path)
    assert answer.status_code in {400, 404, 307}
    assert "import" not in answer.text


def test_a_link_out_of_the_pages_directory_is_not_followed(tmp_path, monkeypatch):
    (tmp_path / "static").mkdir()
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "static" / "link").symlink_to(tmp_path / "secret")
    monkeypatch.setattr(app, "STATIC", tmp_path / "static")
    with client(site(tmp_path)) as asker:
        assert asker.get("/link").status_code == 404


def test_a_state_directory_without_anything_is_no_error_of_the_server(asker):
    for path in ("events", "journal", "clusters", "occurrence", "map", "novelty", "strip", "clusters/C1", "events/x"):
        assert asker.get(f"/api/v1/{path}").status_code in {200, 404, 422, 503}, path


def test_a_damaged_database_is_told_without_its_path(tmp_path):
    (tmp_path / "streamclust.sqlite").write_bytes(b"SQLite format 3\0" + b"\xff" * 4096)
    with client(site(tmp_path)) as asker:
        answer = asker.get("/api/v1/streams")
    assert answer.status_code in {200, 503}
    assert str(tmp_path) not in answer.text


def test_nothing_that_a_server_imports_can_fetch_or_execute():
    """No URL is ever opened for a client, nothing is unpickled, and no text becomes code."""
    wrong = {"pickle", "urllib.request", "requests", "httpx", "ftplib", "marshal", "shelve"}
    for path in WEB.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not wrong & set(names), path.name
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec", "compile", "__import__"}, path.name


def test_a_site_is_given_to_every_request(tmp_path):
    made = site(tmp_path)
    guard = app.build(made)
    assert guard._app.state.site is made
    assert isinstance(made, Site)


def test_a_client_that_goes_away_in_the_middle_is_no_failure_of_the_page(tmp_path):
    """What ends is what was asked; whoever runs the station hears nothing of it."""
    reported: list[str] = []
    with serving(site(tmp_path, reported=reported)) as server:
        address = httpx.URL(server.address)
        for _ in range(3):
            with socket.create_connection((address.host, address.port)) as half:
                half.sendall(
                    b"POST /api/v1/uploads HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000\r\n"
                    b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
                    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n1,2'
                )
        with httpx.Client(base_url=server.address, trust_env=False) as asker:  # it comes after them
            assert asker.get("api/v1/status").status_code == 200
        deadline = time.monotonic() + 30
        while server._server.server_state.connections | server._server.server_state.tasks:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert reported == []
