"""Look for what would stop the daemon from running here, and say how to mend each thing."""

from __future__ import annotations

import glob
import importlib
import json
import os
import re
import shutil
import socket
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from streamclust.config import load
from streamclust.core.clock import Clock
from streamclust.core.errors import ConfigError
from streamclust.core.kafka_specs import KafkaSource
from streamclust.core.specs import Config, HttpSpec, ParquetSink, SdsSource, SourceSpec, StateSpec
from streamclust.store.lock import held_by

Status = Literal["ok", "note", "fail"]

DEPENDENCIES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "kafka-python": ("kafka", "3.0.12"),
        "msgpack": ("msgpack", "1.1"),
        "numpy": ("numpy", "2.0"),
        "obspy": ("obspy", "1.5"),
        "onnxruntime": ("onnxruntime", "1.20"),
        "prometheus-client": ("prometheus_client", "0.21"),
        "pydantic": ("pydantic", "2.11"),
        "pymseed": ("pymseed", "1.0.1"),
        "pyyaml": ("yaml", "6.0.2"),
        "rich": ("rich", "13.9"),
        "safetensors": ("safetensors", "0.5"),
        "scipy": ("scipy", "1.14"),
    }
)
"""Distribution -> module and lowest version; the same as in pyproject.toml."""

EXTRAS: Mapping[str, tuple[tuple[str, ...], str]] = MappingProxyType(
    {
        "train": (("torch", "scikit-learn", "onnx"), "training of encoders"),
        "umap": (("umap-learn", "numba"), "the method umap_gmm, and maps by UMAP in reports"),
        "parquet": (("pyarrow",), "events as Parquet files"),
        "web": (("starlette", "uvicorn", "python-multipart"), "the page and its API"),
        "neuro": (("edfio",), "EDF recordings among uploads"),
        "confluent": (("confluent-kafka",), "the faster Kafka client, kafka.client: confluent"),
        "bench": (("river",), "other stream clusterers to compare with, in benchmarks/drift.py"),
    }
)
"""Extra -> its distributions, and what it adds."""

IMPORT_ERRORS = (ImportError, OSError, AttributeError, RuntimeError, SystemError, TypeError, ValueError)
"""What a package that is broken or of the wrong version raises when it is imported."""

SANE_NS = (1_735_689_600 * 10**9, 4_102_444_800 * 10**9)
"""2025 to 2100."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at; `note` is worth knowing, `fail` stops the daemon; `fix` says what to do."""

    name: str
    status: Status
    detail: str
    fix: str = ""


def diagnose(path: Path, environ: Mapping[str, str], clock: Clock) -> list[Check]:
    """Run every check; those of a configuration that cannot be read are left out."""
    checks = [check_python(sys.version_info[:3]), *map(check_dependency, DEPENDENCIES)]
    try:
        config = load(path, environ).config
    except ConfigError as error:
        checks += [Check("config", "fail", str(problem), f"correct {path}") for problem in error.problems]
        checks += check_extras(frozenset(), installed_version)
        return [*checks, check_clock(clock)]
    checks.append(Check("config", "ok", f"{path} is right"))
    checks += check_extras(wanted_extras(config), installed_version)
    checks += [check_clock(clock), *check_state(config.state), *check_source(config.source), *check_kafka(config)]
    return [*checks, check_port(config.http, in_use_is_fine=held_by(Path(config.state.dir)) is not None)]


def failed(checks: Sequence[Check]) -> bool:
    """Say whether any check failed."""
    return any(check.status == "fail" for check in checks)


def table(checks: Sequence[Check]) -> str:
    """One line a check, and its fix below it; plain ASCII."""
    width = max((len(check.name) for check in checks), default=0)
    lines: list[str] = []
    for check in checks:
        lines.append(f"{check.status:<5} {check.name:<{width}}  {check.detail}")
        if check.fix:
            lines.append(f"{'':5} {'':{width}}  -> {check.fix}")
    bad = sum(check.status == "fail" for check in checks)
    lines.append(f"{len(checks)} checks, {bad} failed" if bad else f"{len(checks)} checks, none failed")
    return "\n".join(lines) + "\n"


def as_json(checks: Sequence[Check]) -> dict[str, Any]:
    """Return the checks as one JSON object: ``{"ok": bool, "checks": [...]}``."""
    return {"ok": not failed(checks), "checks": [asdict(check) for check in checks]}


