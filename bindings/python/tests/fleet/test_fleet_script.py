"""What the script of the store decides, by call and compare: the clock is the test's."""

import json
import random

import pytest
from stores import ANY_NUMBER, LEASE, Limit, Member, Script, needs_redis, turn

pytestmark = needs_redis

MINUTE = 60


def hungry(count=1_000, *cost):
    """Keeps so many requests waiting."""

    def fill(member):
        missing = count - sum(map(len, member.queue))
        if missing > 0:
            member.wants(missing, *cost)

    return fill


def total(members, limit=0):
    return sum(member.spent[limit] for member in members)


# ---- shares


def test_a_new_store_has_nothing_and_fills_with_time(script):
    member = Member(script, "a").wants(100)
    assert member.ask().granted == 0
    script.now += 1_000
    assert member.ask().granted == 10


def test_the_hungry_share_all_that_comes_back(script):
    members = [Member(script, f"m{number}").wants(1_000) for number in range(8)]
    turn(script, members, MINUTE)
    assert 592 <= total(members) <= 600
    assert max(m.spent[0] for m in members) - min(m.spent[0] for m in members) <= 1


def test_one_that_wants_everything_has_what_the_others_leave(script):
    members = [Member(script, f"m{number}") for number in range(8)]
    members[0].wants(2_000)
    turn(script, members, MINUTE)
    assert members[0].spent[0] >= 590


def test_shares_are_fair_where_wants_are_uneven(script):
    """Max-min: those that want little have it, the others share the rest."""
    small = Member(script, "small", Limit(6_000))
    large = [Member(script, f"large{number}", Limit(6_000)).wants(9_000) for number in range(2)]
    members = [small, *large]
    turn(script, members, MINUTE, backlog=lambda m: m is small and m.wants(1))
    assert small.spent[0] >= 190  # of the 200 that it asked for
    assert abs(large[0].spent[0] - large[1].spent[0]) <= 2
    assert total(members) >= 5_950


def test_when_others_wake_they_have_their_share(script):
    first = Member(script, "first").wants(10_000)
    others = [Member(script, f"m{number}") for number in range(3)]
    turn(script, [first, *others], 20)
    for member in others:
        member.wants(10_000)
    before = [first.spent[0], *(member.spent[0] for member in others)]
    turn(script, [first, *others], 20)
    gained = [m.spent[0] - b for m, b in zip([first, *others], before)]
    assert all(48 <= each <= 52 for each in gained), gained


def test_saving_up_for_a_large_request(script):
    """Requests of a quarter of the minute's tokens beside seven members with small ones: its fair
    share, as seen over some of its requests."""
    limit = Limit(200_000, unit=1)
    large = Member(script, "large", limit)
    small = [Member(script, f"m{number}", limit) for number in range(7)]
    large.wants(40, 50_000)
    fill = hungry(100, 500)
    turn(script, [large, *small], 12 * MINUTE, step=1_000, backlog=lambda m: m is large or fill(m))
    share = large.spent[0] / total([large, *small])
    assert 0.10 <= share <= 0.16, share
    assert total([large, *small]) >= 0.97 * 12 * 200_000


def test_whole_requests_of_all_are_served_one_after_the_other(script):
    """What each would be lent of a part is enough for none."""
    limit = Limit(30_000, unit=1)
    members = [Member(script, f"m{number}", limit).wants(100, 8_000) for number in range(8)]
    turn(script, members, 10 * MINUTE)
    assert total(members) >= 0.93 * 300_000
    assert max(m.spent[0] for m in members) - min(m.spent[0] for m in members) <= 8_000


def test_all_limits_go_in_one_turn(script):
    """Else some hold all the requests and others all the tokens."""
    limits = Limit(60), Limit(60_000, unit=1)
    members = [Member(script, f"m{number}", *limits).wants(1_000, 1, 1_000) for number in range(20)]
    turn(script, members, 3 * MINUTE)
    assert total(members) >= 0.9 * 180
    assert total(members, 1) == 1_000 * total(members)


