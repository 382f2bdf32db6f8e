"""Stream ids: one spelling, the FDSN source identifier, made once at the source."""

from __future__ import annotations

import re

from streamclust.core.errors import BadRecord, Reason

PREFIX = "FDSN:"
_CODE = r"[A-Za-z0-9-]{0,8}"
_FDSN = re.compile(
    rf"^FDSN:({_CODE})_({_CODE})_({_CODE})_([A-Za-z0-9]{{0,8}})_([A-Za-z0-9]{{0,8}})_([A-Za-z0-9]{{0,8}})\Z"
)
_NSLC = re.compile(rf"^({_CODE})\.({_CODE})\.({_CODE}| *)\.([A-Za-z0-9]{{1,8}})\Z")
_FREE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,63}\Z")
_EMPTY_LOCATION = {"", "--", "  ", " "}


def from_codes(network: str, station: str, location: str, channel: str) -> str:
    """FDSN source identifier of SEED codes; ``--`` and blanks are the empty location.

    >>> from_codes("BW", "RJOB", "", "EHZ")
    'FDSN:BW_RJOB__E_H_Z'

    Raises
    ------
    BadRecord
        A code has other characters than the identifier allows.
    """
    location = "" if location in _EMPTY_LOCATION else location
    band = "_".join(channel) if len(channel) == 3 else f"__{channel}"
    sid = f"{PREFIX}{network}_{station}_{location}_{band}"
    if not _FDSN.match(sid):
        raise BadRecord(Reason.BAD_CODE, f"not a stream id: {sid[:80]!r}")
    return sid


def normalise(name: str) -> str:
    """Any accepted spelling -> the one spelling used everywhere.

    >>> normalise("BW.RJOB..EHZ")
    'FDSN:BW_RJOB__E_H_Z'
    >>> normalise("probe0/ch12")
    'probe0/ch12'

    Raises
    ------
    BadRecord
        Neither an FDSN identifier, nor NET.STA.LOC.CHA, nor a free-form id of up to 64
        letters, digits and ``._:/@+-``.
    """
    if name.startswith(PREFIX):
        if _FDSN.match(name):
            return name
        raise BadRecord(Reason.BAD_CODE, f"not an FDSN source identifier: {name[:80]!r}")
    if match := _NSLC.match(name):
        return from_codes(*match.groups())
    if _FREE.match(name):
        return name
    raise BadRecord(Reason.BAD_CODE, f"not a stream id: {name[:80]!r}")


def nslc(sid: str) -> str:
    """How people read it: NET.STA.LOC.CHA with dots; free-form ids stay as they are.

    >>> nslc("FDSN:BW_RJOB__E_H_Z")
    'BW.RJOB..EHZ'
    """
    match = _FDSN.match(sid)
    if not match:
        return sid
    network, station, location, *channel = match.groups()
    return f"{network}.{station}.{location}.{''.join(channel)}"


def split_component(sid: str) -> tuple[str, str] | None:
    """(group id, component letter) of an FDSN id; None for a free-form id.

    >>> split_component("FDSN:BW_RJOB__E_H_Z")
    ('FDSN:BW_RJOB__E_H', 'Z')
    """
    if not _FDSN.match(sid):
        return None
    group, _, component = sid.rpartition("_")
    return group, component
