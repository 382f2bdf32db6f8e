"""The page and its API: projections of the state directory, and what people may do to it."""

from __future__ import annotations

from importlib.util import find_spec


def missing() -> str | None:
    """Return what the extra `[web]` lacks here; None when it is whole. Imports nothing of it."""
    names = [name for name in ("starlette", "uvicorn", "python_multipart") if find_spec(name) is None]
    return f"without {', '.join(names)}" if names else None