def test_what_was_lost_of_one_limit_is_lent_without_the_other(script):
    """A provider says again and again that less is left of one: what is held of the other is not
    added to, or it is all lent and nothing goes any more."""
    limits = Limit(600, capacity=100), Limit(6_000, unit=1, capacity=1_000)
    members = [Member(script, f"m{number}", *limits).wants(2_000, 1, 10) for number in range(3)]
    for _ in range(40):
        script.now += 300
        for member in members:
            member.ask()
            member.level[1] = 0
    before = total(members)
    turn(script, members, 30)
    assert total(members) - before >= 0.9 * 300


def test_who_lacks_what_others_hold_lets_them_go_first(script):
    """They lack of the other limit, and hold until they have it: it would wait for ever."""
    limits = Limit(600, capacity=60), Limit(6_000, unit=1)
    large = Member(script, "first", *limits).wants(100, 30, 100)
    large.ask()
    other = Member(script, "other", *limits).wants(60, 1, 10)
    other.level, other.valid_until = [60, 0], script.now + LEASE
    turn(script, [large, other], 60)
    assert other.spent[0] == 60
    assert large.spent[0] >= 0.8 * 600


def test_who_needs_all_that_there_is_gets_it_though_others_hold_a_part(script):
    """They hold of one limit what they cannot spend, and want more of both."""
    limits = Limit(600, capacity=10), Limit(600, capacity=600, unit=1)
    large = Member(script, "first", *limits).wants(100, 10, 10)
    small = Member(script, "other", *limits).wants(1_000, 1, 1)
    small.level, small.valid_until = [6, 0], script.now + LEASE
    for _ in range(100):
        script.now += 300
        for member in (large, small):
            member.ask()
            member.level[1] = 0 if member is small and member.level[0] < 6 else member.level[1]
            member.work()
    assert large.spent[0] >= 100 and small.spent[0] >= 20, (large.spent, small.spent)


def test_high_goes_before_low_in_all_members(script):
    low = [Member(script, f"low{number}").wants(1_000, rank=2) for number in range(3)]
    normal = Member(script, "normal").wants(1_000)
    high = Member(script, "high")
    turn(script, [*low, normal, high], 10)
    assert total(low) <= 3
    high.wants(1_000, rank=0)
    before = normal.spent[0]
    turn(script, [*low, normal, high], 10)
    assert high.spent[0] >= 96
    assert normal.spent[0] - before <= 4


def test_what_is_expected_is_lent_where_nobody_waits(script):
    member = Member(script, "a")
    member.expected = [20]
    member.ask()
    script.now += 10_000
    assert member.ask().granted == 20
    Member(script, "b").wants(1_000).ask()
    member.spend(20)
    assert member.ask().granted == 0


# ---- books


def test_what_is_not_needed_comes_back(script):
    member = Member(script, "a").wants(50)
    member.ask()
    script.now += 5_000
    assert member.ask().granted == 50
    member.queue[1].clear()
    assert script.free() == 0
    member.ask()
    assert member.level == [0]
    assert script.free() == 50


def test_one_that_spent_more_than_it_was_lent_is_a_debt(script):
    member = Member(script, "a").wants(10)
    member.ask()
    script.now += 1_000
    member.ask()
    member.spend(40)
    member.ask()
    assert script.free() == -30
    assert member.level == [0]


def test_a_lost_grant_comes_back(script):
    member = Member(script, "a").wants(10)
    member.ask()
    script.now += 1_000
    member.send(member.demand())  # nobody hears the answer
    assert script.free() == 0
    assert member.ask().granted == 10


def test_an_ask_that_comes_twice_is_granted_once(script):
    member = Member(script, "a").wants(10)
    member.ask()
    script.now += 2_000
    demand = member.demand()
    granted = member.take(member.send(demand)).granted
    assert granted == 10
    again = member.send(demand)
    assert again[5] == 0
    assert member.ask().granted == 0


