"""What the providers have in common: routes, keys, models, errors."""

import math
import re
from typing import Any, Awaitable, Callable, Dict, List, Optional, Sequence, Tuple

from ._admission import CROWDED, OVERLOADED, Account, Admission
from ._exchange import Exchange
from ._failures import ErrorAnswer, Failures, length_of
from ._limits import Lack, States
from ._settings import Settings
from ._text import Answer, text_answer

Handler = Callable[..., Awaitable[None]]


class Refusal(ErrorAnswer):
    """429: a limit has not enough left.

    Attributes:
        lack: what of it.
    """

    def __init__(self, lack: Lack, message: str) -> None:
        super().__init__(429, message)
        self.lack = lack
        self.retry_after = lack.wait

    @property
    def again(self) -> bool:
        return self.lack.wait is not None


class Crowded(ErrorAnswer):
    """429 as gateways have it, which limit the calls in flight: nothing is told beside it."""

    def __init__(self) -> None:
        super().__init__(429, "Too many requests at the same time.")


class Route:
    """A path, as /v1/files/{id}; {id} ends at a slash, {path} does not."""

    def __init__(self, path: str, handlers: Dict[str, Handler]) -> None:
        self.path = path
        self.handlers = handlers
        pattern = re.escape(path).replace(r"\{id\}", "([^/]+?)").replace(r"\{path\}", "(.+)")
        self.match = re.compile(pattern).fullmatch


