"""The training loop of the spectrogram encoder: epochs, early stop, checkpoints that lose nothing, the final latent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from streamclust.core.errors import UsageError
from streamclust.core.types import F32
from streamclust.model.pca import principal
from streamclust.store import durable
from streamclust.train import augment, nets
from streamclust.train.corpus import Batch, Corpus, draw
from streamclust.train.recipe import Recipe

Report = Callable[[str, float], None]
CHECKPOINT = "checkpoint.safetensors"
_VALIDATION, _LATENT, _DECODER = 1 << 20, 1 << 21, 1 << 22  # epoch numbers of draws that are no epoch's
_CALIBRATION = 1 << 23
_LATENT_BATCHES = 64
_CALIBRATION_BATCHES = 30


class Data(NamedTuple):
    """Recordings on either side of the split."""

    training: Corpus
    validation: Corpus


class Learned(NamedTuple):
    """What training left."""

    tensors: Mapping[str, F32]
    """Encoder and decoder, as `onnx_graph` reads them."""
    numbers: Mapping[str, Any]
    """For the card; JSON values."""


@dataclass
class _State:
    """Everything that the next epoch depends on."""

    encoder: nets.PyramidNet
    decoder: nets.DecoderNet
    projector: torch.nn.Sequential
    optimiser: torch.optim.AdamW
    epoch: int = 0
    history: list[float] = field(default_factory=list)
    best: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def modules(self) -> Mapping[str, torch.nn.Module]:
        """The parts by name."""
        return {"encoder": self.encoder, "decoder": self.decoder, "projector": self.projector}

    def weights(self) -> dict[str, torch.Tensor]:
        """Copy all weights and running statistics."""
        return {
            f"{part}.{name}": value.detach().cpu().clone()
            for part, module in self.modules.items()
            for name, value in module.state_dict().items()
        }

    def set_weights(self, values: Mapping[str, torch.Tensor]) -> None:
        """Put weights back."""
        for part, module in self.modules.items():
            start = f"{part}."
            module.load_state_dict({k.removeprefix(start): v for k, v in values.items() if k.startswith(start)})


def learn(recipe: Recipe, data: Data, folder: Path, report: Report, *, resume: bool = False) -> Learned:
    """Train the encoder of a recipe, with a checkpoint in `folder` after each epoch.

    Continued from a checkpoint it ends with the same weights as if it had not been interrupted (on the
    same device and number of threads): every batch follows from the seed, its epoch and its number alone.

    Raises
    ------
    UsageError
        There is nothing to resume, or it is of another recipe or data; or the data have no window.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with _deterministic(recipe.seed):
        state = _new(recipe, device)
        if resume:
            _restore(state, recipe, data, folder / CHECKPOINT)
        else:
            batches = (_drawn(recipe, data.training, _CALIBRATION, n)[0] for n in range(_CALIBRATION_BATCHES))
            state.encoder.calibrate(torch.from_numpy(b.plain).to(device) for b in batches)
        held = [_drawn(recipe, data.validation, _VALIDATION, n) for n in range(recipe.training.validation_batches)]
        while (stop := _over(recipe, state.history)) is None:
            report("learning", state.epoch / max(recipe.training.epochs, 1))
            _epoch(recipe, state, data.training)
            state.history.append(_validate(recipe, state, held))
            state.epoch += 1
            if state.history[-1] <= min(state.history):
                state.best = state.weights()
            durable.write_file(folder / CHECKPOINT, _saved(state, recipe, data))
        if state.best:
            state.set_weights(state.best)
        _finish(recipe, state, data.training, report)
        left = [_unexplained(state, batch) for batch in held]
    numbers = {
        "objective": dict(recipe.objective),
        "stop": stop,
        "epochs": state.epoch,
        "validation_loss": [round(value, 5) for value in state.history],
        "validation_unexplained_variance": round(float(np.mean(left)), 4),
        "device": device.type,
    }
    return Learned(state.encoder.tensors() | state.decoder.tensors(), numbers)


def _new(recipe: Recipe, device: torch.device) -> _State:
    encoder, decoder = nets.PyramidNet(recipe.pyramid), nets.DecoderNet(recipe.pyramid)
    projector = nets.projector(encoder.latent.in_features)
    parts = [part.to(device).eval() for part in (encoder, decoder, projector)]
    parameters = [p for part in parts for p in part.parameters()]
    return _State(encoder, decoder, projector, torch.optim.AdamW(parameters, recipe.training.rate, weight_decay=1e-5))


def _over(recipe: Recipe, history: Sequence[float]) -> str | None:
    """Say why training is over; None while it is not."""
    if len(history) >= recipe.training.epochs:
        return f"all {recipe.training.epochs} epochs"
    if len(history) - 1 - int(np.argmin(history or [0])) >= recipe.training.patience:
        return f"no better validation loss for {recipe.training.patience} epochs"
    return None


def _drawn(recipe: Recipe, corpus: Corpus, epoch: int, number: int) -> tuple[Batch, np.random.Generator]:
    """Batch `number` of an epoch; lengths take turns, so that every epoch has all."""
    rng = np.random.default_rng([recipe.seed, epoch, number])  # noqa: TID251 — the recipe owns the seed
    lengths = recipe.drawing.lengths
    length = lengths[number % len(lengths)]
    return draw(corpus, recipe.drawing, recipe.augmentation, recipe.training.batch, rng, length), rng


