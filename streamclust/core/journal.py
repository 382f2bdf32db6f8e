"""What people do to clusters: the journal's actions, which of them can be undone, and which texts may be kept."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from streamclust.core.errors import UsageError

LONGEST_NAME: Final = 64
"""Characters."""
LONGEST_NOTE: Final = 4000
MOST_PARTS: Final = 8
"""Of a cluster that is split, from 2."""
SPLIT_DONE: Final = "split_done"
"""Field of an action of a training: it split a cluster as a person asked for, which ends that wish. Nothing undoes it."""
TRAINING: Final = "retrain"
"""Who does that."""
_BIDI: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They turn the text around them."""
_CONTROL: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})


class Action(NamedTuple):
    """One thing that a person did to a cluster; append only."""

    entry: int
    """Number in the journal, from 1."""
    at_ns: int
    who: str
    field: str
    """What was changed: name, note, colour, mute, alarm, merged_into or split; or `SPLIT_DONE`, with the ids of the parts after it."""
    identity: str
    before: Any
    after: Any
    undoes: int | None
    """The entry that this one takes back; None for a new action."""


def to_undo(journal: Sequence[Action], entry: int | None = None) -> Action:
    """Return the action that is to be taken back: the last one that holds, or one by its number.

    An action can be taken back while nothing later holds on the same field of the same cluster, so that what was
    before it is exactly restored; a wish for a split, until a training has fulfilled it. An undo can be taken back (the
    action is done again) while the field is as it left it.

    Parameters
    ----------
    journal
        All of it, oldest first.

    Raises
    ------
    UsageError
        There is no such action, or it cannot be taken back now; the message says why.
    """
    ended = _ended(journal)
    if entry in ended:
        what = f"{ended[entry].identity} was split into {ended[entry].after}"
        raise UsageError(f"action {entry}: {what}, which cannot be undone; merge the parts instead")
    by_entry = {action.entry: action for action in journal if action.entry not in ended}
    held: dict[tuple[str, str], tuple[int, ...]] = {}  # the actions that hold on a field, oldest first
    left: dict[int, tuple[int, ...]] = {}  # the same as each entry left it
    for action in by_entry.values():
        key = (action.identity, action.field)
        held[key] = left[action.entry] = _after(held.get(key, ()), action, by_entry)
    if entry is None:
        entry = max((at for stack in held.values() for at in stack), default=0)
    if entry not in by_entry:
        raise UsageError(f"there is no action {entry} to undo" if entry else "there is nothing to undo")
    action = by_entry[entry]
    if action.undoes is not None and by_entry[action.undoes].undoes is not None:
        action = by_entry[_origin(action, by_entry)]  # it did an action again: that one is taken back
    now = held[action.identity, action.field]
    if action.undoes is None and action.entry not in now:
        raise UsageError(f"action {entry} is undone already")
    if action.undoes is not None and action.undoes in now:
        raise UsageError(f"action {entry} is undone already: action {action.undoes} was done again")
    if now != left[action.entry] and now[-1:] != (action.entry,):
        blocking = f"; undo action {now[-1]} first" if now else ""
        raise UsageError(f"action {entry}: {action.field} of {action.identity} was changed since{blocking}")
    return action


def _ended(journal: Sequence[Action]) -> dict[int, Action]:
    """Return the entries about splits that a training has done, and that action of the training."""
    ended: dict[int, Action] = {}
    for done in journal:
        if done.field == SPLIT_DONE:
            same = [a for a in journal if a.identity == done.identity and a.field in ("split", SPLIT_DONE)]
            ended.update((a.entry, done) for a in same if a.entry <= done.entry and a.entry not in ended)
    return ended


def _after(stack: tuple[int, ...], action: Action, by_entry: dict[int, Action]) -> tuple[int, ...]:
    """Return the actions that hold on a field after one more entry."""
    if action.undoes is None:
        return (*stack, action.entry)
    if by_entry[action.undoes].undoes is None:
        return tuple(at for at in stack if at != action.undoes)
    return (*stack, _origin(action, by_entry))


def _origin(action: Action, by_entry: dict[int, Action]) -> int:
    """Return the action that an undo, or an undo of an undo, is about."""
    while action.undoes is not None:
        action = by_entry[action.undoes]
    return action.entry


def parts(count: int) -> int:
    """Return in how many parts a cluster shall be split.

    Raises
    ------
    UsageError
        It is less than 2 or more than `MOST_PARTS`.
    """
    if not 2 <= count <= MOST_PARTS:
        raise UsageError(f"split: must be 2 to {MOST_PARTS} parts (got {count})")
    return count


def line(what: str, text: str) -> str:
    """Return a name as it is kept: one line, without space around it, in Unicode's composed form (NFC).

    Raises
    ------
    UsageError
        It is empty, longer than `LONGEST_NAME`, or has control characters.
    """
    return _kept(what, text, LONGEST_NAME, "")


def note(text: str) -> str:
    """Return a note as it is kept; it may have several lines. Raises as `line`, beyond `LONGEST_NOTE`."""
    return _kept("note", text, LONGEST_NOTE, "\n\t")


def _kept(what: str, text: str, longest: int, allowed: str) -> str:
    wrong = [c for c in text if c not in allowed and (unicodedata.category(c) in _CONTROL or c in _BIDI)]
    if wrong:
        raise UsageError(f"{what}: must have no control characters (got U+{ord(wrong[0]):04X})")
    kept = unicodedata.normalize("NFC", text).strip()
    if not any(unicodedata.category(c)[0] in "LMNPS" for c in kept):
        raise UsageError(f"{what}: must be a text that can be seen (got {text[:40]!r})")
    if len(kept) > longest:
        raise UsageError(f"{what}: must have at most {longest} characters (got {len(kept)})")
    return kept
