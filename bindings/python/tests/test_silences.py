"""Requests that had no answer in time, as the log tells of them."""

from llmpool._pool.sight import Reasons
from llmpool._pool.silences import Silence, Silences, fields, text

A = "https://a:443"


def reasons(failed=(), retried=()):
    return {A: Reasons({}, dict(failed), dict(retried))}


def test_those_since_the_last_look():
    silences = Silences()
    assert (
        silences.look(reasons({"read-timeout": 7})) == []
    )  # who looks first knows nothing of them
    assert silences.look(reasons({"read-timeout": 7})) == []
    found = silences.look(reasons({"read-timeout": 8, "total-timeout": 3}, {"read-timeout": 2}))
    assert found == [Silence(A, "read-timeout", 3)]
    assert silences.look({}) == []  # the pool has forgotten it
    assert silences.look(reasons({"read-timeout": 1})) == [Silence(A, "read-timeout", 1)]
    assert text(found[0]) == f"a request to {A} had no answer in time: its read timeout is over"
    assert fields(found[0]) == {"origin": A, "reason": "read-timeout"}


def test_an_origin_that_begins_anew():
    silences = Silences()
    silences.look(reasons({"event-timeout": 9}))
    assert silences.look(reasons({"event-timeout": 2})) == [Silence(A, "event-timeout", 2)]