class Provider:
    """One company's API.

    A handler is called with the exchange and with what stands in the path's braces.
    """

    chance_statuses: Tuple[int, ...] = (429, 500)  # what error_rate chooses from
    models: Tuple[str, ...] = ()  # where any name is one: these are listed
    limited: Tuple[str, ...] = ("requests", "tokens")  # what there are limits of
    overloaded = 503  # its status for that

    def __init__(self, settings: Settings, failures: Failures, admission: Admission) -> None:
        self.settings = settings
        self.failures = failures
        self.admission = admission
        limits = {
            "requests": settings.requests_per_minute,
            "tokens": settings.tokens_per_minute,
            "input-tokens": settings.input_tokens_per_minute or settings.tokens_per_minute,
            "output-tokens": settings.output_tokens_per_minute or settings.tokens_per_minute,
        }
        self._limits = {what: limits[what] for what in self.limited}
        self.only = tuple(filter(None, (name.strip() for name in settings.models.split(","))))
        self._exact: Dict[str, Route] = {}
        self._others: List[Route] = []
        for path, handlers in self.routes().items():
            route = Route(path, handlers)
            if "{" in path:
                self._others.append(route)
            else:
                self._exact[path] = route

    # ---- each provider's own

    def routes(self) -> Dict[str, Dict[str, Handler]]:
        """Of each path the handlers by method."""
        raise NotImplementedError

    def key(self, exchange: Exchange) -> str:
        """The key that the client shows."""
        value = exchange.header("authorization")
        return value[7:] if value[:7].lower() == "bearer " else ""

    def identify(self, exchange: Exchange) -> None:
        """Gives the answer its id."""
        exchange.common["x-request-id"] = f"req_{exchange.number:024x}"

    def error(self, exchange: Exchange, error: ErrorAnswer) -> Any:
        """The body of an error; its headers go to exchange.common."""
        raise NotImplementedError

    async def late_error(self, exchange: Exchange, error: ErrorAnswer) -> None:
        """An error where the stream has begun."""
        await exchange.event(self.error(exchange, error))
        await exchange.end()

    def bad_key(self, given: str) -> ErrorAnswer:
        return ErrorAnswer(401)

    def no_model(self, name: Any) -> ErrorAnswer:
        return ErrorAnswer(404, f"model: {name}")

    def refusal(self, model: str, lack: Lack) -> str:
        """What is said where a limit has not enough left."""
        return f"Rate limit reached for {lack.what}: {lack.limit} a minute."

    # ---- what they share

    def find(self, path: str) -> Tuple[Optional[Route], Tuple[str, ...]]:
        route = self._exact.get(path)
        if route is not None:
            return route, ()
        for route in self._others:
            found = route.match(path)
            if found is not None:
                return route, found.groups()
        return None, ()

    def authorize(self, exchange: Exchange) -> None:
        if not self.settings.api_key:
            return
        given = self.key(exchange)
        if given != self.settings.api_key:
            raise self.bad_key(given)

    def names(self, one: str = "") -> Tuple[str, ...]:
        """The models that are listed; with that one, where any name is a model."""
        return self.only or (self.models + ((one,) if one else ()))

    def call(self, exchange: Exchange, model: Any = None) -> Dict[str, Any]:
        """As read(), of a call that is limited. When its cost is known, admit() is next."""
        name = exchange.header("x-call") or f"req_{exchange.number:024x}"
        visit = exchange.visit = self.admission.visit(name)
        request = self.read(exchange, model)
        hindrance = visit.enter(self._account(exchange), self.admission.tally(exchange.model))
        if hindrance == OVERLOADED:
            error = ErrorAnswer(self.overloaded)
            error.retry_after = self.settings.retry_after
            raise error
        if hindrance == CROWDED:
            raise Crowded
        return request

    def admit(
        self, exchange: Exchange, input_tokens: int, output_tokens: int = 0, later: int = 0
    ) -> None:
        """Takes the cost of a call out of its limits, or refuses it; later: what it will spend."""
        assert exchange.visit is not None
        lack = exchange.visit.admit(input_tokens, output_tokens, later)
        if lack is not None:
            raise Refusal(lack, self.refusal(exchange.model, lack))

    def states(self, exchange: Exchange) -> States:
        """The limits, as a call left them, or as it finds them where it had not come so far."""
        if exchange.visit is not None and exchange.visit.states:
            return exchange.visit.states
        return self._account(exchange).look()

    def _account(self, exchange: Exchange) -> Account:
        api = type(self).__name__
        return self.admission.account(api, self.key(exchange), exchange.model, self._limits)

    def read(self, exchange: Exchange, model: Any = None) -> Dict[str, Any]:
        """The request of a call of a model, if none of the reasons not to answer it holds.

        The model is that of the request, where none is given.
        """
        self.failures.by_chance(self.chance_statuses)
        request = exchange.object()
        name = request.get("model") if model is None else model
        if not isinstance(name, str):
            raise ErrorAnswer(400, "you must provide a model parameter", None, "model")
        exchange.model = name
        exchange.plan = self.failures.by_name(name)
        # Any name is a model, so that every program runs, unless the settings say which.
        if self.only and name not in self.only:
            raise self.no_model(name)
        return request

    def texts(self, model: str, *maxima: Any, schema: Any = None) -> Answer:
        length = length_of(model)
        return text_answer(self.settings.tokens if length is None else length, maxima, schema)

    @staticmethod
    def messages(request: Dict[str, Any], name: str = "messages") -> List[Any]:
        messages = request.get(name)
        if not isinstance(messages, list) or not messages:
            raise ErrorAnswer(400, f"'{name}' must be a list of at least one.", None, name)
        return messages


def tell_to_wait(exchange: Exchange, error: ErrorAnswer, *, milliseconds: bool = False) -> None:
    """The headers that say when to try again; milliseconds: the provider's refusals have them."""
    if error.retry_after is None:
        return
    if isinstance(error, Refusal):  # earlier would be refused again
        exchange.common["retry-after"] = str(math.ceil(error.retry_after))
    else:
        exchange.common["retry-after"] = str(max(0, round(error.retry_after)))
    if milliseconds or not isinstance(error, Refusal):
        exchange.common["retry-after-ms"] = str(round(error.retry_after * 1000))


def expected(size: int, maxima: Sequence[Any], choices: int = 1) -> int:
    """The tokens that an answer is admitted for: its maximum, where one is set."""
    given = [each for each in maxima if isinstance(each, int) and each > 0]
    return max(given) * choices if given else size
