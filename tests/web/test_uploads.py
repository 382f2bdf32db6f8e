from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from streamclust.core.clock import ManualClock, SystemClock
from streamclust.core.web_specs import UploadSpec
from streamclust.web import upload_worker
from streamclust.web import uploads as module
from streamclust.web.problems import Problem
from streamclust.web.upload_worker import Model
from streamclust.web.uploads import New, Uploads

NEW = New("a title", "a.csv", "csv", "cluster", "auto", "auto", 10.0, "me")
SAYS = "import json,sys,os,time\njob=json.load(sys.stdin)\ndef say(**line):\n    print(json.dumps(line),flush=True)\n"


@pytest.fixture
def program(monkeypatch):
    """Let uploads be worked on by a few lines of Python, without any limits of their own."""

    def use(code):
        monkeypatch.setattr(upload_worker, "PROGRAM", ("-c", SAYS + code))

    return use


@pytest.fixture
def made(tmp_path):
    """Uploads without their thread: a test does every step."""
    opened = []

    def make(clock=None, reserve_bytes=0, **settings):
        spec = UploadSpec(**{"per_client_per_minute": 100, **settings})
        reported = []
        none = Model({}, {}, None)
        one = Uploads(
            spec, tmp_path, clock or SystemClock(), lambda: none, reported.append, reserve_bytes=reserve_bytes
        )
        one.reported = reported
        opened.append(one)
        return one

    yield make
    for one in opened:
        one.close()


def settled(uploads, job_id, seconds=120):
    clock = SystemClock()
    until = clock.monotonic() + seconds
    while clock.monotonic() < until:
        uploads.step()
        view = uploads.view(job_id)
        if view.job.state in {"done", "failed", "cancelled"} and view.job.learn not in {"queued", "running"}:
            return view.job
        clock.sleep(0.02)
    raise AssertionError(uploads.view(job_id))


def test_what_waits_is_worked_on_in_its_order(made, program):
    program("say(step='reading',share=0.5)\nsay(done={'windows':3})")
    uploads = made()
    first, second = (uploads.add(NEW, io.BytesIO(b"1\n2\n")) for _ in range(2))
    assert [uploads.view(job.id).position for job in (first, second)] == [1, 2]
    assert settled(uploads, second.id).result == {"windows": 3}
    assert uploads.view(first.id).job.state == "done"
    assert uploads.view(first.id).progress == 1.0


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("os.kill(os.getpid(), 11)", "SIGSEGV"),
        ("sys.exit(3)", "without a result"),
        ("say(error='no samples')", "no samples"),
        ("os.write(1, b'{' * (3 << 20)); time.sleep(60)", "too much"),
        ("time.sleep(600)", "longer than 1 s"),
        ("while True: pass", "longer than 1 s"),
        ("say(done=[1]); say(share='x'); print('[' * 100000)", "without a result"),
        ("raise SystemError('secret /etc/passwd')", "without a result"),
    ],
)
def test_whatever_a_worker_does_is_an_error_of_its_upload_alone(made, program, code, error):
    program(code)
    uploads = made(seconds=1.0 if "1 s" in error else 60.0)
    job = settled(uploads, uploads.add(NEW, io.BytesIO(b"x")).id)
    assert job.state == "failed"
    assert error in job.error
    assert "passwd" not in job.error
    program("say(done={})")
    uploads.spec = uploads.spec.model_copy(update={"seconds": 60.0})
    assert settled(uploads, uploads.add(NEW, io.BytesIO(b"x")).id).state == "done"


def test_what_a_worker_started_ends_with_it(made, program, tmp_path):
    program(
        "import subprocess\np=subprocess.Popen([sys.executable,'-c','import time; time.sleep(600)'])\n"
        "open(job['folder']+'/out/pid','w').write(str(p.pid))\nos.kill(os.getpid(),9)"
    )
    uploads = made()
    job = uploads.add(NEW, io.BytesIO(b"x"))
    where = uploads.store.work(job.id) / "out" / "pid"
    clock, pid = SystemClock(), ""
    while not pid:
        uploads.step()
        pid = where.read_text() if where.exists() else pid
        if uploads.view(job.id).job.state == "failed":
            break
        clock.sleep(0.01)
    settled(uploads, job.id)
    if pid:
        status = Path(f"/proc/{pid}/stat")
        while status.exists() and ") Z " not in status.read_text():
            clock.sleep(0.02)


