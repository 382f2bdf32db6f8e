from dataclasses import replace

import numpy as np
import pytest
from retraining import model, windows

from streamclust.core.clock import ManualClock
from streamclust.core.errors import CorruptModel
from streamclust.core.retrain_specs import GateSpec
from streamclust.model.novelty import Tails
from streamclust.train import gate
from streamclust.train.follow import Map
from streamclust.train.gate import judge, silhouette, unfit
from streamclust.train.kernels import apart, of_rows, together, within
from streamclust.train.look import feature_map, look
from streamclust.train.prepare import noise_of


@pytest.fixture(scope="module")
def bundle():
    return model()


@pytest.fixture(scope="module")
def held():
    return windows((60, 50, 40), 9)[0]


def verdict(bundle, candidate, held, **spec):
    return judge(bundle, candidate, held, GateSpec(**spec), ManualClock())


def failed(found):
    return {check.name for check in found.checks if not check.ok}


def with_mixture(bundle, **changes):
    mixture = replace(bundle.assigner.mixture, **changes)
    return replace(bundle, assigner=replace(bundle.assigner, mixture=mixture))


def test_the_model_itself_passes(bundle, held):
    found = verdict(bundle, bundle, held)
    assert found.passed, found.reasons
    assert {check.name for check in found.checks} == {
        *("finite", "members", "entropy", "agreement", "identity"),
        *("separation", "likelihood", "reconstruction", "latency"),
    }


def test_numbers_that_are_not_finite_make_no_model_and_the_reason_is_kept(bundle):
    means = bundle.assigner.mixture.means.copy()
    means[0] = np.nan
    with pytest.raises(CorruptModel, match="finite") as caught:
        with_mixture(bundle, means=means)
    found = unfit(caught.value)
    assert not found.passed
    assert "finite" in found.reasons[0]


def test_results_that_are_not_finite_are_refused(bundle, held, monkeypatch):
    scored = gate._scored

    def broken(scorer, windows):
        found = scored(scorer, windows)
        return found if scorer.bundle is bundle else replace(found, memberships=found.memberships * np.float32(np.nan))

    monkeypatch.setattr(gate, "_scored", broken)
    assert failed(verdict(bundle, replace(bundle), held)) == {"finite"}


def test_everything_in_one_cluster_is_refused(bundle, held):
    heavy = bundle.assigner.mixture.log_weights + np.array([1e4, 0, 0], np.float32)
    found = verdict(bundle, with_mixture(bundle, log_weights=heavy), held)
    assert not found.passed
    assert failed(found) >= {"members", "entropy", "agreement", "separation"}
    assert "C" in " ".join(found.reasons)


def test_an_embedding_that_collapsed_is_refused(bundle, held):
    means = np.repeat(bundle.assigner.mixture.means.mean(axis=0, keepdims=True), 3, axis=0)
    assert failed(verdict(bundle, with_mixture(bundle, means=means), held)) & {"agreement", "members"}


def test_labels_that_are_exchanged_are_refused_although_the_partition_is_the_same(bundle, held):
    shuffled = replace(bundle, clusters=(*bundle.clusters[1:], bundle.clusters[0]))
    assert failed(verdict(bundle, shuffled, held)) == {"identity"}


def test_clusters_elsewhere_are_refused(bundle, held):
    rng = np.random.default_rng(0)
    for scale, name in ((1.0, "identity"), (1e3, "agreement")):
        means = (scale * rng.normal(size=bundle.assigner.mixture.means.shape)).astype(np.float32)
        assert name in failed(verdict(bundle, with_mixture(bundle, means=means), held))


def test_a_candidate_to_which_everything_is_novel_is_refused(bundle, held):
    low = np.linspace(0, 1e-6, len(bundle.tails.distance), dtype=np.float32)
    strict = replace(bundle, tails=Tails(low, low, bundle.tails.larger))
    assert failed(verdict(bundle, strict, held)) == {"likelihood"}


def test_components_that_explain_less_are_refused(bundle, held):
    blocks = tuple(replace(block, components=np.roll(block.components, 1, axis=1)) for block in bundle.blocks)
    assert "reconstruction" in failed(verdict(bundle, replace(bundle, blocks=blocks), held))


