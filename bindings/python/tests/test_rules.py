"""The rules of advise at their borders: two snapshots, of which the second is by a hair over it."""

import pytest

from llmpool._command.advice import advise
from llmpool._command.rules import ENOUGH, RULES
from llmpool._pool.snapshots import snapshot_of

ORIGIN = "https://api.example.com:443"
PID = 7


def bucket(micros):
    """Of the histograms: values from 8 on have eight buckets for each power of two."""
    power = micros.bit_length() - 1
    return micros if micros < 8 else (power - 2) * 8 + ((micros >> (power - 3)) & 7)


def histogram(**counts):
    """us_1000=3: three durations of 1 ms."""
    pairs = [(int(name[3:]), count) for name, count in counts.items()]
    return {
        "count": sum(count for _, count in pairs),
        "sum_us": sum(micros * count for micros, count in pairs),
        "max_us": max(micros for micros, _ in pairs),
        "buckets": [[bucket(micros), count] for micros, count in pairs],
    }


def at(
    seconds, *, requests=(), closed=None, failed=None, retried=None, histograms=None, limits=None,
    left_out=0, **stats,
):  # fmt: skip
    """A process with a pool with an origin, both with these counts."""
    part = {
        "stats": stats,
        "histograms": histograms or {},
        "reasons": {"closed": closed or {}, "failed": failed or {}, "retried": retried or {}},
    }
    return snapshot_of(
        {
            "schema": 1, "version": "0.1.0", "pid": PID, "name": "app",
            "monotonic_us": 1_000_000 * seconds,
            "pools": [
                {
                    "name": "pool-1",
                    "options": {"max_connections": 10, "max_keepalive_connections": 5,
                                **(limits or {})},
                    **part,
                    "origins": [{"origin": ORIGIN, **part}],
                    "budgets": [],
                    "requests": list(requests),
                    "requests_left_out": left_out,
                }
            ],
        }
    )  # fmt: skip


def several(count, phase, age, received=100, first=0, attempts=1):
    return [
        {
            "id": first + i, "origin": ORIGIN, "phase": phase, "age_us": round(1e6 * age),
            "attempts": attempts, "sent": 10, "received": received,
        }
        for i in range(count)
    ]  # fmt: skip


def rules(before, now):
    return [each.rule for each in advise([before], [now]).advice]


def test_too_little_to_say():
    closed = {"not-reusable": ENOUGH}
    before = at(0)
    for requests, found, too_little in ((ENOUGH - 1, [], 1), (ENOUGH, ["dials-anew"], 0)):
        now = at(10, submitted=requests, opened=requests, closed=closed)
        verdict = advise([before], [now])
        assert [each.rule for each in verdict.advice] == found
        assert len(verdict.too_little) == too_little
        assert [each.requests for each in verdict.too_little] == [requests] * too_little
    # Those that are in flight at the beginning count, too.
    busy = at(0, submitted=20, active=10, pending=5, backing_off=5)
    assert advise([busy], [at(10, submitted=ENOUGH)]).too_little == ()
    assert advise([busy], [at(10, submitted=ENOUGH - 1)]).too_little[0].requests == ENOUGH - 1


def test_a_window_that_is_too_short_and_processes_that_come_and_go():
    now = at(4.9, submitted=200, opened=200, closed={"not-reusable": 200})
    assert advise([at(0)], [now]).pools == 0
    assert advise([], [at(10, submitted=200)]).pools == 0
    assert advise([at(0)], []).pools == 0
    assert advise([at(0)], [at(5, submitted=200)]) == (5.0, 1, (), (), 1)


FULL = {
    "submitted": 200,
    "succeeded": 170,
    "in_use": 10,
    "active": 10,
    "pending": 20,
    "histograms": {"pool_wait": histogram(us_200000=170), "total": histogram(us_300000=170)},
}


def test_too_small():
    (found,) = advise([at(0)], [at(10, **FULL)]).advice
    assert (found.rule, found.origin, found.knob) == ("too-small", "", "Limits(max_connections=)")
    assert "All 10 connections are taken, and 20 requests wait" in found.what
    assert "170 others got one" in found.what
    assert "from 10 to 30 or more" in found.change
    assert 0.2 <= found.figures["wait_p50_seconds"] <= 0.225


@pytest.mark.parametrize(
    "healthy",
    [
        {"in_use": 9, "active": 9},  # bursts to 90 %
        {"pending": 0},  # full, and nobody waits
        {"pending": 20, "awaiting_budget": 20},  # for their budget
        {"in_use": 4, "connecting": 6, "active": 4},  # a cold start
        {"limits": {"max_connections": 0}},
        {"histograms": {"pool_wait": histogram(us_1000=170), "total": histogram(us_300000=170)}},
    ],
)
def test_not_too_small(healthy):
    assert rules(at(0), at(10, **{**FULL, **healthy})) == []


