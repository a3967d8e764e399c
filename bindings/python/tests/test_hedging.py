"""Retry(hedge_after=): a second attempt while the first is silent."""

import pickle
import threading

import calls
import pytest
import servers

import llmpool

NEXT = "when the next request has come"


class Slow(servers.RawServer):
    """Answers each request after so many seconds as come next in the plan, or at NEXT, with its
    number; those behind the plan at once."""

    def __init__(self, *plan):
        super().__init__(self.handle)
        self.plan = list(plan)
        self.requests = 0
        self.is_over = threading.Event()

    def handle(self, connection, _):
        buffer = b""
        while True:
            _, _, buffer = servers.read_request(connection, buffer)
            self.requests += 1
            number = self.requests
            self.wait(number)
            servers.answer(connection, b"%d" % number)

    def wait(self, number):
        step = self.plan.pop(0) if self.plan else 0
        if step == NEXT:
            assert servers.wait_until(lambda: self.requests > number)
        else:
            self.is_over.wait(step)

    def __exit__(self, *raised):
        self.is_over.set()
        super().__exit__(*raised)


HEDGED = llmpool.Retry(sent=True, hedge_after=0.1)


def call(*arguments, **more):
    """The answer's text and attempts."""
    answer = calls.call(*arguments, **more)
    return answer.text, answer.attempts


@calls.WAYS
@pytest.mark.parametrize("where", ["client", "request"])
def test_the_second_attempt_answers(way, where, open_pool):
    pool = open_pool()
    with Slow(50) as server:
        given = {"retry": HEDGED} if where == "request" else {"client": {"retry": HEDGED}}
        assert call(way, server.url, pool, **given) == ("2", 2)
    stats = pool.stats()
    assert (stats.hedges, stats.hedges_won, stats.retries) == (1, 1, 0)


def test_the_first_attempt_answers(open_pool):
    pool = open_pool()
    with Slow(NEXT, 50) as server:
        assert call("blocking", server.url, pool, retry=HEDGED) == ("1", 2)
        assert call("blocking", server.url, pool) == ("3", 1)  # the struct's field is reset
    stats = pool.stats()
    assert (stats.hedges, stats.hedges_won) == (1, 0)


def test_a_body_in_pieces_is_not_sent_twice(open_pool):
    with Slow(0.5) as server:
        client = llmpool.Client(base_url=server.url, pool=open_pool(), timeout=60, retry=HEDGED)
        answer = client.post("/", content=iter([b"piece"]), headers={"content-length": "5"})
        assert (answer.text, answer.attempts) == ("1", 1)
        assert client.pool.stats().hedges == 0


def test_the_pools_share(open_pool):
    pool = open_pool(hedge_percent=0)
    with Slow(0.5) as server:
        assert call("blocking", server.url, pool, retry=HEDGED) == ("1", 1)
        pool.configure(hedge_percent=100)
        server.plan = [50]
        assert call("blocking", server.url, pool, retry=HEDGED) == ("3", 2)
    for wrong in (-1, 101):
        with pytest.raises(ValueError, match="hedge_percent"):
            open_pool(hedge_percent=wrong)


def test_over_http2(mock, at_once):
    """Half of the calls take two seconds more."""
    pool = llmpool.Pool(ca_file=mock.ca_file, hedge_percent=100)
    headers = {"authorization": f"Bearer {mock.api_key}"}
    client = llmpool.Client(base_url=mock.url, headers=headers, pool=pool, timeout=60)
    body = {"model": "tail-50-2", "messages": [{"role": "user", "content": "hi"}]}
    retry = llmpool.Retry(sent=True, hedge_after=0.3)

    def chat(_):
        answer = client.post("/v1/chat/completions", json=body, retry=retry).raise_for_status()
        assert answer.json()["choices"]
        return answer.attempts

    attempts = at_once(chat, 24, threads=8)
    stats = pool.stats()
    pool.close()
    assert set(attempts) <= {1, 2}
    assert 0 < stats.hedges_won <= stats.hedges == attempts.count(2)
    assert (stats.succeeded, stats.retries) == (24, 0)


def test_what_is_refused():
    with pytest.raises(ValueError, match="hedge_after: only with sent=True"):
        llmpool.Retry(status=True, hedge_after=1)
    with pytest.raises(ValueError, match="hedge_after"):
        llmpool.Retry(sent=True, hedge_after=-1)
    with pytest.raises(TypeError, match="hedge_after"):
        llmpool.Retry(sent=True, hedge_after="1")


def test_it_is_part_of_the_value():
    assert repr(HEDGED) == "Retry(status=False, sent=True, connect=True, hedge_after=0.1)"
    assert pickle.loads(pickle.dumps(HEDGED)) == HEDGED != llmpool.Retry(sent=True)
    assert llmpool.Retry(sent=True, hedge_after=None) == llmpool.Retry(sent=True)
