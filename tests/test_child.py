"""A training process from its own side."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamclust import child
from streamclust.child import Ended, OutOfTime, Progress, Teller, alone, decoded, within
from streamclust.core.errors import StateError, StateLocked


@pytest.mark.parametrize(
    "line",
    [
        Progress("clusters", 0.25, 1.5),
        Progress("read\n", 1.0),
        Ended("promoted", 7, (), 12.5, 900),
        Ended("failed", None, ("wrong: \x00\u2028", "x"), 0.0),
        Ended("skipped", None, (), 0.0, 5, {"novelty_change": -0.25}),
    ],
)
def test_a_line_comes_back_as_it_was(line):
    reading, writing = os.pipe()
    Teller(writing).tell(line)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    assert data.count(b"\n") == 1
    assert decoded(data) == line


def test_a_loss_that_is_no_number_is_left_out_and_reasons_are_bounded():
    assert decoded(child._encoded(Progress("x", 0.5, float("nan")))) == Progress("x", 0.5, None)
    told = decoded(child._encoded(Ended("refused", None, ("y" * 5000,) * 50, 0.0)))
    assert len(told.reasons) == 20
    assert len(child._encoded(told)) < child.LONGEST


@given(st.one_of(st.binary(), st.builds(lambda d: repr(d).encode(), st.dictionaries(st.text(), st.text()))))
def test_what_is_no_line_of_ours_is_nothing(data):
    assert decoded(data) is None
    assert decoded(b'{"line": "ended", "kind": "won", "version": 1}') is None
    assert decoded(b"[" * 60_000) is None


def test_only_one_trains_in_a_directory(tmp_path):
    with alone(tmp_path), pytest.raises(StateLocked, match="another training"), alone(tmp_path):
        pass
    with alone(tmp_path):
        pass
    with pytest.raises(StateError, match="cannot be opened"), alone(tmp_path / "none"):
        pass


def run(code, **options):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, **options)


def test_it_is_nice_and_memory_beyond_the_limit_is_refused():
    code = """
import os
from streamclust import child
child.confine(7, 200_000_000)
kept = bytearray(100_000_000)
try:
    bytearray(300_000_000)
except MemoryError:
    print("refused", os.getpriority(os.PRIO_PROCESS, 0))
"""
    done = run(code)
    assert done.stdout.split() == ["refused", str(max(7, os.getpriority(os.PRIO_PROCESS, 0)))], done.stderr


def test_a_training_that_takes_too_long_hears_of_it_wherever_it_is():
    began = time.monotonic()
    with pytest.raises(OutOfTime, match=r"retrain.time_budget, 0.05 s"), within(0.05):
        while time.monotonic() - began < 20:
            pass
    assert time.monotonic() - began < 10
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def test_a_training_that_does_not_heed_it_ends_and_says_where_it_is():
    code = """
import time
from streamclust.child import OutOfTime, within
with within(0.05, grace=0.2):
    for _ in range(2):
        try:
            time.sleep(600)
        except OutOfTime:
            pass
"""
    done = run(code, timeout=60)
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert "line 7" in done.stderr


def test_what_libraries_print_does_not_come_between_the_lines():
    code = """
from streamclust.child import Progress, Teller
teller = Teller.of_stdout()
print("a library is talking", flush=True)
teller.progress("x", 0.5)
"""
    done = run(code)
    assert decoded(done.stdout.encode()) == Progress("x", 0.5)
    assert "a library" in done.stderr


def test_a_child_ends_with_its_parent_and_one_that_has_none_any_more_ends_at_once():
    assert (
        run("import os; from streamclust import child; child.die_with(os.getppid() + 1); print('lives')").stdout == ""
    )
    code = """
import os, subprocess, sys, time
inner = "import os, sys, time; from streamclust import child; child.die_with(int(sys.argv[1])); print(os.getpid(), flush=True); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", inner, str(os.getpid())], start_new_session=True)
time.sleep(600)
"""
    with ExitStack() as stack:
        parent = stack.enter_context(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True))
        stack.callback(parent.kill)
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        deadline = time.monotonic() + 5
        while alive(pid):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def alive(pid):
    """Tell whether there is such a process that is no zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:  # noqa: PTH123 — a file of the kernel
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_end_of_standard_error_is_one_line():
    assert child.tail([b"Traceback\n  x\nMemoryError: no\n\n"]) == "MemoryError: no"
    assert child.tail([]) == ""
    assert set(child.threads(3).values()) == {"3"}
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY, "the tests themselves are not confined"