def installed_version(distribution: str) -> str | None:
    """Version of an installed distribution, None when it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def check_python(version: tuple[int, ...]) -> Check:
    """Want Python 3.11 to 3.13."""
    text = ".".join(map(str, version))
    if (3, 11) <= version[:2] <= (3, 13):
        return Check("python", "ok", text)
    return Check("python", "fail", f"{text} is not supported", "use Python 3.11, 3.12 or 3.13")


def check_dependency(distribution: str) -> Check:
    """Import a package that the daemon needs, and compare its version with the lowest one."""
    module, lowest = DEPENDENCIES[distribution]
    version = installed_version(distribution)
    fix = f"pip install '{distribution}>={lowest}'"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of others, about others
            importlib.import_module(module)
    except IMPORT_ERRORS as error:
        detail = "not installed" if version is None else f"{version} cannot be imported: {error}"
        return Check(distribution, "fail", detail, fix)
    if version is not None and _numbers(version) < _numbers(lowest):
        return Check(distribution, "fail", f"{version} is older than {lowest}", fix)
    return Check(distribution, "ok", version or "of unknown version")


def _numbers(version: str) -> tuple[int, ...]:
    """Leading numbers of a version, for comparing."""
    return tuple(int(n) for n in re.findall(r"\d+", version)[:3])


def wanted_extras(config: Config) -> frozenset[str]:
    """Extras that the settings cannot do without."""
    wanted = {"parquet"} if any(isinstance(sink, ParquetSink) for sink in config.sinks) else set()
    wanted |= {"web"} if config.web.enabled is True else set()
    return frozenset(wanted | ({"confluent"} if config.kafka.client == "confluent" else set()))


def check_extras(wanted: frozenset[str], version_of: Callable[[str], str | None]) -> list[Check]:
    """Say which extras are there; a missing one fails only when the settings want it. Imports none of them."""
    checks: list[Check] = []
    for extra, (distributions, adds) in EXTRAS.items():
        versions = {name: version_of(name) for name in distributions}
        missing = [name for name, version in versions.items() if version is None]
        if not missing:
            detail = ", ".join(f"{name} {version}" for name, version in versions.items())
            checks.append(Check(f"[{extra}]", "ok", detail))
            continue
        status: Status = "fail" if extra in wanted else "note"
        detail = f"without {', '.join(missing)}; it adds {adds}"
        checks.append(Check(f"[{extra}]", status, detail, f"pip install 'streamclust[{extra}]'"))
    return checks


def check_clock(clock: Clock) -> Check:
    """Want a wall clock between 2025 and 2100, and a monotonic one that does not go back."""
    first, now_ns, second = clock.monotonic(), clock.now_ns(), clock.monotonic()
    if not SANE_NS[0] <= now_ns < SANE_NS[1]:
        detail = f"{now_ns / 1e9:.0f} s since 1970 is not in 2025 to 2100; live data would be quarantined as future"
        return Check("clock", "fail", detail, "set the clock: timedatectl set-ntp true")
    if second < first:
        return Check("clock", "fail", "the monotonic clock went back", "restart the machine")
    return Check("clock", "ok", datetime.fromtimestamp(now_ns // 10**9, UTC).isoformat())


def check_state(spec: StateSpec) -> list[Check]:
    """Look whether the state directory can be written, has space and a known format, and who holds it; change nothing."""
    path = Path(spec.dir)
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        return [Check("state.dir", "fail", f"{there} is not a directory", "choose another state.dir")]
    if not _writable(there):
        fix = f"chown it to user {os.getuid()}, or choose another state.dir"
        return [Check("state.dir", "fail", f"{there} cannot be written", fix)]
    if there != path:
        return [Check("state.dir", "ok", f"{path} will be made"), _check_space(there, spec)]
    holder = held_by(path)
    free = "free" if holder is None else f"held by a running daemon (process {holder})"
    first = Check("state.dir", "ok" if holder is None else "note", f"{path} can be written; {free}")
    return [first, _check_space(path, spec), _check_format(path)]


def _writable(path: Path) -> bool:
    """Try it: permissions alone do not tell of a read-only or a full file system."""
    try:
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"streamclust doctor")
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        return False
    return True


def _check_space(path: Path, spec: StateSpec) -> Check:
    """Compare the free space with what is kept in reserve."""
    free = shutil.disk_usage(path).free
    detail = f"{free / 1e6:.0f} MB free, {spec.reserve_bytes / 1e6:.0f} MB in reserve"
    if free < spec.reserve_bytes:
        return Check("disk", "fail", detail, "free space, or lower state.reserve_bytes")
    if free < 2 * spec.reserve_bytes:
        return Check("disk", "note", f"{detail}: a pause would not end", "free space, or lower state.reserve_bytes")
    return Check("disk", "ok", detail)


def _check_format(path: Path) -> Check:
    """Compare the format that the directory was written in with the newest one known here."""
    try:
        from streamclust.store.state import FORMAT
    except IMPORT_ERRORS as error:
        return Check("format", "fail", f"not checked: {error}", "mend the packages above first")
    try:
        version = json.loads((path / "VERSION").read_bytes())["format"]
        newer = version > FORMAT
    except FileNotFoundError:
        return Check("format", "ok", "a new state directory")
    except (OSError, ValueError, TypeError, KeyError) as error:
        return Check("format", "fail", f"{path / 'VERSION'} cannot be read: {error}", "restore it from a backup")
    if newer:
        detail = f"{version}, written by a newer streamclust; this one knows up to {FORMAT}"
        return Check("format", "fail", detail, "install the newer version, or choose another state.dir")
    return Check("format", "ok", f"{version}")


def check_source(spec: SourceSpec) -> list[Check]:
    """Look whether what the source reads is there and can be read."""
    if isinstance(spec, SdsSource):
        return [_check_archive(Path(spec.root))]
    if isinstance(spec, KafkaSource):
        return []  # `check_kafka` looks at topics
    checks: list[Check] = []
    for pattern in spec.paths:
        found = pattern if Path(pattern).exists() else next(glob.iglob(pattern, recursive=True), None)  # noqa: PTH207 — a pattern may be absolute
        if found is None:
            checks.append(Check("source", "fail", f"{pattern} matches no file", "correct source.paths"))
        elif not os.access(found, os.R_OK):
            checks.append(Check("source", "fail", f"{found} cannot be read", "give this user the right to read it"))
        else:
            checks.append(Check("source", "ok", f"{pattern} is there"))
    return checks


def check_kafka(config: Config) -> list[Check]:
    """Look at brokers and topics, where the settings name any."""
    kinds = {config.source.type, *(sink.type for sink in config.sinks), config.model.share}
    if "kafka" not in kinds:
        return []
    try:
        from streamclust.stream.kafka.check import look
        from streamclust.stream.kafka.clients import CLIENTS
    except IMPORT_ERRORS as error:
        return [Check("kafka", "fail", f"not checked: {error}", "mend the packages above first")]
    return [Check("kafka", f.state, f.text, f.fix) for f in look(config, CLIENTS[config.kafka.client](config.kafka))]


def _check_archive(root: Path) -> Check:
    """Look for the years of an SDS archive."""
    try:
        years = sorted(p.name for p in root.iterdir() if re.fullmatch(r"\d{4}", p.name))
    except OSError as error:
        return Check("source", "fail", f"{root}: {error.strerror}", "correct source.root, or mount the archive")
    if not years:
        fix = "source.root must hold YEAR/NET/STA/CHAN.D"
        return Check("source", "note", f"{root} holds no year yet", fix)
    return Check("source", "ok", f"{root} holds {len(years)} years, the last is {years[-1]}")


def check_port(spec: HttpSpec, *, in_use_is_fine: bool) -> Check:
    """Try to listen on the port; it may be in use when the daemon itself runs."""
    where = f"{spec.host} port {spec.port}"
    if not spec.enabled:
        return Check("http", "ok", "no port is opened")
    try:
        family = socket.getaddrinfo(spec.host, spec.port, type=socket.SOCK_STREAM)[0][0]
        socket.create_server((spec.host, spec.port), family=family).close()
    except OSError as error:
        if in_use_is_fine:
            return Check("http", "note", f"{where} is in use, by the running daemon it seems")
        return Check("http", "fail", f"{where}: {error.strerror}", "choose another http.port or http.host, or 0")
    return Check("http", "ok", f"{where} is free")
