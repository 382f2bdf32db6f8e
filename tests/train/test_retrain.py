"""The promises of the retrain loop: ids last, new classes are found, vanished ones come back as themselves."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from retraining import model, windows

from streamclust.core.clock import ManualClock
from streamclust.core.errors import ModelError, ProfileMismatch
from streamclust.core.retrain_specs import GateSpec, RetrainSpec
from streamclust.lab import bench_sets
from streamclust.model.bundle import from_bytes
from streamclust.train.agreement import adjusted_rand
from streamclust.train.fit import FitOptions, fit
from streamclust.train.gate import judge
from streamclust.train.identity import Known, Swap
from streamclust.train.look import feature_map, look
from streamclust.train.retrain import DORMANT, Task, dormant_of, retrain

LABELLED = Path(__file__).parents[3] / "shared" / "data" / "labelled"
SPEC = RetrainSpec()


def silent(step, share):
    pass


def task(number=1, known=None, **spec):
    return Task(SPEC.model_copy(update=spec), known or Known(), Swap(number, number, number + 1))


def go(current, data, held, number=1, known=None, **spec):
    return retrain(current, data, held, task(number, known, **spec), silent, ManualClock())


def names(bundle, data):
    return np.array(bundle.clusters)[look(bundle, feature_map(bundle), data).labels]


class Loop:
    """Retrains one after another, as the trainer does them."""

    def __init__(self, current):
        self.current, self.known, self.number = current, Known(), 0

    def turn(self, data, held):
        self.number += 1
        made = go(self.current, data, held, self.number, self.known)
        verdict = judge(self.current, made.bundle, held, GateSpec(), ManualClock())
        assert verdict.passed, verdict.reasons
        kept = float((names(self.current, held) == names(made.bundle, held)).mean())
        self.current = from_bytes(made.bundle.to_bytes())
        gone = {*self.known.retired, *(one.identity for one in made.matching.lineage if one.kind == "retire")}
        self.known = Known(made.matching.last, retired=sorted(gone - set(self.current.clusters)))
        return kept, {(one.kind, one.identity) for one in made.matching.lineage if one.kind != "keep"}


@pytest.fixture(scope="module")
def bundle():
    return model()


def test_ids_last_over_ten_retrains_of_windows_that_drift(bundle):
    loop = Loop(bundle)
    for turn in range(1, 11):
        sizes = np.random.default_rng(turn).integers(40, 160, 3)
        data, held = (windows(sizes, seed, later=turn, gain=0.5 * turn)[0] for seed in (turn, 100 + turn))
        kept, changes = loop.turn(data, held)
        assert kept >= 0.97
        assert changes == set()


@pytest.mark.parametrize("name", ["ucr_SyntheticControl", "spikes_martinez2009_sim4"])
def test_ids_last_on_real_recordings_whose_classes_come_and_go(name):
    if not (LABELLED / f"{name}.npz").is_file():
        pytest.skip("needs the labelled recordings in ../shared/data")
    found = bench_sets.read(name, LABELLED, 1200)
    rng = np.random.default_rng(0)
    pool, test = np.array_split(rng.permutation(len(found.y)), [len(found.y) * 2 // 3])
    first = found.data.part(np.sort(pool[: len(pool) // 2]))
    loop = Loop(fit(first, FitOptions(clusters=found.classes, method="gmm")).bundle)
    kept = []
    for turn in range(10):
        share = rng.dirichlet(np.full(found.classes, 3.0))[found.y]
        rows = rng.choice(pool, 350, replace=False, p=share[pool] / share[pool].sum())
        data = found.data.part(np.sort(rows))
        data = replace(data, logp=data.logp + rng.normal(0, 0.05 * turn, data.logp.shape).astype(np.float32))
        kept.append(loop.turn(data, found.data.part(np.sort(test)))[0])
    assert np.mean(kept) >= 0.95
    assert min(kept) >= 0.93


def test_a_class_appears_vanishes_and_returns_under_its_own_id(bundle):
    loop, (a, b, c) = Loop(bundle), (120, 100, 80)
    appeared, y = windows((a, b, c, 30), 1, later=1)
    held, y_held = windows((40, 30, 25, 12), 2, later=1)
    assert loop.turn(appeared, held)[1] == {("birth", "C4")}
    assert set(names(loop.current, held)[y_held == 3]) == {"C4"}
    assert adjusted_rand(look(loop.current, feature_map(loop.current), appeared).labels, y) > 0.97

    few = windows((a, b, c, 5), 3, later=2)[0]
    assert loop.turn(few, held)[1] == set(), "the buffer still holds some of it"
    without = windows((a, b, c), 4, later=3)[0]
    assert loop.turn(without, held)[1] == set(), "the windows that are held back are of the buffer too"

    held_without = windows((40, 30, 25), 5, later=3)[0]
    assert loop.turn(without, held_without)[1] == {("retire", "C4")}
    assert loop.turn(windows((a, b, c), 6, later=4)[0], held_without)[1] == set()
    again = loop.turn(windows((a, b, c, 30), 7, later=5)[0], held)[1]
    assert again == {("return", "C4")}
    assert set(names(loop.current, held)[y_held == 3]) == {"C4"}


def test_a_class_that_comes_while_another_one_sleeps_gets_an_id_that_no_one_had(bundle):
    loop = Loop(bundle)
    held = windows((40, 30), 5)[0]
    assert loop.turn(windows((120, 100), 4)[0], held)[1] == {("retire", "C3")}
    other, _ = windows((120, 100, 0, 40), 8)
    assert loop.turn(other, windows((40, 30, 0, 10), 9)[0])[1] == {("birth", "C4")}
    assert set(dormant_of(loop.current)) == {"C3"}


def test_fewer_novel_windows_than_asked_for_stay_novel(bundle):
    data, y = windows((120, 100, 80, 12), 1)
    made = go(bundle, data, windows((40, 30, 25), 2)[0])
    assert made.bundle.clusters == bundle.clusters
    fresh, y = windows((40, 30, 25, 12), 3)
    novelty = look(made.bundle, feature_map(made.bundle), fresh).novelty
    assert (novelty[y == 3] > 0.995).mean() > 0.9


def test_what_people_merged_stays_merged(bundle):
    known = Known(3, merged={"C2": "C1"})
    made = go(bundle, windows((120, 100, 80), 1)[0], windows((40, 30, 25), 2)[0], known=known)
    assert made.bundle.clusters == ("C1", "C2", "C3")
    assert {one.kind for one in made.matching.lineage} == {"keep"}


def test_the_embedding_stays_and_so_does_everything_below_it(bundle):
    made = go(bundle, windows((120, 100, 80), 1)[0], windows((40, 30, 25), 2)[0]).bundle
    assert made.blocks is bundle.blocks
    assert made.assigner.head is bundle.assigner.head
    np.testing.assert_array_equal(made.noise_median, bundle.noise_median)


def test_a_new_stream_gets_a_noise_profile(bundle):
    made = go(bundle, windows((120, 100, 80), 1, streams=("a", "b"))[0], windows((40, 30, 25), 2)[0])
    assert made.bundle.noise_streams == ("a", "b")
    assert made.figures["noise"] == ["b"]


def test_the_same_windows_give_the_same_bytes_and_the_figures_are_json(bundle):
    data, held = windows((120, 100, 80, 30), 1)[0], windows((40, 30, 25, 9), 2)[0]
    one, other = (go(bundle, data, held) for _ in range(2))
    assert one.bundle.to_bytes() == other.bundle.to_bytes()
    assert json.loads(json.dumps(one.figures, allow_nan=False))["changes"]["born"] == 1
    assert np.isfinite(one.history).all()


def test_windows_that_are_not_finite_change_nothing(bundle):
    data, held = windows((120, 100, 80), 1)[0], windows((40, 30, 25), 2)[0]
    bad = data.part(np.arange(len(data.logp)))
    bad.logp[7] = np.nan
    made = go(bundle, bad, held)
    assert made.figures["windows"] == len(data.logp) - 1
    bad.logp[:] = np.nan
    with pytest.raises(ModelError, match="usable"):
        go(bundle, bad, held)


def test_when_the_time_is_over_it_ends_with_what_it_has(bundle):
    class Hasty(ManualClock):
        def monotonic(self):
            self.sleep(100.0)
            return super().monotonic()

    data, held = windows((120, 100, 80), 1)[0], windows((40, 30, 25), 2)[0]
    slow = retrain(bundle, data, held, task(time_budget=10.0), silent, Hasty())
    assert len(slow.history) == 1
    assert slow.bundle.clusters == bundle.clusters


def test_all_fits_anew_and_keeps_the_ids(bundle):
    data, held = windows((120, 100, 80), 1)[0], windows((40, 30, 25), 2)[0]
    made = go(bundle, data, held, update="all")
    assert sorted(made.bundle.clusters) == ["C1", "C2", "C3"]
    assert (names(bundle, held) == names(made.bundle, held)).mean() > 0.97
    assert [row["cluster"] for row in made.bundle.table] == list(made.bundle.clusters)
    assert judge(bundle, made.bundle, held, GateSpec(), ManualClock()).passed


def test_another_profile_is_refused(bundle):
    data = windows((20, 20, 20), 1)[0]
    other = replace(data, profile=data.profile.model_copy(update={"name": "other", "clip": 2.0}))
    with pytest.raises(ProfileMismatch):
        go(bundle, other, data)


def test_kernels_of_retired_clusters_that_make_no_sense_are_forgotten(bundle):
    card = {**bundle.card, DORMANT: {"C9": {"mean": "x"}, "C8": None}}
    assert dormant_of(replace(bundle, card=card)) == {}
    assert dormant_of(replace(bundle, card={DORMANT: [1]})) == {}


def test_centroids_need_numpy_alone():
    code = (
        "import sys; from retraining import *; from streamclust.train.retrain import *; "
        "from streamclust.core.clock import ManualClock; from streamclust.core.retrain_specs import RetrainSpec; "
        "from streamclust.train.identity import Known, Swap; "
        "sys.modules['torch'] = sys.modules['sklearn'] = None; "
        "t = Task(RetrainSpec(), Known(), Swap(1, 1, 2)); h = windows((40, 30, 25), 2)[0]; "
        "c = retrain(model(), windows((99, 80, 60), 1)[0], h, t, lambda *_: None, ManualClock()); "
        "print(c.bundle.clusters)"
    )
    paths = {"PYTHONPATH": f"{Path(__file__).parents[1]}:{Path(__file__).parents[2]}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=paths, check=False)
    assert done.stdout.strip() == "('C1', 'C2', 'C3')", done.stderr
