"""Settings from file, profile and environment: text stays text, every problem is told, every value has an origin."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from streamclust import config
from streamclust.core.errors import ConfigError
from streamclust.core.profiles import PROFILES
from streamclust.core.specs import ProfileSpec

ROOT = Path(__file__).parents[1]
DEFAULT = ROOT / "config.yaml"
FILES = "source: {type: files, paths: [data]}\n"


@pytest.fixture
def write(tmp_path):
    def inner(text: str | bytes) -> Path:
        path = tmp_path / "c.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return inner


def problems(path: Path | None, **environ: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        config.load(path, environ)
    return {p.path: str(p) for p in caught.value.problems}


# -- what YAML makes of station codes


CODES = [
    "NO",
    "ON",
    "OFF",
    "Y",
    "00",
    "0700",
    "1:30",
    "1_000",
    "yes",
    "True",
    "NULL",
    "0x1F",
    "2026-01-01",
    "1e999",
    "<<",
    "=",
]


@pytest.mark.parametrize("code", CODES)
def test_a_code_without_quotes_stays_the_text_that_was_written(write, code):
    path = write(f"source:\n  type: sds\n  root: {code}\n  streams: [{code}, 'XX.{code}']\n")
    source = config.load(path, {}).config.source
    assert (source.root, source.streams) == (code, [code, f"XX.{code}"])


@pytest.mark.parametrize("code", CODES)
def test_a_code_in_the_environment_stays_text_too(code):
    environ = {"STREAMCLUST_SOURCE__TYPE": "sds", "STREAMCLUST_SOURCE__ROOT": code}
    assert config.load(None, environ).config.source.root == code


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("-60", -60), ("1e2", 100), ("+2.5", 2.5), (".5", 0.5), ("5.", 5), ("1.5E-1", 0.15)]
)
def test_numbers_are_numbers(write, text, value):
    loaded = config.load(write(f"{FILES}profile: {{stft: {{floor_db: {text}}}}}"), {})
    assert loaded.config.profile.stft.floor_db == value


def test_a_number_where_text_is_wanted_is_told_to_be_quoted_as_it_was_written(write):
    found = problems(write("source: {type: sds, root: x, streams: [10, 1.50]}"))
    assert 'put it in quotes: "10"' in found["source.streams.0"]
    assert 'put it in quotes: "1.50"' in found["source.streams.1"]


# -- problems


def test_a_misspelt_profile_is_no_new_one_but_a_new_one_comes_with_values(write):
    found = problems(write(f"{FILES}profile: {{name: seismix}}"))
    assert "did you mean seismic? (got 'seismix' at" in found["profile.name"]
    assert "did you mean spikes?" in problems(write(FILES), STREAMCLUST_PROFILE__NAME="spike")["profile.name"]
    own = config.load(write(f"{FILES}profile: {{name: seismix, rate_hz: 50}}"), {}).config.profile
    assert (own.name, own.rate_hz) == ("seismix", 50)


@pytest.mark.parametrize("address", ["broker", "broker:", "kafka://b:9092", "a:1,b:2", "::1:9092", "b:9092 ", "u@b:1"])
def test_a_broker_is_a_host_with_a_port(write, address):
    found = problems(write(f'{FILES}kafka: {{bootstrap: ["{address}", "[::1]:9092", "b-1.x:9092"]}}'))
    assert list(found) == ["kafka.bootstrap.0"]
    assert "host:port, as broker-1:9092" in found["kafka.bootstrap.0"]


def test_all_problems_are_told_at_once_each_with_its_line_and_what_would_be_right(write):
    path = write("""\
source: {type: sds, rot: /a}
windows:
  latness: 3
  idle_after: 5s
  mode: Grid
  group_by: {a: [b, 3]}
lateness: 3
sinks:
  - {type: jsonl, keep: 0}
  - type: josnl
  - {}
