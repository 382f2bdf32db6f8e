"""The settings of the retrain loop: what is kept to learn from, when it runs, and what a candidate must show."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from streamclust.core.profile_spec import Seconds, Spec


class BufferSpec(Spec):
    """What is kept of the windows, for the next model to learn from."""

    max_bytes: int = Field(1_000_000_000, ge=10_000_000)
    """Size on disk at most."""
    max_days: float = Field(30.0, gt=0, le=3660)
    """Older windows are dropped, those of the reservoirs too."""
    per_second: float = Field(20.0, gt=0)
    """Windows taken up in a second at most, whatever comes; so that its cost is bounded."""
    ring_share: float = Field(0.5, gt=0, lt=1)
    """Of `max_bytes` for the newest windows; the rest is for the reservoirs."""
    per_cluster: int = Field(500, ge=10)
    """Windows of each cluster's reservoir at most, drawn evenly from all that it ever had."""
    per_stream: int = Field(200, ge=10)
    """Windows of each stream's reservoir at most."""
    stream_share: float = Field(0.25, gt=0, le=1)
    """No stream has more than this share of the buffer, when there are enough streams."""


class GateSpec(Spec):
    """What a candidate must show on windows that it was not trained on."""

    least_members: int = Field(5, ge=1)
    """Windows of each of its clusters."""
    least_entropy: float = Field(0.3, ge=0, lt=1)
    """Entropy of the mean membership, in units of that of the current model."""
    least_agreement: float = Field(0.5, ge=-1, le=1)
    """Adjusted Rand index with the current model, over windows that are not novel to it."""
    separation_loss: float = Field(0.1, ge=0)
    """Its silhouette may be this much below that of the current model."""
    likelihood_loss: float = Field(0.05, ge=0)
    """Its mean novelty may be this much above that of the current model: it must explain new windows as well."""
    latency_ratio: float = Field(2.0, ge=1)
    """Time to score a batch, in units of the current model's, at most."""


class RetrainSpec(Spec):
    """When a new model is made, how, and what it may cost."""

    enabled: bool = True
    """False keeps no buffer and makes no model after the first."""
    every: Seconds = Field(86_400.0, ge=60)
    """Seconds from one training to the next, when there is enough new."""
    after_windows: int = Field(2000, ge=10)
    """New windows in the buffer that a training on schedule waits for."""
    on_drift: bool = True
    """Train at once when novelty or the occupancy of the clusters has moved (ADWIN); not within `rest` of the last one."""
    rest: Seconds = Field(3600.0, ge=1)
    """Seconds between two trainings at least, also after a refused one."""
    look_every: Seconds = Field(60.0, ge=1)
    """Seconds between looks at whether it is time."""
    update: Literal["centroids", "all"] = "centroids"
    """`centroids`: the embedding stays, clusters move, come and go. `all`: features, embedding and clusters are fitted anew,
    and matched to the lasting ids."""
    min_members: int = Field(20, ge=5)
    """Novel windows that lie together from which a new cluster is proposed."""
    max_rows: int = Field(20_000, ge=100)
    """Windows that are trained on at most."""
    hold_back: float = Field(0.25, gt=0, lt=1)
    """Share of the buffer that a candidate is judged on, and never trained on."""
    time_budget: Seconds = Field(1800.0, ge=10)
    """A training that takes longer is ended, whatever it is about; of a daemon it is killed."""
    memory_bytes: int = Field(4_000_000_000, ge=500_000_000)
    """Address space of the training process beyond what it has at its start."""
    threads: int = Field(1, ge=1, le=64)
    """Threads of linear algebra in the training process."""
    nice: int = Field(10, ge=0, le=19)
    """Its priority; 19 is the lowest."""
    silent_after: Seconds = Field(300.0, ge=10)
    """A training that says nothing for so long has hung, and is ended."""
    activate_after: Seconds = Field(60.0, ge=0)
    """A new model holds from this long after it was made, in event time, so that all workers have it by then."""
    watch: Seconds = Field(3600.0, ge=0)
    """After a swap the live figures are watched for so long; when they go wrong the model before it comes back."""
    relabel_window: Seconds = Field(0.0, ge=0)
    """After a swap, windows of the last so many seconds that are in the buffer are labelled again in SQLite, old labels kept."""
    keep_models: int = Field(20, ge=2)
    """Versions kept on disk at least; older ones are removed. With `model.share: kafka` those stay too that the topic keeps: 20."""
    gate: GateSpec = Field(default_factory=GateSpec)
    """What a candidate must show."""
