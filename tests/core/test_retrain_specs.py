"""Settings of the retrain loop: bounds that keep it harmless."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from streamclust.core.retrain_specs import BufferSpec, RetrainSpec


@pytest.mark.parametrize(
    "settings",
    [
        {"nice": -1},
        {"threads": 0},
        {"hold_back": 1.0},
        {"memory_bytes": 1000},
        {"update": "encoder"},
        {"min_members": 1},
    ],
)
def test_a_training_that_could_harm_the_daemon_or_prove_nothing_is_refused(settings):
    with pytest.raises(ValidationError):
        RetrainSpec.model_validate(settings)


@pytest.mark.parametrize(
    "settings", [{"ring_share": 1.0}, {"max_bytes": 0}, {"stream_share": 0.0}, {"per_second": 0.0}]
)
def test_a_buffer_without_room_is_refused(settings):
    with pytest.raises(ValidationError):
        BufferSpec.model_validate(settings)


def test_by_default_a_training_costs_little_and_holds_back_windows_to_judge_it():
    spec = RetrainSpec()
    assert (spec.threads, spec.nice, spec.update) == (1, 10, "centroids")
    assert 0.1 <= spec.hold_back <= 0.5
