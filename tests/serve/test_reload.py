"""Which settings a running daemon takes over, and which it says need a restart."""

from __future__ import annotations

import pytest

from streamclust.config import load
from streamclust.core.specs import Config
from streamclust.serve.reload import LIVE, reload

FILES = {"type": "files", "paths": ["data/"]}


def settings(**sections) -> Config:
    return Config.model_validate({"source": FILES, **sections})


def test_equal_settings_change_nothing():
    found = reload(settings(), settings())

    assert (found.taken, found.restart) == ((), ())
    assert found.config == settings()


def test_what_can_be_taken_over_is_and_the_rest_stays_as_it_was():
    old = settings(log={"level": "info"}, model={"clusters": 4}, retrain={"every": 3600.0})
    new = settings(log={"level": "debug"}, model={"clusters": 5}, retrain={"every": 7200.0, "enabled": False})

    found = reload(old, new)

    assert found.taken == ("log.level", "retrain.every")
    assert found.restart == ("model.clusters", "retrain.enabled")
    assert found.config == settings(log={"level": "debug"}, model={"clusters": 4}, retrain={"every": 7200.0})


def test_a_setting_inside_of_a_section_that_is_live_as_a_whole_is_taken_over():
    found = reload(settings(), settings(retrain={"gate": {"least_members": 9}}))

    assert found.taken == ("retrain.gate.least_members",)
    assert found.config.retrain.gate.least_members == 9


def test_another_kind_of_source_is_one_change_and_a_list_is_one_setting():
    new = Config.model_validate(
        {"source": {"type": "sds", "root": "/archive"}, "sinks": [{"type": "sqlite"}, {"type": "stdout"}]}
    )

    assert reload(settings(), new).restart == ("sinks", "source")
    assert reload(settings(), settings(source={**FILES, "paths": ["a", "b"]})).restart == ("source.paths",)


def test_groups_that_come_and_go_are_named():
    old = settings(windows={"group_by": {"one": ["XX:A:1"], "two": ["XX:A:2"]}})

    assert reload(old, settings(windows={"group_by": {"one": ["XX:A:1"]}})).restart == ("windows.group_by.two",)
    assert reload(old, settings()).restart == ("windows.group_by",)


def test_a_secret_that_changed_is_named_and_not_told():
    def kafka(password: str) -> Config:
        security = {"protocol": "sasl_ssl", "username": "u", "password": password}
        return settings(kafka={"security": security})

    found = reload(kafka("old-secret"), kafka("new-secret"))

    assert found.restart == ("kafka.security.password",)
    assert "secret" not in f"{found.taken}{found.restart}"


@pytest.mark.parametrize("path", LIVE)
def test_what_is_said_to_be_live_is_a_setting(path):
    section, _, name = path.partition(".")

    assert name in type(getattr(settings(), section)).model_fields


def test_the_old_settings_are_left_as_they_are(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("source: {type: files, paths: [data/]}\nlog: {level: info}\n")
    old = load(path, {}).config
    path.write_text("source: {type: files, paths: [data/]}\nlog: {level: error}\n")

    found = reload(old, load(path, {}).config)

    assert old.log.level == "info"
    assert found.config.log.level == "error"
