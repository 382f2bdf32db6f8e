"""What may happen to a training, with real processes: whatever it is, the newest good model goes on."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import daemons
import pytest
from fake_disks import FullDisk
from small_models import model
from training_sites import config, fill, site

from streamclust.child import Ended, Progress
from streamclust.core.clock import SystemClock
from streamclust.core.errors import SinkUnavailable
from streamclust.model.bundle import from_bytes
from streamclust.store.identities import IDENTITIES, open_readonly
from streamclust.store.models import ModelStore
from streamclust.stream.models import DirectoryModels
from streamclust.trainer import Killed, Started, Trainer, spawn

pytestmark = pytest.mark.fault
ROUNDS = int(os.environ.get("STREAMCLUST_TEST_KILLS", "10"))


class Rig:
    """A trainer of the real thing, on the real clock."""

    def __init__(self, state: Path, start=spawn, **retrain):
        self.state = state
        self.processes: list[subprocess.Popen[bytes]] = []
        self._start = start
        self.trainer = Trainer(
            config(state, retrain=retrain), state, SystemClock(), lambda _memory: "a test", self._spawn
        )

    def _spawn(self, *given):
        self.processes.append(self._start(*given))
        return self.processes[-1]

    def until(self, *kinds, timeout=60.0):
        """Poll until such an event comes; return all events."""
        events = []

        def found():
            self.trainer._poll_at = float("-inf")
            events.extend(self.trainer.poll())
            return any(isinstance(event, kinds) for event in events)

        daemons.wait_for(found, timeout)
        return events

    def round(self):
        """Forget the pause, and start the next one."""
        (self.state / "trainer.json").unlink(missing_ok=True)
        self.trainer = Trainer(self.trainer._config, self.state, SystemClock(), lambda _memory: "a test", self._spawn)
        self.until(Started)


@pytest.fixture
def state(tmp_path):
    site(tmp_path / "state")
    return tmp_path / "state"


def good(state):
    """Return the version that a daemon goes on with, after seeing that it is whole and can be used."""
    models = DirectoryModels(ModelStore(state / "models"))
    version = models.activations()[-1].version
    assert models.reasons() == ()
    from_bytes(models.load(version))
    return version


@pytest.mark.slow
def test_killed_at_any_point_it_leaves_the_model_before_or_the_new_one_whole_and_no_id_twice(state):
    rig = Rig(state)
    rig.round()
    began = time.monotonic()
    assert isinstance(rig.until(Ended)[-1], Ended)
    took = time.monotonic() - began
    seed = random.randrange(1 << 30)
    print(f"seed {seed}, a training takes {took:.1f} s")
    rng, before, killed = random.Random(seed), good(state), 0
    for number in range(ROUNDS):
        fill(state, (40, 40, 40, 40), 100 + number, later=2 + number)
        rig.round()
        time.sleep(rng.uniform(0.2, 1.1) * took)
        rig.processes[-1].kill()
        killed += isinstance(rig.until(Ended, Killed)[-1], Killed)
        now = good(state)
        assert before <= now <= before + 1
        before = now
    rig.round()
    (ended,) = [event for event in rig.until(Ended, Killed) if isinstance(event, Ended | Killed)]
    assert isinstance(ended, Ended), ended
    assert ended.kind in {"promoted", "refused"}
    print(f"{killed} of {ROUNDS} were killed before their end, version {good(state)} holds")
    assert killed
    reader = open_readonly(state / IDENTITIES)
    born = [record.identity for record in reader.lineage() if record.kind in {"birth", "split"}]
    reader.close()
    assert len(born) == len(set(born))
    store = ModelStore(state / "models")
    known = set(from_bytes(store.load(good(state))).clusters)
    assert known <= set(born), "each cluster of the model was recorded"


def test_one_that_is_stopped_is_killed_and_the_lock_is_free_again(state):
    rig = Rig(state, silent_after=10, time_budget=600)
    rig.until(Progress)
    os.kill(rig.processes[-1].pid, signal.SIGSTOP)
    rig.trainer._child.heard -= 9.0  # the ten seconds are nearly over
    assert "silent_after" in rig.until(Killed)[-1].why
    rig.round()
    assert rig.until(Ended)[-1].kind == "promoted"
    assert good(state) == 2


def test_one_that_wants_too_much_memory_says_so_and_the_model_stays(state):
    def hungry(arguments, environment, given):
        """Let the training itself take memory, beyond its limit."""
        wanted = json.loads(given)
        wanted["retrain"]["memory_bytes"] = 500_000_000
        code = (
            "import sys; from streamclust import cli, training\n"
            "from streamclust.train import trainer\n"
            "def run(*_): return bytearray(2_000_000_000)\n"
            "trainer.run = run\n"
            "sys.exit(cli.main(sys.argv[1:]))"
        )
        return wrapped(code, arguments, environment, json.dumps(wanted).encode())

    rig = Rig(state, hungry)
    ended = rig.until(Ended, Killed)[-1]
    assert isinstance(ended, Ended), ended
    assert ended.kind == "failed"
    assert "retrain.memory_bytes" in ended.reasons[0]
    assert rig.trainer.failures == 1
    assert good(state) == 1


def wrapped(code, arguments, environment, given):
    """Start a program in place of the command line, as `trainer.spawn` does."""
    with os.fdopen(os.memfd_create("given"), "w+b") as settings:
        settings.write(given)
        settings.seek(0)
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments], stdin=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, **environment}, start_new_session=True,
        )  # fmt: skip


DAEMON = """
import sys, time
from pathlib import Path
sys.path[:0] = {path!r}
from training_sites import config
from streamclust.core.clock import SystemClock
from streamclust.trainer import Trainer, spawn
state = Path({state!r})
def start(*given):
    made = spawn(*given)
    print(made.pid, flush=True)
    return made
