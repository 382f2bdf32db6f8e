"""Which format an uploaded file is of: by its name's extension and its first bytes, each on a list; no reader is tried."""

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
OTHERS: Final = frozenset({
    "7z", "bmp", "bz2", "doc", "docx", "exe", "gif", "gz", "h5", "hdf5", "htm", "html", "jar", "jpeg", "jpg", "js",
    "json", "mat", "mp3", "mp4", "nwb", "odt", "ogg", "pdf", "pickle", "pkl", "png", "ppt", "pptx", "pt", "pth",
    "py", "rar", "sh", "sql", "sqlite", "svg", "tar", "tgz", "tif", "tiff", "toml", "wasm", "webp", "xls", "xlsx",
    "xml", "xz", "yaml", "yml", "zip", "zst",
})  # fmt: skip
"""Extensions that say what is never read, whatever the first bytes are."""
SAID: Final[Mapping[str, str]] = MappingProxyType(
    {
        "mseed": "miniSEED",
        "sac": "SAC",
        "wav": "WAV",
        "csv": "a table of text",
        "npy": "npy",
        "npz": "npz (a zip)",
        "edf": "EDF",
    }
)
"""Format -> what people call it."""
_MSEED: Final = re.compile(rb"[0-9 \0]{6}[DRQM][ \0]|MS\x03")
_RECORD2: Final = re.compile(rb"[0-9 \0]{6}[DRQM][ \0][A-Z0-9 \0]{12}")
_TEXT: Final = re.compile(rb"[\x09\x0a\x0d\x20-\x7e\x80-\xff]*")
_CLEAN_NAME: Final = re.compile(r"[^a-z0-9]")


def _is_sac(head: bytes) -> bool:
    return len(head) >= 308 and any(struct.unpack_from(f"{order}i", head, 304)[0] in (6, 7) for order in "<>")


def _surely_mseed(head: bytes) -> bool:
    """Tell whether a record of miniSEED 2 or 3 begins here, with a time that can be."""
    if head.startswith(b"MS\x03"):
        return len(head) >= 40 and _is_time(*struct.unpack_from("<HHBBB", head, 8))
    if len(head) < 48 or not _RECORD2.match(head):
        return False
    return any(_is_time(*struct.unpack_from(f"{order}HHBBB", head, 20)) for order in "<>")


def _is_time(year: int, day: int, hour: int, minute: int, second: int) -> bool:
    return 1900 <= year <= 2200 and 1 <= day <= 366 and hour < 24 and minute < 60 and second <= 60


def _surely_sac(head: bytes) -> bool:
    """Tell whether version, step, number of samples, kind and evenness of a SAC header all can be."""
    for order in "<>" if len(head) >= 440 else "":
        delta, numbers = struct.unpack_from(f"{order}f", head)[0], struct.unpack_from(f"{order}40i", head, 280)
        if numbers[6] in (6, 7) and 1e-7 < delta < 1e6 and numbers[9] > 0 and numbers[15] in (1, -12345):
            return numbers[35] in (0, 1)
    return False


def _is_edf(head: bytes) -> bool:
    return head.startswith(b"0       ") and len(head) >= 256


MAGIC: Final[Mapping[str, Callable[[bytes], bool]]] = MappingProxyType(
    {
        "mseed": lambda head: _MSEED.match(head) is not None,
        "sac": _is_sac,
        "wav": lambda head: head[:4] == b"RIFF" and head[8:12] == b"WAVE",
        "csv": lambda head: bool(head) and _TEXT.fullmatch(head) is not None,
        "npy": lambda head: head.startswith(b"\x93NUMPY"),
        "npz": lambda head: head.startswith(b"PK\x03\x04"),
        "edf": _is_edf,
    }
)
"""Format -> test of the first bytes of a file that is named so."""
SURE: Final[Mapping[str, Callable[[bytes], bool]]] = MappingProxyType(
    {
        "mseed": _surely_mseed,
        "sac": _surely_sac,
        "wav": MAGIC["wav"],
        "npy": MAGIC["npy"],
        "npz": MAGIC["npz"],
        "edf": lambda head: _is_edf(head) and head[252:256].strip().isdigit(),
    }
)
"""Format -> test of the first bytes of a file whose name says nothing; any text could be a table, so tables need a name."""


def recognised(filename: str, head: bytes) -> str:
    """Return the format of a file: its extension says it, and the first bytes agree; or it has none that is known, and they say it.

    So names of an SDS archive (``NET.STA.LOC.CHA.D.2024.001``) and names without an ending are taken by the bytes alone.

    Raises
    ------
    UsageError
        Name and bytes say different formats, or it is no format that is read.

    >>> recognised("day.MSEED", b"000001D "), recognised("wav", b"RIFF....WAVE")
    ('mseed', 'wav')
    """
    last = re.split(r"[/\\]", filename)[-1]
    extension = last.rpartition(".")[2].lower() if "." in last else ""
    fmt, begins = EXTENSIONS.get(extension), head[:HEAD]
    seen = next((name for name, sure in SURE.items() if sure(begins)), None)
    if fmt is None:
        return _by_bytes(extension, seen)
    if not MAGIC[fmt](begins):
        other = f"those of {SAID[seen]}: name it so, if it is that" if seen else f"not those of {SAID[fmt]}"
        raise UsageError(f"file: it is named as {SAID[fmt]}, but its first bytes are {other}")
    return fmt


def _by_bytes(extension: str, seen: str | None) -> str:
    known = ", ".join(f".{name}" for name in EXTENSIONS)
    got = f".{_CLEAN_NAME.sub('_', extension)[:12]}" if extension else "no extension"
    if seen is None:
        raise UsageError(
            f"file: its name must end in one of {known}, or its first bytes be those of miniSEED, SAC, WAV, npy, npz or EDF "
            f"(got {got}, and other bytes)"
        )
    if extension in OTHERS or (seen == "npz" and extension):  # many kinds of files are a zip
        raise UsageError(f"file: its name must end in one of {known} (got {got}, with the first bytes of {SAID[seen]})")
    return seen


def label(filename: str) -> str:
    r"""Return the last part of a file's name as plain text for people; it never names a file here.

    >>> label("../../etc/pass\x00wd"), label("C:\\x\\y.csv"), label("")
    ('passwd', 'y.csv', 'recording')
    """
    last = re.split(r"[/\\]", filename)[-1]
    text = "".join(mark for mark in last if mark.isprintable())[:128].strip()
    return text if text.strip(". ") else "recording"
