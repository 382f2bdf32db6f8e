"""What people do with stored models: list, show and compare them, take one over that was made elsewhere, give one away."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from streamclust.core.errors import CorruptModel, ModelError, StateLocked, UsageError
from streamclust.core.specs import Config
from streamclust.store.durable import make_dir, write_file
from streamclust.store.models import ModelStore

if TYPE_CHECKING:
    from streamclust.model.bundle import Bundle

MANIFEST = "model.json"
TENSORS = "model.safetensors"
REFUSED = "refused"
"""Directory of the candidates that the gate refused, in that of the models."""
REASONS = "reasons.json"
"""Why, beside each of them."""


class Adopted(NamedTuple):
    """A model that was taken over."""

    version: int
    runs_with: int
    """The version that a daemon starts with now."""


def rows(store: ModelStore) -> list[dict[str, Any]]:
    """One row a version, oldest first: version, state (current, kept or damaged), method, profile, clusters, why it was activated.

    Then the candidates that the gate refused, as ``refused/1``, and why.

    Raises
    ------
    CorruptModel
        The file `current` cannot be understood.
    """
    log = store.activations()
    current = log[-1].version if log else None
    why = {entry.version: f"{entry.by}{entry.reason and f': {entry.reason}'}" for entry in log}
    found: list[dict[str, Any]] = []
    for version in store.versions():
        try:
            card, state = manifest(store, version), "current" if version == current else "kept"
        except CorruptModel:
            card, state = {}, "damaged"
        found.append({"version": version, "state": state, **_about(card), "why": why.get(version)})
    return found + _refused(ModelStore(store.directory / REFUSED))


def _about(card: Mapping[str, Any]) -> dict[str, Any]:
    clusters = card.get("clusters")
    count = len(clusters) if isinstance(clusters, list) else 0
    return {"method": card.get("method"), "profile": _label(card.get("profile")), "clusters": count}


def _refused(store: ModelStore) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for version in store.versions():
        try:
            card = manifest(store, version)
            reasons = json.loads(store.load(version)[REASONS])["reasons"]
        except (CorruptModel, KeyError, TypeError, ValueError):
            continue
        why = "; ".join(map(str, reasons)) if isinstance(reasons, list) else None
        found.append({"version": f"{REFUSED}/{version}", "state": "refused", **_about(card), "why": why})
    return found


def manifest(store: ModelStore, version: int) -> dict[str, Any]:
    """Return the manifest of one version, as it was written.

    Raises
    ------
    CorruptModel
        The version is not there, or damaged.
    """
    versions = store.versions()
    if version not in versions:
        there = f"versions: {', '.join(map(str, versions))}" if versions else "there is no model yet"
        raise CorruptModel(f"there is no version {version}; {there}")
    files = store.load(version)
    try:
        card = json.loads(files[MANIFEST])
    except (KeyError, ValueError) as error:
        raise CorruptModel(f"model {version}: {MANIFEST} must be JSON (got {error})") from error
    if not isinstance(card, dict):
        raise CorruptModel(f"model {version}: {MANIFEST} must be an object (got {type(card).__name__})")
    return card


def summary(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of key and value of what people ask first about a model; the whole of it is `manifest`."""
    about = card.get("card")
    known: dict[str, Any] = {"method": card.get("method"), "profile": _label(card.get("profile"))}
    known |= about if isinstance(about, dict) else {}
    known["clusters"] = card.get("clusters")
    listed = card.get("table")
    for row in listed if isinstance(listed, list) else []:
        if isinstance(row, dict):
            known[str(row.get("cluster"))] = f"{row.get('count')} windows: {row.get('description')}"
    return [{"key": key, "value": value} for key, value in known.items()]


def previous(store: ModelStore) -> int:
    """Return the version that a rollback brings back: the newest of those that were activated, are older than the current one, and whole.

    Raises
    ------
    UsageError
        There is none.
    CorruptModel, StateVersion
        See `ModelStore.activations`.
    """
    log = store.activations()
    if not log:
        raise UsageError("rollback: there is no model yet")
    current = log[-1].version
    older = sorted({entry.version for entry in log if entry.version < current}, reverse=True)
    found = next((version for version in older if store.verifies(version)), None)
    if found is None:
        raise UsageError(f"rollback: there is no model before version {current} that can be used; see `models list`")
    return found


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of what two manifests do not have in common: what, in the one, in the other; then each cluster's windows."""
    first, second = _flat(one), _flat(other)
    return [
        {"what": key, "before": first.get(key), "after": second.get(key)}
        for key in dict.fromkeys((*first, *second))
        if first.get(key) != second.get(key)
    ]


