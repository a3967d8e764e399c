"""What SDKs cannot say of a request, said beside them."""

from contextvars import ContextVar, Token
from typing import Any, Dict, Optional, Union

from .config import UNSET, MaybeBudget, MaybeSeconds, RetryTypes, Timeout, Unset, as_retry


class RequestOptions:
    """What options() and the extension "llmpool" say; each that is not given is UNSET.

    Attributes:
        priority: higher goes first among those waiting for a connection.
        first_byte, total, event: timeouts in seconds, as llmpool.Timeout has them.
        retry: as llmpool.Client takes it.
        budget: as llmpool.Client takes it.
    """

    NAMES = ("priority", "first_byte", "total", "event", "retry", "budget")
    __slots__ = NAMES

    def __init__(
        self,
        priority: Union[int, Unset] = UNSET,
        first_byte: MaybeSeconds = UNSET,
        total: MaybeSeconds = UNSET,
        event: MaybeSeconds = UNSET,
        retry: Union[RetryTypes, Unset] = UNSET,
        budget: Any = UNSET,
    ) -> None:
        if not isinstance(priority, Unset) and (
            isinstance(priority, bool) or not isinstance(priority, int)
        ):
            raise TypeError(f"priority is a whole number, not {type(priority).__name__}")
        Timeout(first_byte=first_byte, total=total, event=event)  # refuses what cannot be meant
        if not isinstance(retry, Unset):
            as_retry(retry)
        self.priority = priority
        self.first_byte = first_byte
        self.total = total
        self.event = event
        self.retry = retry
        self.budget = budget

    def arguments(self, retry: RetryTypes) -> Dict[str, Any]:
        """priority, retry and budget, as a RawRequest takes them, retry where none was given."""
        given: Dict[str, Any] = {"retry": retry if isinstance(self.retry, Unset) else self.retry}
        if self.priority is not UNSET:
            given["priority"] = self.priority
        if self.budget is not UNSET:
            given["budget"] = self.budget
        return given

    def over(self, below: "RequestOptions") -> "RequestOptions":
        """These, and of those below what these do not say."""
        return RequestOptions(
            *(
                getattr(below, name) if getattr(self, name) is UNSET else getattr(self, name)
                for name in self.NAMES
            )
        )


NONE_GIVEN = RequestOptions()
_current: "ContextVar[RequestOptions]" = ContextVar("llmpool.options", default=NONE_GIVEN)


def current_options(extension: Optional[Dict[str, Any]] = None) -> RequestOptions:
    """What holds here; an extension's own words come first.

    Raises:
        TypeError: the extension has a name that there is not, or a value that cannot be.
    """
    options = _current.get()
    if extension is None:
        return options
    if not isinstance(extension, dict) or set(extension) - set(RequestOptions.NAMES):
        names = ", ".join(RequestOptions.NAMES)
        raise TypeError(f'the extension "llmpool" is a dict with some of {names}')
    return RequestOptions(**extension).over(options)


class options:
    """Holds for every request that is made in its block through an adapter, whatever library makes
    it.

        with llmpool.options(priority=10, first_byte=20.0):
            client.chat.completions.create(...)

    It holds in the tasks that are begun in the block, too, and not in other threads. Blocks may be
    nested: what the inner one does not say is as the outer one says. Clients of this package have
    arguments for the same, and pass it over.

    Args:
        priority: higher goes first among those waiting for a connection; 0 is normal.
        first_byte: seconds from the request sent to the first byte of its answer; None: no limit.
        total: seconds from submission to the last byte; None: no limit.
        event: seconds from one event of a stream that says something to the next; None: no limit.
        retry: None, False, "status", "sent" or a llmpool.Retry.
        budget: a Budget, a Spending, a name, a function as auto_budget, or None.

    Raises:
        TypeError: of another type.
        ValueError: out of its range.
    """

    __module__ = "llmpool"  # as __init__.py has it for what it imports
    __slots__ = ("_options", "_token")

    def __init__(
        self,
        *,
        priority: Union[int, Unset] = UNSET,
        first_byte: MaybeSeconds = UNSET,
        total: MaybeSeconds = UNSET,
        event: MaybeSeconds = UNSET,
        retry: Union[RetryTypes, Unset] = UNSET,
        budget: MaybeBudget = UNSET,
    ) -> None:
        self._options = RequestOptions(priority, first_byte, total, event, retry, budget)
        self._token: Optional[Token[RequestOptions]] = None

    def __enter__(self) -> None:
        if self._token is not None:
            raise RuntimeError("a block of options is entered once")
        self._token = _current.set(self._options.over(_current.get()))

    def __exit__(self, *_: object) -> None:
        token, self._token = self._token, None
        if token is not None:
            _current.reset(token)

    def __reduce__(self) -> Any:
        raise TypeError("a block of options cannot be pickled: it is of the task that enters it")
