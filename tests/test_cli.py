"""Commands, exit codes, and what goes to which stream."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from streamclust import __version__, cli
from streamclust.core.errors import DurabilityError, SourceUnavailable, StateLocked, UsageError

ROOT = Path(__file__).parents[1]
DEFAULT = ROOT / "config.yaml"
COMMANDS = [
    [],
    ["run"],
    ["demo"],
    ["config"],
    ["config", "check"],
    ["config", "show"],
    ["config", "schema"],
    ["doctor"],
    ["web"],
    ["retrain"],
    ["fit"],
    ["assign"],
    ["evaluate"],
    ["pretrain"],
    ["bench"],
    ["publish"],
    ["models"],
    ["models", "list"],
    ["models", "show"],
    ["models", "diff"],
    ["models", "trainings"],
    ["models", "promote"],
    ["models", "rollback"],
    ["models", "publish"],
    ["models", "pin"],
    ["models", "unpin"],
    ["models", "export"],
    ["models", "import"],
    ["clusters"],
    ["clusters", "list"],
    ["clusters", "history"],
    ["clusters", "name"],
    ["clusters", "note"],
    ["clusters", "colour"],
    ["clusters", "mute"],
    ["clusters", "alarm"],
    ["clusters", "merge"],
    ["clusters", "split"],
    ["clusters", "undo"],
    ["quarantine"],
    ["quarantine", "list"],
]


@pytest.fixture
def state(tmp_path, monkeypatch):
    for name in [n for n in os.environ if n.startswith("STREAMCLUST_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("STREAMCLUST_STATE__DIR", str(tmp_path / "state"))
    (tmp_path / "state").mkdir()
    return tmp_path / "state"


def a_daemon(monkeypatch, run) -> None:
    module = ModuleType("streamclust.daemon")
    module.run = run  # type: ignore[attr-defined] — a module made here
    monkeypatch.setitem(sys.modules, "streamclust.daemon", module)


def all_commands(parser, path=()):
    yield path
    for action in parser._actions:
        if isinstance(action.choices, dict):
            for name, sub in action.choices.items():
                yield from all_commands(sub, (*path, name))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_of_each_command_has_an_example_that_parses(capsys, command):
    with pytest.raises(SystemExit) as caught:
        cli.main([*command, "--help"])
    assert caught.value.code == 0
    example = capsys.readouterr().out.partition("example:\n")[2].splitlines()[0].strip()
    assert example.startswith("streamclust " + " ".join(command))
    words = example.partition(" > ")[0].split()[1:]
    assert callable(cli.parser().parse_args(words).command)


def test_the_list_of_commands_above_is_complete():
    assert list(all_commands(cli.parser())) == [tuple(command) for command in COMMANDS]


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert (caught.value.code, capsys.readouterr().out) == (0, f"streamclust {__version__}\n")


@pytest.mark.parametrize("argv", [[], ["fly"], ["run", "--no"], ["models", "show", "x"], ["demo", "--seconds", "0"]])
def test_wrong_usage_exits_with_2(capsys, argv):
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_run_hands_the_settings_to_the_daemon_and_returns_its_code(monkeypatch, state):
    seen = []
    a_daemon(monkeypatch, lambda config, *, live, reread: seen.append((config.state.dir, live)) or 7)
    assert cli.main(["run", "-c", str(DEFAULT)]) == 7
    assert cli.main(["run", "-c", str(DEFAULT), "--live"]) == 7
    assert seen == [(str(state), False), (str(state), True)]


def test_demo_hands_over_its_arguments(monkeypatch):
    module = ModuleType("streamclust.demo")
    seen = []
    module.run_demo = lambda *args: seen.append(args) or 0  # type: ignore[attr-defined] — a module made here
    module.Show = lambda *args: args  # type: ignore[attr-defined] — likewise
    monkeypatch.setitem(sys.modules, "streamclust.demo", module)
    assert cli.main(["demo"]) == 0
    assert cli.main(["demo", "--state", "s", "--data", "d", "--seconds", "2.5", "--plain", "--serve"]) == 0
    assert seen == [
        (Path("demo-state"), None, (None, False, False)),
        (Path("s"), Path("d"), (2.5, True, True)),
    ]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StateLocked("held by process 7"), 1),
        (SourceUnavailable("gone"), 1),
        (DurabilityError("fsync"), 1),
        (PermissionError(13, "Permission denied", "x"), 1),
        (UsageError("not so"), 2),
        (KeyboardInterrupt(), 130),
    ],
)
def test_an_error_becomes_an_exit_code_and_a_line_without_a_traceback(monkeypatch, state, capsys, error, code):
    def run(config, *, live, reread):
        raise error

    a_daemon(monkeypatch, run)
    assert cli.main(["run", "-c", str(DEFAULT)]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("streamclust: ")
    assert err.count("\n") == 1


def test_a_bug_is_not_hidden(monkeypatch, state):
    def run(config, *, live, reread):
        raise ZeroDivisionError

    a_daemon(monkeypatch, run)
    with pytest.raises(ZeroDivisionError):
        cli.main(["run", "-c", str(DEFAULT)])


def _heed_ctrl_c():
    """Undo what a shell does to what it starts in the background: SIGINT is ignored there, and that is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_in_a_real_process_exits_with_130_and_no_traceback(tmp_path):
    fifo = tmp_path / "config.yaml"
    os.mkfifo(fifo)
    process = subprocess.Popen(
        [sys.executable, "-m", "streamclust", "config", "check", "-c", str(fifo)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_heed_ctrl_c,  # noqa: PLW1509 — no threads here
    )
    with fifo.open("wb"):  # returns when the command has opened its end: it is about to read
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "streamclust: interrupted\n")


def test_config_check_tells_every_problem_on_standard_error(state, tmp_path, capsys):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("source: {type: files}\nwindows: {latness: 3}\n")
    assert cli.main(["config", "check", "-c", str(wrong)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "source.paths: required" in err
    assert "did you mean windows.lateness?" in err


def test_config_check_has_a_form_for_programs(state, tmp_path, capsys):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("source: {type: files, paths: [a]}\nwindows: {lateness: x}\n")
    assert cli.main(["config", "check", "-c", str(wrong), "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert [p["path"] for p in answer["problems"]] == ["windows.lateness"]
    assert cli.main(["config", "check", "-c", str(DEFAULT), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "problems": []}


def test_config_show_says_where_values_come_from(state, capsys):
    assert cli.main(["config", "show", "-c", str(DEFAULT), "--origin"]) == 0
    out = capsys.readouterr().out
    assert f'dir: "{state}"  # environment STREAMCLUST_STATE__DIR\n' in out
    assert cli.main(["config", "show", "-c", str(DEFAULT)]) == 0
    assert "#" not in capsys.readouterr().out


def test_config_schema_prints_a_schema(capsys):
    assert cli.main(["config", "schema"]) == 0
    assert json.loads(capsys.readouterr().out)["properties"]["windows"]


def test_doctor_exits_with_1_when_a_check_fails(state, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STREAMCLUST_SOURCE__PATHS", f"['{tmp_path / 'none'}']")
    assert cli.main(["doctor", "-c", str(DEFAULT), "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert "source" in [c["name"] for c in answer["checks"] if c["status"] == "fail"]
    assert cli.main(["doctor", "-c", str(DEFAULT)]) == 1
    assert "-> correct source.paths" in capsys.readouterr().out


def test_a_reader_that_closes_the_pipe_makes_no_traceback():
    process = subprocess.Popen(
        [sys.executable, "-m", "streamclust", "config", "schema"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (1, b"")