trainer = Trainer(config(state), state, SystemClock(), lambda _: "a test", start)
while True:
    for event in trainer.poll():
        print(event, flush=True)
    trainer._poll_at = 0
    time.sleep(0.005)
"""


def test_it_dies_with_its_parent(state):
    fill(state, (3000, 3000, 3000, 3000), 7)
    code = DAEMON.format(path=[str(Path(__file__).parent)], state=str(state))
    daemon = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        pid = int(daemon.stdout.readline())
        while "Progress" not in daemon.stdout.readline():
            pass
        assert running(pid)
    finally:
        daemon.kill()
        daemon.communicate()
    daemons.wait_for(lambda: not running(pid), 5.0)
    assert good(state) == 1


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_numbers_that_are_not_finite_make_no_model(state):
    def broken(arguments, environment, given):
        """Let the embedding of each window be no number."""
        code = (
            "import sys, numpy as np; from streamclust import cli\n"
            "from streamclust.train import retrain, look\n"
            "def nothing(*args):\n"
            "    found = look.look(*args)\n"
            "    return found._replace(z=found.z * np.nan) if hasattr(found, '_replace') else __import__('dataclasses').replace(found, z=found.z * np.nan)\n"
            "retrain.look = nothing\n"
            "sys.exit(cli.main(sys.argv[1:]))"
        )
        return wrapped(code, arguments, environment, given)

    ended = Rig(state, broken).until(Ended, Killed)[-1]
    assert isinstance(ended, Ended), ended
    assert ended.kind in {"refused", "failed"}, ended
    assert good(state) == 1


@pytest.mark.parametrize("room", [0, 100, 5000, 50_000])
def test_a_disk_that_is_full_while_a_model_is_written_keeps_the_one_that_there_is(state, room):
    files = dict(model(1))
    assert sum(map(len, files.values())) > 5000
    disk = FullDisk(min(room, sum(map(len, files.values())) - 1), OSError(errno.ENOSPC, "full"))
    with pytest.raises(SinkUnavailable):
        ModelStore(state / "models", disk).store(2, files)
    assert not [path for path in (state / "models").iterdir() if path.name.startswith(".")]
    assert ModelStore(state / "models").versions() == [1]
    assert good(state) == 1


def test_a_full_disk_is_an_outcome_of_a_training_and_counts_as_a_failure(state):
    def full(arguments, environment, given):
        """Let no file grow beyond some bytes: the system's own word for a full disk, for one process."""
        code = (
            "import errno, sys; from streamclust import cli\n"
            "from streamclust.store import durable\n"
            "def write(self, fd, data): raise OSError(errno.ENOSPC, 'full')\n"
            "durable.RealDisk.write = write\n"
            "sys.exit(cli.main(sys.argv[1:]))"
        )
        return wrapped(code, arguments, environment, given)

    rig = Rig(state, full)
    ended = rig.until(Ended, Killed)[-1]
    assert isinstance(ended, Ended), ended
    assert ended.kind == "failed"
    assert "full" in ended.reasons[0]
    assert rig.trainer.failures == 1
    assert good(state) == 1


