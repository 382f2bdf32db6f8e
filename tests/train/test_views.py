import numpy as np
import pytest

from streamclust.core.errors import ModelError
from streamclust.core.specs import ProfileSpec
from streamclust.model.features import POOLED, SPECTROGRAM
from streamclust.model.methods.common import FitSettings, memberships
from streamclust.train import views
from streamclust.train.agreement import adjusted_rand
from streamclust.train.methods import METHODS
from streamclust.train.prepare import prepare
from streamclust.train.views import LEAST_FOR_HALVES, WHOLE, choose, widened

PROFILE = ProfileSpec(encoder="none")
LOW, HIGH = slice(1, 3), slice(6, 8)


def rng(seed=3):
    return np.random.default_rng(seed)


def noise(count, seed=0):
    return rng(seed).normal(size=(count, 1, 9, 48)).astype(np.float32)


def bursts(count=240, seed=0):
    """Windows with a loud burst somewhere, louder in low or in high frequencies: which of both is the class."""
    logp, own = noise(count, seed), rng(seed + 1)
    kind = own.permutation(np.arange(count) % 2)
    for row, (which, at) in enumerate(zip(kind, own.integers(0, 32, count), strict=True)):
        logp[row, 0, :, at : at + 16] += 9
        logp[row, 0, HIGH if which else LOW, at : at + 16] += 5
    return logp, kind


def orders(count=240, seed=0):
    """Windows with a low and a high burst: which of both comes first is the class."""
    logp, own = noise(count, seed), rng(seed + 1)
    kind = own.permutation(np.arange(count) % 2)
    for row, which in enumerate(kind):
        first, second = (HIGH, LOW) if which else (LOW, HIGH)
        logp[row, 0, first, 4:20] += 9
        logp[row, 0, second, 28:44] += 9
    return logp, kind


def featured(logp):
    """Features of windows, and their blocks."""
    streams = ["a"] * len(logp)
    made = prepare(logp, None, streams, PROFILE, rng()).features
    return made(logp, None, streams).rows, made.blocks


def fitted(method, rows, clusters, own):
    return METHODS[method](rows, clusters, own, FitSettings(restarts=3)).assigner


class Recorder:
    """Fits k-means whatever is asked, and remembers what was."""

    def __init__(self):
        self.asked = []

    def __call__(self, method, rows, clusters, own):
        self.asked.append((method, rows.shape, clusters))
        return fitted("kmeans", rows, clusters, own)


def agreement(rows, columns, kind):
    seen = np.ascontiguousarray(rows[:, columns])
    labels = memberships(fitted("gmm", seen, 2, rng()), seen).argmax(axis=1)
    return adjusted_rand(labels.astype(np.int64), kind.astype(np.int64))


@pytest.mark.parametrize("seed", [0, 10, 20])
def test_the_pooled_view_is_taken_when_things_happen_anywhere_in_the_window(seed):
    logp, kind = bursts(seed=seed)
    rows, blocks = featured(logp)

    choice = choose("gmm", rows, blocks, 2, fitted, rng())

    assert (choice.method, choice.view) == ("gmm", POOLED), dict(choice.stability)
    assert agreement(rows, choice.columns, kind) > 0.95
    assert agreement(rows, views.views(blocks)[WHOLE], kind) < 0.5, "the whole view sees the place first"


@pytest.mark.parametrize("seed", [0, 10, 20])
def test_the_whole_view_is_taken_when_the_order_tells_the_classes_apart(seed):
    logp, kind = orders(seed=seed)
    rows, blocks = featured(logp)

    choice = choose("gmm", rows, blocks, 2, fitted, rng())

    assert (choice.method, choice.view) == ("gmm", WHOLE), dict(choice.stability)
    assert agreement(rows, choice.columns, kind) > 0.95
    assert agreement(rows, views.views(blocks)[POOLED], kind) < 0.5, "the pooled view sees no order"


def test_a_method_that_finds_the_same_either_way_keeps_the_whole_view():
    rows, blocks = featured(bursts()[0])

    choice = choose("kmeans", rows, blocks, 2, fitted, rng())

    assert choice.view == WHOLE
    assert choice.stability[POOLED] - choice.stability[WHOLE] < views.POOLED_MARGIN


def test_few_windows_are_halved_often_by_quick_methods_alone():
    blocks = featured(bursts()[0])[1]

    assert views.halvings(views.FEW_WINDOWS - 1, "gmm", blocks) == views.HALVINGS
    assert views.halvings(views.FEW_WINDOWS, "gmm", blocks) == 1
    assert views.halvings(views.FEW_WINDOWS - 1, "manifold", blocks) == 1


