from __future__ import annotations

import fcntl

from streamclust.store.lock import held_by


def test_looking_for_the_holder_leaves_no_lock_behind(tmp_path):
    (tmp_path / "LOCK").touch()
    assert held_by(tmp_path) is None
    with (tmp_path / "LOCK").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert held_by(tmp_path) == "?"
