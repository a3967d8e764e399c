"""What an answer says about itself, for the messages of errors."""

import json
import re
from typing import TYPE_CHECKING, Any, Iterable, Optional, Tuple

from . import secrets

if TYPE_CHECKING:
    from .headers import Headers
    from .models import Response

# What support asks for, the common ones first.
_REQUEST_IDS = (
    "x-request-id", "request-id", "x-amzn-requestid", "x-amzn-request-id", "apim-request-id",
    "x-ms-request-id", "x-goog-request-id", "x-correlation-id", "cf-ray",
)  # fmt: skip
# The longest message of a server that is shown, and the most of a body that is looked at.
_MESSAGE, _BODY = 500, 64 << 10
_BEGINNING = 100
# Where APIs have their message; OpenAI, Anthropic, Google and Azure below "error".
_MESSAGE_NAMES = (
    "error", "message", "detail", "errors", "error_description", "error_message", "msg", "title",
    "fault", "faultstring",
)  # fmt: skip


def status_message(response: "Response", content: bytes) -> str:
    """The message of an HTTPStatusError.

    Args:
        content: of the body what is known, decoded.
    """
    kind = {1: "Informational response", 3: "Redirect response", 4: "Client error"}.get(
        response.status_code // 100, "Server error"
    )
    message = f"{kind} '{response.status_code} {response.reason_phrase}'"
    if response.url:
        message += f" for url '{secrets.in_url(response.url)}'"
    if response.is_error:
        said = _said(response, content)
        if said:
            message += f": {said}"
        message += id_note(response.headers)
    if response.has_redirect_location:
        message += f"\nRedirect location: '{secrets.in_url(response.headers['location'])}'"
    return message


def _about(response: "Response", content: bytes) -> str:
    """Status, type and the beginning of the body."""
    kind = response.headers.get("content-type")
    about = [f"status {response.status_code}"]
    about.append(f"content-type {secrets.excerpt(kind, _BEGINNING)!r}" if kind else "no type")
    if content:
        text = content[:_BODY].decode("utf-8", "replace")
        shown = secrets.excerpt(text, _BEGINNING, response.request._secrets())
        about.append(f"it begins {shown!r}")
    return ", ".join(about)


def no_events(response: "Response", content: bytes) -> str:
    """The message of a NotEventStream."""
    kind = response.headers.get("content-type")
    message = f"the answer is no event stream ({_about(response, content)})"
    if kind and "json" in kind:
        message += '; does the request say "stream": true?'
    return message + id_note(response.headers)


def not_json(response: "Response", content: bytes, error: ValueError) -> json.JSONDecodeError:
    """The error of Response.json(), which says what the body is instead."""
    what = "is not JSON" if content else "has no body"
    message = f"the answer {what} ({_about(response, content)}){id_note(response.headers)}"
    return _json_error(message, content.decode("utf-8", "replace"), error)


def event_not_json(data: str, error: ValueError) -> json.JSONDecodeError:
    """The error of Event.json()."""
    shown = secrets.excerpt(data, _BEGINNING)
    return _json_error(f"the event's data is not JSON, it begins {shown!r}", data, error)


def _json_error(message: str, text: str, error: ValueError) -> json.JSONDecodeError:
    if isinstance(error, json.JSONDecodeError):
        return json.JSONDecodeError(f"{message}: {error.msg}", error.doc, error.pos)
    return json.JSONDecodeError(f"{message}: {secrets.text(str(error))}", text, 0)


def _request_id(headers: "Headers") -> Tuple[str, str]:
    """The first header of an answer that has the server's id of the request, and its value."""
    for name in _REQUEST_IDS:
        value = headers.get(name)
        if value:
            return name, value
    return "", ""


def request_id(headers: "Headers") -> str:
    """The server's id of the request, of an answer's headers; "": it gave none."""
    return _request_id(headers)[1]


def id_note(headers: "Headers") -> str:
    """The same for the end of a message."""
    name, value = _request_id(headers)
    return f" ({name}: {secrets.excerpt(value, _BEGINNING)})" if value else ""


def _said(response: "Response", content: bytes) -> str:
    """The server's own message, or the beginning of a body that is text."""
    if not content:
        return ""
    known = response.request._secrets()
    text = content[:_BODY].decode("utf-8", "replace").strip()
    if text[:1] in ("{", "["):
        try:
            found = _find(json.loads(text))
        except (ValueError, RecursionError):
            found = None  # cut, or none at all: shown as text
        if found:
            return secrets.excerpt(found, _MESSAGE, known)
    if text[:1] == "<":
        title = re.search(r"(?is)<(title|h1|message)\b[^>]*>([^<]+)<", text)
        return secrets.excerpt(title.group(2), _BEGINNING, known) if title else ""
    if "\0" in text or text.count("\ufffd") > 3:
        return ""
    return secrets.excerpt(text, _MESSAGE, known)


def _find(value: Any, depth: int = 0) -> Optional[str]:
    """The message within a JSON body."""
    if isinstance(value, str):
        return value
    if depth > 3:
        return None
    inner: Iterable[Any] = ()
    if isinstance(value, list):
        inner = value[:1]
    elif isinstance(value, dict):
        inner = (value[name] for name in _MESSAGE_NAMES if name in value)
    for each in inner:
        found = _find(each, depth + 1)
        if found:
            return found
    return None