def test_an_ask_that_was_overtaken_says_nothing_new(script):
    member = Member(script, "a").wants(10)
    old = member.demand()
    member.ask()
    script.now += 1_000
    member.ask()
    member.work()
    before = script.status()
    member.send(old)
    assert script.status()["limits"] == before["limits"]


def test_what_lies_never_exceeds_the_capacity(script):
    members = [Member(script, f"m{number}", Limit(600, capacity=100)) for number in range(3)]
    members[0].wants(60)
    turn(script, members, MINUTE)
    script.now += 600_000
    for member in members:
        member.wants(1_000)
    granted = sum(member.ask().granted for member in members for _ in range(3))
    assert granted <= 100


def test_a_member_that_died_is_dropped_after_its_lease(script):
    dead, living = Member(script, "dead").wants(1_000), Member(script, "living").wants(1_000)
    turn(script, [dead, living], 10)
    assert living.members == 2
    held = dead.level[0]
    script.now += LEASE + 1
    assert living.ask().members == 1
    before = living.spent[0]
    turn(script, [living], 10)
    assert living.spent[0] - before >= 98
    assert script.status()["members"][0]["id"] == "living"
    assert held >= 0


def test_one_that_comes_back_has_spent_its_share(script):
    away, living = Member(script, "away").wants(1_000), Member(script, "living").wants(1_000)
    turn(script, [away, living], 10)
    turn(script, [living], 2 * LEASE / 1000)
    before = script.free()
    away.spend(15)  # of its safe share, which has come back since
    away.level = [0]
    away.queue = ([], [], [])
    away.ask()
    assert script.free() <= before - 10


def test_leaving_does_not_give_back_what_was_spent(script):
    member, other = Member(script, "a").wants(1_000), Member(script, "b").wants(1_000)
    member.ask()
    script.now += 1_900
    assert member.ask().granted == 19
    member.work()
    member.leave()
    assert other.ask().granted == 0


def test_a_debt_is_paid_before_others_are_lent_more(script):
    debtor, other = Member(script, "a"), Member(script, "b").wants(1_000)
    debtor.ask()
    debtor.spend(100)  # of a request that cost more than was said, as it ended
    debtor.ask()
    turn(script, [other, debtor], 20)
    assert 90 <= other.spent[0] <= 102  # of the 200 that came back


def test_lapses_again_and_again_are_paid_for(script):
    """Each time it is away it spends of its safe share, which nobody else may have."""
    away, busy = Member(script, "away"), Member(script, "busy").wants(10_000)
    away.ask()
    began = script.now
    for _ in range(30):
        turn(script, [busy], 3)
        away.spent[0] += 5
        away.level = [0]
        away.ask()
    assert total([away, busy]) <= 10 * (script.now - began) / 1_000 * 1.01


def test_leaving_gives_back(script):
    member, other = Member(script, "a").wants(30), Member(script, "b")
    other.ask()
    member.ask()
    script.now += 1_900
    member.ask()
    held = member.level[0]
    assert held > 0
    assert member.leave() == 1
    assert script.free() == held
    assert [each["id"] for each in script.status()["members"]] == ["b"]


def test_a_limit_that_a_member_does_not_know_any_more(script):
    member = Member(script, "a", Limit(600), Limit(60_000, unit=1)).wants(10, 1, 100)
    turn(script, [member], 5)
    member.limits = member.limits[:1]
    for numbers in (member.level, member.spent, member.granted, member.remaining, member.expected):
        del numbers[1:]
    member.queue = ([], [], [])
    member.ask()
    assert [each["unit"] for each in script.status()["limits"]] == [0]


# ---- what members know differently


