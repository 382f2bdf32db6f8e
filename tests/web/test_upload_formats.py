from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from upload_files import as_mseed, as_npy, as_npz, as_sac, as_wav

from streamclust.core.errors import UsageError
from streamclust.web.upload_formats import EXTENSIONS, label, recognised

X = np.arange(200, dtype=np.int32)
REAL = {
    "mseed": as_mseed(X, 100.0),
    "sac": as_sac(X, 100.0, ">"),
    "wav": as_wav(X, 8000, 16),
    "npy": as_npy(X),
    "npz": as_npz(x=X, fs=1.0),
    "csv": b"time,a\n1,2\n",
}


@pytest.mark.parametrize("fmt", sorted(REAL))
def test_extension_and_first_bytes_must_both_say_the_format(fmt):
    for extension, other in EXTENSIONS.items():
        if other == fmt:
            assert recognised(f"a.{extension.upper()}", REAL[fmt]) == fmt
        elif other != "csv" or fmt != "csv":
            if other == "csv" and all(byte in range(9, 127) for byte in REAL[fmt][:512]):
                continue
            with pytest.raises(UsageError, match="first bytes"):
                recognised(f"a.{extension}", REAL[fmt])


@pytest.mark.parametrize(
    "name", ["", "a", "a.pkl", "a.pickle", "a.pt", "a.mat", "a.h5", "a.mseed.gz", "a.zip", "a.html", "a.svg", ".npz/x"]
)
def test_nothing_else_is_let_in(name):
    with pytest.raises(UsageError, match="must end in one of"):
        recognised(name, REAL["mseed"])


@given(st.text())
def test_a_label_is_text_that_can_be_seen_and_no_path(name):
    found = label(name)
    assert 1 <= len(found) <= 128
    assert found.isprintable()
    assert "/" not in found
    assert "\\" not in found
    assert found not in {".", ".."}
