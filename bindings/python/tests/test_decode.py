"""Content codings: linear, bounded, and the same however the input is cut."""

import gzip
import sys
import time
import zlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import llmpool
from llmpool._client.converters import Bytes, Events
from llmpool._http import decode
from llmpool._http.decode import StreamDecoder, decode_body

LIMIT = 1 << 26


def raw_deflate(data):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def brotli_compress(data):
    return pytest.importorskip("brotli").compress(data)


def zstd_compress(data):
    try:
        from compression import zstd
    except ImportError:
        zstd = pytest.importorskip("backports.zstd")
    return zstd.compress(data)


PACK = {
    "gzip": gzip.compress, "deflate": zlib.compress, "br": brotli_compress, "zstd": zstd_compress,
}  # fmt: skip

INSTALLED = ["gzip", "deflate", *filter(decode._is_installed, ("br", "zstd"))]


def outcome(coding, pieces):
    """The decoded bytes, or that they cannot be decoded."""
    decoder = StreamDecoder(coding)
    try:
        parts = [part for piece in pieces for part in decoder.feed(piece)]
        decoder.finish()
    except llmpool.DecodingError:
        return "DecodingError"
    return b"".join(parts)


def cut(data, places):
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[begin:end] for begin, end in zip(edges, edges[1:])]


BODIES = st.one_of(
    st.binary(max_size=200), st.integers(0, 70_000).map(bytes), st.just(bytes(3 << 20))
)


@settings(max_examples=150, deadline=None)
@given(
    coding=st.sampled_from([*INSTALLED, "raw", "deflate, gzip"]),
    bodies=st.lists(BODIES, min_size=1, max_size=4),
    between=st.sampled_from([b"", b"\0", b"\0\0\0"]),
    tail=st.sampled_from([b"", b"\0", b"\x1f", b"\x1f\x8b", b"\x28\xb5\x2f", b"junk", b"\x1f\0"]),
    lost=st.integers(0, 12),
    places=st.lists(st.integers(0, 1 << 20), max_size=12),
)
@example("gzip", [b""], b"", b"", 0, [])
@example("raw", [b""], b"", b"", 0, [1])
@example("deflate", [b"x"], b"", b"", 0, [1])
def test_the_same_for_every_split(coding, bodies, between, tail, lost, places):
    if coding == "raw":
        coding, packed = "deflate", raw_deflate(bodies[0])
    elif coding == "deflate, gzip":
        packed = gzip.compress(zlib.compress(bodies[0]))
    elif coding in ("gzip", "zstd"):
        packed = (between if coding == "gzip" else b"").join(map(PACK[coding], bodies))
    else:
        packed = PACK[coding](bodies[0])
    packed += tail
    packed = packed[: len(packed) - lost]
    whole = outcome(coding, [packed])
    assert outcome(coding, cut(packed, places)) == whole
    if len(packed) < 5000:
        assert outcome(coding, [packed[i : i + 1] for i in range(len(packed))]) == whole
    try:
        assert decode_body(coding, packed, LIMIT) == whole
    except llmpool.DecodingError:
        assert whole == "DecodingError"


@settings(max_examples=150, deadline=None)
@given(
    coding=st.sampled_from(INSTALLED),
    junk=st.binary(min_size=1, max_size=60),
    places=st.lists(st.integers(0, 100), max_size=6),
    at=st.integers(0, 60),
)
def test_junk_is_the_same_for_every_split(coding, junk, places, at):
    good = PACK[coding](b"a body that is not long")
    for packed in (junk, good[:at] + junk, good[:at] + junk + good[at:], good + junk):
        assert outcome(coding, cut(packed, places)) == outcome(coding, [packed])


@pytest.mark.parametrize("coding", PACK)
def test_what_each_coding_undoes(coding):
    body = b"the same words again and again " * 100_000
    packed = PACK[coding](body)
    assert decode_body(coding, packed, LIMIT) == body
    assert decode_body(f"identity, {coding.upper()} ,", packed, LIMIT) == body
    with pytest.raises(llmpool.DecodingError, match="too early"):
        decode_body(coding, packed[:-1], LIMIT)
    with pytest.raises(llmpool.DecodingError, match=f"not valid {coding}|too early"):
        decode_body(coding, b"\xff" * 40, LIMIT)
    assert all(len(part) <= 1 << 21 for part in StreamDecoder(coding).feed(packed))
    assert b"".join(Bytes(coding).batch([packed])) == body


