from streamclust.serve.health import LIVE_WITHIN, Health


def test_it_lives_while_the_loop_ticks():
    health = Health(started=100.0)
    assert health.live(100.0 + LIVE_WITHIN)
    assert not health.live(100.1 + LIVE_WITHIN)
    health.tick(140.0)
    assert health.live(140.0 + LIVE_WITHIN)
    assert not health.live(140.1 + LIVE_WITHIN)


def test_the_first_tick_makes_it_ready():
    health = Health(started=0.0)
    ready, reasons = health.ready()
    assert not ready
    assert reasons == ["loop: the loop has not finished a turn yet"]
    health.tick(1.0)
    assert health.ready() == (True, [])


def test_each_reason_stands_until_it_is_taken_away():
    health = Health(started=0.0)
    health.tick(1.0)
    health.set_reason("source", "gone")
    health.set_reason("disk", "full")
    health.set_reason("source", "still gone")
    assert health.ready() == (False, ["disk: full", "source: still gone"])
    health.tick(2.0)
    health.set_reason("disk", None)
    assert health.ready() == (False, ["source: still gone"])
    health.set_reason("source", None)
    health.set_reason("source", None)
    assert health.ready() == (True, [])


def test_a_reason_that_the_daemon_gives_for_the_loop_is_not_taken_by_a_tick():
    health = Health(started=0.0)
    health.set_reason("loop", "paused")
    health.tick(1.0)
    assert health.ready() == (False, ["loop: paused"])
