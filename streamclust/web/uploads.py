"""Uploads: taken in within their limits, worked on one after the other in processes of their own, kept for a set time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from streamclust.core.clock import Clock
from streamclust.core.errors import StreamclustError
from streamclust.core.types import NS
from streamclust.core.web_specs import UploadSpec
from streamclust.store import laid
from streamclust.web.limits import Bucket
from streamclust.web.problems import Problem, conflict, not_found
from streamclust.web.upload_store import FOLDER, INPUT, OVER, Job, Store, copied, free_bytes
from streamclust.web.upload_worker import Model, Told, Worker

LEARN: Final = "learn"
"""What is done with an upload beside its own mode."""
KEPT: Final = "learn.kept"
RESULT_BYTES: Final = 1 << 30
"""Of the files that the work on one may make."""
_LOOK: Final = 0.1
_IDLE: Final = 20.0
_RESTARTED: Final = "the server was restarted while it was worked on; upload it again"


class New(NamedTuple):
    """What a person sends, checked."""

    title: str
    filename: str
    format: str
    mode: str
    profile: str
    clusters: int | str
    rate: float | None
    owner: str
    channels: str = "separate"


class View(NamedTuple):
    """An upload now."""

    job: Job
    position: int | None
    """How many are before it, plus one; None when it does not wait."""
    progress: float
    step: str


class _Task(NamedTuple):
    """What waits: an upload, and what is to be done with it."""

    job_id: str
    mode: str


class _Work(NamedTuple):
    """What is under way."""

    worker: Worker
    task: _Task
    until: float
    began: float


class Uploads:
    """All uploads of one server. Any thread may call it; one thread of its own looks after the processes.

    Parameters
    ----------
    model
        Says what the daemon assigns by now.
    report
        Told what a person should know, for the log.
    reserve_bytes
        Of the disk, below which a daemon takes no data in; uploads leave twice as much.
    """

    def __init__(
        self,
        spec: UploadSpec,
        state: Path,
        clock: Clock,
        model: Callable[[], Model],
        report: Callable[[str], None],
        *,
        reserve_bytes: int = 0,
    ) -> None:
        self.spec = spec
        self.store = Store(state / FOLDER)
        self._state, self._clock, self._model, self._report = state, clock, model, report
        self._reserve = 2 * reserve_bytes
        self._bucket = Bucket(spec.per_client_per_minute, clock)
        self._lock = threading.Condition()
        self._jobs: dict[str, Job] = {}
        self._bytes: dict[str, int] = {}
        self._queue: list[_Task] = []
        self._works: dict[str, _Work] = {}
        self._told: dict[str, Told] = {}
        self._closed = False
        self.listeners = 0
        """Who is told how far an upload is; counted by the server's event loop alone."""
        self._thread: threading.Thread | None = None
        self._load()

    def start(self) -> None:
        """Begin to work, in a thread of its own: the processes end with it."""
        self._thread = threading.Thread(target=self._run, name="uploads", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End what is under way and the thread. May be called twice."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()
        if self._thread is not None:
            self._thread.join(10.0)
        with self._lock:
            works, self._works = list(self._works.values()), {}
        for work in works:
            work.worker.close()

    def admit(self, client: str) -> None:
        """Return when this client may send an upload now.

        Raises
        ------
        Problem
            429: too many a minute, or too many wait; 507: the disk is too full.
        """
        self._check_disk(2 * self.spec.max_bytes)
        with self._lock:
            if len(self._queue) >= self.spec.queue:
                raise Problem(
                    429, f"{len(self._queue)} recordings wait already; try again later.", {"Retry-After": "30"}
                )
            if not self._bucket.take(client):
                wait = str(int(self._bucket.wait(client)) + 1)
                raise Problem(
                    429, f"At most {self.spec.per_client_per_minute} uploads a minute; wait.", {"Retry-After": wait}
                )

    def add(self, new: New, source: IO[bytes]) -> Job:
        """Take in a file.

        Raises
        ------
        Problem
            413 it is too large, 429 there is no room.
        SinkUnavailable, DurabilityError, OSError
            The disk does not take it.
        """
        now_ns = self._clock.now_ns()
        job_id = self.store.new_id()
        folder = self.store.make(job_id)
        try:
            size = copied(source, folder / INPUT, self.spec.max_bytes)
            self._make_room(job_id, size)
            expires_ns = now_ns + round(self.spec.keep_hours * 3600 * NS)
            job = Job(
                job_id, new.title, new.filename, new.format, size, new.mode, new.profile, new.clusters, new.rate, now_ns,
                expires_ns, new.owner, channels=new.channels,
            )  # fmt: skip
            self.store.save(job)
        except (Problem, StreamclustError, OSError):
            with self._lock:
                self._bytes.pop(job_id, None)
            self.store.remove(job_id)
            raise
        with self._lock:
            self._jobs[job_id] = job
            self._queue.append(_Task(job_id, job.mode))
            self._lock.notify_all()
        return job

    def view(self, job_id: str) -> View:
        """Return an upload.

        Raises
        ------
        Problem
            404: there is none with this id, or its time is over.
        """
        with self._lock:
            job = self._jobs.get(job_id)
            if job is None or job.expires_ns <= self._clock.now_ns():
                raise not_found("There is no such upload, or it is no longer kept.")
            waiting = [task.job_id for task in self._queue]
            position = waiting.index(job_id) + 1 if job_id in waiting else None
            told = self._told.get(job_id, Told())
        share = 1.0 if job.state == "done" else told.share or 0.0
        return View(job, position, share, told.step or "" if job.state == "running" else "")

    def views(self) -> list[View]:
        """Return all of them, the newest first."""
        with self._lock:
            ids = [job.id for job in sorted(self._jobs.values(), key=lambda job: -job.created_ns)]
        found = []
        for job_id in ids:
            with suppress(Problem):
                found.append(self.view(job_id))
        return found

    def cancel(self, job_id: str) -> View | None:
        """Stop what waits or is worked on, and forget its samples; remove what is over, and return None."""
        with self._lock:
            job = self.view(job_id).job
            if job.state in OVER:
                learning = self._works.pop(job_id, None)
                if learning is not None:
                    learning.worker.close()
                self._drop(job_id)
                return None
            self._queue = [task for task in self._queue if task.job_id != job_id]
            work = self._works.pop(job_id, None)
            if work is not None:
                work.worker.kill("it was cancelled")
            self._put(replace(job, state="cancelled", error="it was cancelled"))
            self._told.pop(job_id, None)
        if work is not None:
            work.worker.close()
        self.store.clear(job_id, keep_input=False)
        return self.view(job_id)

    def learn(self, job_id: str) -> View:
        """Let the daemon learn from an upload: its windows are computed in the daemon's profile and laid ready.

        Raises
        ------
        Problem
            404 as `view`; 409: it is not done, or was learnt from already.
        """
        with self._lock:
            job = self.view(job_id).job
            if job.state != "done":
                raise conflict(f"Only an upload that is done can be learnt from; this one is {job.state}.")
            if job.learn in {"queued", "running", "done"}:
                raise conflict("It is being learnt from already.")
            self._put(replace(job, learn="queued", learn_error=None))
            self._queue.append(_Task(job_id, LEARN))
            self._lock.notify_all()
        return self.view(job_id)

    def step(self) -> bool:
        """Look after everything once; return whether something is under way. Only the thread that works calls it."""
        self._sweep()
        with self._lock:
            works = list(self._works.values())
        for work in works:
            self._look(work)
        with self._lock:
            while self._queue and len(self._works) < self.spec.jobs and not self._closed:
                self._begin(self._queue.pop(0))
            return bool(self._works)

    def _run(self) -> None:
        while not self._closed:
            busy = self.step()
            with self._lock:
                if not self._closed:
                    self._lock.wait(_LOOK if busy or self._queue else _IDLE)
        with self._lock:
            works, self._works = list(self._works.values()), {}
        for work in works:
            work.worker.close()

    def _load(self) -> None:
        """Take up what an earlier server left: results stay, what waited waits, what was worked on has failed."""
        for found in self.store.load():
            job = found
            if job.state == "running":
                job = replace(job, state="failed", error=_RESTARTED)
            if job.learn == "running":
                job = replace(job, learn="failed", learn_error=_RESTARTED)
            self._jobs[job.id], self._bytes[job.id] = job, self.store.size(job.id)
            if job is not found:
                self.store.clear(job.id, keep_input=True) if job.state == "failed" else None
                self._put(job)
            if job.state == "queued":
                self._queue.append(_Task(job.id, job.mode))
            elif job.learn == "queued":
                self._queue.append(_Task(job.id, LEARN))

    def _begin(self, task: _Task) -> None:
        job, now = self._jobs[task.job_id], self._clock.monotonic()
        try:
            model = self._model()
            if task.mode == "assign" and model.folder is None:
                self._end(task, error="there is no running model yet; cluster the recording by itself instead")
                return
            worker = Worker(job, self.store.work(job.id), self.spec, model, task.mode)
        except (OSError, StreamclustError) as error:
            self._report(f"upload: no process could be started: {error}")
            self._end(task, error="no process could be started; try again later")
            return
        self._works[job.id] = _Work(worker, task, now + self.spec.seconds, now)
        self._put(replace(job, learn="running") if task.mode == LEARN else replace(job, state="running"))

    def _look(self, work: _Work) -> None:
        job_id = work.task.job_id
        with self._lock:
            if self._works.get(job_id) is not work:
                return  # it was cancelled meanwhile
            running, told = work.worker.running, work.worker.hear()
            before = self._told.get(job_id, Told())
            self._told[job_id] = Told(told.step or before.step, told.share if told.share is not None else before.share)
        if told.done is None and told.error is None and running:
            if self._clock.monotonic() > work.until:
                work.worker.kill(f"it took longer than {self.spec.seconds:g} s")
            elif self.store.size(job_id) > self._bytes.get(job_id, 0) + RESULT_BYTES:
                work.worker.kill("it made too large files")
            elif free_bytes(self._state) < self._reserve:
                work.worker.kill("the disk is too full now; try again later")
            return
        work.worker.close()
        with self._lock:
            if self._works.pop(job_id, None) is None:
                return  # likewise
            died = None if told.done is not None or told.error is not None else work.worker.died()
            if died is not None or told.detail:
                self._report(f"upload: {died or told.error}; {told.detail or work.worker.errors}")
            took = round(1000 * (self._clock.monotonic() - work.began))
            self._end(work.task, told.done, told.error or died, took)

    def _end(
        self, task: _Task, done: Mapping[str, Any] | None = None, error: str | None = None, took_ms: int | None = None
    ) -> None:
        job = self._jobs[task.job_id]
        if task.mode == LEARN:
            if done is not None:
                error = self._laid_ready(job)
            self._put(replace(job, learn="failed" if error else "done", learn_error=error))
            return
        if error is not None:
            self.store.clear(job.id, keep_input=False)
            self._put(replace(job, state="failed", error=error, taken_ms=took_ms))
        else:
            self._put(replace(job, state="done", result=done, taken_ms=took_ms))
        self._bytes[job.id] = self.store.size(job.id)
        self._told.pop(job.id, None)

    def _laid_ready(self, job: Job) -> str | None:
        """Move the windows to where the daemon takes them up; return why not, if so."""
        try:
            self.store.spool(job.id, KEPT, self._state / laid.FOLDER / f"{job.id[:8]}{laid.SUFFIX}")
        except (StreamclustError, OSError) as error:
            self._report(f"upload: {error}")
            return "the disk does not take it now; try again"
        return None

    def _put(self, job: Job) -> None:
        """Keep what is known of an upload; a disk that does not take it loses only what a restart would tell."""
        self._jobs[job.id] = job
        try:
            self.store.save(job)
        except (StreamclustError, OSError) as error:
            self._report(f"upload: {error}")

    def _sweep(self) -> None:
        now_ns = self._clock.now_ns()
        with self._lock:
            for job in [job for job in self._jobs.values() if job.expires_ns <= now_ns and job.id not in self._works]:
                self._drop(job.id)

    def _check_disk(self, more: int) -> None:
        if free_bytes(self._state) < self._reserve + more:
            raise Problem(507, "The disk is too full for a recording now; try again later.", {"Retry-After": "60"})

    def _make_room(self, job_id: str, size: int) -> None:
        """Remove the oldest results until there is room for one more, and take it.

        Raises
        ------
        Problem
            429: even so there is none.
        """
        with self._lock:
            over = [job for job in self._jobs.values() if job.state in OVER and job.learn not in {"queued", "running"}]
            for job in sorted(over, key=lambda job: job.created_ns):
                if sum(self._bytes.values()) + size <= self.spec.quota_bytes:
                    break
                self._drop(job.id)
            if sum(self._bytes.values()) + size > self.spec.quota_bytes:
                raise Problem(
                    429, "There is no room for another recording now; try again later.", {"Retry-After": "60"}
                )
            self._bytes[job_id] = size

    def _drop(self, job_id: str) -> None:
        self._queue = [task for task in self._queue if task.job_id != job_id]
        self._jobs.pop(job_id, None)
        self._bytes.pop(job_id, None)
        self._told.pop(job_id, None)
        self.store.remove(job_id)