def test_the_smaller_limit_holds(script):
    large, small = Member(script, "a", Limit(1_200)), Member(script, "b", Limit(300))
    assert large.ask().amount == 1_200
    assert small.ask().amount == 300
    assert large.ask().amount == 300
    large.wants(1_000)
    turn(script, [large, small], MINUTE)
    assert 290 <= large.spent[0] <= 302
    small.leave()
    assert large.ask().amount == 1_200


def test_of_a_told_limit_the_latest_holds(script):
    first, second = Member(script, "a", Limit(100, told=1)), Member(script, "b", Limit(500, told=1))
    first.remaining = [50]
    first.ask()
    assert second.ask().amount == 100  # it says nothing new
    second.remaining = [400]
    assert second.ask().amount == 500
    assert first.ask().amount == 500


def test_a_told_limit_is_one_whatever_its_window(script):
    first = Member(script, "a", Limit(100, told=1))
    first.ask()
    first.limits = (Limit(100, 59_000, told=1),)
    first.remaining = [10]
    first.ask()
    (limit,) = script.status()["limits"]
    assert limit["window_ms"] == 59_000


def test_what_the_provider_says_is_less_holds_at_once(script):
    member = Member(script, "a")
    member.ask()
    script.now += 30_000
    member.ask()
    assert script.free() == 300
    member.remaining = [100]
    member.ask()
    assert script.free() == 100


def test_what_the_provider_says_is_more_comes_by_and_by(script):
    member = Member(script, "a")
    member.ask()
    member.remaining = [420]
    member.ask()
    assert script.free() == 200  # half of what is beyond two seconds
    member.remaining = [420]
    member.ask()
    assert script.free() == 300


def test_what_was_consumed_lately_may_be_in_what_the_provider_says(script):
    """Else a stock is lent many times over, by reports from before it was spent."""
    member = Member(script, "a", Limit(600, told=1))
    member.remaining = [600]
    member.ask()
    assert script.free() == 290
    member.wants(290)
    member.ask()
    member.work()
    member.queue = ([], [], [])
    member.remaining = [600]
    member.ask()
    assert script.free() == (600 - 290 - 20) / 2


def test_remaining_never_makes_more_than_the_capacity(script):
    member = Member(script, "a", Limit(600, capacity=50))
    member.remaining = [600]
    member.ask()
    assert script.free() <= 50


# ---- stops


def test_a_stop_is_everybodys(script):
    first, second = Member(script, "a").wants(100), Member(script, "b").wants(100)
    first.ask()
    script.now += 10_000
    first.stopped = 3_000
    grant = first.ask()
    assert (grant.stopped, grant.granted) == (3_000, 0)
    script.now += 1_000
    grant = second.ask()
    assert (grant.stopped, grant.granted) == (2_000, 0)
    first.stopped = 0
    script.now += 2_500
    first.ask()
    script.now += 1_000
    granted = first.ask().granted + second.ask().granted
    assert 8 <= granted <= 16  # at the pace of the limit from there


def test_no_stop_is_longer_than_ten_minutes(script):
    member = Member(script, "a")
    member.stopped = 10_000_000
    assert member.ask().stopped == 600_000


# ---- places


def test_places_where_there_is_no_limit(script):
    assert Member(script, "a").ask().places == ANY_NUMBER


def test_places_are_shared_by_the_hungry(script):
    members = [Member(script, f"m{number}", Limit(60_000), most=12) for number in range(3)]
    for member in members:
        member.wants(100)
    for _ in range(4):
        script.now += 300
        for member in members:
            member.ask()
            member.in_flight = member.places
    assert [member.places for member in members] == [4, 4, 4]


def test_places_are_never_more_than_there_are(script):
    chance = random.Random(5)
    members = [Member(script, f"m{number}", Limit(60_000), most=10) for number in range(5)]
    for _ in range(300):
        member = chance.choice(members)
        script.now += 50
        member.queue = ([], [(1,)] * chance.randrange(12), [])
        member.in_flight = chance.randint(min(member.in_flight, member.places), member.places)
        member.ask()
        if chance.random() < 0.5:
            member.in_flight = member.places
        assert sum(max(m.places, m.in_flight) for m in members if m.sequence) <= 10


