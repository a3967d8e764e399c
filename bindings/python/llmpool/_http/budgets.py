"""What a request costs, and whose limits it shares, read from what is sent and from the answer.

Imported by whoever uses budgets.
"""

import hashlib
import hmac
import os
import re
from typing import Any, Dict, List, Optional, Tuple

from .spending import LARGEST, BudgetRequest, Spending

# ---- a budget for each credential and model


# What comes first is searched for quickly, a look behind it is not: hence in this order.
_MODEL = re.compile(rb'"(?<!\\")model"\s*:\s*"((?:[^"\\]|\\.){1,100})"')
_MODEL_IN_PATH = re.compile(r"/(?:deployments|models|model)/([^/:?]+)")
_MAX_TOKENS = re.compile(
    rb'"(?<!\\")(?:max_tokens|max_completion_tokens|max_output_tokens)"\s*:\s*(\d{1,9})'
)
_CHOICES = re.compile(rb'"(?<!\\")n"\s*:\s*(\d{1,4})')
# What is no text: images, sounds and files within the JSON.
_ENCODED = re.compile(rb'"(?:data:[^"]{64,}|[A-Za-z0-9+/_=-]{512,})"')
_CREDENTIALS = re.compile(
    rb"(?im)^(?:authorization|x-api-key|api-key|x-goog-api-key):[ \t]*(?:bearer )?(.*?)[ \t]*\r?$"
)
_AWS_KEY = re.compile(rb"Credential=(\w{4,128})")
_BYTES_PER_TOKEN = 4
_LOOKED_AT = 65536
_secret = os.urandom(32)
_digests: Dict[bytes, str] = {}


def auto_budget(request: BudgetRequest) -> Optional[Spending]:
    """A budget for each origin, model and credential, and a guess at the cost: for budget=.

        client = llmpool.Client(budget=llmpool.auto_budget)

    The model is that of the body, or of the path (Azure, Gemini, Bedrock). The credential is not
    shown: twelve digits of an HMAC with a key of this process stand for it; none for tokens that
    expire (JWT, Google's), which change. The input is guessed as a token for each four bytes of the
    body, without base64 and data: URLs; the output as the maximum that the request sets, where the
    provider counts that (Anthropic does not). A request without a model, as for a list of models,
    has no budget.

    It may be wrapped: whatever takes a BudgetRequest and gives a Spending, a Budget, a name or None
    can be given as budget=.
    """
    body = request.body or b""
    address = request.url.partition("://")[2].partition("?")[0].partition("#")[0]
    origin, _, path = address.partition("/")
    model = _model(body) or _model_in(path)
    if not model:
        return None
    name = f"{origin.rpartition('@')[2]} {model}"
    digest = _credential(request._block)
    if digest:
        name = f"{name} {digest}"
    size = len(body)
    for found in _ENCODED.finditer(body):
        size -= found.end() - found.start()
    output = 0
    if b"anthropic-version" not in request._block.lower():
        # They stand before or behind the messages.
        tail = max(0, len(body) - _LOOKED_AT)
        maxima = _MAX_TOKENS.findall(body, tail)
        if not maxima and tail:
            maxima = _MAX_TOKENS.findall(body, 0, _LOOKED_AT)
        if maxima:
            choices = _CHOICES.findall(body, tail)
            output = int(maxima[-1]) * (max(1, int(choices[-1])) if choices else 1)
    return Spending(name, max(1, size // _BYTES_PER_TOKEN), min(output, LARGEST), estimated=True)


auto_budget.__module__ = "llmpool"


def _model(body: bytes) -> str:
    found = _MODEL.findall(body)
    if len(found) > 1:  # one of them may be in what a tool was called with
        import json

        try:
            value = json.loads(body)
        except ValueError:
            return ""
        model = value.get("model") if isinstance(value, dict) else None
        return _clean(model) if isinstance(model, str) else ""
    return _clean(found[0].decode("utf-8", "replace")) if found else ""


def _model_in(path: str) -> str:
    found = _MODEL_IN_PATH.search("/" + path)
    return _clean(found.group(1)) if found else ""


def _clean(model: str) -> str:
    return "".join(c for c in model if c.isprintable())[:100]


def _credential(block: bytes) -> str:
    found = _CREDENTIALS.search(block)
    if found is None:
        return ""
    secret = found.group(1)
    if secret.startswith(b"AWS4-"):  # a signature is of one request: whose it is stands before
        key = _AWS_KEY.search(secret)
        if key is None or key.group(1).startswith(b"ASIA"):
            return ""
        secret = key.group(1)
    if secret.startswith(b"ya29.") or (secret.startswith(b"eyJ") and secret.count(b".") == 2):
        return ""
    known = _digests.get(secret)
    if known is None:
        if len(_digests) >= 1000:
            _digests.clear()
        known = hmac.new(_secret, secret, hashlib.sha256).hexdigest()[:12]
        _digests[secret] = known
    return known


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
