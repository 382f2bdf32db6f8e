"""Damaged miniSEED in large numbers, decoded in a process of its own: nothing but records and rejects comes out."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections import Counter
from pathlib import Path

import corpus
import numpy as np
import pytest

from streamclust.core.types import Record
from streamclust.signal.mseed import Payload, decode, peek_start_ns, split

MUTANTS = int(os.environ.get("STREAMCLUST_FUZZ_MUTANTS", "40000"))
BATCH = 500
ADDRESS_SPACE = 4 << 30


def same(got: list[Record], expected: list[Record]) -> bool:
    """Whether two decodings agree in everything but their place."""
    return len(got) == len(expected) and all(
        a[:3] == b[:3] and a.samples.dtype == b.samples.dtype and a.samples.tobytes() == b.samples.tobytes()
        for a, b in zip(got, expected, strict=True)
    )


def fuzz(mutants: int, seed: int) -> Counter[str]:
    """Decode mutants in batches; count ``version encoding mutator outcome``."""
    rng = np.random.default_rng(seed)
    samples = corpus.corpus()
    oracle = [decode([Payload("o", 0, s.data)]).records for s in samples]
    names = list(corpus.MUTATORS)
    outcomes: Counter[str] = Counter()
    for begin in range(0, mutants, BATCH):
        picks = rng.integers(len(samples), size=min(BATCH, mutants - begin)).tolist()
        kinds = [names[i] for i in rng.integers(len(names), size=len(picks)).tolist()]
        datas = [corpus.MUTATORS[k](samples[i], samples, rng) for i, k in zip(picks, kinds, strict=True)]
        for pick, kind, outcome in zip(picks, kinds, judge(datas, [oracle[i] for i in picks]), strict=True):
            outcomes[f"{samples[pick].version} {samples[pick].encoding} {kind} {outcome}"] += 1
        _, _, used = split(b"".join(datas[:40]), 0, "f")
        assert used >= 0
        peek_start_ns(datas[0])
    return outcomes


def judge(datas: list[bytes], expected: list[list[Record]]) -> list[str]:
    """Decode a batch; name the outcome of each payload."""
    decoded = decode([Payload(str(i), i, data) for i, data in enumerate(datas)])
    records: dict[int, list[Record]] = {}
    for record in decoded.records:
        records.setdefault(record.offset, []).append(record)
    rejected = {reject.offset: reject for reject in decoded.rejects}
    assert not records.keys() & rejected.keys(), "a payload is all or nothing"
    assert all(datas[i] == reject.payload for i, reject in rejected.items())
    out = []
    for i, right in enumerate(expected):
        if i in rejected:
            out.append("rejected")
        elif i not in records:
            out.append("skipped")
        else:
            out.append("same" if same(records[i], right) else "changed")
    return out


@pytest.fixture(scope="module")
def outcomes() -> Counter[str]:
    """Run the fuzzing in a child: a crash or a hang there is a failure here."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, __file__, str(MUTANTS), "20261123"],
        env=os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}"},
        capture_output=True,
        text=True,
        timeout=60 + MUTANTS / 500,
        check=False,
    )
    assert done.returncode == 0, f"exit {done.returncode}: {done.stderr[-2000:]}"
    return Counter(json.loads(done.stdout))


def part(outcomes: Counter[str], *words: str) -> int:
    """Sum of the counts whose key has all `words`."""
    return sum(n for key, n in outcomes.items() if set(words) <= set(key.split()))


def test_no_mutant_crashes_hangs_or_raises_and_each_is_accounted_for(outcomes):
    assert outcomes.total() == MUTANTS
    assert part(outcomes, "rejected") > 0.5 * MUTANTS


@pytest.mark.parametrize("encoding", ["steim1", "steim2"])
def test_a_damaged_steim_payload_is_delivered_changed_only_where_its_checksum_collides(outcomes, encoding):
    """The only checksum is that all differences sum up to the last sample: 6 of 18,000 mutants came through."""
    tried = part(outcomes, "2", encoding, "payload")

    assert tried > 0.01 * MUTANTS / 2
    assert part(outcomes, "2", encoding, "payload", "changed") <= max(1, 0.002 * tried)


def test_no_damaged_version_3_record_is_delivered_changed(outcomes):
    """Records put together of two others are another thing: `splice` and `several` are left out."""
    damaged = sum(part(outcomes, "3", kind, "changed") for kind in ("flip", "bytes", "header", "payload", "truncate"))

    assert damaged == 0


def test_the_fuzzer_sees_damage_where_version_2_has_no_checksum(outcomes):
    """Else `same` would be blind and the other tests could not fail."""
    assert part(outcomes, "2", "int32", "payload", "changed") > 0.5 * part(outcomes, "2", "int32", "payload")


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    sys.stdout.write(json.dumps(fuzz(int(sys.argv[1]), int(sys.argv[2]))))
