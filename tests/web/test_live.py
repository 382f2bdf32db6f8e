from __future__ import annotations

import asyncio
import json
import socket
import threading
from contextlib import ExitStack, closing, suppress

import httpx
import pytest
from daemons import wait_for
from web_client import client, serving, site

from streamclust.core.clock import ManualClock
from streamclust.core.types import NS, Event
from streamclust.store.identities import IDENTITIES, Identities
from streamclust.store.results import DATABASE, Results
from streamclust.web import live as module
from streamclust.web.live import BACKLOG, PER_TICK, QUEUE, TICK, Hub, Listener, Live, said
from streamclust.web.server import serve


def event(number: int, cluster: str = "C1") -> Event:
    start = number * 20 * NS
    return Event(
        f"w{number}", "FDSN:XX_A__H_H_Z", start, start + 40 * NS, 100.0, "seismic/1", 1, cluster, None, {cluster: 1.0},
        0.1, is_novel=False, peak=2.0, rms=1.0, gap_fraction=0.0, processed_at_ns=start,
    )  # fmt: skip


def told(lines, kind, count=1):
    """Return the data of the next events of one kind."""
    found, now = [], ""
    for line in lines:
        if line.startswith("event: "):
            now = line.removeprefix("event: ")
        elif line.startswith("data: ") and now == kind:
            found.append(json.loads(line.removeprefix("data: ")))
            if len(found) == count:
                return found
    raise AssertionError(f"{len(found)} of {count} {kind}")


def test_nothing_is_kept_while_nobody_listens():
    hub = Hub()
    hub.offer([event(1)])
    assert hub.take(10) == ([], 0)


def numbers(events):
    return [int(each.window_id[1:]) for each in events]


def test_two_hundred_a_second_are_told_even_when_they_come_all_at_once():
    hub = Hub()
    hub.listened_to(yes=True)
    hub.offer([event(n) for n in range(200)])
    taken = [hub.take(PER_TICK) for _ in range(round(1 / TICK))]
    assert [n for events, _ in taken for n in numbers(events)] == list(range(200))
    assert [skipped for _, skipped in taken] == [0] * len(taken)


def test_a_flood_is_cut_and_counted_and_offering_never_waits():
    hub = Hub()
    hub.listened_to(yes=True)
    for turn in range(5):
        hub.offer([event(n) for n in range(turn * BACKLOG, (turn + 1) * BACKLOG)])
    events, skipped = hub.take(PER_TICK)
    assert numbers(events) == list(range(4 * BACKLOG, 4 * BACKLOG + PER_TICK))  # the newest
    assert skipped == 4 * BACKLOG
    assert len(hub.take(10**6)[0]) == BACKLOG - PER_TICK
    assert hub.take(PER_TICK) == ([], 0)


def test_who_comes_later_hears_nothing_of_what_was_before():
    hub = Hub()
    hub.listened_to(yes=True)
    hub.offer([event(n) for n in range(2 * BACKLOG)])
    hub.listened_to(yes=False)
    hub.listened_to(yes=True)
    assert hub.take(BACKLOG) == ([], 0)


def test_offering_from_a_thread_loses_and_doubles_nothing():
    hub = Hub()
    hub.listened_to(yes=True)
    count, got, skips = 5000, [], 0
    thread = threading.Thread(target=lambda: [hub.offer([event(n)]) for n in range(count)])
    thread.start()
    while thread.is_alive():
        events, skipped = hub.take(BACKLOG)
        got += events
        skips += skipped
    thread.join()
    events, skipped = hub.take(BACKLOG)
    there = numbers(got + events)
    assert len(there) + skips + skipped == count
    assert there == sorted(set(there))


def test_a_listener_that_does_not_read_is_told_what_it_missed():
    async def run():
        listener = Listener()
        for number in range(QUEUE + 50):
            listener.put(said("assignment", {"n": number}), 1)
        messages = listener.messages()
        await anext(messages)
        found = [await anext(messages) for _ in range(10)]
        listener.put(said("assignment", {"n": "new"}), 1)
        listener.end()
        with suppress(StopAsyncIteration):
            while True:
                found.append(await anext(messages))
        return found

    found = asyncio.run(run())
    assert len(found) <= QUEUE + 2
    assert said("skipped", {"count": 50}) in found
    assert found.index(said("skipped", {"count": 50})) < found.index(said("assignment", {"n": "new"}))


def test_a_listener_that_does_not_read_hears_of_a_changed_cluster_once_when_it_does():
    changed = said("cluster", {"id": "C7"})

    async def run():
        listener = Listener()
        messages = listener.messages()
        for number in range(QUEUE + 50):
            listener.put(said("assignment", {"n": number}), 1)
            listener.put(changed, must=True)
        found = [await anext(messages) for _ in range(100)]
        before = found.count(changed)
        for number in range(10):
            listener.put(said("assignment", {"n": f"new{number}"}), 1)
        listener.end()
        with suppress(StopAsyncIteration):
            while True:
                found.append(await anext(messages))
        return before, found

    before, found = asyncio.run(run())
    after = found[100:]
    assert before < 100
    assert after.count(changed) == QUEUE // 2 - before + 1
    assert after[-11] == changed or changed in after[-12:]
    assert len(found) <= QUEUE + 20


