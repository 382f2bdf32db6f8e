"""The tables of identities.sqlite, and the steps from an older schema to this one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

SCHEMA_VERSION: Final = 2
TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS identities (
        id TEXT PRIMARY KEY NOT NULL, number INTEGER NOT NULL UNIQUE, born_ns INTEGER NOT NULL,
        born_model INTEGER NOT NULL, retired_ns INTEGER, name TEXT, note TEXT, colour TEXT,
        mute INTEGER NOT NULL DEFAULT 0, alarm INTEGER NOT NULL DEFAULT 0,
        merged_into TEXT REFERENCES identities (id), split INTEGER, split_why TEXT)""",
    """CREATE TABLE IF NOT EXISTS lineage (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, at_ns INTEGER NOT NULL, kind TEXT NOT NULL, identity TEXT NOT NULL,
        parents TEXT NOT NULL, jaccard REAL, from_model INTEGER, to_model INTEGER NOT NULL,
        UNIQUE (at_ns, to_model, identity, kind))""",
    "CREATE INDEX IF NOT EXISTS lineage_identity ON lineage (identity)",
    """CREATE TABLE IF NOT EXISTS journal (
        entry INTEGER PRIMARY KEY AUTOINCREMENT, at_ns INTEGER NOT NULL, who TEXT NOT NULL, field TEXT NOT NULL,
        identity TEXT NOT NULL REFERENCES identities (id), "before" TEXT NOT NULL, "after" TEXT NOT NULL,
        undoes INTEGER REFERENCES journal (entry))""",
    "CREATE TABLE IF NOT EXISTS marks (name TEXT PRIMARY KEY NOT NULL, value INTEGER NOT NULL)",
    "INSERT OR IGNORE INTO marks VALUES ('last', 0)",
    *(
        f"CREATE TRIGGER IF NOT EXISTS {table}_no_{verb} BEFORE {verb} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is append only'); END"
        for table in ("lineage", "journal")
        for verb in ("UPDATE", "DELETE")
    ),
    (
        "CREATE TRIGGER IF NOT EXISTS identities_stay BEFORE DELETE ON identities "
        "BEGIN SELECT RAISE(ABORT, 'ids are never used again'); END"
    ),
    (
        "CREATE TRIGGER IF NOT EXISTS ids_stay BEFORE UPDATE OF id, number ON identities "
        "BEGIN SELECT RAISE(ABORT, 'ids are never used again'); END"
    ),
    (
        "CREATE TRIGGER IF NOT EXISTS last_grows BEFORE UPDATE ON marks WHEN NEW.value < OLD.value "
        "BEGIN SELECT RAISE(ABORT, 'ids are never used again'); END"
    ),
)
STEPS: Final[Mapping[int, Sequence[str]]] = MappingProxyType(
    {1: ("ALTER TABLE identities ADD COLUMN split INTEGER", "ALTER TABLE identities ADD COLUMN split_why TEXT")}
)
"""Schema -> the step to the next one: 1 -> 2, people may ask for a split."""