def test_a_worker_gets_no_secrets_of_the_environment(made, program, monkeypatch):
    monkeypatch.setenv("STREAMCLUST_SECRET", "canary")
    program("say(done={'env': sorted(os.environ), 'cwd': os.getcwd(), 'own': os.getsid(0) == os.getpid()})")
    uploads = made()
    result = settled(uploads, uploads.add(NEW, io.BytesIO(b"x")).id).result
    assert "STREAMCLUST_SECRET" not in result["env"]
    assert result["cwd"] == "/"
    assert result["own"]


def test_cancelling_ends_the_work_and_forgets_the_samples(made, program):
    program("time.sleep(600)")
    uploads = made()
    running, waiting = (uploads.add(NEW, io.BytesIO(b"x")) for _ in range(2))
    uploads.step()
    for job in (running, waiting):
        assert uploads.cancel(job.id).job.state == "cancelled"
        assert not (uploads.store.work(job.id) / "input.bin").exists()
    assert not uploads.step()
    assert uploads.cancel(running.id) is None
    with pytest.raises(Problem, match="no such upload"):
        uploads.view(running.id)


def test_files_and_queue_and_clients_are_bounded(made):
    uploads = made(max_bytes=1024, queue=2, per_client_per_minute=3)
    with pytest.raises(Problem, match="at most 1024 bytes"):
        uploads.add(NEW, io.BytesIO(bytes(1025)))
    assert list(uploads.store.root.iterdir()) == []
    for _ in range(3):
        uploads.admit("me")
    with pytest.raises(Problem, match="3 uploads a minute") as told:
        uploads.admit("me")
    assert told.value.status == 429
    uploads.admit("another")
    for _ in range(2):
        uploads.add(NEW, io.BytesIO(b"x"))
    with pytest.raises(Problem, match="wait already"):
        uploads.admit("third")


def test_the_oldest_results_go_when_there_is_no_room(made, program):
    program("open(job['folder']+'/out/result.json','wb').write(bytes(600_000))\nsay(done={})")
    uploads = made(quota_bytes=1024 * 1024)
    first = uploads.add(NEW, io.BytesIO(bytes(100_000)))
    settled(uploads, first.id)
    second = uploads.add(NEW, io.BytesIO(bytes(500_000)))
    with pytest.raises(Problem, match="no such upload"):
        uploads.view(first.id)
    assert uploads.view(second.id).job.state == "queued"
    with pytest.raises(Problem, match="no room"):
        uploads.add(NEW, io.BytesIO(bytes(700_000)))


def test_results_are_kept_for_a_set_time(made, program):
    program("say(done={})")
    clock = ManualClock()
    uploads = made(clock, keep_hours=1.0)
    job = uploads.add(NEW, io.BytesIO(b"x"))
    clock.sleep(3599)
    uploads.view(job.id)
    clock.sleep(2)
    with pytest.raises(Problem, match="no longer kept"):
        uploads.view(job.id)
    uploads._sweep()
    assert not uploads.store.folder(job.id).exists()


def test_a_restart_keeps_results_fails_what_ran_and_goes_on_with_what_waited(made, program):
    program("say(done={'n': 1})")
    before = made()
    done, running, waiting = (before.add(NEW, io.BytesIO(b"x")) for _ in range(3))
    settled(before, done.id)
    program("time.sleep(600)")
    while before.view(running.id).job.state != "running":
        before.step()
    before.close()
    program("say(done={'n': 2})")
    after = made()
    assert after.view(done.id).job.result == {"n": 1}
    failed = after.view(running.id).job
    assert (failed.state, "restarted" in failed.error) == ("failed", True)
    assert settled(after, waiting.id).result == {"n": 2}