def test_a_listener_that_does_not_read_is_told_later_what_the_hub_skipped_too(filled):
    async def run():
        hub = Hub()
        live = Live(site(filled.state), hub, dict)
        listener = live.join()
        for _ in range(QUEUE):
            listener.put(b"full")
        hub.offer([event(n) for n in range(BACKLOG + 7)])
        live._tick()
        messages = listener.messages()
        for _ in range(QUEUE + 1):
            await anext(messages)
        listener.put(b"later")
        return await anext(messages)

    assert asyncio.run(run()) == said("skipped", {"count": PER_TICK + 7})


def test_pages_see_events_as_they_are_stored(filled):
    hub = Hub()
    with client(site(filled.state), hub) as asker, asker.stream("GET", "/api/v1/live") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        assert next(lines) == "retry: 2000"
        made = [event(n) for n in range(3)]
        hub.offer(made)
        assert told(lines, "assignment", 3) == [e.as_dict() for e in made]
        hub.offer([event(n) for n in range(500)])
        assert told(lines, "skipped") == [{"count": 500 - BACKLOG}]


def test_the_status_comes_by_itself_and_has_no_scopes_of_another(filled, monkeypatch):
    monkeypatch.setattr(module, "STATUS_EVERY", 0.05)
    with client(site(filled.state)) as asker, asker.stream("GET", "/api/v1/live") as answer:
        status, again = told(answer.iter_lines(), "status", 2)
    assert status["windows"] == again["windows"] == 600
    assert "scopes" not in status


def test_a_page_hears_of_a_cluster_that_somebody_named(tmp_path, monkeypatch):
    from web.filled import fill

    monkeypatch.setattr(module, "STATUS_EVERY", 0.05)
    state = fill(tmp_path / "state", 60, kept=0).state
    with client(site(state)) as asker, asker.stream("GET", "/api/v1/live") as answer:
        lines = answer.iter_lines()
        told(lines, "status", 2)
        with closing(Identities(state / IDENTITIES)) as identities:
            identities.name("C5", "avalanche", "ada", 1)
        assert told(lines, "cluster") == [{"id": "C5"}]


def test_beside_no_daemon_the_database_is_followed(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FOLLOW_EVERY", 0.05)
    with closing(Results(tmp_path / DATABASE)) as results:
        results.commit([event(1)], (), {}, 1)
        server = serve(site(tmp_path))
        server.start()
        try:
            with httpx.Client(base_url=server.address) as asker, asker.stream("GET", "api/v1/live") as answer:
                lines = answer.iter_lines()
                told(lines, "status")
                stop = threading.Event()

                def write():
                    number = 2
                    while not stop.wait(0.05):
                        results.commit([event(number)], (), {}, 1)
                        number += 1

                writer = threading.Thread(target=write)
                writer.start()
                try:
                    found = told(lines, "assignment", 3)
                finally:
                    stop.set()
                    writer.join()
        finally:
            server.close()
    assert all(each["window_id"] != "w1" for each in found)


def test_beside_no_daemon_a_second_of_two_hundred_is_told_and_of_more_the_newest(tmp_path):
    with closing(Results(tmp_path / DATABASE)) as results:
        made = site(tmp_path)
        results.commit([event(0)], (), {}, 1)
        live = Live(made, None, dict)
        first = live._stored()
        results.commit([event(n) for n in range(1, 201)], (), {}, 1)
        full = live._stored()
        results.commit([event(n) for n in range(201, 1701)], (), {}, 1)
        flood = live._stored()
        nothing = live._stored()
        made.close()

    assert first == nothing == ([], 0)
    assert (numbers(full[0]), full[1]) == (list(range(1, 201)), 0)
    assert (numbers(flood[0]), flood[1]) == (list(range(1501, 1701)), 1300)


def test_only_so_many_listen_at_once(filled, monkeypatch):
    monkeypatch.setattr(module, "LISTENERS", 1)
    with client(site(filled.state)) as asker, asker.stream("GET", "/api/v1/live") as answer:
        lines = answer.iter_lines()
        next(lines)
        refused = asker.get("/api/v1/live")
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "10"


def test_no_more_listen_when_they_come_all_at_once(filled, monkeypatch):
    monkeypatch.setattr(module, "LISTENERS", 5)
    with serving(site(filled.state)) as server, ExitStack() as stack:
        every = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 60)) for _ in range(40)]
        for one in every:
            one.sendall(b"GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        codes = [one.recv(12)[-3:] for one in every]
    assert sorted(codes) == [b"200"] * 5 + [b"503"] * 35


def test_who_goes_away_is_forgotten(filled):
    hub = Hub()
    with client(site(filled.state), hub) as asker:
        with asker.stream("GET", "/api/v1/live") as answer:
            lines = answer.iter_lines()
            next(lines)
            assert hub._listened_to
        wait_for(lambda: not hub._listened_to)


def test_a_status_that_cannot_be_had_ends_nothing(tmp_path):
    def broken():
        raise OSError("gone")

    async def run():
        live = Live(site(tmp_path, ManualClock()), Hub(), broken)
        async with live.running():
            listening = live.join().messages()
            assert await anext(listening) == b"retry: 2000\n\n"
            await asyncio.sleep(0.02)
            live._put(said("assignment", {"n": 1}), 1)
            return await anext(listening)

    assert b'{"n":1}' in asyncio.run(run())


@pytest.mark.parametrize("text", ["a\nevent: cluster\ndata: {}", "\u2028", "<img src=x>"])
def test_text_from_data_makes_no_event_of_its_own(text):
    message = said("assignment", {"stream": text})
    assert message.count(b"\n") == 3
    assert json.loads(message.partition(b"data: ")[2]) == {"stream": text}
