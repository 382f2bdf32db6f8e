"""Lines go to standard output whole, wherever it leads."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import pytest
from fake_disks import event, events, validate

from streamclust.core.errors import DurabilityError, SinkUnavailable
from streamclust.stream.sinks.stdout import StdoutSink


def test_text_streams_are_written_at_their_innermost_layer_after_what_they_hold():
    raw = io.BytesIO()
    text = io.TextIOWrapper(raw)
    text.write("before\n")

    sink = StdoutSink(text)
    sink.write(events(0, 2), [])
    assert raw.getvalue() == b"before\n"
    sink.flush({})

    first, *lines = raw.getvalue().splitlines()
    assert first == b"before"
    assert [json.loads(line) for line in lines] == [event(0).as_dict(), event(1).as_dict()]
    for line in lines:
        validate(json.loads(line))
    sink.close()
    assert not text.closed


def test_a_reader_that_is_gone_is_no_reason_to_wait():
    read, write = os.pipe()
    with open(write, "wb", buffering=0) as pipe:  # noqa: PTH123 — a descriptor
        os.close(read)
        sink = StdoutSink(pipe)
        sink.write(events(0, 1), [])

        with pytest.raises(DurabilityError, match="closed by its reader"):
            sink.flush({})


def test_a_full_pipe_that_does_not_block_is_gone_on_with_at_the_same_byte():
    read, write = os.pipe()
    os.set_blocking(write, False)
    os.set_blocking(read, False)
    taken = b""
    with open(write, "wb") as pipe, open(read, "rb", buffering=0) as reader:  # noqa: PTH123 — descriptors
        sink = StdoutSink(pipe)
        sink.write(events(0, 400), [])
        refused = 0
        while True:
            try:
                sink.flush({})
                break
            except SinkUnavailable:
                refused += 1
                taken += reader.read(1 << 20)
        taken += reader.read(1 << 20)

    assert refused > 0
    assert [json.loads(line)["window_id"] for line in taken.splitlines()] == [event(n).window_id for n in range(400)]


def test_the_real_standard_output_is_written(tmp_path):
    script = (
        "import sys\n"
        "from fake_disks import events\n"
        "from streamclust.stream.sinks.stdout import StdoutSink\n"
        "sink = StdoutSink(sys.stdout)\n"
        "sink.write(events(0, 3), [])\n"
        "sink.flush({})\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True, env=env)

    assert [json.loads(line) for line in done.stdout.splitlines()] == [event(n).as_dict() for n in range(3)]