def test_too_small_by_the_share_of_the_time():
    """Each waits 20 ms, which is much of 60."""
    for total, found in ((60_000, ["too-small"]), (200_000, [])):
        waits = {
            "pool_wait": histogram(us_20000=170),
            "total": histogram(**{f"us_{total}": 170}),
        }
        assert rules(at(0), at(10, **{**FULL, "histograms": waits})) == found


def test_too_small_where_nobody_got_one():
    waiting = several(20, "pool", 0.2)
    for age, found in ((0.05, []), (0.2, ["too-small"])):
        waiting = several(20, "pool", age)
        assert rules(at(0), at(10, **{**FULL, "histograms": {}, "requests": waiting})) == found


def test_too_small_for_an_origin():
    limits = {"max_connections": 100, "max_connections_per_origin": 10}
    (found,) = advise([at(0)], [at(10, **FULL, limits=limits)]).advice
    assert (found.rule, found.origin) == ("too-small", ORIGIN)
    assert "max_connections_per_origin from 10 to 30" in found.change


def test_too_small_of_few_requests():
    """Slow answers: it must be so at both looks, and they wait long."""
    before = {"submitted": 30, "in_use": 10, "active": 10, "pending": 20}
    now = {**before, "submitted": 50}
    waits = several(20, "pool", 1.0)
    verdict = advise([at(0, **before)], [at(10, **now, requests=waits)])
    assert [each.rule for each in verdict.advice] == ["too-small"] and verdict.too_little
    for was in ({**before, "in_use": 9, "active": 9}, {**before, "pending": 4}):
        assert rules(at(0, **was), at(10, **now, requests=waits)) == []
    assert rules(at(0, **before), at(10, **now, requests=several(20, "pool", 0.9))) == []


def test_over_http2_fewer_connections_are_enough():
    many = {**FULL, "active": 1000, "pending": 500}
    (found,) = advise([at(0)], [at(10, **many)]).advice
    assert found.figures["wanted"] == 15


def test_who_is_stuck_is_not_helped_by_a_larger_pool():
    stuck = several(10, "receiving", 20), several(10, "receiving", 30)
    full = {**FULL, "histograms": {}}
    before = at(0, submitted=100, active=10, in_use=10, requests=stuck[0])
    assert rules(before, at(10, **full, requests=stuck[1])) == ["stalls"]
    unread = [{**each, "received": 600_000} for each in stuck[0]]
    before = at(0, submitted=100, active=10, in_use=10, requests=unread)
    after = [{**each, "age_us": each["age_us"] + 10_000_000} for each in unread]
    assert rules(before, at(10, **full, requests=after)) == ["leaks"]


@pytest.mark.parametrize("closed, found", [(100, ["dials-anew"]), (99, [])])
def test_the_server_says_close(closed, found):
    now = at(10, submitted=200, opened=200, closed={"not-reusable": closed}, idle=100)
    assert rules(at(0), now) == found


def test_dials_anew_has_its_figures():
    dialling = {"connect": histogram(us_8000=200), "tls": histogram(us_16000=200)}
    now = at(10, submitted=200, opened=199, closed={"not-reusable": 198}, histograms=dialling)
    (found,) = advise([at(0)], [now]).advice
    assert found.origin == ORIGIN and "199 connections were opened for 200 requests" in found.what
    assert "198 answers said" in found.what
    assert 0.024 <= found.figures["connecting_seconds"] <= 0.027


