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
        requests_per_minute: the limit that the headers tell of; nothing enforces it.
        tokens_per_minute: the same of tokens.
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
    requests_per_minute: int = 10_000
    tokens_per_minute: int = 2_000_000
    models: str = ""
