"""Who asks, and what they may do: bearer tokens, the cookie of the page, scopes, and the name for the journal."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final, NamedTuple

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Scope as Asgi

from streamclust.core import journal
from streamclust.core.errors import UsageError
from streamclust.core.web_specs import SCOPES, Scope, TokenSpec, WebSpec
from streamclust.web.problems import Problem, invalid

COOKIE: Final = "streamclust"
_KEEP: Final = 30 * 86400
"""Seconds that a browser keeps the cookie."""
_LONGEST: Final = 512
"""Characters of a token at most."""
_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="streamclust"'}


class Caller(NamedTuple):
    """Who asks."""

    scopes: frozenset[Scope]
    client: str
    """Address."""
    name: str | None = None
    """Whose token it is; None without one."""
    wrong: bool = False
    """True when a token was shown that is none."""


class Doorkeeper:
    """Knows the tokens.

    Parameters
    ----------
    spec
        The tokens; without any, or with `insecure`, everyone may do everything.
    """

    def __init__(self, spec: WebSpec) -> None:
        self._spec = spec

    def configure(self, spec: WebSpec) -> None:
        """Go by other tokens from now on."""
        self._spec = spec

    def known(self, token: str) -> TokenSpec | None:
        """Return the token that this is; compares with all of them, in constant time each."""
        digest = hashlib.sha256(token[:_LONGEST].encode("utf-8", "surrogateescape")).hexdigest()
        found = None
        for each in self._spec.tokens:
            if hmac.compare_digest(each.sha256, digest):
                found = each
        return found

    def caller(self, scope: Asgi) -> Caller:
        """Return who makes a request."""
        client = scope.get("client")
        address = str(client[0]) if client else "local"
        if self._spec.insecure or not self._spec.tokens:
            return Caller(frozenset(SCOPES), address)
        token = _shown(Headers(scope=scope))
        if token is None:
            return Caller(frozenset(), address)
        known = self.known(token)
        if known is None:
            return Caller(frozenset(), address, wrong=True)
        return Caller(frozenset(known.scopes) | {"read"}, address, known.name)


def caller_of(request: Request) -> Caller:
    """Return who makes a request."""
    found: Caller = request.state.caller
    return found


def scope(request: Request, wanted: Scope) -> Caller:
    """Return who asks, if they may.

    Raises
    ------
    Problem
        401 without a token, 403 with one that does not allow it.
    """
    return require(caller_of(request), wanted)


def require(caller: Caller, wanted: Scope) -> Caller:
    """Return the caller if they may; raises as `scope`."""
    if wanted in caller.scopes:
        return caller
    if caller.wrong:
        raise Problem(401, "This token is not known here.", _CHALLENGE)
    if caller.name is None:
        raise Problem(401, "A token is needed: Authorization: Bearer TOKEN.", _CHALLENGE)
    raise Problem(403, f"This token does not have the scope {wanted}.", more={"scope": wanted})


def actor(request: Request) -> str:
    """Return the name that the journal keeps: that of X-Actor, of the token, or the client's address.

    With a token, the token's name stands behind that of X-Actor.

    Raises
    ------
    Problem
        422 when X-Actor is too long or has control characters.
    """
    caller, raw = caller_of(request), request.headers.get("x-actor", "").strip()
    if not raw:
        return caller.name or caller.client
    try:
        said = journal.line("X-Actor", raw.encode("latin-1", "replace").decode("utf-8", "replace"))
    except UsageError as error:
        raise invalid(str(error)) from error
    if caller.name is None or caller.name == said:
        return said
    return f"{said[: journal.LONGEST_NAME - len(caller.name) - 3]} ({caller.name})"


def needed(method: str, path: str) -> Scope | None:
    """Return the scope that a request to the API needs at least; None for what is open to all.

    The result of an upload is open to whoever knows its unguessable address; the list of them is not. What is not named here needs `operate`
    to be changed and `read` to be seen.
    """
    api = "/api/v1/"
    if not path.startswith("/api/") or path in {f"{api}session", f"{api}openapi.json"}:
        return None
    below = path.removeprefix(f"{api}uploads/") if path.startswith(f"{api}uploads/") else ""
    if method in {"GET", "HEAD"}:
        return None if below else "operate" if path == f"{api}uploads" else "read"
    if (path == f"{api}uploads" and method == "POST") or (below and "/" not in below and method == "DELETE"):
        return "upload"
    return "operate"


def _shown(headers: Headers) -> str | None:
    """Return the token that a request shows, in its header or its cookie."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and token.strip():
        return token.strip()
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return found.value if found and found.value else None


async def _open_session(request: Request) -> Response:
    """Take a token and give the browser a cookie that no script can read."""
    try:
        body = await request.json()
    except (ValueError, RecursionError):
        body = None
    token = body.get("token") if isinstance(body, dict) else None
    if not isinstance(token, str) or not 1 <= len(token) <= _LONGEST or not token.isascii() or not token.isprintable():
        raise invalid(f'The body must be {{"token": "..."}}, a text of at most {_LONGEST} characters.')
    keeper: Doorkeeper = request.app.state.doorkeeper
    known = keeper.known(token)
    if known is None:
        raise Problem(401, "This token is not known here.", _CHALLENGE)
    answer = JSONResponse({"name": known.name, "scopes": sorted(known.scopes)})
    answer.set_cookie(COOKIE, token, _KEEP, httponly=True, samesite="strict", secure=request.url.scheme == "https")
    return answer


async def _close_session(_request: Request) -> Response:
    answer = Response(status_code=204)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer


routes: Sequence[BaseRoute] = (
    Route("/api/v1/session", _open_session, methods=["POST"]),
    Route("/api/v1/session", _close_session, methods=["DELETE"]),
)

_SESSION: Final = {
    "type": "object",
    "required": ["name", "scopes"],
    "properties": {"name": {"type": "string"}, "scopes": {"type": "array", "items": {"enum": list(SCOPES)}}},
}
PATHS: Final[Mapping[str, Any]] = {
    "/session": {
        "post": {
            "summary": "Show a token once; the browser keeps it in a cookie that no script can read.",
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {
                            "type": "object",
                            "required": ["token"],
                            "properties": {"token": {"type": "string", "minLength": 1, "maxLength": _LONGEST}},
                        }
                    }
                },
            },
            "responses": {
                "200": {"description": "What it allows.", "content": {"application/json": {"schema": _SESSION}}}
            },
        },
        "delete": {"summary": "Forget the token.", "responses": {"204": {"description": "It is forgotten."}}},
    }
}
