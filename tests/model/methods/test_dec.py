from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from streamclust.model.methods import idec
from streamclust.model.methods.common import FitSettings, Stop
from streamclust.model.methods.dec import fit

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


def test_reconstruction_has_no_part_in_it():
    one, other = (divergences(fit, gamma) for gamma in (0.001, 1000.0))

    assert one == other
    np.testing.assert_allclose(divergences(idec.fit, 1000.0), one, atol=1e-3)  # where the divergence outweighs all


def divergences(fit, gamma):
    rows = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
    return fit(rows, 4, np.random.default_rng(1), replace(SHORT, gamma=gamma)).history