profile: {hop_seconds: 50}
http: {port: 99999, enabled: yes}
state: {dir: 12}
""")
    found = problems(path, STREAMCLUST_LOOP__MAX_BATCH="x", STREAMCLUST_MODEL__SEEED="1", STREAMCLUST_LOG__LEVEL="[a")
    assert list(found) == [
        "environment STREAMCLUST_LOG__LEVEL",
        "state.dir",
        "source.root",
        "source.rot",
        "profile.hop_seconds",
        "windows.mode",
        "windows.group_by.a.1",
        "windows.idle_after",
        "windows.latness",
        "model.seeed",
        "sinks.0.keep",
        "sinks.1.type",
        "sinks.2.type",
        "loop.max_batch",
        "http.port",
        "http.enabled",
        "lateness",
    ]
    assert found["windows.latness"] == (
        f"windows.latness: no such setting; did you mean windows.lateness? (got 3 at {path}:3)"
    )
    assert found["windows.idle_after"] == (
        f"windows.idle_after: a number of seconds greater than 0 (got '5s' at {path}:4)"
    )
    assert "one of grid, triggered; did you mean grid?" in found["windows.mode"]
    assert "did you mean windows.lateness?" in found["lateness"]
    assert "at most profile.window_seconds (40.96) (got 50 at" in found["profile.hop_seconds"]
    assert "one of" in found["sinks.1.type"]
    assert "did you mean jsonl?" in found["sinks.1.type"]
    assert "(got nothing)" in found["sinks.2.type"]
    assert "a whole number from 0 to 65535" in found["http.port"]
    assert "true or false" in found["http.enabled"]
    assert "required: text (got nothing)" in found["source.root"]
    assert "did you mean model.seed? (got 1 at environment STREAMCLUST_MODEL__SEEED)" in found["model.seeed"]


@pytest.mark.parametrize(
    ("text", "path", "says"),
    [
        ("", "source", "required"),
        ("source: 3", "source", "settings of its own"),
        ("source: {type: mqtt}", "source.type", "one of files, kafka, sds (got 'mqtt'"),
        ("source: {type: 3}", "source.type", "one of files, kafka, sds (got 3"),
        ("source: {paths: [a]}", "source.type", "one of files, kafka, sds (got nothing"),
        ("source: {type: files, paths: a}", "source.paths", "a list of at least 1, each text (got 'a'"),
        ("source: {type: files, paths: []}", "source.paths", "at least 1"),
        ("source: {type: files, paths: [a], speed: fast}", "source.speed", "a number greater than 0 or max"),
        (f"{FILES}sinks: []", "sinks", "a list of at least 1"),
        (f"{FILES}profile: []", "profile", "settings of its own"),
        (f"{FILES}profile: {{band_hz: [1]}}", "profile.band_hz.1", "required: a number"),
        (f"{FILES}profile: {{band_hz: [9, 1]}}", "profile.band_hz", "0 < low < high < 50"),
        (f"{FILES}profile: {{window_seconds: 0.1, hop_seconds: 0.1}}", "profile", "at least 32 samples, is 10"),
        (f"{FILES}profile: {{stft: {{hop: 200}}}}", "profile.stft.hop", "at most stft.nfft (128)"),
        (
            f"{FILES}profile: {{stft: {{nfft: 8192}}}}",
            "profile.stft.nfft",
            "at most the window's 4096 samples (got 8192",
        ),
        (f"{FILES}profile: {{stft: {{fmin_hz: 51}}}}", "profile.stft.fmin_hz", "must leave a frequency bin"),
        (f"{FILES}profile: {{stft: {{fmin_hz: 1, fmax_hz: 1.1}}}}", "profile.stft.fmax_hz", "a multiple of 0.78125 Hz"),
        ("source: {type: sds, root: a, start: 2026}", "source.start", 'put it in quotes: "2026"'),
        ("source: {type: sds, root: a, start: yesterday}", "source.start", '00Z or now (got "yesterday" at'),
        ("source: {type: sds, root: a, end: now}", "source.end", "must be an ISO 8601 time in UTC"),
        ("source: {type: sds, root: a, end: 2026-13-01}", "source.end", "must be an ISO 8601 time in UTC"),
        (
            "source: {type: sds, root: a, start: '2026-01-02', end: 2026-01-02T01:00:00+01:00}",
            "source.end",
            "must be after source.start, 2026-01-02",
        ),
        (f"{FILES}loop: {{max_delay: .inf}}", "loop.max_delay", "a number of seconds from 0 to 60"),
        (f"{FILES}model: {{seed: {'9' * 5000}}}", "model.seed", "a whole number"),
        (f"{FILES}windows: {{group_by: chanel}}", "windows.group_by", "did you mean channel?"),
        (f"{FILES}<<: {{a: 1}}", "<<", "no such setting"),
    ],
)
def test_a_wrong_setting_is_told_by_its_path_in_plain_words(write, text, path, says):
    found = problems(write(text))
    assert list(found) == [path]
    assert says in found[path]


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("a:\n\tb: 3\n", ":2:1", "indent with spaces, not tabs"),
        ("a: [1,", ":1:7", "valid YAML"),
        ("a: b: c", ":1:5", "valid YAML"),
        ("a: *x", ":1:4", "put text that begins with * or & in quotes"),
        ("a: *.mseed", ":1:5", "put text that begins with * or & in quotes"),
        ("a: &b [1]", ":1:4", "anchors and aliases are not used"),
        ("a: !!python/object/apply:os.getcwd []", ":1:4", "without tags"),
        ("a: 1\n---\nb: 2\n", ":2:1", "one document"),
        ("[" * 100_000, ":1:33", "at most 32 levels"),
        ("a: 1\nb: \x01", ":2:4", "control characters"),
        (b"a: 1\nb: \xff", ":2:4", "UTF-8"),
        ("a: 1\n" * 300_000, "", "at most 1048576 bytes"),
        ("- 1", "", "settings"),
        ("just text", "", "settings"),
    ],
)
def test_text_that_is_no_configuration_is_one_problem_with_line_and_column(write, text, place, says):
    path = write(text)
    found = problems(path)
    assert list(found) == [f"{path}{place}"]
    assert says in found[f"{path}{place}"]


def test_a_span_of_utc_times_is_accepted_with_and_without_zone(write):
    path = write("source: {type: sds, root: a, start: 2026-01-02, end: 2026-01-02T02:00:00.5+01:00}")
    source = config.load(path, {}).config.source
    start_ns = 1_767_312_000_000_000_000
    assert source.span_ns == (start_ns, start_ns + 3_600_500_000_000)
    now = config.load(write("source: {type: sds, root: a, start: now}"), {}).config.source
    assert now.span_ns == (None, None)


def test_a_key_set_twice_is_a_problem_beside_the_others(write):
    found = problems(write(f"{FILES}windows:\n  lateness: 3\n  lateness: x\n  mode: 3\n"))
    assert list(found) == ["windows.lateness", "windows.mode"]
    assert "set once, at" in found["windows.lateness"]
    assert "c.yaml:3 (got again at" in found["windows.lateness"]


def test_a_missing_file_is_told_by_its_name(tmp_path):
    assert "No such file" in problems(tmp_path / "no.yaml")[str(tmp_path / "no.yaml")]
    assert "directory" in problems(tmp_path)[str(tmp_path)]


# -- profile, environment, origin


def test_a_built_in_profile_fills_in_what_the_file_leaves_out(write):
    loaded = config.load(write(f"{FILES}profile:\n  name: icequake\n  hop_seconds: 1.28\n  stft: {{hop: 16}}\n"), {})
    profile = loaded.config.profile
    assert (profile.rate_hz, profile.window_seconds, profile.hop_seconds) == (200.0, 5.12, 1.28)
    assert (profile.stft.nfft, profile.stft.hop) == (64, 16)
    assert loaded.origin["profile.rate_hz"] == "profile icequake"
    assert loaded.origin["profile.stft.nfft"] == "profile icequake"
    assert loaded.origin["profile.hop_seconds"].endswith("c.yaml:4")
    assert loaded.origin["profile.clip"] == "default"


@pytest.mark.parametrize("name", PROFILES)
def test_every_built_in_profile_can_be_used_by_its_name(name):
    environ = {"STREAMCLUST_SOURCE": "{type: files, paths: [a]}", "STREAMCLUST_PROFILE__NAME": name}
    assert config.load(None, environ).config.profile.name == name


def test_the_seismic_profile_is_the_default_one():
    assert ProfileSpec.model_validate(PROFILES["seismic"]) == ProfileSpec()


def test_the_environment_wins_over_the_file_and_says_so(write):
    path = write(f"{FILES}windows:\n  lateness: 3\n  max_gap: 2\nlog: {{level: debug}}\n")
    environ = {
        "STREAMCLUST_WINDOWS__LATENESS": "7",
        "STREAMCLUST_SINKS": "[{type: jsonl, keep: 3}, {type: stdout}]",
        "STREAMCLUST_SOURCE": "{type: sds, root: /a}",
        "STREAMCLUST_SOURCE__STREAMS": "['*.NO.00.*']",
        "STREAMCLUST_SHUTDOWN_TIMEOUT": "5",
        "HOME": "/root",
    }
    loaded = config.load(path, environ)
    assert (loaded.config.windows.lateness, loaded.config.windows.max_gap) == (7, 2)
    assert loaded.config.source.model_dump(include={"type", "root", "streams"}) == {
        "type": "sds",
        "root": "/a",
        "streams": ["*.NO.00.*"],
    }
    assert [sink.type for sink in loaded.config.sinks] == ["jsonl", "stdout"]
    assert loaded.config.shutdown_timeout == 5
    assert loaded.origin["windows.lateness"] == "environment STREAMCLUST_WINDOWS__LATENESS"
    assert loaded.origin["windows.max_gap"] == f"{path}:4"
    assert loaded.origin["windows.idle_after"] == "default"
    assert loaded.origin["log.level"] == f"{path}:5"
    assert loaded.origin["source.root"] == "environment STREAMCLUST_SOURCE"
    assert loaded.origin["source.streams"] == "environment STREAMCLUST_SOURCE__STREAMS"
    assert loaded.origin["sinks.0.keep"] == "environment STREAMCLUST_SINKS"
    assert loaded.origin["sinks.0.dir"] == "default"


def test_an_unknown_variable_is_a_problem_but_those_of_tests_and_of_kubernetes_are_not(write):
    ours = {
        "STREAMCLUST_FUZZ_SEED": "1",
        "STREAMCLUST_CRASH_AT": "1",
        "STREAMCLUST_TEST_X": "1",
        "STREAMCLUST_SERVICE_HOST": "10.0.0.1",
        "STREAMCLUST_PORT": "tcp://10.0.0.1:9108",
        "STREAMCLUST_PORT_9108_TCP_ADDR": "10.0.0.1",
    }
    path = write(FILES)
    config.load(path, ours)
    found = problems(path, **ours, STREAMCLUST_WINDOW__LATENESS="3")
    assert list(found) == ["window"]
    assert "did you mean windows?" in found["window"]
    assert "STREAMCLUST_WINDOW__LATENESS" in found["window"]


def test_what_show_prints_loads_to_the_same_settings(write):
    text = f"{FILES}profile: {{name: spikes, band_hz: [300, 6000]}}\nsinks: [{{type: jsonl}}, {{type: parquet}}]\n"
    loaded = config.load(write(f"{text}windows: {{group_by: {{t1: [a, 'NO']}}}}"), {})
    for origins in (False, True):
        assert config.load(write(config.show(loaded, origins=origins)), {}).config == loaded.config
    shown = config.show(loaded, origins=True)
    assert re.search(r"^  rate_hz: 24000.0  # profile spikes$", shown, re.MULTILINE)
    assert re.search(r"^  - type: \"jsonl\"  # .*c.yaml:3$", shown, re.MULTILINE)


def test_secrets_are_not_shown(write):
    found = problems(write(f"{FILES}sinks: [{{type: stdout, password: hunter2}}]"))
    assert "hunter2" not in found["sinks.0.password"]


def test_every_setting_has_a_description_in_the_schema():
    schema = config.schema()
    specs = [schema, *schema["$defs"].values()]
    missing = [
        f"{spec.get('title')}.{key}"
        for spec in specs
        for key, node in spec["properties"].items()
        if "description" not in node and key != "type"
    ]
    assert missing == []
