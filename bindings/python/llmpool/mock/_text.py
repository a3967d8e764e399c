"""What the mock says: the same words always, JSON that fits a schema, vectors, calls of tools."""

import hashlib
import json
import random
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from ._failures import ErrorAnswer
from ._schemas import json_of

TEXT = (
    "The pool keeps one connection open and sends every call over it, so that none of them "
    "waits for a handshake and each token arrives as soon as the server has written it ."
)
WORDS = tuple(TEXT.split())
JSON_PIECE = 8  # characters of a piece of JSON in a stream


class Tool(NamedTuple):
    """A function that the request offers."""

    name: str
    schema: Any


class Answer(NamedTuple):
    """What the model comes up with.

    Attributes:
        tokens: the text in pieces; empty where it calls tools.
        calls: the tools that it calls.
        cut: the text ends at the maximum that the request sets.
    """

    tokens: List[str]
    calls: List[Tool]
    cut: bool = False

    @property
    def text(self) -> str:
        return "".join(self.tokens)

    @property
    def size(self) -> int:
        """In tokens."""
        return len(self.tokens) + sum(len(arguments_of(call)) for call in self.calls)


def words(count: int) -> List[str]:
    return [(" " if index else "") + WORDS[index % len(WORDS)] for index in range(count)]


def pieces_of(text: str) -> List[str]:
    return [text[at : at + JSON_PIECE] for at in range(0, len(text), JSON_PIECE)]


def arguments_of(call: Tool) -> List[str]:
    """The arguments of a call, JSON in pieces."""
    return pieces_of(json_of(call.schema or {"type": "object"}))


def text_answer(count: int, maxima: Sequence[Any], schema: Any = None) -> Answer:
    """So many words, or the smallest of the maxima, where one is set; JSON where a schema is."""
    pieces = words(count) if schema is None else pieces_of(json_of(schema))
    cut = False
    for maximum in maxima:
        if isinstance(maximum, int) and not isinstance(maximum, bool):
            if maximum < 1:
                raise ErrorAnswer(400, f"{maximum} is less than the minimum of 1.")
            if schema is None and maximum <= len(pieces):
                pieces, cut = pieces[:maximum], True
    return Answer(pieces, [], cut)


def calls_for(
    tools: Sequence[Tool],
    called: Sequence[str],
    answered: bool,
    choice: str = "auto",
    parallel: bool = True,
) -> List[Tool]:
    """The tools that the model calls: every one that is offered, until it has a result.

    Args:
        called: names of those that the conversation has calls of.
        answered: the conversation ends with a result.
        choice: "none", "auto", "required", or the name of a tool.
        parallel: it may call more than one at a time.
    """
    if choice == "none" or not tools:
        return []
    if choice not in ("auto", "required"):
        return [tool for tool in tools if tool.name == choice][:1]
    chosen = list(tools)
    if answered:
        if choice == "auto":
            return []
        chosen = [tool for tool in tools if tool.name not in called] or [tools[-1]]
    return chosen if parallel else chosen[:1]


def tokens_in(messages: List[Any]) -> int:
    """An estimate: four characters each."""
    return sum(3 + len(json.dumps(message)) // 4 for message in messages)


def embed(text: Any, dimensions: int) -> List[float]:
    """A vector of length 1 that depends on the text and on nothing else."""
    seed = hashlib.sha256(str(text).encode()).digest()
    source = random.Random(seed)
    vector = [source.gauss(0.0, 1.0) for _ in range(dimensions)]
    length = sum(value * value for value in vector) ** 0.5
    return [round(value / length, 8) for value in vector]


class Shelf:
    """Things by their ids, in the order in which they came; the oldest make room."""

    def __init__(self, things_max: int, bytes_max: int = 0) -> None:
        self._things: Dict[str, Any] = {}
        self._sizes: Dict[str, int] = {}
        self._things_max, self._bytes_max = things_max, bytes_max

    def put(self, key: str, thing: Any, size: int = 0) -> None:
        """Raises ErrorAnswer, 413, where it is larger than the whole shelf."""
        if size > self._bytes_max:
            raise ErrorAnswer(413)
        self._things[key], self._sizes[key] = thing, size
        while len(self._things) > self._things_max or sum(self._sizes.values()) > self._bytes_max:
            self.take(next(iter(self._things)))

    def get(self, key: str) -> Optional[Any]:
        return self._things.get(key)

    def take(self, key: str) -> Optional[Any]:
        self._sizes.pop(key, None)
        return self._things.pop(key, None)

    def newest_first(self) -> List[Any]:
        return list(self._things.values())[::-1]
