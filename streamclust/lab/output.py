"""What commands print: text that any terminal can show, or one JSON value."""

from __future__ import annotations

import json
import math
import sys
from typing import Any


def say(text: str) -> None:
    """One text to standard output; what the terminal cannot show is escaped."""
    encoding = sys.stdout.encoding or "ascii"
    clean = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
    sys.stdout.write(clean.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def say_json(value: Any) -> None:
    """One strict JSON value to standard output; NaN and infinities are null."""
    sys.stdout.write(json.dumps(strict(value), indent=2, allow_nan=False) + "\n")


def strict(value: Any) -> Any:
    """Return a value that JSON can say: numbers of numpy as Python's, what is not finite as None."""
    if isinstance(value, dict):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    if hasattr(value, "tolist"):
        return strict(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def columns(rows: list[list[str]]) -> str:
    """Lay out rows of cells in columns as wide as their widest cell."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)
