"""The config.yaml of the repository: every setting is in it, with its default, explained."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema
import pytest

from streamclust import config
from streamclust.core.kafka_specs import KafkaSource
from streamclust.core.profiles import PROFILES
from streamclust.core.specs import Config, ProfileSpec
from streamclust.core.wording import settings_of

DEFAULT = Path(__file__).parents[1] / "config.yaml"
FILES = "source: {type: files, paths: [data]}\n"


@pytest.fixture
def write(tmp_path):
    def inner(text: str) -> Path:
        path = tmp_path / "c.yaml"
        path.write_text(text)
        return path

    return inner


def uncommented(source: str = "sds") -> str:
    """config.yaml with its alternatives in force: another source, every sink, every setting of the profile."""
    text = DEFAULT.read_text()
    start, end = text.index("source:\n"), text.index("\n# Connection to Apache Kafka")
    (block,) = [b for b in re.split(r"^(?=# source:$)", text[start:end], flags=re.MULTILINE) if f"type: {source} " in b]
    text = text[:start] + block.replace("topics: []", "topics: [waves]") + text[end:]
    text = re.sub(r"^( *)# ((?:  +|- )?[a-z0-9_]+: )", r"\1\2", text, flags=re.MULTILINE)
    text = re.sub(r"^# (source:)$", r"\1", text, flags=re.MULTILINE)
    return re.sub(r"^( *)(?:group_by: channel|band_hz: null|tokens: \[\]) .*\n", "", text, flags=re.MULTILINE)


def given(path: Path) -> set[tuple[str, ...]]:
    tree = config._read_file(path)
    assert not tree.problems
    return {tuple("0" if key.isdigit() else key for key in mark) for mark in tree.marks}


def test_config_yaml_loads_to_exactly_the_defaults():
    loaded = config.load(DEFAULT, {}).config
    assert loaded == Config.model_validate({"source": {"type": "files", "paths": ["data/"]}})


def test_config_yaml_names_every_setting_and_only_settings(write):
    schema = config.schema()
    known = set(settings_of(schema, schema))
    named = given(DEFAULT) | given(write(uncommented())) | given(write(uncommented("kafka")))
    assert known - named == set()
    lists = {("source", "paths"), ("source", "streams"), ("windows", "components"), ("windows", "group_by")}
    lists |= {("profile", "band_hz"), ("kafka", "bootstrap"), ("source", "topics"), ("web", "tokens")}
    assert {n for n in named - known - {(), ("sinks", "0")} if not any(n[: len(k)] == k for k in lists)} == set()


def test_the_commented_alternatives_of_config_yaml_are_right_and_say_the_defaults(write):
    assert config.load(write(uncommented("kafka")), {}).config.source == KafkaSource(type="kafka", topics=["waves"])
    loaded = config.load(write(uncommented()), {}).config
    assert [sink.type for sink in loaded.sinks] == ["sqlite", "jsonl", "parquet", "stdout", "kafka"]
    plain = {
        "source": {"type": "sds", "root": "/archive"},
        "profile": {"band_hz": [1.0, 20.0]},
        "windows": {"group_by": loaded.windows.group_by},
        "sinks": [{"type": sink.type} for sink in loaded.sinks],
        "web": {"tokens": [{**loaded.web.tokens[0].model_dump(include={"sha256", "name"})}]},
    }
    assert loaded == Config.model_validate(plain)


def test_every_setting_in_config_yaml_is_explained_on_its_line():
    bare = [line for line in DEFAULT.read_text().splitlines() if re.match(r"[ #-]*[a-z_]+: *[^ #]", line)]
    unexplained = [line for line in bare if "#" not in line.lstrip("# ")]
    assert [line.strip(" #").partition(":")[0] for line in unexplained] == ["band_hz", "group_by"]


def test_choosing_a_profile_in_config_yaml_takes_all_of_its_values(write):
    loaded = config.load(write(DEFAULT.read_text().replace("name: seismic", "name: spikes")), {})
    assert loaded.config.profile == ProfileSpec.model_validate({"name": "spikes", **PROFILES["spikes"]})


def test_the_schema_accepts_config_yaml_and_refuses_what_load_refuses(write):
    validator = jsonschema.Draft202012Validator(config.schema())
    validator.check_schema(config.schema())
    for path in (DEFAULT, write(uncommented())):
        assert list(validator.iter_errors(config._read_file(path).data)) == []
    wrong = config._read_file(write(f"{FILES}windows: {{latness: 3, lateness: -1}}")).data
    assert len(list(validator.iter_errors(wrong))) == 2
