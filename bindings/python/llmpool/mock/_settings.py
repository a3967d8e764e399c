"""What the mock is told to do."""

from dataclasses import dataclass


@dataclass
class Settings:
    """How the mock behaves.

    Attributes:
        api_key: the key to accept; "" accepts any, also none.
        ttft: seconds before the first token.
        tokens_per_second: of a streamed answer, and of the time a whole one takes; 0: at once.
        tokens: length of an answer where the request sets no smaller maximum.
        error_rate: from 0 to 1, how many calls get an error instead.
        seed: which calls those are: the same seed gives the same ones.
        retry_after: seconds, sent with 429, 503 and 529.
        alive_interval: seconds between what a stream that stalls or thinks still brings.
        limits: "off"; "count": the headers tell what is left, and nothing is refused; "enforce".
        requests_per_minute: of one key and model; 0: no such limit, and no header of it.
        tokens_per_minute: the same of tokens.
        input_tokens_per_minute: where those are limited by themselves; 0: tokens_per_minute.
        output_tokens_per_minute: the same of those that are produced.
        limit_window: how many seconds of refill can be saved: with 1, 600 a minute are 10 a second.
        limits_start: whether a key finds the limits of a model "full" or "empty" at first.
        stranger: from 0 to below 1, how much of each limit somebody else takes, evenly.
        limit_clock_offset: seconds by which the provider's clock is ahead, in dates and resets.
        max_concurrent: calls in flight of one key and model, more get 429; 0: any number.
        max_concurrent_after: "SECONDS:N": from then on it is N; several with commas between them.
        overload: calls in flight of all, more get 503 or 529; 0: any number.
        models: the only models that there are, separated by commas; "": any name is one.
    """

    api_key: str = "mock-key"
    ttft: float = 0.0
    tokens_per_second: float = 0.0
    tokens: int = 16
    error_rate: float = 0.0
    seed: int = 0
    retry_after: float = 1.0
    alive_interval: float = 1.0
    limits: str = "count"
    requests_per_minute: int = 10_000
    tokens_per_minute: int = 2_000_000
    input_tokens_per_minute: int = 0
    output_tokens_per_minute: int = 0
    limit_window: float = 60.0
    limits_start: str = "full"
    stranger: float = 0.0
    limit_clock_offset: float = 0.0
    max_concurrent: int = 0
    max_concurrent_after: str = ""
    overload: int = 0
    models: str = ""
