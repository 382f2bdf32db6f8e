"""Which format an uploaded file is of: by its name's extension and its first bytes, both on a list; nothing is tried."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from streamclust.core.errors import UsageError

HEAD: Final = 512
"""Bytes from the beginning that are looked at."""
EXTENSIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(("mseed", "miniseed", "ms", "msd", "mseed2", "mseed3", "ms2", "ms3"), "mseed"),
        "sac": "sac",
        "wav": "wav",
        **dict.fromkeys(("csv", "tsv", "txt"), "csv"),
        "npy": "npy",
        "npz": "npz",
        "edf": "edf",
    }
)
"""Extension -> format; all that is read."""
_MSEED: Final = re.compile(rb"[0-9 \0]{6}[DRQM][ \0]|MS\x03")
_TEXT: Final = re.compile(rb"[\x09\x0a\x0d\x20-\x7e\x80-\xff]*")


def _is_sac(head: bytes) -> bool:
    return len(head) >= 308 and any(struct.unpack_from(f"{order}i", head, 304)[0] in (6, 7) for order in "<>")


MAGIC: Final[Mapping[str, Callable[[bytes], bool]]] = MappingProxyType(
    {
        "mseed": lambda head: _MSEED.match(head) is not None,
        "sac": _is_sac,
        "wav": lambda head: head[:4] == b"RIFF" and head[8:12] == b"WAVE",
        "csv": lambda head: bool(head) and _TEXT.fullmatch(head) is not None,
        "npy": lambda head: head.startswith(b"\x93NUMPY"),
        "npz": lambda head: head.startswith(b"PK\x03\x04"),
        "edf": lambda head: head.startswith(b"0       ") and len(head) >= 256,
    }
)
"""Format -> test of the first bytes."""


def recognised(filename: str, head: bytes) -> str:
    """Return the format of a file; both its extension and its first bytes must say so.

    Raises
    ------
    UsageError
        They do not, or it is no format that is read.

    >>> recognised("day.MSEED", b"000001D ")
    'mseed'
    """
    extension = filename.rpartition(".")[2].lower() if "." in filename else ""
    fmt = EXTENSIONS.get(extension)
    if fmt is None:
        known = ", ".join(f".{name}" for name in EXTENSIONS)
        got = f".{re.sub(r'[^a-z0-9]', '_', extension)[:12]}" if extension else "no extension"
        raise UsageError(f"file: its name must end in one of {known} (got {got})")
    if not MAGIC[fmt](head[:HEAD]):
        raise UsageError(f"file: it is named as {fmt}, but its first bytes are not those of {fmt}")
    return fmt


def label(filename: str) -> str:
    r"""Return the last part of a file's name as plain text for people; it never names a file here.

    >>> label("../../etc/pass\x00wd"), label("C:\\x\\y.csv"), label("")
    ('passwd', 'y.csv', 'recording')
    """
    last = re.split(r"[/\\]", filename)[-1]
    text = "".join(mark for mark in last if mark.isprintable())[:128].strip()
    return text if text.strip(". ") else "recording"
