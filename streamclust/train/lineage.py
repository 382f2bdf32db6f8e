"""The history of a cluster as people read it: where it came from, what became of it, who called it what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from streamclust.core.journal import SPLIT_DONE, Action
from streamclust.core.lineage import Lineage
from streamclust.core.types import iso

_NOUNS = {"merged_into": "merge"}


def history(
    identity: str,
    lineage: Sequence[Lineage],
    names: Mapping[str, str] | None = None,
    actions: Sequence[Action] = (),
) -> str:
    """Return one line: ``C7 "rockfall": born 2026-01-03 with model 4; split into C9 with model 6, 2026-02-01``.

    Parameters
    ----------
    lineage
        Records of any clusters, in the order they were made; those that concern this one are told.
    names
        Id -> name.
    actions
        What people did, in the order they did it; told by their time between the records.
    """
    names = names or {}
    told = [(at_ns, text) for at_ns, text in _of_models(identity, lineage)]
    told += [(a.at_ns, _of_person(identity, a)) for a in actions]
    told.sort(key=lambda item: item[0])
    name = f' "{names[identity]}"' if identity in names else ""
    return f"{identity}{name}: {'; '.join(text for _, text in told) or 'nothing is known'}"


def _of_models(identity: str, lineage: Sequence[Lineage]) -> list[tuple[int, str]]:
    """Tell what models did to a cluster; runs of models that only kept it are one item."""
    told: list[tuple[int, str]] = []
    kept: list[Lineage] = []
    for _, group in groupby(lineage, key=lambda r: (r.at_ns, r.to_model)):
        records = list(group)
        own = next((r for r in records if r.identity == identity), None)
        others = [r for r in records if r.identity != identity and identity in r.parents]
        if own is not None and own.kind == "keep" and not others:
            kept.append(own)
            continue
        text = _event(own, others)
        if text:
            told += _kept(kept)
            kept = []
            told.append((records[0].at_ns, f"{text} {_when(records[0])}"))
    return told + _kept(kept)


def _kept(records: Sequence[Lineage]) -> list[tuple[int, str]]:
    """One item for models in a row that kept a cluster."""
    if not records:
        return []
    first, last = records[0], records[-1]
    least = min((r.jaccard for r in records if r.jaccard is not None), default=None)
    models = f"model {first.to_model}" if first == last else f"models {first.to_model} to {last.to_model}"
    overlap = "" if least is None else f" (overlap {'' if first == last else 'at least '}{least:.2f})"
    return [(first.at_ns, f"kept by {models}{overlap}")]


def _event(own: Lineage | None, others: Sequence[Lineage]) -> str:
    """Tell what one model did to a cluster, without when."""
    parts = []
    if own is not None and own.kind in ("birth", "return"):
        parts.append("born" if own.kind == "birth" else "returned")
    if own is not None and own.kind == "split":
        parts.append(f"split from {_list(own.parents)}")
    if own is not None and own.kind == "merge":
        rest = [parent for parent in own.parents if parent != own.identity]
        parts.append(f"{_list(rest)} merged into it" if len(rest) < len(own.parents) else f"merged of {_list(rest)}")
    into = [r.identity for r in others if r.kind == "merge"]
    off = [r.identity for r in others if r.kind == "split"]
    if into:
        parts.append(f"merged into {_list(into)}")
    if off:
        parts.append(f"split into {_list(off)}" + ("" if own is None or own.kind == "retire" else " and itself"))
    if own is not None and own.kind == "retire" and not parts:
        parts.append("retired")
    return ", ".join(parts)


def _of_person(identity: str, action: Action) -> str:
    """Tell what a person did."""
    by = f"by {action.who} on {_day(action.at_ns)}"
    what = {"mute": ("muted", "unmuted"), "alarm": ("alarm set", "alarm cleared")}.get(action.field)
    if action.field == SPLIT_DONE:
        return f"split as asked for on {_day(action.at_ns)}"
    if action.undoes is not None:
        of = "" if action.identity == identity else f" of {action.identity}"
        text = f"{_NOUNS.get(action.field, action.field)}{of} set back (action {action.undoes})"
    elif what is not None:
        text = what[0] if action.after else what[1]
    elif action.field == "merged_into":
        text = _merged(identity, action)
    elif action.field == "split":
        text = "split no longer asked for" if action.after is None else f"split into {action.after} parts asked for"
    elif action.after is None:
        text = f"{action.field} taken away"
    else:
        text = f'named "{action.after}"' if action.field == "name" else f"{action.field} set"
        text += f" {action.after}" if action.field == "colour" else ""
    return f"{text} {by}"


def _merged(identity: str, action: Action) -> str:
    if identity != action.identity:
        return f"{action.identity} {'merged into it' if action.after == identity else 'taken out of it'}"
    return f"merged into {action.after}" if action.after is not None else "shown as itself again"


def _when(record: Lineage) -> str:
    return f"{_day(record.at_ns)} with model {record.to_model}"


def _day(at_ns: int) -> str:
    return iso(at_ns)[:10]


def _list(ids: Sequence[str]) -> str:
    return ids[0] if len(ids) == 1 else f"{', '.join(ids[:-1])} and {ids[-1]}"
