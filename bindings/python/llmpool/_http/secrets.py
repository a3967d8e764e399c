"""What is never shown: the one rule for every repr, message and log line.

A credential is known by its place (the user part of a URL, the values of a query, the headers of
some names) or by its looks ("Bearer ...", "sk-...", "api_key=..."). What the request at hand
carries in such a place is hidden by its value too, wherever a server says it again.
"""

import re
from functools import cache
from typing import Iterable, List, Set, Tuple

HIDDEN = "[secure]"
_LONGEST = 4096

# Parts of a header's or a parameter's name, as they stand between "-", "_", "." and blanks.
_SECRET_WORDS = frozenset(
    ("auth", "authorization", "apikey", "key", "token", "secret", "password", "passwd", "pwd",
     "cookie", "cookie2", "credential", "credentials", "signature", "sig", "session", "passphrase",
     "jwt", "bearer", "accesskey", "subscriptionkey", "authtoken", "sessionid", "sid")
)  # fmt: skip
# Names that have such a part and say nothing secret.
_OPEN_NAMES = frozenset(
    ("idempotency-key", "x-idempotency-key", "surrogate-key", "cache-key", "x-cache-key",
     "sec-websocket-key")
)  # fmt: skip

_SCHEMES = frozenset(("bearer", "digest", "negotiate", "apikey", "api-key"))

# Words that stand behind "Bearer" and "Basic" in plain English.
_ENGLISH = r"(?!(?:auth|token|scheme|credential|header|realm|or\b|and\b|is\b))"
# What looks like a credential, and what is shown for it. Compiled when there is first something to
# say, since that takes as long as the rest of the import.
_LOOKS = (
    # The user part of a URL, and a query that is a value alone.
    (
        r"((?:(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]*:)?//)"
        r"[^/?#@\s\"'<>]*(?:@[^/?#@\s\"'<>]*)*@",
        rf"\1{HIDDEN}@",
    ),
    (r"(?<![^\s\"'=(<])[^\s/:@\"'<>]+:[^\s/@\"'<>]+@(?=\S)", f"{HIDDEN}@"),
    (r"(://[^\s?#\"'<>]*\?)([^=&\s#\"'<>\[]+)(?=[&\s#\"'<>]|$)", rf"\1{HIDDEN}"),
    # The value of a query's parameter, in absolute and relative URLs.
    (r"([?&][^=&\s\"'<>?]*=)[^&\s#\"'<>]+", rf"\1{HIDDEN}"),
    (rf"(?i)\b(bearer)([\s:=]+){_ENGLISH}[^\s\"',;]{{4,}}", rf"\1\2{HIDDEN}"),
    (
        rf"\b([Bb]asic|BASIC|[Dd]igest|[Nn]egotiate)(\s+){_ENGLISH}"
        r"(?=[^\s\"',;]*[A-Z0-9=])[^\s\"',;]{6,}",
        rf"\1\2{HIDDEN}",
    ),
    (
        r"(?i)(\b(?:set-)?cookie[\"']?[:=]\s*[\"']?)(?!\[secure\])[^\s\"'][^\"'\r\n]*",
        rf"\1{HIDDEN}",
    ),
    # "max_tokens" counts, it opens nothing.
    (
        r"(?i)((?:api[-_ ]?|access[-_ ]?|subscription[-_ ]?|account[-_ ]?)key(?:[-_]?id)?"
        r"|\btoken|[-_]token|secret|passw(?:or)?d|passphrase|signature|credential)"
        r"([\"']?\s*[:=]\s*[\"']?)(?!\[secure\])[^\s\"'&,;]+",
        rf"\1\2{HIDDEN}",
    ),
    # Keys that say whose they are.
    (
        r"\b(?:sk|pk|rk|gsk|xai|pplx|nvapi|hf|r8|tgp|fw|csk|jina|pa|ghp|gho|ghs|glpat|github_pat"
        r"|xox[abeprs])[-_](?=[A-Za-z0-9_*-]*[0-9A-Z*])[A-Za-z0-9_*.-]{3,}"
        r"|\b(?:AIza|AKIA|ASIA|ya29\.|eyJ)[A-Za-z0-9_.-]{12,}",
        HIDDEN,
    ),
    # And long ones that do not.
    (
        r"(?<![A-Za-z0-9_-])(?=[A-Za-z0-9_-]*[a-z])(?=[A-Za-z0-9_-]*[A-Z])"
        r"(?=[A-Za-z0-9_-]*[0-9])[A-Za-z0-9_-]{40,}",
        HIDDEN,
    ),
)


@cache
def _looks() -> List[Tuple["re.Pattern[str]", str]]:
    return [(re.compile(pattern), shown) for pattern, shown in _LOOKS]


def is_secret(name: str) -> bool:
    """Whether a header or parameter of this name carries what opens a door."""
    lower = name.lower()
    if lower in _OPEN_NAMES:
        return False
    words = re.split(r"[-_. ]+", lower)
    return not _SECRET_WORDS.isdisjoint(words) or lower.endswith(("apikey", "token", "secret"))


def in_url(url: str) -> str:
    """A URL without its user part and the values of its query and fragment."""
    before, mark, fragment = url.partition("#")
    path, question, query = before.partition("?")
    shown = text(path)
    if question:
        shown += "?" + "&".join(map(_pair, query.split("&")))
    if mark:
        shown += "#" + ("&".join(map(_pair, fragment.split("&"))) if "=" in fragment else HIDDEN)
    return shown


def _pair(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    if equals:
        return f"{text(name)}={HIDDEN}"
    return HIDDEN if pair else ""


def header(name: str, value: str) -> str:
    """A header's value as it may be shown."""
    return HIDDEN if is_secret(name) else text(value)


def hide(value: str) -> None:
    """From now on no text of this process shows it, by whatever name it goes out: for commands.
    Anything shorter than 4 characters stands in too many texts."""
    if len(value) >= 4:
        _hidden.add(value)


_hidden: Set[str] = set()


def text(message: str, known: Iterable[str] = ()) -> str:
    """A text without what looks like a credential, and without the known ones.

    What is longer than any message is cut, since a server may have made it long to be slow: behind
    the known ones, the beginning of which would be left.
    """
    for secret in sorted((*known, *_hidden), key=len, reverse=True):
        message = message.replace(secret, HIDDEN)
    if len(message) > _LONGEST:
        message = message[:_LONGEST] + "..."
    for pattern, shown in _looks():
        message = pattern.sub(shown, message)
    return message


def of_request(headers: Iterable[Tuple[str, str]], query: str) -> Set[str]:
    """The credentials that a request carries: what a server may say again in its answer."""
    found = set()
    pairs = [*headers, *(pair.partition("=")[::2] for pair in query.split("&"))]
    for name, value in pairs:
        if is_secret(name):
            found.add(value)
            found.update(value.replace(";", " ").split(" "))
    # What is shorter is a word of its own in too many texts.
    return {value for value in found if len(value) >= 6 and value.lower() not in _SCHEMES}


# What moves the cursor of a terminal, or begins a line.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def printable(value: object) -> str:
    """A foreign name, of a process or a host, for a line of a terminal."""
    return _CONTROLS.sub("?", str(value))


def excerpt(content: str, limit: int, known: Iterable[str] = ()) -> str:
    """The beginning of a foreign text for a message: on one line, without control characters."""
    shown = text(content[: 8 * limit], known)
    shown = " ".join("".join(c if c.isprintable() else " " for c in shown).split())
    return shown if len(shown) <= limit else shown[: limit - 3].rstrip() + "..."
