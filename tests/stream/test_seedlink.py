from __future__ import annotations

import pytest
from corpus import log_text
from seedlink_server import SeedLinkServer
from source_files import T0, records

from streamclust.core.clock import SystemClock
from streamclust.core.errors import ConfigError, SourceUnavailable
from streamclust.stream import seedlink
from streamclust.stream.seedlink import SeedLink


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(seedlink, "RECONNECT_S", 0.01)


@pytest.fixture
def server():
    with SeedLinkServer() as made:
        yield made


def take(source, count, polls=400):
    """Poll until so many records came; returns them and the positions after them."""
    found, positions, notes = [], {}, []
    for _ in range(polls):
        try:
            polled = source.poll(100, 0.05)
        except SourceUnavailable:
            continue
        found += polled.records
        positions.update(polled.next_offsets)
        notes += polled.notes
        if len(found) >= count:
            return found, positions, notes
    raise AssertionError(f"only {len(found)} records came")


def test_records_come_untouched_with_their_numbers(server):
    data = records(60)
    server.add("BW_RJOB", data, first=7)
    source = SeedLink(server.address, ["BW.RJOB..EHZ"], {}, SystemClock(), "2024-01-01T00:00:00")

    found, positions, _ = take(source, len(data))
    source.close()

    partition = f"seedlink://{server.address}/BW_RJOB"
    assert [r.value for r in found] == data
    assert [(r.partition, r.offset) for r in found] == [(partition, 7 + i) for i in range(len(data))]
    assert (found[0].stream, found[0].start_ns) == ("FDSN:BW_RJOB__E_H_Z", T0)
    assert positions == {partition: 7 + len(data)}


def test_a_new_source_goes_on_at_the_positions(server):
    data = records(300)
    server.add("BW_RJOB", data[:10])
    first = SeedLink(server.address, ["BW.RJOB..EHZ"], {}, SystemClock(), "2024-01-01T00:00:00")
    _, positions, _ = take(first, 10)
    first.close()
    server.add("BW_RJOB", data[10:])

    second = SeedLink(server.address, ["BW.RJOB..EHZ"], positions, SystemClock(), "2024-01-01T00:00:00")
    found, _, _ = take(second, len(data) - 10)
    second.close()

    assert [r.value for r in found] == data[10:]
    assert "DATA 0xa" in server.asked


def test_connections_that_break_in_a_packet_lose_and_double_nothing(server):
    data = records(1200)
    server.add("BW_RJOB", data)
    server.cut_after = 5
    source = SeedLink(server.address, ["BW.RJOB..EHZ"], {}, SystemClock(), "2024-01-01T00:00:00")

    found, _, _ = take(source, 5)
    server.cut()
    more, _, _ = take(source, len(data) - len(found))
    source.close()

    assert [r.value for r in found + more] == data
    assert server.asked.count("HELLO") >= 2


def test_numbers_that_go_round_only_grow(server):
    data = records(60)
    server.add("BW_RJOB", data, first=(1 << 24) - 3)
    source = SeedLink(server.address, ["BW.RJOB..EHZ"], {}, SystemClock(), "2024-01-01T00:00:00")
    found, _, _ = take(source, len(data))
    source.close()

    assert [r.offset for r in found] == [(1 << 24) - 3 + i for i in range(len(data))]

    for i in range(len(data) - 1):  # a restart at each of them, also where the number goes round
        positions = {found[i].partition: found[i].offset + 1}
        source = SeedLink(server.address, ["BW.RJOB..EHZ"], positions, SystemClock())
        rest, _, _ = take(source, len(data) - i - 1)
        source.close()
        assert [(r.offset, r.value) for r in rest] == [(r.offset, r.value) for r in found[i + 1 :]]


def test_several_stations_are_subscribed_and_other_channels_left_out(server):
    one, two = records(30, station="ONE"), records(30, station="TWO", seed=2)
    other = [r[:15] + b"LOG" + r[18:] for r in one[:2]]
    server.add("BW_ONE", [*other, *one])
    server.add("BW_TWO", two)
    source = SeedLink(
        server.address, ["BW.ONE.*.EH?", "BW.TWO..EHZ", "BW.GONE..EHZ"], {}, SystemClock(), "2024-01-01T00:00:00"
    )

    found, _, notes = take(source, len(one) + len(two))
    source.close()

    assert [r.value for r in found if "ONE" in r.stream] == one
    assert [r.value for r in found if "TWO" in r.stream] == two
    assert notes == [f"seedlink://{server.address}/: the server refuses BW_GONE"]


def test_a_packet_without_a_usable_record_is_rejected_and_passed(server):
    good = records(30)
    bad = good[0][:8] + b"RJOB   EHZBW" + bytes(512 - 20)
    server.add("BW_RJOB", [good[0], bad, *good[1:]])
    source = SeedLink(server.address, ["BW.RJOB..EHZ"], {}, SystemClock(), "2024-01-01T00:00:00")

    found, positions, _ = take(source, len(good))
    source.close()

    assert [r.value for r in found] == good
    assert list(positions.values()) == [len(good) + 1]


def test_no_server_is_unavailable_and_one_that_comes_is_used():
    with SeedLinkServer() as first:
        port = int(first.address.rpartition(":")[2])
    source = SeedLink(f"127.0.0.1:{port}", ["BW.RJOB..EHZ"], {}, SystemClock(), "2024-01-01T00:00:00")
    with pytest.raises(SourceUnavailable, match="seedlink://"):
        source.poll(10, 0.1)

    with SeedLinkServer(port) as second:
        second.add("BW_RJOB", records(30))
        found, _, _ = take(source, len(records(30)))
        source.close()

    assert [r.value for r in found] == records(30)


def test_a_silent_server_is_asked_for_a_sign_of_life_and_left(server, monkeypatch):
    monkeypatch.setattr(seedlink, "SILENT_S", 0.2)
    server.add("BW_RJOB", [log_text()])
    source = SeedLink(server.address, ["BW.RJOB..EHZ"], {}, SystemClock())

    with pytest.raises(SourceUnavailable, match="timed out"):
        for _ in range(100):
            source.poll(10, 0.05)
    source.close()


@pytest.mark.parametrize("pattern", ["BW.*..EHZ", "RJOB", "BW.RJOB.EHZ", "bw.rjob..ehz"])
def test_a_pattern_that_names_no_station_is_a_configuration_error(pattern):
    with pytest.raises(ConfigError, match=r"must be NET\.STA\.LOC\.CHA"):
        SeedLink("127.0.0.1", [pattern], {}, SystemClock())
