"""Pretraining from a recipe: data in; an encoder file and its model card, for machines and for people, out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from streamclust.core.errors import MissingExtra, UsageError
from streamclust.core.types import F32
from streamclust.model.encoder import EncoderWeights, to_bytes
from streamclust.model.pca import principal
from streamclust.store import durable
from streamclust.train import corpus
from streamclust.train import recipe as recipes
from streamclust.train.recipe import KernelBank, Recipe

Report = Callable[[str, float], None]
"""Progress: the name of the step and the share of it that is done, 0 to 1."""

_BANK = 1 << 23
_PACKAGES = ("numpy", "torch", "safetensors")


def pretrain(
    recipe_path: Path, data_dir: Path, out_dir: Path, *, resume: bool = False, report: Report | None = None
) -> Mapping[str, Any]:
    """Make the encoder of a recipe: ``<name>.safetensors``, ``<name>.json`` and ``<name>.md`` in `out_dir`.

    Parameters
    ----------
    recipe_path
        YAML; see `recipe.Recipe`.
    data_dir
        What the recipe's globs are relative to.
    out_dir
        Made if missing; also holds ``checkpoint.safetensors``, written after each epoch.
    resume
        Go on from that checkpoint; ends with the same weights as a run that was not interrupted.
    report
        Called with progress.

    Returns
    -------
    card
        What ``<name>.json`` holds.

    Raises
    ------
    ConfigError
        The recipe is wrong.
    UsageError
        The data cannot be used, or there is nothing to resume.
    MissingExtra
        torch is not installed.
    """
    recipe = recipes.read(recipe_path)
    try:
        from streamclust.train import learn
    except ImportError as error:
        raise MissingExtra("pretrain", "train") from error
    tell = report or _silent
    tell("reading", 0.0)
    recordings = corpus.read(data_dir, recipe.data)
    data = learn.Data(*corpus.split(recordings, recipe.drawing))
    if not data.training.stations or not data.validation.stations:
        raise UsageError(f"{data_dir}: must hold recordings for training and for validation (got one side only)")
    durable.make_dir(out_dir)
    learned = learn.learn(recipe, data, out_dir, tell, resume=resume)
    card = _card(recipe, data, learned.numbers)
    encoders = [EncoderWeights(recipe.name, "spectrogram", _pyramid(recipe), learned.tensors, card)]
    if recipe.bank is not None:
        encoders.append(_bank(recipe, recipe.bank, data.training, tell))
    card["encoders"] = {e.kind: {"architecture": dict(e.architecture), "parameters": e.parameters} for e in encoders}
    text = json.dumps(card, indent=1, sort_keys=True, allow_nan=False) + "\n"
    tell("writing", 0.0)
    durable.write_file(out_dir / f"{recipe.name}.safetensors", to_bytes(encoders))
    durable.write_file(out_dir / f"{recipe.name}.json", text.encode())
    durable.write_file(out_dir / f"{recipe.name}.md", markdown(card).encode())
    tell("writing", 1.0)
    return card


def markdown(card: Mapping[str, Any]) -> str:
    """Return the model card as a page for people."""
    numbers, data = card["numbers"], card["data"]
    sources = [f"| `{part['glob']}` | {part['origin']} | {part['licence']} |" for part in data["sources"]]
    sizes = [
        f"| {kind} | {entry['architecture']['family']} | {entry['parameters']} |"
        for kind, entry in sorted(card["encoders"].items())
    ]
    windows = card["profile"]
    learned_from = (
        f"{data['training']['stations']} stations and {data['training']['samples']} samples to learn from; "
        f"{data['validation']['stations']} and {data['validation']['samples']} held back (whole stations, and the last "
        f"part of each other recording)."
    )
    drawn = (
        f"Lengths of {', '.join(map(str, windows['lengths']))} samples; segments of {windows['segments'][0]} to "
        f"{windows['segments'][1]} samples; normalised against the noise profile of each group of "
        f"{windows['group']} windows, clipped to +-{windows['clip']:g}."
    )
    measured = (
        f"Objective {', '.join(f'{k} x {v:g}' for k, v in numbers['objective'].items())}; {numbers['epochs']} epochs, "
        f"stopped by: {numbers['stop']}. On held-back recordings the decoder leaves "
        f"{numbers['validation_unexplained_variance']:.2f} of the variance unexplained."
    )
    made = "Made by `streamclust pretrain` from the recipe below; weights in safetensors, run by ONNX Runtime."
    parts = [
        f"# Encoder `{card['name']}`",
        made,
        "\n".join(["| input | architecture | numbers in it |", "|---|---|---|", *sizes]),
        f"## Data\n\n{learned_from}",
        "\n".join(["| files | origin | licence |", "|---|---|---|", *sources]),
        f"## Windows\n\n{drawn}",
        f"## Numbers\n\n{measured}",
        "\n".join(["## Limits\n", *(f"- {limit}" for limit in card["limits"] or ["none stated"])]),
        f"## Recipe\n\n```json\n{json.dumps(card['recipe'], indent=1, sort_keys=True)}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _silent(_step: str, _share: float) -> None:
    """Take a report and say nothing."""


def _pyramid(recipe: Recipe) -> Mapping[str, Any]:
    from streamclust.train.nets import architecture

    return architecture(recipe.pyramid)


def _card(recipe: Recipe, data: tuple[corpus.Corpus, corpus.Corpus], numbers: Mapping[str, Any]) -> dict[str, Any]:
    sides = {
        side: {"stations": len(part.stations), "samples": part.samples}
        for side, part in zip(("training", "validation"), data, strict=True)
    }
    return {
        "name": recipe.name,
        "data": {"sources": [part.model_dump(mode="json") for part in recipe.data], **sides},
        "profile": recipe.drawing.model_dump(mode="json"),
        "numbers": dict(numbers),
        "limits": list(recipe.limits),
        "recipe": recipe.model_dump(mode="json"),
        "recipe_sha256": recipe.digest,
        "packages": {name: metadata.version(name) for name in _PACKAGES},
    }


def _bank(recipe: Recipe, sizes: KernelBank, training: corpus.Corpus, report: Report) -> EncoderWeights:
    """Kernel bank whose responses are projected, dilation by dilation, on their principal components in the data."""
    from streamclust.train import nets

    architecture = nets.bank_architecture(sizes)
    rows: dict[int, list[F32]] = {dilation: [] for dilation in sizes.dilations}
    count = -(-sizes.windows // recipe.training.batch)
    for at, length in enumerate(lengths := recipe.drawing.lengths):
        report("waveforms", at / len(lengths))
        for number in range(count):
            rng = np.random.default_rng([recipe.seed, _BANK, at, number])  # noqa: TID251 — the recipe owns the seed
            batch = corpus.draw(training, recipe.drawing, recipe.augmentation, recipe.training.batch, rng, length)
            for dilation in sizes.dilations:
                if (sizes.length - 1) * dilation < length:
                    rows[dilation].append(nets.bank_rows(batch.waves, dilation, sizes))
    tensors: dict[str, F32] = {
        "kernels": nets.kernels(sizes),
        "thresholds": np.array(sizes.thresholds, np.float32),
    }
    known = [dilation for dilation in sizes.dilations if rows[dilation]]
    for dilation in known:
        rng = np.random.default_rng([recipe.seed, _BANK, dilation])  # noqa: TID251 — as above
        found = principal(np.concatenate(rows[dilation]), sizes.dimensions, rng)
        tensors[f"latent.{dilation}.weight"] = found.vectors
        tensors[f"latent.{dilation}.bias"] = -(found.vectors @ found.mean)
    architecture["dilations"] = known
    return EncoderWeights(recipe.name, "waveform", architecture, tensors)