def test_a_candidate_that_takes_three_times_as_long_is_refused(bundle, held, monkeypatch):
    clock, slow = ManualClock(), replace(bundle)
    score = gate.Scorer.score

    def timed(self, *args):
        clock.sleep(0.03 if self.bundle is slow else 0.01)
        return score(self, *args)

    monkeypatch.setattr(gate.Scorer, "score", timed)
    assert failed(judge(bundle, slow, held, GateSpec(), clock)) == {"latency"}
    assert judge(bundle, slow, held, GateSpec(latency_ratio=4), clock).passed


def test_a_class_that_is_rare_under_both_models_keeps_nobody_from_learning(bundle):
    rare = windows((60, 50, 1), 9)[0]
    assert verdict(bundle, bundle, rare).passed


def test_few_windows_are_no_evidence(bundle):
    found = verdict(bundle, bundle, windows((5, 5, 5), 9)[0])
    assert not found.passed
    assert found.reasons == ("windows: at least 20 windows to judge by must be >= 20 (got 15)",)


def test_the_silhouette_is_that_of_its_definition():
    z = np.array([[0.0], [1.0], [10.0], [12.0]])
    labels = np.array([0, 0, 1, 1])
    wanted = np.mean([1 - 1 / 11, 1 - 1 / 10, 1 - 2 / 9.5, 1 - 2 / 11.5])
    assert silhouette(z, labels) == pytest.approx(wanted)
    assert silhouette(z, np.zeros(4, np.int64)) is None


def test_where_all_windows_moved_a_candidate_is_compared_with_the_current_model_moved_along(bundle):
    held = windows((60, 50, 40), 9, later=2, gain=15.0)[0]
    noise = noise_of(held.logp)
    renewed = replace(bundle, noise_median=noise[0][None], noise_spread=noise[1][None])
    found = verdict(bundle, renewed, held)
    assert found.passed, found.reasons
    checks = {check.name: check.value for check in found.checks}
    assert checks["agreement"] == checks["identity"] == 1.0
    exchanged = replace(renewed, clusters=("C2", "C1", "C3"))
    assert failed(verdict(bundle, exchanged, held)) == {"identity"}


def test_a_map_that_makes_the_windows_no_better_known_excuses_nothing(bundle, held):
    dimensions = bundle.assigner.head.dimensions
    away = Map(np.zeros(dimensions), np.ones(dimensions), np.full(dimensions, 3.0))
    mixture = away(bundle.assigner.mixture)
    card = {**bundle.card, "retrain": {"moved": away.to_json()}}
    candidate = replace(bundle, assigner=replace(bundle.assigner, mixture=mixture), card=card)
    assert not verdict(bundle, candidate, held).passed


def test_windows_that_became_a_new_cluster_are_no_disagreement_unless_most_did(bundle, held, monkeypatch):
    old = gate._scored(gate.Scorer(bundle, held.profile, 0.995), held)
    count = len(held.logp)
    named = replace(bundle, clusters=("C1", "C2", "C9"))  # the third kernel is a new cluster

    few = replace(old, cluster=np.where(np.arange(count) < count // 5, 2, 0))
    many = replace(old, cluster=np.where(np.arange(count) < count // 2, 2, 0))
    known = replace(old, is_novel=np.zeros(count, bool))

    assert gate._carried_on(bundle, named, (known, few)).sum() == count - count // 5
    assert gate._carried_on(bundle, named, (known, many)).all()


def test_parts_that_people_asked_for_are_no_disagreement_with_the_model_that_had_them_in_one():
    """Two clusters, and the one that has most windows is split in three: by themselves these would be another clustering."""
    fine, data = model((150, 120, 90, 40)), windows((60, 50, 40, 20), 9)
    found = look(fine, feature_map(fine), data[0])
    small = found.labels == found.labels[data[1] == 3][0]
    like = fine.assigner.mixture
    kernels = [of_rows(found.z[rows], within(apart(like)), float(rows.mean()), like) for rows in (~small, small)]
    current = replace(
        fine, clusters=("C1", "C2"), table=(), assigner=replace(fine.assigner, mixture=together(kernels, like))
    )
    ids = iter(("C1", "C8", "C9"))
    ids = tuple("C2" if k == found.labels[small][0] else next(ids) for k in range(4))
    for parts, wrong in (({}, {"agreement", "identity"}), ({"C8": "C1", "C9": "C1"}, set())):
        candidate = replace(fine, clusters=ids, card={**fine.card, "retrain": {"parts": parts}})
        assert failed(verdict(current, candidate, data[0])) & {"agreement", "identity"} == wrong
