from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")


def test_the_strengths_of_a_rows_neighbours_sum_to_log2_of_their_number():
    from streamclust.model.methods.neighbours import strengths

    distances = np.sort(np.random.default_rng(0).uniform(1, 5, (40, 12)), axis=1)
    found = strengths(distances)

    np.testing.assert_allclose(found.sum(axis=1), np.log2(12), rtol=1e-3)
    assert (found[:, 0] == 1.0).all()
    assert (np.diff(found, axis=1) <= 0).all()


def test_the_graph_is_the_fuzzy_union_and_the_same_both_ways():
    from streamclust.model.methods.neighbours import graph

    rows = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    found = graph(rows, 8)
    dense = np.zeros((60, 60))
    dense[found.sources, found.targets] = found.weights

    np.testing.assert_allclose(dense, dense.T)
    assert not np.diag(dense).any()
    assert (found.weights > 0).all()
    assert (found.weights <= 1 + 1e-12).all()
    assert ((dense > 0).sum(axis=1) >= 8).all()


def test_twice_the_same_row_makes_no_trouble():
    from streamclust.model.methods.neighbours import graph

    found = graph(np.repeat(np.eye(3, dtype=np.float32), 20, axis=0), 15)

    assert np.isfinite(found.weights).all()


def test_neighbours_are_pulled_and_others_pushed():
    from streamclust.model.methods.neighbours import attraction, repulsion

    d2 = torch.tensor([1e-4, 0.1, 1.0, 10.0], dtype=torch.float64)
    closeness = 1 / (1 + 1.93 * (d2 + 1e-6) ** 0.79)

    torch.testing.assert_close(attraction(d2), -torch.log(closeness))
    torch.testing.assert_close(repulsion(d2), -torch.log(1 - closeness + 1e-4))


def test_more_edges_take_more_steps_within_bounds():
    from streamclust.model.methods.neighbours import Graph, steps_for

    def steps(edges):
        return steps_for(Graph(np.zeros(edges, np.int64), np.zeros(edges, np.int64), np.ones(edges)))

    assert steps(10) < steps(70_000) < steps(1_000_000) == steps(5_000_000)
