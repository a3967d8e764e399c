"""The first at once, then one in so many seconds that says how many it stands for."""

from llmpool._pool.limiter import Limiter


def parts(said):
    return None if said is None else (said.item, said.count, said.since)


def all_parts(said):
    return [parts(each) for each in said]


def test_the_first_at_once_and_the_rest_as_one():
    limiter = Limiter(10)
    assert parts(limiter.offer("a", "1", 100)) == ("1", 1, 100)
    assert limiter.next_due() is None  # nothing is held back
    assert limiter.offer("a", "2", 101) is None
    assert limiter.offer("a", "3", 109.9) is None
    assert limiter.next_due() == 110
    assert limiter.due(109.9) == []
    assert all_parts(limiter.due(110)) == [("3", 2, 101)]
    assert limiter.due(110) == [] and limiter.next_due() is None


def test_what_is_held_back_is_in_the_next():
    limiter = Limiter(10)
    limiter.offer("a", "1", 0)
    limiter.offer("a", "2", 1)
    assert parts(limiter.offer("a", "3", 12)) == ("3", 2, 1)
    assert limiter.offer("a", "4", 13) is None  # 10 s run from the last that was said
    assert all_parts(limiter.due(22)) == [("4", 1, 13)]


def test_a_quiet_time_makes_it_a_first_again():
    limiter = Limiter(10)
    limiter.offer("a", "1", 0)
    assert limiter.due(10) == []
    assert limiter._windows == {}  # kinds that are over take no memory
    assert parts(limiter.offer("a", "2", 10.5)) == ("2", 1, 10.5)
    # Also where nobody asked meanwhile.
    assert parts(limiter.offer("a", "3", 30)) == ("3", 1, 30)


def test_at_most_one_in_the_time_and_none_is_lost():
    limiter = Limiter(10)
    said = []
    for step in range(1000):
        now = step / 10
        said += [each for each in [limiter.offer("a", step, now)] if each is not None]
        said += limiter.due(now)
    assert len(said) <= 1 + 100 / 10
    assert sum(each.count for each in [*said, *limiter.rest(100)]) == 1000


def test_kinds_do_not_hold_each_other_back():
    limiter = Limiter(10)
    for kind in ("a", "b", ("a", "b")):
        assert limiter.offer(kind, "1", 0) is not None
        assert limiter.offer(kind, "2", 1) is None
    assert len(limiter.due(10)) == 3


def test_counts_times_and_merging():
    limiter = Limiter(10, lambda held, new: held + new)
    assert parts(limiter.offer("a", "1", 5, 7, 2)) == ("1", 7, 2)
    limiter.offer("a", "2", 6, 3, 4)
    limiter.offer("a", "3", 7, 2)
    assert all_parts(limiter.rest(8)) == [("23", 5, 4)]
    assert limiter.rest(8) == []
