"""The messages of the models topic, in their order -> activations that count; pure."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from streamclust.core.errors import CorruptModel, ModelError, ProfileMismatch
from streamclust.store.activations import Activation, bounded, entry_of, recent

FORMAT: Final = 1
PART_BYTES: Final = 512 * 1024
"""Of a model in one message: no broker's limit needs changing."""
MODEL_BYTES: Final = 256 * 1024 * 1024
"""Of the largest model."""
WAITING_BYTES: Final = 2 * MODEL_BYTES
"""Parts without an activation that are kept in memory; the oldest models go first."""
ACTIVATION_BYTES: Final = 64 * 1024
KEPT: Final = 20
"""Versions that the topic keeps at least; all who read it must agree on that number."""
TOLD: Final = 20
"""Refusals that wait to be told; more are only counted."""
_PART = re.compile(r"^model/([1-9][0-9]{0,9})/([0-9a-f]{64})/([1-9][0-9]{0,3})-([1-9][0-9]{0,3})$")
_ACTIVATION = re.compile(r"^activation/([1-9][0-9]{0,9})/([0-9a-f]{64})$")


class Keyed(NamedTuple):
    """Key and value of one message; without a value it removes what has that key."""

    key: bytes
    value: bytes | None


class Draft(NamedTuple):
    """A model on its way into the topic."""

    files: Mapping[str, bytes]
    version: int
    sha: str
    parts: list[Keyed]


class Accepted(NamedTuple):
    """An activation that counts, and the model's files when it is the first of that version."""

    activation: Activation
    files: Mapping[str, bytes] | None


class Lost(NamedTuple):
    """An activation that came second, and the model that only it named."""

    key: bytes
    version: int
    sha: str


