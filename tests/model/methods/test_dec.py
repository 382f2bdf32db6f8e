from __future__ import annotations

import numpy as np
import pytest

from streamclust.model.methods.common import FitSettings, Stop
from streamclust.model.methods.dec import fit

pytest.importorskip("torch", reason="training needs torch")


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