def _epoch(recipe: Recipe, state: _State, corpus: Corpus) -> None:
    settings = recipe.training
    for step in range(settings.steps):
        done = (state.epoch + step / settings.steps) / settings.epochs
        for group in state.optimiser.param_groups:
            group["lr"] = settings.rate * min(1.0, 50 * done + 0.02) * 0.5 * (1 + np.cos(np.pi * done))
        loss = _loss(recipe, state, *_drawn(recipe, corpus, state.epoch, step))
        state.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for g in state.optimiser.param_groups for p in g["params"]], 5.0)
        state.optimiser.step()


def _loss(recipe: Recipe, state: _State, batch: Batch, rng: np.random.Generator) -> torch.Tensor:
    """Weighted sum of the recipe's objectives."""
    device = state.encoder.latent.weight.device
    plain, first, second = (torch.from_numpy(x).to(device) for x in (batch.plain, *batch.views))
    shape = (plain.shape[2], plain.shape[3])
    total = torch.zeros((), device=device)
    for name, weight in recipe.objective.items():
        if name in nets.PAIR_LOSSES:
            rows = [state.projector(state.encoder.pooled(x)) for x in (first, second)]
            loss = nets.PAIR_LOSSES[name](*rows)
        elif name == "denoise":
            seen = torch.from_numpy(augment.mask(tuple(first.shape), recipe.augmentation.masked, rng)).to(device)
            loss = nets.unexplained(plain, state.decoder(state.encoder(first * seen), shape))
        else:
            loss = nets.unexplained(plain, state.decoder(state.encoder(plain), shape))
        total = total + weight * loss
    return total


@torch.no_grad()
def _validate(recipe: Recipe, state: _State, held: Sequence[tuple[Batch, np.random.Generator]]) -> float:
    seeds = (np.random.default_rng([recipe.seed, _VALIDATION, n]) for n in range(len(held)))  # noqa: TID251 — as above
    losses = [float(_loss(recipe, state, batch, rng)) for (batch, _), rng in zip(held, seeds, strict=True)]
    return float(np.mean(losses))


def _finish(recipe: Recipe, state: _State, corpus: Corpus, report: Report) -> None:
    """Set the latent to the principal components of the pooled rows, and let the decoder learn it.

    The components keep the distances between windows as the convolutions see them; a latent that is trained
    for a loss need not.
    """
    device = state.encoder.latent.weight.device
    with torch.no_grad():
        batches = (_drawn(recipe, corpus, _LATENT, n)[0] for n in range(_LATENT_BATCHES))
        rows = np.concatenate([nets.array(state.encoder.pooled(torch.from_numpy(b.plain).to(device))) for b in batches])
        rng = np.random.default_rng([recipe.seed, _LATENT])  # noqa: TID251 — the recipe owns the seed
        found = principal(rows, recipe.pyramid.dimensions, rng)
        scale = 1.0 / np.sqrt(found.variance.sum())
        weight = np.zeros((recipe.pyramid.dimensions, rows.shape[1]), np.float32)
        weight[: len(found.vectors)] = found.vectors * scale
        state.encoder.latent.weight.copy_(torch.from_numpy(weight))
        state.encoder.latent.bias.copy_(torch.from_numpy(-weight @ found.mean))
    optimiser = torch.optim.Adam(state.decoder.parameters(), recipe.training.rate)
    for step in range(steps := recipe.training.decoder_steps):
        if step % 10 == 0:
            report("decoder", step / steps)
        optimiser.param_groups[0]["lr"] = recipe.training.rate * 0.5 * (1 + np.cos(np.pi * step / steps))
        x = torch.from_numpy(_drawn(recipe, corpus, _DECODER, step)[0].plain).to(device)
        with torch.no_grad():
            z = state.encoder(x)
        loss = nets.unexplained(x, state.decoder(z, (x.shape[2], x.shape[3])))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


@torch.no_grad()
def _unexplained(state: _State, held: tuple[Batch, np.random.Generator]) -> float:
    x = torch.from_numpy(held[0].plain).to(state.encoder.latent.weight.device)
    return float(nets.unexplained(x, state.decoder(state.encoder(x), (x.shape[2], x.shape[3]))))


def _mark(recipe: Recipe, data: Data) -> str:
    """Return what a checkpoint belongs to."""
    parts = [recipe.digest]
    for corpus in data:
        for station, samples in corpus.stations.items():
            parts.append(f"{station} {[(len(part), float(np.sum(part, dtype=np.float64))) for part in samples]}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _saved(state: _State, recipe: Recipe, data: Data) -> bytes:
    tensors = {f"now.{name}": value for name, value in state.weights().items()}
    tensors |= {f"best.{name}": value for name, value in state.best.items()}
    for at, values in state.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{at}.{name}": value.cpu() for name, value in values.items()}
    about = {"mark": _mark(recipe, data), "history": state.history}
    return save({name: value.contiguous() for name, value in tensors.items()}, {"state": json.dumps(about)})


def _restore(state: _State, recipe: Recipe, data: Data, path: Path) -> None:
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 — a file, no mapping
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: must be a checkpoint to resume from (got {error!s:.200})") from error
    if about["mark"] != _mark(recipe, data):
        raise UsageError(f"{path}: must be of the same recipe and data (got a checkpoint of others)")
    state.history, state.epoch = about["history"], len(about["history"])
    state.set_weights({k.removeprefix("now."): v for k, v in tensors.items() if k.startswith("now.")})
    state.best = {k.removeprefix("best."): v for k, v in tensors.items() if k.startswith("best.")}
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimiser."):
            _, at, name = key.split(".", 2)
            moments.setdefault(int(at), {})[name] = value
    state.optimiser.load_state_dict(state.optimiser.state_dict() | {"state": moments})


@contextmanager
def _deterministic(seed: int) -> Iterator[None]:
    """Torch's own random numbers from the seed, and only deterministic kernels, for as long as this lasts."""
    before = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(mode=True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(mode=before)