def test_the_smallest_number_of_places_holds(script):
    large, small = Member(script, "a", most=100).wants(50), Member(script, "b", most=4)
    large.ask()
    small.ask()
    assert large.ask().places <= 4


def test_none_now_can_be_said(script):
    first, second = Member(script, "a", most=2).wants(5), Member(script, "b", most=2).wants(5)
    assert first.ask().places == 2
    first.in_flight = 2
    assert second.ask().places == 0


# ---- a store that knows nothing


def test_after_a_restart_only_those_that_are_known_gain(script):
    """The others still spend their safe shares."""
    members = [Member(script, f"m{number}", Limit(6_000)).wants(10_000) for number in range(4)]
    turn(script, members, 10)
    script.client.flushall()
    script.now += 10_000
    first = members[0]
    first.ask()
    script.now += 1_000
    assert first.ask().granted == 25  # a quarter of 100 a second
    for _ in range(10):
        script.now += 300
        for member in members:
            member.ask()
            member.work()
    before = total(members)
    turn(script, members, 10)
    assert total(members) - before >= 970


def test_after_a_restart_what_members_hold_is_lent(script):
    member = Member(script, "a").wants(20)
    member.ask()
    script.now += 2_000
    member.ask()
    assert member.level == [20]
    script.client.flushall()
    member.ask()
    (limit,) = script.status()["limits"]
    assert limit["held"] == 20


def test_a_limit_of_a_day_is_there_but_for_what_was_spent(script):
    """Else the first request of a fleet would wait for an hour."""
    limit = Limit(24, 86_400_000)
    first, second = Member(script, "a", limit).wants(24), Member(script, "b", limit)
    second.spent = [5]
    assert first.ask().granted == 0
    second.ask()
    script.now += LEASE + 1
    assert first.ask().granted == 19
    assert script.client.pttl(script.keys[0]) > 80_000_000


@pytest.mark.parametrize("part", range(7))
def test_a_key_that_was_evicted_is_a_store_that_begins_anew(script, part):
    members = [Member(script, f"m{number}").wants(1_000) for number in range(3)]
    turn(script, members, 10)
    script.client.delete(script.keys[part])
    before = total(members)
    turn(script, members, MINUTE)
    assert 560 <= total(members) - before <= 606


def test_a_clock_that_goes_back_is_a_store_that_begins_anew(script):
    members = [Member(script, f"m{number}").wants(1_000) for number in range(3)]
    turn(script, members, 10)
    script.now -= 3_600_000
    for member in members:
        member.valid_until -= 3_600_000
    before = total(members)
    turn(script, members, MINUTE)
    assert 560 <= total(members) - before <= 606


def test_a_clock_that_goes_forward_gives_a_burst_once(script):
    members = [Member(script, f"m{number}").wants(10_000) for number in range(3)]
    turn(script, members, 10)
    for hours in (1, 24):  # within ten leases all of what they had is known, and later none
        script.now += hours * 3_600_000
        for member in members:
            member.valid_until += hours * 3_600_000
        before = total(members)
        turn(script, members, MINUTE)
        assert 600 <= total(members) - before <= 1_210


def test_the_servers_clock_counts(script):
    member = Member(script, "a", Limit(60_000)).wants(1_000)
    script.now = 0
    member.ask()
    seconds, micros = script.client.time()
    assert script.client.zscore(script.keys[2], "a") == pytest.approx(
        seconds * 1000 + micros / 1000 + LEASE, abs=500
    )


# ---- keys


def test_no_key_lives_for_ever(script):
    members = [Member(script, f"m{number}", most=3).wants(100) for number in range(3)]
    for rank, member in enumerate(members):
        member.wants(50, rank=rank)
    turn(script, members, 5)
    members[0].valid_until = 0
    script.now += LEASE + 1
    members[1].ask()
    keys = script.client.keys("*")
    assert len(keys) >= 5
    for key in keys:
        assert 0 < script.client.pttl(key) <= 10 * 60_000


