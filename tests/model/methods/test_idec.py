from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from streamclust.model.methods.common import FitSettings, Stop
from streamclust.model.methods.idec import fit

pytest.importorskip("torch", reason="training needs torch")

SHORT = FitSettings(restarts=2, epochs=6, pretrain_epochs=4, tol=0.0)


def test_training_ends_when_the_labels_come_to_rest():
    rng = np.random.default_rng(3)
    rows = (np.eye(6)[rng.integers(3, size=240)] * 6 + rng.normal(size=(240, 6))).astype(np.float32)
    found = fit(rows, 3, rng, FitSettings(restarts=3, epochs=60, pretrain_epochs=40))

    assert found.stop == Stop.LABELS
    assert found.assigner.mixture.exponent == 1.0
    assert not found.assigner.mixture.log_weights.any()
    assert 0.0 < float(found.notes["unexplained"]) < 0.6


def test_without_rest_the_epochs_end_it():
    rows = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
    found = fit(rows, 4, np.random.default_rng(1), FitSettings(restarts=2, epochs=4, pretrain_epochs=4, tol=0.0))

    assert found.stop == Stop.EPOCHS
    assert len(found.history) == 4


def test_reconstruction_holds_back_the_divergence_the_more_the_smaller_gamma_is():
    weak, usual, strong = (divergences(gamma) for gamma in (0.001, SHORT.gamma, 1000.0))

    assert weak[0] == usual[0] == strong[0]  # the same autoencoder, the same first centroids
    assert weak[-1] < usual[-1] - 0.01 < strong[-1] - 0.02


def divergences(gamma):
    rows = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
    return fit(rows, 4, np.random.default_rng(1), replace(SHORT, gamma=gamma)).history