def _flat(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return what people ask first, with one row for each cluster: windows that it was made of."""
    about, listed = card.get("card"), card.get("table")
    flat: dict[str, Any] = {"method": card.get("method"), "profile": _label(card.get("profile"))}
    flat |= {key: value for key, value in (about if isinstance(about, dict) else {}).items() if _short(value)}
    ids = card.get("clusters")
    flat |= {f"cluster {each}": "yes" for each in (ids if isinstance(ids, list) else [])}
    for row in listed if isinstance(listed, list) else []:
        if isinstance(row, dict):
            flat[f"cluster {row.get('cluster')}"] = f"{row.get('count')} windows: {row.get('description')}"
    return flat


def _short(value: Any) -> bool:
    """Tell whether it fits into a table."""
    return len(json.dumps(value, default=str)) <= 200


def export(store: ModelStore, version: int, where: Path) -> None:
    """Write the files of a version to a new directory, as `adopt` and ``streamclust assign`` take it.

    Raises
    ------
    CorruptModel
        The version is not there, or damaged.
    UsageError
        Something is there already.
    SinkUnavailable, DurabilityError
        The disk does not take it.
    """
    manifest(store, version)
    if where.exists() and (not where.is_dir() or any(where.iterdir())):
        raise UsageError(f"DIR: must be a new or empty directory (got {where})")
    make_dir(where)
    for name, content in store.load(version).items():
        write_file(where / name, content)


def adopt(where: Path, config: Config, *, activate: bool) -> Adopted:
    """Check a model against the settings and publish it as a new version of the daemon's state directory.

    A daemon may run meanwhile: it sees an activation within a second or so. The clusters get ids that no cluster here ever
    had; only a model that is here already, as one that was exported, keeps its own.

    Parameters
    ----------
    where
        Directory with ``model.json`` and ``model.safetensors``, as ``streamclust fit`` writes it.
    activate
        Make it the current one. Without, a daemon that has a current model stays with that.

    Raises
    ------
    UsageError
        There is no model in `where`.
    CorruptModel, ProfileMismatch, ModelError
        It is damaged, or made for another profile or number of channels; nothing was written.
    SinkUnavailable, DurabilityError
        The disk does not take it.
    """
    from streamclust.model.bundle import from_bytes
    from streamclust.model.score import Scorer
    from streamclust.signal.groups import Grouping

    try:
        files: Mapping[str, bytes] = {name: (where / name).read_bytes() for name in (MANIFEST, TENSORS)}
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"MODEL_DIR: must be a directory with {MANIFEST} and {TENSORS} (got {where})") from error
    bundle = Scorer(from_bytes(files), config.profile, config.model.novel_above).bundle
    channels = Grouping(config.windows).channels
    if bundle.shape[0] != channels:
        raise ModelError(
            f"model: must be made for windows of {channels} channels, as windows.group_by and windows.components give "
            f"them (got {bundle.shape[0]})"
        )
    state = Path(config.state.dir)
    prepare(state)
    store = ModelStore(state / "models")
    if not any(store.holds(version, files) for version in store.versions()):
        files = _own_ids(bundle, state)
    version = store.publish(files)
    if activate:
        store.activate(version)
    return Adopted(version, store.newest_good() or version)


def _own_ids(bundle: Bundle, state: Path) -> Mapping[str, bytes]:
    """Return the files of a model whose clusters have ids that no other cluster here ever had."""
    from streamclust.store.identities import IDENTITIES, Identities

    with closing(Identities(state / IDENTITIES)) as identities:
        last = identities.last()
        new = {old: f"C{last + at}" for at, old in enumerate(bundle.clusters, start=1)}
        identities.reserve(last + len(new))
    table = tuple(
        {**row, **({"cluster": new[row["cluster"]]} if row.get("cluster") in new else {})} for row in bundle.table
    )
    return replace(bundle, clusters=tuple(new.values()), table=table).to_bytes()


def prepare(path: Path) -> None:
    """Make or migrate the state directory, unless a daemon that runs in it has done so.

    Raises
    ------
    StateError, StateVersion
        See `StateDir.open`.
    """
    from streamclust.store.state import StateDir

    with suppress(StateLocked):
        StateDir.open(path).close()


def _label(profile: Any) -> str | None:
    """`seismic/1` of a profile's settings."""
    if isinstance(profile, dict):
        return f"{profile.get('name')}/{profile.get('version')}"
    return profile if isinstance(profile, str) else None