def damage_manifest(where):
    (where / "manifest.json").write_bytes(b'{"format": 1, "fi')


def flip_a_bit(where):
    data = bytearray((where / "model.safetensors").read_bytes())
    data[len(data) // 2] ^= 1
    (where / "model.safetensors").write_bytes(data)


def cut_short(where):
    data = (where / "model.safetensors").read_bytes()
    (where / "model.safetensors").write_bytes(data[: len(data) // 2])


def empty(where):
    for path in where.iterdir():
        path.unlink()


def newer_format(where):
    manifest = json.loads((where / "manifest.json").read_bytes())
    (where / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))


def gone(where):
    empty(where)
    where.rmdir()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return daemons.recordings(tmp_path_factory.mktemp("recordings"), streams=1, seconds=300)


@pytest.fixture(scope="module")
def ran(data, tmp_path_factory):
    """Return the files of the model of a daemon that has run."""
    folder = tmp_path_factory.mktemp("first")
    daemons.run(daemons.config(folder, data))
    return dict(ModelStore(folder / "state" / "models").load(1))


@pytest.mark.parametrize("harm", [damage_manifest, flip_a_bit, cut_short, empty, newer_format, gone])
def test_a_daemon_goes_on_with_the_newest_good_model(data, ran, tmp_path, harm):
    store = ModelStore(tmp_path / "state" / "models")
    for version in (1, 2):
        store.publish(ran)
        store.activate(version, active_from_ns=0, by="retrain" if version > 1 else "first fit")
    store.publish(ran)  # never activated
    harm(store.directory / "2")
    log = daemons.run(daemons.config(tmp_path, data))
    assert {row[0] for row in daemons.rows(tmp_path / "state", "model").items()} == {1}, log
    assert "model 2" in log
    assert daemons.events_of(log, "model.refused")


@pytest.mark.parametrize("current", [b'{"version": 7}', b"", b'{"format": 2, "ver', None])
def test_a_log_of_activations_that_points_nowhere_or_is_gone_stops_nothing(data, ran, tmp_path, current):
    store = ModelStore(tmp_path / "state" / "models")
    store.publish(ran)
    store.activate(1, active_from_ns=0, by="first fit")
    if current is None:
        (store.directory / "current").unlink()
    else:
        (store.directory / "current").write_bytes(current)
    daemons.run(daemons.config(tmp_path, data))
    assert set(daemons.rows(tmp_path / "state", "model")) == {1}


def test_a_newer_log_of_activations_is_not_touched(data, ran, tmp_path):
    store = ModelStore(tmp_path / "state" / "models")
    store.publish(ran)
    content = b'{"format": 99, "version": 1}'
    (store.directory / "current").write_bytes(content)
    code, log = daemons.finish(daemons.start(daemons.config(tmp_path, data)))
    assert code == 1
    assert "newer version" in log
    assert (store.directory / "current").read_bytes() == content
