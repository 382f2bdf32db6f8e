import http.client
import json
import socket

import pytest

from streamclust.core.clock import ManualClock
from streamclust.core.errors import ConfigError
from streamclust.core.specs import HttpSpec
from streamclust.serve import http as served
from streamclust.serve.health import LIVE_WITHIN, Health
from streamclust.serve.http import HttpServer
from streamclust.serve.metrics import Metrics


class Site:
    def __init__(self, render=None):
        self.clock = ManualClock()
        self.health = Health(self.clock.monotonic())
        self.reported = []
        self.server = HttpServer(
            HttpSpec(port=0), self.health, render or Metrics("9").render, self.clock, self.reported.append
        )
        self.server.start()

    def ask(self, path, method="GET", headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        try:
            connection.request(method, path, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def send(self, content):
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=10) as sock:
            sock.sendall(content)
            return b"".join(iter(lambda: sock.recv(4096), b""))


@pytest.fixture
def site():
    site = Site()
    yield site
    site.server.close()


def test_metrics_are_served(site):
    status, headers, body = site.ask("/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain")
    assert b',version="9"} 1.0' in body


def test_the_format_asked_for_is_given(site):
    _, headers, _ = site.ask("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert headers["Content-Type"].startswith("application/openmetrics-text")


def test_it_is_alive_until_the_loop_stands_still(site):
    site.health.tick(site.clock.monotonic())
    status, _, body = site.ask("/livez")
    assert (status, json.loads(body)) == (200, {"live": True})
    site.clock.sleep(LIVE_WITHIN + 1)
    status, _, body = site.ask("/livez")
    assert (status, json.loads(body)) == (503, {"live": False})


def test_readiness_tells_its_reasons(site):
    site.health.tick(0.0)
    site.health.set_reason("source", 'topic "x"\nis gone')
    status, headers, body = site.ask("/readyz")
    assert status == 503
    assert headers["Content-Type"].startswith("application/json")
    assert json.loads(body) == {"ready": False, "reasons": ['source: topic "x"\nis gone'], "degraded": []}
    site.health.set_reason("source", None)
    site.health.set_degraded("model", "model 3 cannot be used, 2 is")
    status, _, body = site.ask("/readyz?verbose=1")
    assert status == 200
    assert json.loads(body) == {"ready": True, "reasons": [], "degraded": ["model: model 3 cannot be used, 2 is"]}
    site.health.set_degraded("model", None)
    assert json.loads(site.ask("/readyz")[2])["degraded"] == []


@pytest.mark.parametrize("path", ["/", "/metrics/", "/../etc/passwd", "/livez%00"])
def test_any_other_path_is_404_as_json(site, path):
    status, headers, body = site.ask(path)
    assert status == 404
    assert headers["Content-Type"].startswith("application/json")
    assert "/metrics" in json.loads(body)["paths"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "NONSENSE"])
def test_any_other_method_is_405_as_json(site, method):
    status, headers, body = site.ask("/metrics", method)
    assert status == 405
    assert headers["Allow"] == "GET, HEAD"
    assert "error" in json.loads(body)


def test_head_has_no_body(site):
    status, headers, body = site.ask("/metrics", "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 100


@pytest.mark.parametrize(
    "content", [b"\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x00\xff\r\n\r\n", b"GET /livez HTTP/9.9\r\n\r\n"]
)
def test_what_is_no_request_leaves_the_server_up(site, content):
    site.send(content)
    assert site.ask("/livez")[0] == 200


def test_a_request_line_without_end_is_refused(site):
    assert b"414" in site.send(b"GET /" + b"a" * 70_000 + b" HTTP/1.0\r\n\r\n")[:20]


def test_nothing_is_written_to_standard_error(site, capfd):
    site.ask("/livez")
    site.ask("/nowhere")
    site.send(b"nonsense\r\n\r\n")
    assert capfd.readouterr() == ("", "")


def test_a_failure_inside_is_reported_and_the_server_stays(capfd):
    def render(_accept):
        raise LookupError("no such metric")

    site = Site(render)
    try:
        with pytest.raises(http.client.RemoteDisconnected):
            site.ask("/metrics")
        assert site.ask("/livez")[0] == 200
        assert site.reported == ["LookupError: no such metric"]
        assert capfd.readouterr().err == ""
    finally:
        site.server.close()


def test_a_client_that_says_nothing_is_left_after_the_timeout(site, monkeypatch):
    monkeypatch.setattr(served._Handler, "timeout", 0.05)
    assert site.send(b"GET /livez HT") == b""


def test_more_clients_than_allowed_are_hung_up_on(site):
    held = [socket.create_connection(("127.0.0.1", site.server.port)) for _ in range(served.MAX_CONNECTIONS)]
    try:
        assert site.send(b"") == b""
    finally:
        for sock in held:
            sock.close()


def test_a_port_that_is_taken_is_a_wrong_setting(site):
    spec = HttpSpec(port=site.server.port)
    with pytest.raises(ConfigError) as caught:
        HttpServer(spec, site.health, Metrics("9").render, site.clock)
    assert caught.value.problems[0].path == "http.port"
    assert str(site.server.port) in str(caught.value)


def test_a_host_that_is_no_address_is_a_wrong_setting(site):
    with pytest.raises(ConfigError) as caught:
        HttpServer(HttpSpec(host="not an address"), site.health, Metrics("9").render, site.clock)
    assert caught.value.problems[0].path in {"http.host", "http.port"}


def test_after_close_the_port_is_free_again(site):
    port = site.server.port
    site.ask("/livez")
    site.server.close()
    site.server.close()
    again = HttpServer(HttpSpec(port=port), site.health, Metrics("9").render, site.clock)
    assert again.port == port
    again.close()