def test_nothing_is_learnt_unless_an_operator_says_so(made, program, tmp_path):
    program(
        "if job['mode']=='learn': open(job['folder']+'/out/learn.kept','wb').write(b'x')\nsay(done={'mode': job['mode']})"
    )
    uploads = made()
    job = uploads.add(NEW, io.BytesIO(b"x"))
    with pytest.raises(Problem, match="is queued"):
        uploads.learn(job.id)
    settled(uploads, job.id)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["uploads"]
    assert uploads.learn(job.id).job.learn == "queued"
    learnt = settled(uploads, job.id)
    assert (learnt.state, learnt.learn, learnt.result) == ("done", "done", {"mode": "cluster"})
    assert (tmp_path / "learn" / f"{job.id[:8]}.kept").read_bytes() == b"x"
    with pytest.raises(Problem, match="already"):
        uploads.learn(job.id)


def test_what_is_learnt_from_can_be_taken_away_meanwhile_and_work_goes_on(made, program):
    program("job['mode']=='learn' and time.sleep(600)\nsay(done={})")
    uploads = made()
    job = uploads.add(NEW, io.BytesIO(b"x"))
    settled(uploads, job.id)
    uploads.learn(job.id)
    assert uploads.step()
    assert uploads.cancel(job.id) is None
    assert not uploads.step()
    program("say(done={})")
    assert settled(uploads, uploads.add(NEW, io.BytesIO(b"x")).id).state == "done"


def test_only_a_plain_file_is_laid_ready_to_be_learnt_from(made, program, tmp_path):
    program("job['mode']=='learn' and os.mkdir(job['folder']+'/out/learn.kept')\nsay(done={})")
    uploads = made()
    job = uploads.add(NEW, io.BytesIO(b"x"))
    settled(uploads, job.id)
    uploads.learn(job.id)
    assert "disk" in settled(uploads, job.id).learn_error
    assert not list((tmp_path / "learn").glob("*")) if (tmp_path / "learn").exists() else True


def test_a_disk_that_fills_refuses_and_ends_uploads_before_the_daemon_notices(made, program, monkeypatch):
    program("time.sleep(600)")
    uploads = made(reserve_bytes=1000, max_bytes=1024)
    job = uploads.add(NEW, io.BytesIO(b"x"))
    uploads.step()
    monkeypatch.setattr(module, "free_bytes", lambda _folder: 2047)
    with pytest.raises(Problem, match="disk is too full") as told:
        uploads.admit("me")
    assert told.value.status == 507
    monkeypatch.setattr(module, "free_bytes", lambda _folder: 1999)
    assert "disk is too full" in settled(uploads, job.id).error


def test_work_that_makes_too_many_files_is_ended(made, program, monkeypatch):
    monkeypatch.setattr(module, "RESULT_BYTES", 100_000)
    program(
        "for i in range(9): open(job['folder']+f'/out/{i}','wb').write(bytes(60_000))\ntime.sleep(600)\nsay(done={})"
    )
    uploads = made()
    assert "too large files" in settled(uploads, uploads.add(NEW, io.BytesIO(b"x")).id).error


@pytest.mark.parametrize("result", ["'['*300 + ']'*300", "'NaN'", "'1e999'", "'[[[[[[[1]]]]]]]'", "'9'*999"])
def test_a_result_that_cannot_be_shown_is_none(made, program, result):
    program(f"print('{{\"done\": {{\"x\": ' + {result} + '}}}}', flush=True)")
    uploads = made()
    assert "without a result" in settled(uploads, uploads.add(NEW, io.BytesIO(b"x")).id).error


def test_without_a_model_there_is_nothing_to_assign_by(made):
    uploads = made()
    job = settled(uploads, uploads.add(NEW._replace(mode="assign"), io.BytesIO(b"x")).id)
    assert "no running model" in job.error


def test_folders_are_closed_to_others_and_damaged_ones_removed(made, tmp_path):
    uploads = made()
    job = uploads.add(NEW, io.BytesIO(b"x"))
    assert oct(uploads.store.folder(job.id).stat().st_mode)[-3:] == "700"
    (uploads.store.folder(job.id) / "job.json").write_text(json.dumps({"schema": 1, "id": "0" * 32}))
    (tmp_path / "elsewhere").mkdir()
    (uploads.store.root / ("a" * 32)).symlink_to(tmp_path / "elsewhere")
    assert made().views() == []
    assert (tmp_path / "elsewhere").is_dir()
