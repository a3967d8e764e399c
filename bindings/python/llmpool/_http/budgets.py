"""What a request costs, and whose limits it shares, read from what is sent and from the answer.

Imported by whoever uses budgets.
"""

import hashlib
import hmac
import os
import re
from typing import Any, Dict, List, Optional, Tuple, Union

from .spending import LARGEST, BudgetRequest, Spending

# ---- a budget for each credential and model


# Each is matched where find() has seen how it begins: a search for the pattern takes much longer.
_MODEL = re.compile(rb'(?<!\\)"model"\s*:\s*"((?:[^"\\]|\\.){1,100})"')
_MODEL_IN_PATH = re.compile(r"/(?:deployments|models|model)/([^/:?]+)")
_MAX_TOKENS = re.compile(
    rb'(?<!\\)"max_(?:tokens|completion_tokens|output_tokens)"\s*:\s*(\d{1,9})'
)
_CHOICES = re.compile(rb'(?<!\\)"n"\s*:\s*(\d{1,4})')
# What is no text: images, sounds and files within the JSON, where they are long.
_ENCODED = re.compile(rb'"(?:data:[^"]*|[A-Za-z0-9+/_=-]{512,})"')
_ENCODED_LEAST = 512
_STRUCTURE = re.compile(rb'\\.|["{}\[\]]', re.S)
_CREDENTIALS = (b"\nauthorization:", b"\nx-api-key:", b"\napi-key:", b"\nx-goog-api-key:")
_AWS_KEY = re.compile(rb"Credential=(\w{4,128})")
_BYTES_PER_TOKEN = 4
_LOOKED_AT = 65536
_DIGESTS_MOST = 1000


