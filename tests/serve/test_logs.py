import io
import json
import logging
import threading

import pytest

from streamclust.core.clock import ManualClock
from streamclust.core.specs import LogSpec
from streamclust.serve.logs import MAX_FIELD, MAX_KINDS, Log, setup


class Written:
    def __init__(self, **spec):
        self.clock = ManualClock()
        self.stream = io.StringIO()
        self.log = Log(LogSpec(**spec), self.stream, self.clock)

    @property
    def lines(self):
        return self.stream.getvalue().splitlines()


@pytest.fixture
def human():
    return Written()


@pytest.fixture
def as_json():
    return Written(format="json")


def test_a_line_has_time_level_kind_and_fields(human):
    human.log.event("model.activated", version=3, share=0.123456789, name="rock fall", none=None)
    assert human.lines == [
        '2023-11-14T22:13:20.000Z INFO    model.activated version=3 share=0.123457 name="rock fall" none=None'
    ]


def test_a_json_line_is_one_object(as_json):
    as_json.log.event("x", "error", n=1, f=0.5, ok=True, none=None, path=ValueError("a\nb"))
    line = json.loads(as_json.lines[0])
    assert line == {
        "time": "2023-11-14T22:13:20.000000000Z",
        "level": "error",
        "event": "x",
        "n": 1,
        "f": 0.5,
        "ok": True,
        "none": None,
        "path": "a\nb",
    }


EVIL = "a\n2026-01-01 ERROR\r\x1b[2J\x00\x7f\x85\u2028\u202e b"


@pytest.mark.parametrize("style", ["human", "json"])
def test_no_field_can_begin_a_line_or_steer_a_terminal(style):
    written = Written(format=style)
    written.log.event("x", text=EVIL)
    whole = written.stream.getvalue()
    assert whole.count("\n") == 1
    assert whole[:-1].isprintable()
    if style == "json":
        assert json.loads(whole)["text"] == EVIL


@pytest.mark.parametrize("style", ["human", "json"])
def test_long_fields_are_cut(style):
    written = Written(format=style)
    written.log.event("x", text="y" * 10_000)
    assert written.lines[0].count("y") == MAX_FIELD - 3
    assert "y..." in written.lines[0]


def test_quotes_in_a_field_are_escaped(human):
    human.log.event("x", text='say "a=b"', empty="")
    assert human.lines[0].endswith(r'text="say \"a=b\"" empty=""')


def test_numbers_that_json_has_not_are_texts(as_json):
    as_json.log.event("x", a=float("nan"), b=float("inf"))
    assert json.loads(as_json.lines[0], parse_constant=pytest.fail)["a"] == "nan"


def test_a_field_cannot_take_the_place_of_the_time(as_json):
    as_json.log.event("x", time=5, event="other")
    line = json.loads(as_json.lines[0])
    assert (line["event"], line["event_"], line["time_"]) == ("x", "other", 5)


def test_less_severe_lines_are_not_shown():
    written = Written(level="warning")
    for level in ("debug", "info", "warning", "error"):
        written.log.event("x", level)
    assert len(written.lines) == 2


def test_a_flood_of_one_kind_is_held_back_and_told():
    written = Written(per_minute=3)
    for number in range(50):
        written.log.event("flood", "warning", number=number)
        written.clock.sleep(1)
    written.log.event("other")
    assert [line.split()[2] for line in written.lines] == ["flood"] * 3 + ["other"]
    written.clock.sleep(20)
    written.log.event("other")
    assert written.lines[4].endswith("WARNING flood suppressed=47")
    written.log.event("flood", number=51)
    assert written.lines[-1].endswith("number=51")


def test_what_was_held_back_is_told_at_the_end():
    written = Written(per_minute=1)
    for _ in range(4):
        written.log.event("x")
    written.log.close()
    written.log.close()
    assert len(written.lines) == 2
    assert written.lines[1].endswith("x suppressed=3")


def test_kinds_without_end_do_not_fill_the_memory(human):
    for number in range(3 * MAX_KINDS):
        human.log.event(f"kind{number}")
    assert len(human.log._rates) <= MAX_KINDS


def test_a_stream_that_cannot_be_written_does_not_stop_the_daemon():
    class Full(io.StringIO):
        def write(self, _text):
            raise OSError(28, "No space left on device")

    Log(LogSpec(), Full(), ManualClock()).event("x")
    closed = io.StringIO()
    closed.close()
    Log(LogSpec(), closed, ManualClock()).event("x")


def test_lines_of_threads_do_not_mix():
    written = Written(per_minute=100_000)
    threads = [
        threading.Thread(target=lambda n=n: [written.log.event("x", n=n, i=i) for i in range(200)]) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written.lines) == 800
    assert all(line.count("Z INFO") == 1 for line in written.lines)


@pytest.fixture
def root():
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield root
    root.handlers[:], level = before
    root.setLevel(level)


def test_warnings_of_libraries_come_the_same_way(root):
    stream = io.StringIO()
    setup(LogSpec(format="json"), stream, ManualClock())
    kafka = logging.getLogger("kafka.conn")
    kafka.info("not shown")
    kafka.warning("lost %s", "broker\n1")
    kafka.error("badly made %d", "text")
    kafka.error("failed", exc_info=TimeoutError("slow"))
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["message"] for line in lines] == ["lost broker\n1", "badly made %d", "failed"]
    assert {line["event"] for line in lines} == {"library.kafka.conn"}
    assert lines[2]["error"] == "TimeoutError('slow')"
    assert [line["level"] for line in lines] == ["warning", "error", "error"]
