"""An answer that holds something while it is sent, and lets go of it whatever becomes of the client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping

from starlette.responses import StreamingResponse
from starlette.types import Receive, Send
from starlette.types import Scope as Asgi


class Held(StreamingResponse):
    """A stream; what it holds is released once, also when the client has gone before the first byte.

    A generator that was never begun never ends: its own ``finally`` would not run then.

    Parameters
    ----------
    content
        What is sent.
    release
        Called when it is over.
    """

    def __init__(
        self,
        content: AsyncIterator[bytes],
        release: Callable[[], None],
        media_type: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(content, media_type=media_type, headers=headers)
        self._release = release

    async def __call__(self, scope: Asgi, receive: Receive, send: Send) -> None:
        """Send it, and let go."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._release()
