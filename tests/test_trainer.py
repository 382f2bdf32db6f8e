"""The training process as the daemon sees it: real processes of small programs, on a clock that tests move."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from daemons import wait_for

from streamclust.child import Ended, Progress
from streamclust.core.clock import ManualClock
from streamclust.core.specs import Config
from streamclust.store.trainings import HOUR, remembered
from streamclust.trainer import Killed, Started, Trainer, spawn

TALK = """
import sys, time
from streamclust.child import Ended, Progress, Teller
teller = Teller(1)
"""
WELL = TALK + "teller.tell(Progress('clusters', 0.5, 1.25)); teller.tell(Ended('promoted', 2, (), 3.5, 40))"
HANGS = TALK + "teller.tell(Progress('clusters', 0.5)); time.sleep(600)"
FAILS = TALK + "teller.tell(Ended('failed', None, ('numbers',), 1.0))"
DIES = "raise MemoryError('no room')"


class Rig:
    """A trainer whose child is a given program."""

    def __init__(self, tmp_path, program=WELL, **retrain):
        self.path, self.program, self.clock = tmp_path, program, ManualClock()
        settings = {"rest": 10, "look_every": 1, "time_budget": 100, "silent_after": 30, **retrain}
        source = {"type": "files", "paths": ["none"]}
        self.config = Config.model_validate({"source": source, "state": {"dir": str(tmp_path)}, "retrain": settings})
        self.reason = "many windows"
        self.calls = []
        self.trainer = self.made()

    def made(self):
        return Trainer(self.config, self.path, self.clock, lambda _memory: self.reason, self.spawn)

    def spawn(self, arguments, environment, given):
        self.calls.append((arguments, environment, given))
        return subprocess.Popen(
            [sys.executable, "-c", self.program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )

    def poll(self, seconds=1.0):
        self.clock.sleep(seconds)
        return self.trainer.poll()

    def until(self, kind):
        """Poll, with real time between, until such an event comes; return all."""
        seen = []

        def found():
            self.clock.sleep(1.0)
            seen.extend(self.trainer.poll())
            time.sleep(0.02)
            return any(isinstance(event, kind) for event in seen)

        budget = self.trainer._spec
        assert budget
        wait_for(found)
        return seen


@pytest.fixture
def rig(tmp_path):
    made = []

    def make(*args, **options):
        made.append(Rig(tmp_path, *args, **options))
        return made[-1]

    yield make
    for one in made:
        one.trainer.stop()


def test_a_training_is_started_says_how_far_it_is_and_what_became_of_it(rig):
    one = rig(time_budget=10_000, silent_after=10_000)
    events = one.until(Ended)
    assert events[0] == Started("many windows")
    assert Progress("clusters", 0.5, 1.25) in events
    assert events[-1] == Ended("promoted", 2, (), 3.5, 40)
    arguments, environment, given = one.calls[0]
    assert arguments == ["retrain", "--child", str(os.getpid()), "--reason", "many windows"]
    assert environment["OMP_NUM_THREADS"] == "1"
    assert Config.model_validate_json(given) == one.config
    memory = remembered(one.path)
    assert (memory.taken, memory.seconds) == (40, 10.0)


def test_nothing_begins_while_there_is_no_reason_or_a_pause_holds_or_it_is_switched_off(rig):
    one = rig(time_budget=10_000, silent_after=10_000)
    one.reason = None
    assert one.poll() == []
    one.reason = "now"
    one.until(Ended)
    assert one.poll(5.0) == []
    assert one.poll(6.0) == [Started("now")]
    off = rig(enabled=False)
    assert off.poll(100.0) == []
    assert not off.calls


def test_it_looks_only_every_now_and_then(rig):
    one = rig(look_every=60)
    one.reason = None
    assert one.poll() == []
    one.reason = "now"
    assert one.poll(59.0) == []
    assert one.poll(1.0) == [Started("now")]


def test_one_that_hangs_is_killed_with_its_whole_session_and_the_pause_outlives_a_restart(rig):
    program = HANGS.replace("time.sleep", "import subprocess; subprocess.Popen(['sleep', '600']); time.sleep")
    one = rig(program)
    assert one.poll() == [Started("many windows")]
    process = one.trainer._child.process
    wait_for(lambda: any(isinstance(event, Progress) for event in one.poll(1.0)) or one.clock.monotonic() > 29)
    os.kill(process.pid, signal.SIGSTOP)
    one.poll(31.0)
    (killed,) = one.until(Killed)
    assert "silent_after" in killed.why
    with pytest.raises(ProcessLookupError):
        wait_for(lambda: os.killpg(process.pid, 0))
    one.trainer = one.made()
    assert one.poll(HOUR - 10) == []
    assert one.poll(11.0) == [Started("many windows")]
    assert one.trainer.failures == 1


def test_one_that_takes_too_long_is_killed_however_much_it_says(rig):
    one = rig(
        TALK + "while True:\n teller.tell(Progress('x', 0.5)); time.sleep(0.001)", time_budget=10, silent_after=1000
    )
    events = one.until(Killed)
    assert "time_budget" in events[-1].why
    assert one.trainer.failures == 1


@pytest.mark.parametrize(
    ("program", "told"),
    [(DIES, "MemoryError: no room"), ("import os; os.kill(os.getpid(), 9)", "signal 9"), ("", "exit code 0")],
)
def test_one_that_dies_is_told_with_what_it_said_last(rig, program, told):
    events = rig(program, time_budget=10_000, silent_after=10_000).until(Killed)
    assert told in events[-1].why


def test_failures_make_longer_and_longer_pauses(rig):
    one = rig(FAILS, time_budget=1e6, silent_after=1e6)
    waits = []
    for _ in range(4):
        one.until(Ended)
        waits.append(remembered(one.path).seconds / HOUR)
        one.clock.sleep(4 * HOUR)
    assert waits == [1, 2, 4, 4]


def test_a_process_that_cannot_be_made_is_a_failure(rig):
    one = rig()

    def full(*_):
        raise OSError(11, "no more processes")

    one.trainer._spawn = full
    assert [type(event) for event in one.poll()] == [Started, Killed]
    assert one.poll() == []


@pytest.mark.parametrize("stubborn", ["", "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"])
def test_a_stop_ends_it_within_two_seconds(rig, stubborn):
    one = rig(stubborn + HANGS, time_budget=10_000, silent_after=10_000)
    one.until(Progress)
    process = one.trainer._child.process
    began = time.monotonic()
    one.trainer.stop()
    one.trainer.stop()
    assert time.monotonic() - began < 2.0
    assert process.poll() is not None


def test_a_poll_never_waits_even_for_a_child_that_is_stopped(rig):
    one = rig(HANGS, time_budget=10_000, silent_after=10_000)
    one.poll()
    os.kill(one.trainer._child.process.pid, signal.SIGSTOP)
    began = time.monotonic()
    for _ in range(100):
        one.poll()
    assert time.monotonic() - began < 1.0


def test_what_it_says_in_pieces_and_junk_are_no_harm(rig):
    junk = "import os, sys; os.write(1, b'x' * 200_000 + b'\\n\\xff\\n'); os.write(2, b'y' * 200_000)\n"
    pieces = 'data = b\'{"line": "progress", \'; os.write(1, data); time.sleep(0.1); os.write(1, b\'"step": "s", "share": 1, "loss": null}\\n\')\n'
    events = rig(
        junk + TALK + pieces + "teller.tell(Ended('refused', 1, ('a',), 1.0))", time_budget=1e5, silent_after=1e5
    ).until(Ended)
    assert Progress("s", 1.0, None) in events


def test_the_child_reads_its_settings_and_writes_to_pipes(tmp_path):
    process = spawn(["--version"], {"X": "y"}, b"{}")
    out, _ = process.communicate()
    assert out.startswith(b"streamclust ")
    assert process.returncode == 0


def test_settings_that_were_read_again_hold_for_the_next_training(rig):
    one = rig(time_budget=10_000, silent_after=10_000, threads=1)
    one.config = one.config.model_copy(update={"retrain": one.config.retrain.model_copy(update={"threads": 3})})
    one.trainer.configure(one.config)
    one.until(Ended)
    _, environment, given = one.calls[0]
    assert environment["OMP_NUM_THREADS"] == "3"
    assert Config.model_validate_json(given).retrain.threads == 3
