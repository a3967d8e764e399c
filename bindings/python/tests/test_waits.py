"""Which requests are said to wait long for a connection, and which are not."""

import pytest

from llmpool._pool import waits
from llmpool._pool.waits import Reached, Waiting, Waits

A, B = "https://a:443", "https://b:443"
FULL = Reached("max_connections", 2, 2)


class Pool:
    """A pool that is looked at once a second."""

    def __init__(self):
        self.waits = Waits()
        self.now = 1000.0

    def look(self, *waiting, limit=FULL, after=1.0):
        self.now += after
        limit_of = limit if callable(limit) else lambda _: limit
        return [
            (wait.origin, round(wait.waited, 3), wait.waiting, wait.new)
            for wait in self.waits.look(self.now, waiting, limit_of)
        ]


def test_one_that_waits_is_said_once():
    pool = Pool()
    pool.look()
    assert pool.look(Waiting(1, 0, A, 0.4)) == []
    assert pool.look(Waiting(1, 0, A, 1.4)) == [(A, 1.0, 1, 1)]
    assert pool.look(Waiting(1, 0, A, 2.4)) == []


def test_the_longest_is_told_with_those_that_are_new():
    pool = Pool()
    pool.look()
    pool.look(Waiting(1, 0, A, 0.5))
    pool.look(Waiting(1, 0, A, 1.5), Waiting(2, 0, A, 0.5), Waiting(3, 0, A, 0.1))
    # The limit is reached since the second look: of what was before it nothing is known.
    assert pool.look(
        Waiting(1, 0, A, 2.5), Waiting(2, 0, A, 1.5), Waiting(3, 0, A, 1.1), Waiting(4, 0, A, 0.1)
    ) == [(A, 2.0, 4, 2)]


def test_what_a_burst_leaves_behind_is_no_long_wait():
    pool = Pool()
    for second in range(100):  # each second others wait, for a moment
        assert pool.look(*(Waiting(100 * second + n, 0, A, 0.9) for n in range(50))) == []


def test_waiting_for_a_server_that_is_down_is_none():
    pool = Pool()
    for age in range(60):
        assert pool.look(Waiting(1, 0, A, float(age)), limit=None) == []
    # It is back, and all come at once: they begin to wait for a place now.
    assert pool.look(Waiting(1, 0, A, 60.0)) == []
    assert pool.look(Waiting(1, 0, A, 61.0), limit=None) == []
    assert pool.look(Waiting(1, 0, A, 62.0)) == []
    assert pool.look(Waiting(1, 0, A, 63.0)) == [(A, 1.0, 1, 1)]


def test_one_that_waited_for_its_budget_has_not_waited_for_a_connection():
    pool = Pool()
    pool.look(Waiting(9, 0, A, 0.1))
    assert pool.look(Waiting(1, 0, A, 30.0)) == []
    assert pool.look() == []
    # Nor has one that was sent, and comes back to be sent again.
    pool.look(Waiting(2, 0, A, 0.9))
    assert pool.look(Waiting(2, 1, A, 1.9)) == []


def test_a_look_that_comes_late_makes_nothing_longer():
    pool = Pool()
    pool.look(Waiting(9, 0, A, 0.1))
    assert pool.look(Waiting(1, 0, A, 0.2), after=30) == []
    pool.look(Waiting(9, 0, A, 60.1), after=30)
    # Of what it was before this look nothing is known, however old it is.
    assert pool.look(Waiting(2, 0, A, 20.0), after=30) == []


def test_each_origin_by_itself():
    pool = Pool()
    limit = {A: FULL, B: None}.get
    pool.look(limit=limit)
    pool.look(Waiting(1, 0, A, 0.5), Waiting(2, 0, B, 0.5), limit=limit)
    assert pool.look(Waiting(1, 0, A, 1.5), Waiting(2, 0, B, 1.5), limit=limit) == [(A, 1.0, 1, 1)]
    assert pool.waits._since == {(1, 0): 1002.0}


@pytest.mark.parametrize(
    "reached, origin, end",
    [
        (FULL, A, "raise max_connections or lower the load"),
        (
            Reached("max_connections_per_origin", 2, 2), A,
            "raise max_connections_per_origin or lower the load",
        ),
        (Reached("max_connections", 2, 2, True), A, "if the server speaks it"),
        (Reached("max_connections", 2, 2, True), "http://a:80", "or lower the load"),
        (
            Reached("max_connections", 2, 2, False, 61.0), A,
            "one answer has been coming for 61 s: a stream keeps its connection until it is read "
            "to its end or closed",
        ),
    ],
)  # fmt: skip
def test_the_line_says_what_to_do(reached, origin, end):
    said = waits.text(waits.Wait(origin, reached, 1.25, 3, 1))
    begin = f"waiting for a connection to {origin} for 1.2 s, before sending: 2 in use, "
    assert said.startswith(f"{begin}{reached.knob} is 2, 3 requests wait: raise {reached.knob}")
    assert said.endswith(end)
