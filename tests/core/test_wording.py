"""The words for what a setting must be, and for what came instead."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from streamclust.core.specs import Config
from streamclust.core.wording import Mark, expectation, settings_of, translate, word


@pytest.mark.parametrize(
    ("node", "key", "says"),
    [
        (
            {"type": "number", "exclusiveMinimum": 0, "maximum": 60},
            "rate_hz",
            "a number of Hz greater than 0 and at most 60",
        ),
        ({"type": "integer", "minimum": 1}, "max_bytes", "a whole number of bytes at least 1"),
        ({"type": "number", "x-unit": "seconds"}, "lateness", "a number of seconds"),
        ({"type": "boolean"}, "follow", "true or false"),
        ({"enum": ["a", "b"]}, "mode", "one of a, b"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "dir", "text or null"),
        ({"type": "array", "items": {"type": "string"}, "minItems": 2}, "paths", "a list of at least 2, each text"),
    ],
)
def test_a_schema_node_is_said_in_plain_words(node, key, says):
    assert expectation(node, {}, key) == says


@pytest.mark.parametrize(
    ("value", "says"),
    [(True, "true"), (None, "null"), ("NO", "'NO'"), ([], "an empty list"), ({"a": 1}, "a mapping"), (1.5, "1.5")],
)
def test_a_value_is_said_as_it_is_written_in_the_file(value, says):
    assert word(value) == says


def test_a_long_value_is_cut():
    assert len(word("x" * 1000)) == 60


def test_an_error_inside_one_kind_of_a_choice_hides_the_errors_of_the_other_kinds():
    with pytest.raises(ValidationError) as caught:
        Config.model_validate({"source": {"type": "files", "paths": ["a"]}, "windows": {"group_by": {"a": ["b", 3]}}})
    found = translate(caught.value, Config.model_json_schema(), {})
    assert [str(p) for p in found] == ["windows.group_by.a.1: text (got 3)"]


def test_a_setting_named_like_the_kind_it_belongs_to_keeps_its_path():
    with pytest.raises(ValidationError) as caught:
        Config.model_validate({"source": {"type": "files", "paths": ["a"], "files": 3}})
    assert [p.path for p in translate(caught.value, Config.model_json_schema(), {})] == ["source.files"]


def test_a_rule_over_sections_is_told_at_the_one_to_change():
    with pytest.raises(ValidationError) as caught:
        Config.model_validate(
            {"source": {"type": "files", "paths": ["a"]}, "sinks": [{"type": "kafka", "delivery": "exactly_once"}]}
        )
    found = translate(caught.value, Config.model_json_schema(), {("sinks",): Mark("c.yaml:2", "")})
    assert [p.path for p in found] == ["sinks"]
    assert str(found[0]).startswith("sinks: delivery exactly_once needs source.type kafka:")
    assert str(found[0]).endswith("(got a list at c.yaml:2)")


def test_settings_are_walked_through_alternatives_and_lists():
    root = Config.model_json_schema()
    paths = set(settings_of(root, root))
    assert {("source", "paths"), ("source", "root"), ("sinks", "0", "keep"), ("profile", "stft", "nfft")} <= paths