def packed(files: Mapping[str, bytes], version: int, author: str) -> tuple[str, list[Keyed]]:
    """Return a model's SHA-256 and its messages.

    Parameters
    ----------
    author
        Differs with every call that is no repetition, so that no key is ever written again after its activation.

    Raises
    ------
    ModelError
        It is larger than `MODEL_BYTES`.
    """
    sizes = {name: len(content) for name, content in files.items()}
    head = json.dumps({"format": FORMAT, "version": version, "author": author, "files": sizes}).encode()
    data = b"".join((head, b"\n", *files.values()))
    if len(data) > MODEL_BYTES:
        raise ModelError(f"model {version}: must be {MODEL_BYTES} bytes at most to be shared (got {len(data)})")
    sha = hashlib.sha256(data).hexdigest()
    count = -(-len(data) // PART_BYTES)
    cut = (data[at * PART_BYTES : (at + 1) * PART_BYTES] for at in range(count))
    return sha, [Keyed(f"model/{version}/{sha}/{at}-{count}".encode(), part) for at, part in enumerate(cut, start=1)]


def drafted(files: Mapping[str, bytes], version: int, before: Draft | None) -> Draft:
    """Return what is to be sent of a model: the draft before when it is the same one, so that a repetition has the same keys."""
    if before is not None and before.files == files and before.version == version:
        return before
    return Draft(files, version, *packed(files, version, uuid.uuid4().hex))


def unpacked(data: bytes, version: int) -> dict[str, bytes]:
    """Return the files of a model that `packed` made; CorruptModel when it did not."""
    head, _, rest = data.partition(b"\n")
    try:
        about = json.loads(head)
        if about["format"] != FORMAT or about["version"] != version:
            raise CorruptModel(f"model {version}: must be of format {FORMAT} (got {head[:80]!r})")
        sizes = {str(name): int(size) for name, size in about["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptModel(f"model {version}: must begin with what it is (got {head[:80]!r})") from error
    if min(sizes.values(), default=-1) < 0 or sum(sizes.values()) != len(rest):
        raise CorruptModel(f"model {version}: must have files of {sizes} bytes (got {len(rest)})")
    files, at = {}, 0
    for name, size in sizes.items():
        files[name] = rest[at : at + size]
        at += size
    return files


def announced(activation: Activation, sha: str, profile: str) -> Keyed:
    """Return the message of an activation of the model with this SHA-256, for a profile's digest."""
    value = json.dumps({"format": FORMAT, "model": sha, "profile": profile, **activation._asdict()}).encode()
    return Keyed(f"activation/{activation.seq}/{hashlib.sha256(value).hexdigest()}".encode(), value)


def blank() -> Keyed:
    """Return a message that says nothing: it removes an activation that never was."""
    return Keyed(f"activation/1/{secrets.token_hex(32)}".encode(), None)


class ModelLog:
    """What counts of a log of messages, which are given in their order.

    An activation counts when its number is higher than all before, it names a whole model, and that is fit for use; so of
    several with one number the first in the log. So all who read the log agree, whenever they read it. Activations
    for other profiles are not ours to judge: they are passed over.

    What was older than `recent` of `KEPT` versions when an activation came counts no more: all readers forget it at that
    message, and whoever writes next removes it. Activated again such a model comes with its parts anew. Who reads on after
    a compaction, or in the midst of one, misses some of what was removed: never the newest, and nothing between two
    activations that still count.

    Parameters
    ----------
    profile
        Digest of the profile that models must be for.
    check
        Raises ModelError for files that make no model that can be used.
    """

    def __init__(self, profile: str, check: Callable[[Mapping[str, bytes]], None]) -> None:
        self._profile = profile
        self._check = check
        self._waiting: dict[tuple[int, str], dict[int, Keyed]] = {}
        self._bytes = 0
        self._seen: set[bytes] = set()
        self._keys: dict[int, bytes] = {}
        self._parts: dict[tuple[int, str], set[bytes]] = {}
        self._told: list[str] = []
        self.activations: tuple[Activation, ...] = ()
        """Those that count, as `activations.bounded` and `recent` keep them."""
        self.models: dict[int, str] = {}
        """Version -> SHA-256 of the models that count."""
        self.refused: Counter[str] = Counter()
        """Why messages were refused -> how many."""
        self.lost: list[Lost] = []
        """Activations that came second."""

    @property
    def next_seq(self) -> int:
        """Number of the next activation."""
        return self.activations[-1].seq + 1 if self.activations else 1

    def reasons(self) -> tuple[str, ...]:
        """Return why messages were refused, since the last call."""
        told, self._told = self._told, []
        return tuple(told)

    def read(self, key: bytes | None, value: bytes | None) -> Accepted | None:
        """Take the next message; return the activation that counts because of it."""
        try:
            text = (key or b"").decode("ascii")
        except UnicodeDecodeError:
            text = ""
        if part := _PART.match(text):
            self._part((int(part[1]), part[2]), int(part[3]), int(part[4]), Keyed(text.encode(), value))
        elif activation := _ACTIVATION.match(text):
            return self._activation(Keyed(text.encode(), value), int(activation[1]), activation[2])
        else:
            self._refuse("key", f"a message with the key {(key or b'')[:80]!r}, which means nothing here")
        return None

    def removals(self) -> list[Keyed]:
        """Return what removes all that counts no more: what came second, and what is outdated.

        To be sent in this order: no activation may be left behind without its model.
        """
        gone: list[bytes] = []
        for lost in self.lost:
            gone += [lost.key, *(part.key for part in self._waiting.get((lost.version, lost.sha), {}).values())]
        return [Keyed(key, None) for key in (*gone, *self._outdated())]

    def _part(self, model: tuple[int, str], at: int, count: int, message: Keyed) -> None:
        if model in self._parts:
            if message.value is None and self.models.get(model[0]) != model[1]:
                self._parts[model].discard(message.key)
                self._parts = {known: keys for known, keys in self._parts.items() if keys}
            return
        parts = self._waiting.get(model, {})
        self._bytes -= len((parts.pop(at, None) or Keyed(b"", b"")).value or b"")
        if message.value is None:
            if not parts:
                self._waiting.pop(model, None)
            return
        if len(message.value) > PART_BYTES or at > count or count * PART_BYTES >= MODEL_BYTES + PART_BYTES:
            self._refuse("size", f"part {at} of {count} of model {model[0]}, {len(message.value)} bytes: too large")
            return
        parts[at] = message
        self._waiting[model] = parts
        self._bytes += len(message.value)
        while self._bytes > WAITING_BYTES and len(self._waiting) > 1:
            self._drop(next(iter(self._waiting)))

    def _activation(self, message: Keyed, seq: int, sha: str) -> Accepted | None:
        if message.value is None:
            self.lost = [lost for lost in self.lost if lost.key != message.key]
            if self._keys.get(seq) == message.key:
                del self._keys[seq]
            return None
        if message.key in self._seen:
            return None
        try:
            found = _announcement(message.value, seq, sha)
        except CorruptModel as error:
            self._refuse("activation", str(error))
            return None
        if found.profile != self._profile:
            self._refuse("profile", f"activation {seq} of model {found.entry.version} is for another profile")
        elif self.activations and seq < self.next_seq:
            self.lost.append(Lost(message.key, found.entry.version, found.model))
        else:
            return self._judged(found, message.key)
        return None

    def _judged(self, found: _Announcement, key: bytes) -> Accepted | None:
        entry, files, model = found.entry, None, (found.entry.version, found.model)
        if model not in self._parts:
            parts = {part.key for part in self._waiting.get(model, {}).values()}
            known = self.models.get(entry.version, found.model) if entry.seq == self.next_seq else found.model
            try:
                if known != found.model:
                    raise CorruptModel(f"must be the model with SHA-256 {known[:12]} (got {found.model[:12]})")
                files = self._whole(*model)
                self._check(files)
            except ModelError as error:
                kind = "profile" if isinstance(error, ProfileMismatch) else "model"
                self._refuse(kind, f"activation {entry.seq} of model {entry.version}: {error}")
                return None
            finally:
                self._drop(model)
            self._parts[model] = parts
        self.models[entry.version] = found.model
        self._seen.add(key)
        self._keys[entry.seq] = key
        self._count(entry)
        return Accepted(entry, files)

    def _count(self, entry: Activation) -> None:
        """Let an activation count, and what it makes outdated no more; before a number that is missing all is."""
        before = self.activations if entry.seq == self.next_seq else ()
        self.activations = recent(bounded((*before, entry)), KEPT)
        named = {kept.version for kept in self.activations}
        self.models = {version: sha for version, sha in self.models.items() if version in named}

    def _outdated(self) -> list[bytes]:
        """Return the keys of what counts no more: activations first, then the models that none of the others names."""
        if not self.activations:
            return []
        old = [key for seq, key in self._keys.items() if seq < self.activations[0].seq]
        models = [model for model in self._parts if self.models.get(model[0]) != model[1]]
        return [*old, *(key for model in models for key in sorted(self._parts[model]))]

    def _whole(self, version: int, sha: str) -> dict[str, bytes]:
        """Return the files of a model, all of whose parts are there."""
        parts = self._waiting.get((version, sha), {})
        data = b"".join(parts[at].value or b"" for at in sorted(parts))
        if hashlib.sha256(data).hexdigest() != sha:
            raise CorruptModel(f"all parts must be there and whole (got {len(parts)} parts, {len(data)} bytes)")
        return unpacked(data, version)

    def _drop(self, model: tuple[int, str]) -> None:
        self._bytes -= sum(len(part.value or b"") for part in self._waiting.pop(model, {}).values())

    def _refuse(self, kind: str, reason: str) -> None:
        self.refused[kind] += 1
        if len(self._told) < TOLD:
            self._told.append(f"refused in the models topic: {reason}")


class _Announcement(NamedTuple):
    entry: Activation
    model: str
    profile: str


def _announcement(value: bytes, seq: int, sha: str) -> _Announcement:
    """Read the value of an activation with this number and hash in its key, or raise CorruptModel."""
    where = f"activation {seq}"
    if len(value) > ACTIVATION_BYTES or hashlib.sha256(value).hexdigest() != sha:
        raise CorruptModel(f"{where}: its content must have the SHA-256 of its key")
    try:
        content: Any = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise CorruptModel(f"{where}: must be JSON") from error
    entry = entry_of(content, where)
    if content.get("format") != FORMAT or entry.seq != seq:
        raise CorruptModel(f"{where}: must be of format {FORMAT} and have that number")
    model, profile = content.get("model"), content.get("profile")
    if not isinstance(model, str) or not isinstance(profile, str):
        raise CorruptModel(f"{where}: must name a model and a profile")
    return _Announcement(entry, model, profile)
