"""One spelling for each stream, whoever names it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamclust.core.errors import BadRecord, Reason
from streamclust.core.sid import from_codes, normalise, nslc, split_component

SID = "FDSN:BW_RJOB__E_H_Z"


@pytest.mark.parametrize("spelling", [SID, "BW.RJOB..EHZ", "BW.RJOB.--.EHZ", "BW.RJOB. .EHZ"])
def test_all_spellings_of_an_empty_location_are_one_stream(spelling):
    assert normalise(spelling) == SID


def test_codes_that_yaml_would_change_stay_codes():
    assert from_codes("NO", "ON", "00", "BHZ") == "FDSN:NO_ON_00_B_H_Z"


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "FDSN:BW",
        "a b",
        "<img onerror=x>",
        "x" * 65,
        "ä",
        "../etc",
        "FDSN:A_B_C_D_E_F_G",
        "a\n",
        f"{SID}\n",
        "BW.RJOB..EHZ\n",
    ],
)
def test_what_is_no_stream_id_is_refused_with_its_reason(bad):
    with pytest.raises(BadRecord) as error:
        normalise(bad)

    assert error.value.reason is Reason.BAD_CODE


@given(st.text(max_size=80))
def test_a_normalised_id_is_safe_and_stays_what_it_is(text):
    try:
        sid = normalise(text)
    except BadRecord:
        return
    assert normalise(sid) == sid
    assert len(sid) <= 64
    assert sid.isascii()
    assert not set(sid) & set("<>&\"'\\\n\r\t ")


def test_people_read_dots():
    assert nslc(SID) == "BW.RJOB..EHZ"
    assert nslc("probe0/ch1") == "probe0/ch1"


def test_the_component_is_the_last_letter():
    assert split_component(SID) == ("FDSN:BW_RJOB__E_H", "Z")
    assert split_component("probe0") is None
