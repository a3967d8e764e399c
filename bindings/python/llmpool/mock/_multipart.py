"""The parts of a multipart/form-data body."""

import re
from typing import Dict, NamedTuple, Optional

from ._failures import ErrorAnswer


class Part(NamedTuple):
    filename: Optional[str]
    content: bytes


def parts_of(content_type: str, body: bytes) -> Dict[str, Part]:
    """By their names; of parts with the same name the last.

    Raises:
        ErrorAnswer: 400, it is not such a body.
    """
    found = re.search(r'multipart/form-data.*;\s*boundary="?([^";]+)"?', content_type, re.I)
    if found is None:
        raise ErrorAnswer(400, "The body must be multipart/form-data.")
    pieces = (b"\r\n" + body).split(b"\r\n--" + found.group(1).encode())
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise ErrorAnswer(400, "The multipart body does not end with its boundary.")
    parts = {}
    for piece in pieces[1:-1]:
        head, _, content = piece.partition(b"\r\n\r\n")
        names = dict(re.findall(r'\b(name|filename)="([^"]*)"', head.decode("utf-8", "replace")))
        if "name" in names:
            parts[names["name"]] = Part(names.get("filename"), content)
    return parts