def test_so_many_fits_are_made_as_there_are_halvings():
    rows, blocks = featured(bursts()[0])
    few = rows[: views.FEW_WINDOWS - 1]
    asks = Recorder()

    choose("gmm", few, blocks, 2, asks, rng())

    assert len(asks.asked) == 2 * views.HALVINGS * len(views.candidates("gmm", blocks))


def test_the_columns_of_a_view_are_those_of_its_blocks():
    rows, blocks = featured(bursts()[0])
    found = views.views(blocks)

    names = [block.name for block in blocks]
    assert names == [SPECTROGRAM, POOLED]
    before, width = (len(block.components) for block in blocks)
    np.testing.assert_array_equal(found[WHOLE], np.arange(rows.shape[1]))
    np.testing.assert_array_equal(found[POOLED], np.arange(before, before + width))
    assert set(views.views(blocks[:1])) == {WHOLE}


def test_a_widened_assigner_gives_the_same_embeddings_and_does_not_look_at_the_rest():
    rows = rng().normal(size=(60, 7)).astype(np.float32)
    columns = np.array([1, 4, 5])
    small = fitted("gmm", np.ascontiguousarray(rows[:, columns]), 2, rng())

    wide = widened(small, columns, 7)

    other = rows.copy()
    other[:, [0, 2, 3, 6]] += 100
    for given in (rows, other):
        np.testing.assert_allclose(wide.embed(given), small.embed(rows[:, columns]), atol=1e-5)
        np.testing.assert_allclose(memberships(wide, given), memberships(small, rows[:, columns]), atol=1e-5)
    assert widened(wide, np.arange(7), 7) is wide


@pytest.mark.parametrize(("asked", "taken"), [("auto", "gmm"), ("kmeans", "kmeans"), ("dec", "dec")])
def test_few_windows_are_not_compared(asked, taken):
    rows, blocks = featured(bursts(2 * LEAST_FOR_HALVES - 1)[0])
    asks = Recorder()

    choice = choose(asked, rows, blocks, 2, asks, rng())

    assert (choice.method, choice.view, dict(choice.stability)) == (taken, WHOLE, {})
    assert asks.asked == []
    assert len(choice.columns) == rows.shape[1]


@pytest.mark.parametrize(
    ("asked", "judges"),
    [("kmeans", {"kmeans"}), ("gmm", {"gmm"}), ("umap_gmm", {"manifold"}), ("auto", {"manifold", "gmm"})],
)
def test_a_method_judges_the_views_for_itself_unless_it_takes_long_and_auto_compares_a_mixture_too(
    monkeypatch, asked, judges
):
    monkeypatch.setattr(views, "find_spec", lambda name: object())
    rows, blocks = featured(bursts()[0])
    asks = Recorder()

    choice = choose(asked, rows, blocks, 2, asks, rng())

    assert {method for method, _, _ in asks.asked} == judges
    assert {clusters for _, _, clusters in asks.asked} == {2}
    if asked != "auto":
        assert choice.method == asked
        assert set(choice.stability) == {WHOLE, POOLED}
    else:
        assert set(choice.stability) == {WHOLE, POOLED, "gmm"}


def test_without_torch_auto_is_the_mixture(monkeypatch):
    monkeypatch.setattr(views, "find_spec", lambda name: None)
    rows, blocks = featured(bursts()[0])

    choice = choose("auto", rows, blocks, None, asks := Recorder(), rng())

    assert choice.method == "gmm"
    assert {method for method, _, _ in asks.asked} == {"gmm"}
    assert {clusters for _, _, clusters in asks.asked} == {views.PROVISIONAL_CLUSTERS}


def test_where_nothing_can_be_fitted_that_is_told():
    rows, blocks = featured(bursts()[0])

    def broken(*args):
        raise ModelError("no")

    with pytest.raises(ModelError, match="none of"):
        choose("kmeans", rows, blocks, 2, broken, rng())


def test_windows_side_by_side_need_no_margin_and_few_windows_favour_the_smaller_view():
    assert views.pooled_margin(1000, 50, continuous=False) == views.POOLED_MARGIN
    assert views.pooled_margin(1000, 50, continuous=True) == 0.0
    assert views.pooled_margin(200, 50, continuous=False) == -views.POOLED_MARGIN


def test_windows_are_continuous_when_most_meet_the_one_before_them_in_their_stream():
    start = np.arange(20, dtype=np.int64) * 10
    two = ["a", "b"] * 10  # of each stream every second one: pauses between them
    assert views.continuous(["a"] * 20, start, start + 10)
    assert views.continuous(["a"] * 20, start, start + 15)
    assert not views.continuous(["a"] * 20, start, start + 9)
    assert not views.continuous(two, start, start + 10)
    assert not views.continuous([str(n) for n in range(20)], start, start + 10)
