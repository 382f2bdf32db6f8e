"""Apache Kafka's jars and the class archive of the JVM: fetched once by Maven, kept for all later runs."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
POM = HERE / "pom.xml"
CACHE_VARIABLE = "STREAMCLUST_TEST_KAFKA_CACHE"
MAVEN_TIMEOUT_S = 600


class NoBroker(RuntimeError):
    """No broker can be run here; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Jars:
    """What a JVM needs to be a broker."""

    java: str
    folder: Path
    archive: Path
    """Loaded classes of an earlier broker (AppCDS): halves the start. Made by `cluster.prepared`."""

    @property
    def classpath(self) -> str:
        """The jars, always in the same order: the archive is only valid with that one."""
        return ":".join(str(jar) for jar in sorted(self.folder.glob("*.jar")))


def fetched() -> Jars:
    """Return the jars, after asking Maven for them the first time.

    Raises
    ------
    NoBroker
        Java or Maven is missing, or Maven could not fetch them.
    """
    java = _java()
    cache = _cache()
    folder = cache / f"jars-{_digest(POM.read_bytes())}"
    with locked(cache):
        if not folder.exists():
            _fetch(folder)
    version = f"{java} {java.stat().st_mtime_ns} {folder}"
    return Jars(str(java), folder, folder / f"classes-{_digest(version.encode())}.jsa")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one process in at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # ends with the file, however this process ends
        yield


def _java() -> Path:
    found = shutil.which("java")
    if found is None:
        raise NoBroker("java is not installed; Kafka 4.1 needs Java 17 or newer")
    return Path(found).resolve()


def _cache() -> Path:
    return Path(os.environ.get(CACHE_VARIABLE) or HERE.parents[1] / ".kafka").resolve()


def _digest(what: bytes) -> str:
    return hashlib.sha256(what).hexdigest()[:12]


def _fetch(folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise NoBroker(f"mvn is not installed; it fetches Kafka's jars into {folder}")
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    command = [maven, "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={part}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=MAVEN_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise NoBroker(f"mvn took longer than {MAVEN_TIMEOUT_S} s to fetch Kafka's jars") from None
    if done.returncode:
        raise NoBroker(f"mvn could not fetch Kafka's jars: {(done.stdout + done.stderr).strip()[-1000:]}")
    part.rename(folder)
