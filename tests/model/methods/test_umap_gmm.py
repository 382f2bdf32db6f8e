from __future__ import annotations

import numpy as np
import pytest

from streamclust.core.errors import MissingExtra
from streamclust.model.methods import umap_gmm
from streamclust.model.methods.common import FitSettings


def rows_of(seed):
    rng = np.random.default_rng(seed)
    return (np.eye(5)[rng.integers(3, size=150)] * 8 + rng.normal(size=(150, 5))).astype(np.float32)


@pytest.mark.slow
def test_the_agreement_of_the_network_with_umap_is_told():
    pytest.importorskip("umap", reason="umap-learn is not installed")
    found = umap_gmm.fit(rows_of(0), 3, np.random.default_rng(1), FitSettings(restarts=3, steps=300))

    assert float(found.notes["distilled_agreement"]) > 0.97


def test_without_umap_the_extra_is_named(monkeypatch):
    def missing(module, what, extra):
        raise MissingExtra(what, extra)

    monkeypatch.setattr(umap_gmm, "need", missing)
    with pytest.raises(MissingExtra, match=r"streamclust\[umap\]"):
        umap_gmm.fit(rows_of(0), 3, np.random.default_rng(1), FitSettings())
