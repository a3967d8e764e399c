"""International host names: UTS 46, non-transitional, as browsers and curl resolve them.

The package "idna" knows the tables. Python's own codec is of IDNA 2003, by which a few letters lead
to another host: with it alone, names that have one of these are refused.
"""

import unicodedata

from .exceptions import InvalidURL

# Sharp s, final sigma, zero width joiner and non-joiner (UTS 46, section 2.3, "deviations"), and
# the invisible letters that UTS 46 leaves out.
_DEVIATIONS = frozenset("\u00df\u03c2\u200c\u200d\u115f\u1160\u17b4\u17b5\u3164\uffa0")


def to_ascii(host: str) -> str:
    """The name as DNS has it, each label that is not ASCII as "xn--...".

    Raises:
        InvalidURL: the name is not allowed, or needs the package idna.
    """
    try:
        import idna
    except ImportError:
        return _by_codec(host)
    try:
        return idna.encode(host, uts46=True, transitional=False).decode("ascii")
    except UnicodeError as error:
        raise InvalidURL(f"the host name {host!r} is not allowed: {error}") from None


def _by_codec(host: str) -> str:
    odd = sorted({letter for letter in host if not letter.isascii() and not _is_same(letter)})
    if odd:
        raise InvalidURL(
            f"the host name {host!r} has {', '.join(map(repr, odd))}, which Python's own codec "
            'leads to another host than browsers: pip install "libllmpool[idna]", or write the '
            "name as 'xn--...'"
        )
    try:
        name = host.encode("idna").decode("ascii").lower()
    except UnicodeError as error:
        raise InvalidURL(f"the host name {host!r} is not allowed: {error}") from None
    if name.strip("abcdefghijklmnopqrstuvwxyz0123456789-_."):
        raise InvalidURL(f"the host name {host!r} has a character that is not allowed")
    return name


def _is_same(letter: str) -> bool:
    """Whether IDNA 2003, which ends with Unicode 3.2, maps the letter as UTS 46 does."""
    if letter in _DEVIATIONS or unicodedata.ucd_3_2_0.category(letter) == "Cn":
        return False
    from encodings.idna import nameprep

    now = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", letter).casefold())
    try:
        return nameprep(letter) == now
    except UnicodeError:
        return True  # refused when the name is encoded, with the reason
