"""What a request costs, and whose limits it shares, read from what is sent and from the answer.

Imported by whoever uses budgets.
"""

import hashlib
import hmac
import os
import re
from typing import Any, Dict, List, Optional, Tuple

from .spending import BudgetRequest, Spending

# ---- a budget for each credential and model


_MODEL = re.compile(rb'(?<!\\)"model"\s*:\s*"((?:[^"\\]|\\.){1,100})"')
_MODEL_IN_PATH = re.compile(r"/(?:deployments|models|model)/([^/:?]+)")
_MAX_TOKENS = re.compile(
    rb'(?<!\\)"(?:max_tokens|max_completion_tokens|max_output_tokens)"\s*:\s*(\d{1,9})'
)
_CHOICES = re.compile(rb'(?<!\\)"n"\s*:\s*(\d{1,4})')
# What is no text: images, sounds and files within the JSON.
_ENCODED = re.compile(rb'"(?:data:[^"]{64,}|[A-Za-z0-9+/_=-]{512,})"')
_CREDENTIALS = re.compile(
    rb"(?im)^(?:authorization|x-api-key|api-key|x-goog-api-key):[ \t]*(?:bearer )?(.*?)[ \t]*\r?$"
)
_BYTES_PER_TOKEN = 4
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
    origin, _, path = request.url.partition("://")[2].partition("/")
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
        maxima = _MAX_TOKENS.findall(body, max(0, len(body) - 65536)) or _MAX_TOKENS.findall(
            body, 0, 65536
        )
        if maxima:
            choices = _CHOICES.findall(body, max(0, len(body) - 65536))
            output = int(maxima[-1]) * (max(1, int(choices[-1])) if choices else 1)
    return Spending(name, max(1, size // _BYTES_PER_TOKEN), output, estimated=True)


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
_TAIL = 8192
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
    for Anthropic's input in the first event."""

    __slots__ = ("_first", "_last")

    def __init__(self) -> None:
        self._first: List[Any] = []
        self._last: List[Any] = []

    def note(self, items: List[Any]) -> None:
        """Events, or pieces of the body."""
        if not self._first:
            self._first = items[:2]
        last = self._last + items[-4:] if len(items) < 4 else items[-4:]
        self._last = last[-6:]

    def has_end(self) -> bool:
        """What the providers send last has come, though perhaps not the end of the answer."""
        return any(end in _bytes(item)[-_TAIL:] for item in self._last[-2:] for end in _ENDS)

    def read(self) -> Optional[Tuple[int, int]]:
        parts = [_bytes(item)[:_TAIL] for item in self._first]
        parts += [_bytes(item)[-_TAIL:] for item in self._last]
        return usage(b"\n".join(parts))


def _bytes(item: Any) -> bytes:
    return item if isinstance(item, bytes) else item.data.encode("utf-8", "replace")