@pytest.mark.parametrize("coding", PACK)
def test_bombs_are_bounded(coding):
    bomb = PACK[coding](bytes(20_000_000))
    with pytest.raises(llmpool.ResponseTooLarge):
        decode_body(coding, bomb, 1 << 20)
    twice = PACK[coding](PACK["gzip"](bytes(1 << 20)) * 3)  # the inner layer is bounded too
    with pytest.raises(llmpool.ResponseTooLarge):
        decode_body(f"gzip, {coding}", twice, 1000)


@pytest.mark.parametrize("between", [b"", b"\0"])
def test_many_empty_members_take_linear_time(between):
    def seconds(count):
        packed = (gzip.compress(b"") + between) * count
        began = time.process_time()
        assert decode_body("gzip", packed, LIMIT) == b""
        return time.process_time() - began

    seconds(1000)
    # Quadratic, 90,000 would take 100 times as long as 9,000.
    assert seconds(90_000) < 40 * max(seconds(9_000), 0.02)


@pytest.mark.parametrize("coding, most", [("gzip", 100_000), ("zstd", 1_000)])
def test_members_are_bounded(coding, most):
    packed = PACK[coding](b"") * most
    assert decode_body(coding, packed, LIMIT) == b""
    with pytest.raises(llmpool.DecodingError, match=f"more than {most}"):
        decode_body(coding, packed + PACK[coding](b""), LIMIT)


def test_at_most_five_codings():
    packed = b"x"
    for _ in range(5):
        packed = gzip.compress(packed)
    assert decode_body("gzip," * 5, packed, LIMIT) == b"x"
    for count in (6, 100_000):
        with pytest.raises(llmpool.DecodingError, match=rf"{count} content codings \(gzip, gzip"):
            decode_body("gzip," * count, packed, LIMIT)
        with pytest.raises(llmpool.DecodingError):
            StreamDecoder("gzip," * count)


@pytest.mark.parametrize("coding", ["br", "zstd"])
def test_without_its_extra_the_error_says_what_to_do(coding, monkeypatch):
    monkeypatch.setitem(sys.modules, "brotli", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    decode.accept_encoding.cache_clear()
    try:
        assert decode.accept_encoding() == "gzip, deflate"
        answer = llmpool.Response(200, content=b"x", headers={"content-encoding": coding})
        with pytest.raises(llmpool.DecodingError) as caught:
            answer.content  # noqa: B018
        assert f"libllmpool[{coding}]" in str(caught.value) and repr(coding) in str(caught.value)
        assert "accept-encoding" in str(caught.value) and answer.raw_content == b"x"
        with pytest.raises(llmpool.DecodingError):
            Bytes(coding)
    finally:
        decode.accept_encoding.cache_clear()


def test_what_is_asked_for_is_what_is_installed():
    asked = decode.accept_encoding().split(", ")
    assert asked[:2] == ["gzip", "deflate"]
    assert ("br" in asked) == decode._is_installed("br")
    assert ("zstd" in asked) == decode._is_installed("zstd")


@pytest.mark.parametrize("coding", ["compress", "dcz"])
def test_a_known_coding_that_is_not_undone_is_named(coding):
    with pytest.raises(llmpool.DecodingError, match=coding):
        decode_body(coding, b"x", LIMIT)
    assert decode_body("utf-8", b"x", LIMIT) == b"x"  # a mistake of servers, whose body is plain


def test_the_import_of_the_package_imports_no_extra(run_python):
    script = (
        "import sys, llmpool; llmpool.URL('https://h/');"
        "print([m for m in ('brotli', 'backports.zstd', 'compression.zstd', 'idna', 'inspect')"
        " if m in sys.modules])"
    )
    done = run_python(script)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_events_before_a_fault_are_given():
    packed = gzip.compress(b"data: 1\n\ndata: 2\n\n")
    converter = Events("gzip", None)
    events = iter(converter.batch([packed, b"\x1f\x8b\xff\xff"]))
    assert [next(events).data, next(events).data] == ["1", "2"]
    with pytest.raises(llmpool.DecodingError):
        next(events)


def test_events_stop_at_the_event_asked_for():
    converter = Events("gzip", "[DONE]")
    batch = [gzip.compress(b"data: 1\n\ndata: [DONE]\n\ndata: 2\n\n"), b"junk"]
    assert [event.data for event in converter.batch(batch)] == ["1"] and converter.stopped
    plain = Events("", "[DONE]")
    assert list(plain.batch([llmpool.Event(data="[DONE]")])) == [] and plain.stopped
