"""The labels of a new model for windows that are kept."""

from __future__ import annotations

from contextlib import closing

from retraining import PROFILE
from training_sites import site

from streamclust.model.bundle import from_bytes
from streamclust.model.score import Scorer
from streamclust.store.buffer import BUFFER, open_readonly
from streamclust.train import relabel
from streamclust.train.relabel import needs_wave, relabelled


def test_windows_from_a_time_on_are_labelled_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(relabel, "_READ", 64)
    store = site(tmp_path / "state", (60, 60, 60, 0))
    scorer = Scorer(from_bytes(store.load(1)), PROFILE, 0.995)
    with closing(open_readonly(tmp_path / "state" / BUFFER, PROFILE.digest)) as reader:
        parts = list(relabelled(scorer, 7, reader, 0))
        starts = sorted(one.start_ns for part in parts for one in part)
        late = [one for part in relabelled(scorer, 7, reader, starts[100]) for one in part]
    assert [len(part) for part in parts] == [64, 64, 52]
    assert min(one.start_ns for one in late) == starts[100]
    assert {(one.model, one.cluster) for one in late} == {(7, "C1"), (7, "C2"), (7, "C3")}
    assert all(abs(sum(one.memberships.values()) - 1) < 1e-5 for one in late)


def test_waveforms_are_needed_unless_only_the_spectrogram_is_embedded():
    assert not needs_wave(PROFILE)
    assert needs_wave(PROFILE.model_copy(update={"embed": "both"}))