@pytest.mark.parametrize(
    "reason, share, turns, word",
    [
        ("closed-by-peer", 0.5, 3, "keep-alive"),
        ("go-away", 0.5, 3, "keep-alive"),
        ("keepalive-limit", 0.9, 3, "max_keepalive_connections"),
        ("expired", 0.5, 1, "keepalive_expiry"),
        ("aborted", 0.5, 1, "http2"),
        ("evicted", 0.5, 1, "max_connections"),
    ],
)
def test_why_connections_end(reason, share, turns, word):
    least = round(200 * share)
    for closed, found in ((least, ["dials-anew"]), (least - 1, [])):
        now = at(10, submitted=200, opened=200, closed={reason: closed}, idle=least // turns)
        assert rules(at(0), now) == found
        if found:
            assert word in advise([at(0)], [now]).advice[0].knob
    # As many as there are, once each: a restart.
    restart = at(10, submitted=200, opened=200, closed={reason: least}, idle=least // turns + 1)
    assert rules(at(0), restart) == []
    # It is not dialled anew: so many connections are simply given up.
    given_up = at(10, submitted=200, opened=least - 1, closed={reason: least})
    assert rules(at(0), given_up) == []


def test_a_cold_start_and_a_restarted_server():
    assert rules(at(0), at(10, submitted=200, opened=90, idle=90)) == []
    closed = {"closed-by-peer": 90}
    assert rules(at(0), at(10, submitted=180, opened=180, closed=closed, idle=90)) == []


def test_what_was_before_does_not_count():
    before = at(0, submitted=900, opened=900, closed={"not-reusable": 900})
    now = at(10, submitted=1100, opened=902, closed={"not-reusable": 902})
    assert rules(before, now) == []


@pytest.mark.parametrize("count, found", [(5, ["leaks"]), (4, [])])
def test_leaks(count, found):
    def unread(age, received=200_000, phase="receiving"):
        return several(count, phase, age, received)

    before = at(0, active=count, requests=unread(1))
    assert rules(before, at(10, active=count, requests=unread(11))) == found
    # More came meanwhile: somebody reads.
    assert rules(before, at(10, active=count, requests=unread(11, received=200_001))) == []
    handing = at(0, requests=unread(1, phase="handing-over", received=10))
    now = at(10, requests=unread(11, phase="handing-over", received=10))
    assert rules(handing, now) == found


def test_a_small_window_is_full_sooner():
    limits = {"stream_window_bytes": 65_536}
    before = at(0, active=5, requests=several(5, "receiving", 1, 9000), limits=limits)
    now = at(10, active=5, requests=several(5, "receiving", 11, 9000), limits=limits)
    assert rules(before, now) == ["leaks"]


@pytest.mark.parametrize("count, found", [(5, ["stalls"]), (4, [])])
def test_stalls(count, found):
    before = at(0, active=count, requests=several(count, "receiving", 1))
    now = at(10, active=count, requests=several(count, "receiving", 11))
    verdict = advise([before], [now])
    assert [each.rule for each in verdict.advice] == found
    assert verdict.too_little  # it is said all the same
    if found:
        assert "Nothing has come for 5 of 5 requests" in verdict.advice[0].what
        assert verdict.advice[0].figures["oldest_seconds"] == 11


def test_no_stall():
    before = at(0, active=9, requests=several(9, "receiving", 1))
    for now in (
        several(9, "receiving", 11, received=101),  # something came
        several(9, "receiving", 11, attempts=2),  # it was sent again
        several(9, "waiting", 11),  # another phase
        several(9, "receiving", 5, first=100),  # others
    ):
        assert rules(before, at(10, active=9, requests=now)) == []
    few = at(0, active=50, requests=several(9, "receiving", 1))
    many = [*several(9, "receiving", 11), *several(41, "receiving", 0.1, first=100)]
    assert rules(few, at(10, active=50, requests=many)) == []


def test_a_long_thought_is_no_stall():
    """Of few requests, or where it usually takes so long, waiting is not stalling."""
    few = at(0, active=9, requests=several(9, "waiting", 5, 0))
    assert rules(few, at(10, active=9, requests=several(9, "waiting", 15, 0))) == []
    for usual, found in ((9_000_000, []), (1_000_000, ["stalls"])):
        history = {"first_byte": histogram(**{f"us_{usual}": 50})}
        waiting = {"active": 30, "histograms": history}
        before = at(0, submitted=100, requests=several(30, "waiting", 5, 0), **waiting)
        now = at(10, submitted=200, requests=several(30, "waiting", 15, 0), **waiting)
        assert rules(before, now) == found


@pytest.mark.parametrize("reason", ["first-byte-timeout", "read-timeout", "event-timeout"])
def test_timeouts(reason):
    for failed, retried, found in ((5, 5, ["stalls"]), (5, 4, [])):
        now = at(10, submitted=100, failed={reason: failed}, retried={reason: retried})
        assert rules(at(0), now) == found
    # Of few requests half must have run into it.
    for failed, found in ((10, ["stalls"]), (9, [])):
        assert rules(at(0), at(10, submitted=20, failed={reason: failed})) == found


@pytest.mark.parametrize("count, found", [(20, ["refused"]), (19, [])])
def test_refused(count, found):
    assert rules(at(0), at(10, submitted=200, retried={"status 429": count})) == found


def test_one_of_a_name_is_enough():
    now = at(
        10, submitted=100, active=9, requests=several(9, "receiving", 11),
        failed={"read-timeout": 50},
    )  # fmt: skip
    before = at(0, active=9, requests=several(9, "receiving", 1))
    assert rules(before, now) == ["stalls"]


def test_rules_say_which_knob():
    for rule in RULES:
        assert rule.knob and rule.advice.endswith(".") and rule.what.endswith(".")
