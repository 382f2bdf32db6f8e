from __future__ import annotations

from upload_files import as_npz
from upload_jobs import job, program

from streamclust.lab.upload import Teller


def test_the_program_is_locked_in_before_it_reads_a_byte(tmp_path):
    lines, errors = program(job(tmp_path, b"RIFF....WAVEjunk", "wav"))
    assert lines, errors
    locked = [at for at, line in enumerate(lines) if "locked" in line]
    assert locked[0] < next(at for at, line in enumerate(lines) if line.get("step") == "reading")
    assert lines[locked[0]]["locked"]["capabilities"]
    assert "fmt" in lines[-1]["error"]
    assert not list((tmp_path / "out").iterdir())


def test_too_little_memory_is_an_error_in_words(tmp_path):
    import numpy as np

    data = as_npz(x=np.ones((2000, 2000), np.float32), fs=100.0)
    lines, errors = program(job(tmp_path, data, "npz", max_samples=10_000_000, memory_bytes=8 << 20))
    assert "more memory than the 8 MiB" in lines[-1].get("error", ""), (lines[-1], errors[-500:])


def test_progress_never_goes_back():
    teller = Teller.__new__(Teller)
    told = []
    teller._share = 0.0
    teller.tell = lambda **line: told.append(line["share"])
    for step, share in (("reading", 1.0), ("training", 0.5), ("features", 0.1), ("method: x", 0.0), ("unknown", 1.0)):
        teller.progress(step, share)
    assert told == sorted(told)
