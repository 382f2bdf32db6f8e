import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra [train] is not installed")

from streamclust.train import learn, nets  # noqa: E402 — torch first
from streamclust.train.corpus import Corpus  # noqa: E402 — likewise
from streamclust.train.recipe import Recipe  # noqa: E402 — likewise


@pytest.fixture
def recipe():
    return Recipe.model_validate(
        {
            "name": "tiny",
            "objective": {"reconstruct": 1.0},
            "data": [{"glob": "*", "origin": "here", "licence": "none"}],
            "drawing": {"lengths": [32, 64], "group": 8, "slower": [1]},
            "pyramid": {"channels": [4], "strides": [2], "grid": [2, 2], "dimensions": 3, "decoder_channels": 2},
            "training": {"epochs": 4, "batch": 16, "steps": 2, "patience": 2, "decoder_steps": 1},
        },
        strict=False,
    )


@pytest.fixture
def corpus():
    return Corpus({"a": [np.random.default_rng(0).normal(size=2000).astype(np.float32)]})


@pytest.mark.parametrize(
    ("history", "over"),
    [([], None), ([3, 2, 1], None), ([1, 2], None), ([1, 2, 2], "2 epochs"), ([4, 3, 2, 1], "all 4 epochs")],
)
def test_training_is_over_when_it_says_why(recipe, history, over):
    said = learn._over(recipe, history)

    assert said is None if over is None else over in said


def test_every_length_has_its_turn_and_every_batch_its_own_numbers(recipe, corpus):
    first, second, again = (learn._drawn(recipe, corpus, 0, n)[0].waves for n in (0, 1, 0))

    assert (first.shape[1], second.shape[1]) == (32, 64)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, learn._drawn(recipe, corpus, 1, 0)[0].waves)


def test_the_final_latent_is_orthogonal_and_of_unit_total_variance(recipe, corpus):
    torch.manual_seed(0)
    state = learn._new(recipe, torch.device("cpu"))
    learn._finish(recipe, state, corpus, lambda _step, _share: None)
    weight = nets.array(state.encoder.latent.weight).astype(float)
    gram = weight @ weight.T

    assert np.allclose(gram, gram[0, 0] * np.eye(3), atol=1e-4 * gram[0, 0])
    with torch.no_grad():
        z = np.concatenate(
            [
                nets.array(state.encoder(torch.from_numpy(learn._drawn(recipe, corpus, 99, n)[0].plain)))
                for n in range(30)
            ]
        )
    assert z.var(axis=0).sum() == pytest.approx(1, rel=0.3)
    assert np.abs(z.mean(axis=0)).max() < 0.3