def test_all_keys_are_declared_and_of_one_slot(script, client):
    """The script has no key but those that it is given, which a cluster needs."""
    text = script._script.script
    called = text.count("redis.call(")
    assert called == text.count("redis.call('TIME'") + sum(
        text.count(f"redis.call('{name}', {key}")
        for name in ("GET", "SET", "HGET", "HSET", "HDEL", "HLEN", "DEL", "ZADD", "ZREM", "ZCARD",
                     "ZCOUNT", "ZRANGE", "ZRANGEBYSCORE", "PEXPIRE")
        for key in ("STATE", "MEMBERS", "ENDS", "GONE", "QUEUES[", "KEYS[", "unpack(KEYS)", "each)")
    )  # fmt: skip
    from redis.crc import key_slot

    assert len({key_slot(key.encode()) for key in script.keys}) == 1


def test_a_flushed_script_is_loaded_again(script):
    member = Member(script, "a").wants(10)
    member.ask()
    script.client.script_flush()
    script.now += 1_000
    assert member.ask().granted == 10


def test_numbers_are_whole_both_ways(script):
    member = Member(script, "a", Limit(7, 3_001), Limit(1 << 40, 86_400_000, unit=3)).wants(
        3, 1, 1 << 30
    )
    for _ in range(15):
        script.now += 333.25
        reply = member.send(member.demand())
        member.take(reply)
        assert all(isinstance(number, int) for number in reply)
        member.work()
    assert member.spent[0] >= 2


def test_large_numbers_are_kept_to_the_last(script):
    most = 1 << 52
    member = Member(script, "a", Limit(1_000, unit=1))
    member.spent = [most]
    member.ask()
    script.now += 6_000
    member.wants(1, 7)
    assert member.ask().granted == 7
    member.spend(7)
    member.queue[1].clear()
    member.ask()
    assert script.free() == 93


def test_status_is_empty_where_nobody_asked(script):
    assert script.status() is None
    Member(script, "a").ask()
    assert script.client.type(script.keys[0]) == b"string"
    assert json.dumps(script.status())


# ---- properties


class Books:
    """What the provider would say: all that was spent, against capacity and rate."""

    def __init__(self, script, limit):
        self.start = script.now
        self.limit = limit

    def allowed(self, now):
        return self.limit.capacity + self.limit.amount * (now - self.start) / self.limit.window


