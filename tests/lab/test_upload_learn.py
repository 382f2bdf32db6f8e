from __future__ import annotations

import numpy as np
import pytest

from streamclust.core.clock import SystemClock
from streamclust.core.errors import UsageError
from streamclust.core.profile_spec import ProfileSpec
from streamclust.lab import upload_learn
from streamclust.lab.upload_readers import Recording
from streamclust.lab.upload_work import Wanted
from streamclust.stream.formats import Trace


def test_what_is_not_fit_is_not_learnt_from(tmp_path):
    (tmp_path / "out").mkdir()
    flat = Recording((Trace("a", 10**18, 100.0, np.zeros(20_000, np.float32)),))
    with pytest.raises(UsageError, match="must be a window to learn from"):
        upload_learn.write(tmp_path, flat, Wanted("learn", spec=ProfileSpec()), "upload/x", SystemClock())
    with pytest.raises(UsageError, match="daemon's profile"):
        upload_learn.write(tmp_path, flat, Wanted("learn"), "upload/x", SystemClock())
