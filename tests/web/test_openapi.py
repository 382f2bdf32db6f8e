"""The description of the API is right, complete, and nothing that follows or breaks it makes the server fail."""

from __future__ import annotations

import json
import os
import re
import shutil

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from jsonschema import Draft202012Validator
from starlette.routing import Route
from web_client import bearer, client, serving, site, tokens

from streamclust.web import app, openapi

EXAMPLES = int(os.environ.get("STREAMCLUST_API_EXAMPLES", "12"))
"""Requests of each kind for each operation."""
ENDLESS = re.compile(r"/live$|/uploads/\{\w+\}/events$")
"""Answers that have no end."""


def whole() -> dict:
    return openapi.document([module.PATHS for module in app.MODULES])


def operations() -> list[tuple[str, str]]:
    return [
        (method, path)
        for path, item in whole()["paths"].items()
        for method in item
        if method in {"get", "post", "patch", "put", "delete"}
    ]


def test_every_route_is_described_and_every_description_has_a_route():
    routes = [each for each in app.routes() if isinstance(each, Route) and not each.path.endswith("/openapi.json")]
    known = [(method.lower(), each) for each in routes for method in each.methods or () if method != "HEAD"]
    described = {(method, re.sub(r"\{[^}]+\}", "1", path)) for method, path in operations()}
    for method, route in known:
        assert any(how == method and route.path_regex.match(path) for how, path in described), (method, route.path)
    for method, path in described:
        assert any(how == method and route.path_regex.match(path) for how, route in known), (method, path)


def test_the_document_is_openapi_3_1_and_its_schemas_are_schemas():
    document = whole()
    assert document["openapi"] == "3.1.0"
    text = json.dumps(document)
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', text):
        found = document
        for key in reference.split("/"):
            found = found[key]
    for name, schema in document["components"]["schemas"].items():
        assert name
        Draft202012Validator.check_schema(schema)
    for item in document["paths"].values():
        for method, operation in item.items():
            if method == "parameters":
                continue
            for answer in operation["responses"].values():
                for content in answer.get("content", {}).values():
                    Draft202012Validator.check_schema(content["schema"])


def test_each_operation_has_an_id_of_its_own_and_says_what_it_is_for():
    ids = []
    for path, item in whole()["paths"].items():
        for method, operation in item.items():
            if method == "parameters":
                continue
            ids.append(operation["operationId"])
            assert operation["summary"][-1] in ".!", (method, path)
            assert "default" in operation["responses"]
    assert len(ids) == len(set(ids))


def test_a_scope_is_told_where_one_is_needed():
    document = whole()
    assert document["paths"]["/api/v1/models/{version}/promote"]["post"]["security"] == [{"token": ["operate"]}]
    assert document["paths"]["/api/v1/status"]["get"]["security"] == [{"token": ["read"]}]
    assert document["paths"]["/api/v1/session"]["post"]["security"] == []


def test_it_is_served_as_it_is(tmp_path):
    with client(site(tmp_path)) as asker:
        assert asker.get("/api/v1/openapi.json").json() == whole()


@pytest.fixture(scope="module")
def asked(tmp_path_factory, filled):
    """A server over a copy of real events, which requests may change."""
    state = tmp_path_factory.mktemp("asked") / "state"
    shutil.copytree(filled.state, state)
    reported: list[str] = []
    made = site(
        state, reported=reported, tokens=tokens(tester=["operate", "upload"]), uploads={"per_client_per_minute": 10_000}
    )
    with serving(made) as server:
        yield server.address.rstrip("/"), reported


@pytest.mark.parametrize(("method", "path"), operations(), ids=lambda value: value)
@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_no_request_makes_the_server_fail(asked, method, path, mode):
    """Requests that the document allows, and others that it does not: never a 5xx of ours, never a path, never a hang."""
    address, reported = asked
    if ENDLESS.search(path):
        pytest.skip("it has no end; tests/web/test_live.py and test_uploads.py read it")
    operation = schemathesis.openapi.from_dict(whole())[path][method.upper()]
    cases = operation.as_strategy(schemathesis.GenerationMode(mode))
    with httpx.Client(base_url=address, timeout=20, trust_env=False, headers=bearer("tester")) as asker:

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=cases)
        def ask(case):
            answer = _sent(asker, case, address)
            if answer is None:
                return
            assert answer.status_code < 500 or answer.status_code == 503, answer.text
            if answer.status_code >= 400:
                assert answer.headers["content-type"] == "application/problem+json"
                assert set(answer.json()) >= {"type", "title", "status", "detail"}
                for secret in ("Traceback", "site-packages", "/tmp/", ".sqlite"):  # noqa: S108 — looked for in answers
                    assert secret not in answer.text
            elif "application/json" in answer.headers.get("content-type", ""):
                _follows(operation, answer)
            assert reported == []

        try:
            ask()
        except Unsatisfiable:
            pytest.skip("nothing about it can be wrong")


def _sent(asker, case, address):
    """Send a case; None for what no client can send."""
    try:
        wanted = case.as_transport_kwargs(base_url=address)
    except (ValueError, TypeError, schemathesis.errors.SchemathesisError):
        return None
    try:
        request = asker.build_request(
            wanted["method"],
            wanted["url"],
            params=wanted.get("params"),
            headers={k: v for k, v in (wanted.get("headers") or {}).items() if k.lower() != "user-agent"},
            json=wanted.get("json"),
            content=wanted.get("data") if isinstance(wanted.get("data"), bytes | str) else None,
            files=wanted.get("files"),
        )
    except (httpx.InvalidURL, ValueError, TypeError, UnicodeError):
        return None
    request.headers.update(bearer("tester"))
    try:
        return asker.send(request)
    except (httpx.LocalProtocolError, httpx.ReadError, httpx.RemoteProtocolError):
        return None
    except AttributeError:  # a part of a form that has no bytes to read: no client can send it
        return None


def _follows(operation, answer):
    """Check an answer against the schema that the document gives for it."""
    document = whole()
    method, path = operation.method.lower(), operation.path
    responses = document["paths"][path][method]["responses"]
    schema = responses.get(str(answer.status_code), {}).get("content", {}).get("application/json", {}).get("schema")
    assert schema is not None, f"{answer.status_code} is not described"
    errors = list(Draft202012Validator({**schema, "components": document["components"]}).iter_errors(answer.json()))
    assert not errors, errors[0].message
