from __future__ import annotations

import numpy as np
import pytest

from streamclust.model.methods.common import FitSettings, checked, deadline, silent
from streamclust.model.mixture import fit_mixture

torch = pytest.importorskip("torch", reason="training needs torch")


def test_the_head_puts_rows_where_they_were_put():
    from streamclust.model.methods.distil import distil

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 4)).astype(np.float32)
    wanted = np.stack([np.tanh(3 * rows[:, 0]), np.sin(rows[:, 1])], axis=1).astype(np.float64)
    mixture = fit_mixture(wanted, 3, rng).mixture
    data = checked(rows, 3, None, None)
    head = distil(data, wanted, mixture, rng, (300, deadline(FitSettings()), silent))
    given, found = (mixture.log_kernels(mixture.squared_distances(z)).argmax(axis=1) for z in (wanted, head(rows)))

    assert np.square(head(rows) - wanted).mean() < 0.05 * wanted.var()
    assert (given == found).mean() > 0.95