class AutoBudget:
    """A budget for each origin, model and credential, and a guess at the cost: for budget=.

        client = llmpool.Client(budget=llmpool.auto_budget)

    The model is that of the body, or of the path (Azure, Gemini, Bedrock). The credential is in
    the name as twelve digits of an HMAC, for which metrics and messages have a number
    ("api.openai.com/gpt-4o/1"); tokens that expire (JWT, Google's) are in none, as they change. The
    input is guessed as a token for each four bytes of the body, without base64 and data: URLs; the
    output as the maximum that the request sets, where the provider counts that (Anthropic does
    not). A request without a model, as for a list of models, has no budget.

    It may be wrapped: whatever takes a BudgetRequest and gives a Spending, a Budget, a name or None
    can be given as budget=.

    Args:
        secret: the key of the HMAC: where it is the same, the names are, as in all processes of a
            fleet. None: one of this process, as that of llmpool.auto_budget is. It is not shown,
            and not pickled.

    Raises:
        ValueError: an empty secret.
    """

    __module__ = "llmpool"  # as __init__.py has it for what it imports
    __slots__ = ("_mac", "_digests")

    def __init__(self, *, secret: Union[str, bytes, None] = None) -> None:
        if secret is None:
            secret = os.urandom(32)
        if isinstance(secret, str):
            secret = secret.encode("utf-8")
        if not isinstance(secret, bytes):
            raise TypeError(f"secret is a str, bytes or None, not {type(secret).__name__}")
        if not secret:
            raise ValueError("secret is empty")
        self._mac = hmac.new(secret, digestmod=hashlib.sha256)
        self._digests: Dict[bytes, str] = {}

    def __call__(self, request: BudgetRequest) -> Optional[Spending]:
        body = request.body or b""
        address = request.url.partition("://")[2].partition("?")[0].partition("#")[0]
        origin, _, path = address.partition("/")
        model = model_of(body, path)
        if not model:
            return None
        name = f"{origin.rpartition('@')[2]}/{model}"
        block = b"\n" + request._block
        lower = block.lower()
        credential = _credential(block, lower)
        if credential:
            name = f"{name} #{self._digest(credential)}"
        text = len(body) - _encoded(body)
        output = 0 if b"\nanthropic-version:" in lower else min(_most_output(body), LARGEST)
        return Spending(name, max(1, text // _BYTES_PER_TOKEN), output, estimated=True)

    def _digest(self, credential: bytes) -> str:
        known = self._digests.get(credential)
        if known is None:
            if len(self._digests) >= _DIGESTS_MOST:
                self._digests.clear()
            mac = self._mac.copy()
            mac.update(credential)
            known = self._digests[credential] = mac.hexdigest()[:12]
        return known

    def __repr__(self) -> str:
        return "llmpool.auto_budget" if self is auto_budget else "<llmpool.AutoBudget>"

    def __reduce__(self) -> str:
        """A pickled auto_budget is that of the process that loads it."""
        if self is not auto_budget:
            raise TypeError("an AutoBudget has a secret and cannot be pickled: make it there")
        return "auto_budget"

    def __copy__(self) -> "AutoBudget":
        return self

    def __deepcopy__(self, memo: Dict[int, Any]) -> "AutoBudget":
        return self


auto_budget = AutoBudget()
"""The AutoBudget of this process, whose secret is its own."""


def _most_output(body: bytes) -> int:
    """The maximum that the request sets: it stands before or behind the messages."""
    tail = max(0, len(body) - _LOOKED_AT)
    maximum = _last(_MAX_TOKENS, b'"max_', body, tail, len(body))
    if maximum is None and tail:
        maximum = _last(_MAX_TOKENS, b'"max_', body, 0, _LOOKED_AT)
    if maximum is None:
        return 0
    return maximum * max(1, _last(_CHOICES, b'"n"', body, tail, len(body)) or 1)


def _last(
    pattern: "re.Pattern[bytes]", begin: bytes, body: bytes, at: int, end: int
) -> Optional[int]:
    """The number of the last match, each of which begins so."""
    while True:
        end = body.rfind(begin, at, end)
        if end < 0:
            return None
        found = pattern.match(body, end)
        if found:
            return int(found.group(1))


def _encoded(body: bytes) -> int:
    """How many bytes are no text."""
    size = at = 0
    # No blank is in what is encoded: where there is one it begins behind that.
    while (end := at + _ENCODED_LEAST) <= len(body):
        blank = body.rfind(b" ", at, end)
        begin = -1 if blank >= 0 else body.rfind(b'"', at, end)
        found = _ENCODED.match(body, begin) if begin >= 0 else None
        if found:
            at = found.end()
            size += at - begin
        else:
            at = max(blank, begin) + 1 or end
    return size


def model_of(body: bytes, path: str) -> str:
    """That a request names, in its body or its path; "" where it names none."""
    return _model(body) or _model_in(path)


def _model(body: bytes) -> str:
    found = []
    at = body.find(b'"model"')
    while at >= 0:
        match = _MODEL.match(body, at)
        if match:
            found.append(match)
        at = body.find(b'"model"', at + 7)
    # Others may be in what a tool was called with.
    chosen = found[0] if len(found) == 1 else _outermost(body, found)
    return _clean(chosen.group(1).decode("utf-8", "replace")) if chosen else ""


def _outermost(body: bytes, found: "List[re.Match[bytes]]") -> "Optional[re.Match[bytes]]":
    """The one that is in no object but that of the whole body."""
    if not found:
        return None
    rest = found[-1].end()
    if len(body) - rest <= _LOOKED_AT and _depth(body, rest, len(body)) == -1:
        return found[-1]
    depth = at = 0
    for match in found:
        depth += _depth(body, at, match.start())
        at = match.start()
        if depth == 1:
            return match
    return None


def _depth(body: bytes, begin: int, end: int) -> int:
    """How many more objects and lists begin there than end; begin is in no string."""
    depth = 0
    is_quoted = False
    for part in _STRUCTURE.finditer(body, begin, end):
        what = part.group()
        if what == b'"':
            is_quoted = not is_quoted
        elif not is_quoted and len(what) == 1:
            depth += 1 if what in b"{[" else -1
    return depth


def _model_in(path: str) -> str:
    found = _MODEL_IN_PATH.search("/" + path)
    return _clean(found.group(1)) if found else ""


def _clean(model: str) -> str:
    if not model.isprintable():
        model = "".join(c for c in model if c.isprintable())
    return model[:100]


def _credential(block: bytes, lower: bytes) -> bytes:
    """What stands for whoever pays; b"" where there is nothing such that lasts."""
    for name in _CREDENTIALS:
        at = lower.find(name)
        if at >= 0:
            break
    else:
        return b""
    at += len(name)
    end = block.find(b"\n", at)
    secret = (block[at:end] if end >= 0 else block[at:]).strip()
    if secret[:7].lower() == b"bearer ":
        secret = secret[7:].lstrip()
    if secret.startswith(b"AWS4-"):  # a signature is of one request: whose it is stands before
        key = _AWS_KEY.search(secret)
        return b"" if key is None or key.group(1).startswith(b"ASIA") else key.group(1)
    if secret.startswith(b"ya29.") or (secret.startswith(b"eyJ") and secret.count(b".") == 2):
        return b""
    return secret


# ---- what it really took


_INPUT = re.compile(rb'"(?:prompt_tokens|input_tokens|promptTokenCount)"\s*:\s*(\d{1,12})')
_CACHE_WRITTEN = re.compile(rb'"cache_creation_input_tokens"\s*:\s*(\d{1,12})')
_OUTPUT = re.compile(
    rb'"(?:completion_tokens|output_tokens|candidatesTokenCount)"\s*:\s*(\d{1,12})'
)
_KEPT = 8192
_ENCODED_MOST = 1 << 20
_ENDS = (b"[DONE]", b'"message_stop"', b'"response.completed"')


def usage(data: bytes) -> Optional[Tuple[int, int]]:
    """Input and output tokens, as an answer says them last; None where it does not."""
    inputs, outputs = _INPUT.findall(data), _OUTPUT.findall(data)
    if not inputs and not outputs:
        return None
    written = _CACHE_WRITTEN.findall(data)
    taken = (int(inputs[-1]) if inputs else 0) + (int(written[-1]) if written else 0)
    return taken, int(outputs[-1]) if outputs else 0


class Meter:
    """Reads from an answer, as it passes, what the request took: its usage stands at the end, and
    for Anthropic's input at the beginning. Of an encoded one all is kept, up to a bound."""

    __slots__ = ("_begin", "_end", "_encoded", "_size")

    def __init__(self) -> None:
        self._begin = b""
        self._end = b""
        self._encoded: Optional[List[bytes]] = None
        self._size = 0

    def note(self, items: List[Any], headers: bytes = b"") -> None:
        """Events, or pieces of the body; headers: of the answer."""
        if not self._size and b"content-encoding" in headers.lower():
            self._encoded = []
        data = _joined(items)
        self._size += len(data)
        if self._encoded is not None:
            self._encoded.append(data)
            if self._size > _ENCODED_MOST:
                self._encoded = [b""]
            return
        if len(self._begin) < _KEPT:
            self._begin += data[: _KEPT - len(self._begin)]
        self._end = (self._end + data[-_KEPT:])[-_KEPT:]

    def has_end(self) -> bool:
        """What the providers send last has come, though perhaps not the end of the answer."""
        return any(end in self._end[-256:] for end in _ENDS)

    def read(self, headers: bytes = b"") -> Optional[Tuple[int, int]]:
        if self._encoded is not None:
            return usage(_decoded(b"".join(self._encoded), headers))
        return usage(self._begin + self._end)


def _joined(items: List[Any]) -> bytes:
    """Pieces of a body belong together, events do not."""
    if items and isinstance(items[0], bytes):
        return items[0] if len(items) == 1 else b"".join(items)
    return b"".join(item.data.encode("utf-8", "replace") + b"\n" for item in items)


def _decoded(body: bytes, headers: bytes) -> bytes:
    from .decode import decode_body
    from .headers import Headers

    try:
        coding = ",".join(Headers._parse(headers).get_list("content-encoding"))
        return decode_body(coding, body, _ENCODED_MOST)
    except Exception:  # whoever reads it will be told
        return b""