@pytest.mark.parametrize("seed", range(12))
def test_no_more_is_granted_than_there_is(client, seed):
    """Whatever comes, lost or twice, of members that die and return."""
    chance = random.Random(seed)
    script = Script(client, f"seed{seed}")
    limit = Limit(chance.choice((60, 600, 100_000)), capacity=chance.choice((None, 50)), unit=1)
    books = Books(script, limit)
    members = [Member(script, f"m{number}", limit) for number in range(chance.randint(1, 9))]
    for _ in range(400):
        member = chance.choice(members)
        script.now += chance.choice((1, 50, 300, 1_000))
        for _ in range(chance.randrange(3)):
            rank = member.queue[chance.randrange(3)]
            if len(rank) < 50:
                rank.append((chance.randint(1, max(2, limit.capacity // 3)),))
        asked_at = script.now
        demand = member.demand()
        reply = member.send(demand)
        if chance.random() < 0.1:
            reply = member.send(demand)  # twice, and the second is heard
        if chance.random() < 0.1:
            continue  # lost
        member.take(reply, asked_at)
        if chance.random() < 0.9:
            member.work()
        assert total(members) <= books.allowed(script.now) + 1e-6, seed
    assert total(members) > 0


@pytest.mark.parametrize("seed", range(6))
def test_all_that_comes_back_is_granted(client, seed):
    """Where all are hungry, whatever the costs."""
    chance = random.Random(seed)
    script = Script(client, f"all{seed}")
    limit = Limit(60_000, unit=1)
    members = [Member(script, f"m{number}", limit) for number in range(chance.randint(1, 12))]
    most = chance.choice((10, 500, 3_000))

    def fill(member):
        missing = 5_000 - sum(cost for (cost,) in member.queue[1])
        while missing > 0:
            cost = chance.randint(1, most)
            member.wants(1, cost)
            missing -= cost

    turn(script, members, MINUTE, backlog=fill)
    assert total(members) >= 60_000 - most - 300 - 60


@pytest.mark.parametrize("seed", range(8))
def test_one_of_several_limits_is_used_up(client, seed):
    """Whatever requests cost of each, and after answers that took of any limit what was held."""
    chance = random.Random(seed)
    script = Script(client, f"several{seed}")
    amounts = [chance.choice((600, 6_000, 60_000)) for _ in range(chance.randint(2, 3))]
    limits = [
        Limit(amount, unit=unit, capacity=amount // chance.choice((1, 6)))
        for unit, amount in enumerate(amounts)
    ]
    members = [Member(script, f"m{number}", *limits) for number in range(chance.randint(2, 9))]
    most = {
        m: [limit.capacity // chance.choice((10, 50, 100)) for limit in limits] for m in members
    }

    def fill(member):
        while len(member.queue[1]) < 40:
            member.wants(1, *(chance.randint(1, each) for each in most[member]))

    for _ in range(300):
        script.now += chance.choice((50, 300, 1_000))
        member = chance.choice(members)
        fill(member)
        member.ask()
        if chance.random() < 0.5:
            member.level[chance.randrange(len(limits))] = 0
        if chance.random() < 0.5:
            member.work()
    turn(script, members, 10, backlog=fill)
    before = [total(members, index) for index in range(len(limits))]
    turn(script, members, MINUTE, backlog=fill)
    used = [(total(members, at) - before[at]) / amount for at, amount in enumerate(amounts)]
    assert max(used) >= 0.9, used
    assert max(used) <= 1.01 + max(limit.capacity / limit.amount for limit in limits), used


# ---- what members know differently


def test_a_stop_does_not_empty_a_limit_of_a_day(script):
    """A day's requests come back within a day: a Retry-After of a second is not about them."""
    a = Member(script, "a", Limit(10_000, 86_400_000))
    for _ in range(12):
        script.now += 300
        a.ask()
    free = script.free()
    a.stopped = 1000
    a.ask()
    a.stopped = 0
    script.now += 2000
    a.ask()
    assert script.free() >= free - 1


def test_members_whose_capacities_are_fractions_of_each_other(script):
    """Of 600 and of 30 in a minute, of a second each: the smaller is half a request."""
    members = [
        Member(script, "a", Limit(600, capacity=10)),
        Member(script, "b", Limit(30, capacity=1)),
    ]
    sent = 0
    for member in members:
        member.wants(1000)
    for _ in range(200):
        for member in members:
            script.now += 150
            member.ask()
            sent += member.work()
    assert 20 <= sent <= 31


def test_the_smallest_burst_holds(script):
    large = Member(script, "a", Limit(600, capacity=600)).wants(1000, 100)
    small = Member(script, "b", Limit(600, capacity=10)).wants(10_000, 1)
    sent = [0, 0]
    for _ in range(200):
        for index, member in enumerate((large, small)):
            script.now += 150
            member.ask()
            sent[index] += member.work()
    assert sent[0] >= 2 and sent[1] >= 200
    assert 100 * sent[0] + sent[1] <= 620


def test_a_clock_that_goes_back_a_little_gives_nothing_twice(script):
    a = Member(script, "a").wants(10_000)
    sent = 0
    for _ in range(200):
        for step in (300, -250):
            script.now += step
            a.ask()
            sent += a.work()
    assert sent <= 103
