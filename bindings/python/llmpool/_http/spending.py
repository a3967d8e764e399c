"""Which budget a request has, and what it costs of it."""

import re
from typing import Any, Dict, Optional, Union

LARGEST = 1 << 40
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class BaseBudget:
    """What has the name of a budget: a llmpool.Budget."""

    __slots__ = ("name",)
    name: str


class Spending:
    """A budget, and what a request is taken to cost of it.

    Args:
        budget: a Budget, or the name of one.
        input_tokens, output_tokens: until the answer says what it really took.
        estimated: they are guesses: one that is larger than a limit goes alone instead of being
            refused with BudgetExceeded.

    Raises:
        ValueError: a number below 0, or a name that cannot be one.
    """

    __module__ = "llmpool"  # as __init__.py has it for what it imports
    __slots__ = ("budget", "name", "input_tokens", "output_tokens", "estimated")

    def __init__(
        self,
        budget: Union[str, BaseBudget],
        input_tokens: int = 0,
        output_tokens: int = 0,
        *,
        estimated: bool = False,
    ) -> None:
        for what, number in (("input_tokens", input_tokens), ("output_tokens", output_tokens)):
            if isinstance(number, bool) or not isinstance(number, int):
                raise TypeError(f"{what} is a whole number, not {type(number).__name__}")
            if not 0 <= number <= LARGEST:
                raise ValueError(f"{what} is from 0 to {LARGEST}, not {number}")
        self.budget = budget
        self.name = checked_name(budget if isinstance(budget, str) else budget.name)
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        self.estimated = estimated

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Spending) and all(
            getattr(self, name) == getattr(other, name) for name in self.__slots__
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        guess = ", estimated=True" if self.estimated else ""
        return f"llmpool.Spending({self.name!r}, {self.input_tokens}, {self.output_tokens}{guess})"


def checked_name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"the name of a budget is a str, not {type(name).__name__}")
    raw = name.encode("utf-8")
    if not 1 <= len(raw) <= 200 or _CONTROL.search(name):
        raise ValueError(
            f"the name of a budget has 1 to 200 bytes, none a control character: {name!r}"
        )
    return name


class BudgetRequest:
    """What a function given as budget= is called with.

    Attributes:
        method: as "POST".
        url: absolute.
        body: None where it is sent piece by piece, or there is none.
    """

    __module__ = "llmpool"
    __slots__ = ("method", "url", "body", "_block")

    def __init__(self, method: str, url: str, block: bytes, body: Optional[bytes]) -> None:
        self.method = method
        self.url = url
        self.body = body
        self._block = block

    def __repr__(self) -> str:
        """Without the headers, which may have a key, and the query, which may be one."""
        place = self.url.partition("?")[0].rpartition("@")[2]
        return f"<llmpool.BudgetRequest {self.method} {place}>"

    def __reduce__(self) -> Any:
        raise TypeError("a request that a budget is chosen for cannot be pickled")

    def header(self, name: str) -> str:
        """The value of a header that is sent; "" where there is none."""
        pattern = _HEADERS.get(name)
        if pattern is None:
            raw = re.escape(name.encode("latin-1"))
            pattern = _HEADERS[name] = re.compile(rb"(?im)^" + raw + rb":[ \t]*(.*?)[ \t]*\r?$")
        found = pattern.search(self._block)
        return found.group(1).decode("latin-1") if found else ""


_HEADERS: Dict[str, Any] = {}
