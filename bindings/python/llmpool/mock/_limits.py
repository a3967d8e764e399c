"""What a provider tells of its rate limits, in the formats that each has for it."""

import time
from datetime import datetime, timezone
from typing import Dict

from ._settings import Settings


def go_duration(seconds: float) -> str:
    """As OpenAI writes durations: 0s, 6ms, 8.64s, 1m30s, 6m0s."""
    milliseconds = max(0, round(seconds * 1000))
    if milliseconds == 0:
        return "0s"
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:g}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def instant(seconds_from_now: float = 0.0) -> str:
    """As Anthropic writes times: 2025-08-21T12:40:59Z."""
    when = datetime.fromtimestamp(time.time() + seconds_from_now, timezone.utc)
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


class Bucket:
    """A limit out of which one call took something, and which is filled evenly within a minute.

    The calls before it are not counted: each finds the bucket full, or, where it got 429, empty.
    """

    def __init__(self, limit: int, taken: int, refused_for: float = 0.0) -> None:
        self.limit = limit
        self.remaining = 0 if refused_for else max(0, limit - taken)
        self.reset = refused_for or (60.0 * taken / limit if limit else 0.0)


def openai_limits(settings: Settings, tokens: int, refused_for: float = 0.0) -> Dict[str, str]:
    headers = {}
    for name, bucket in (
        ("requests", Bucket(settings.requests_per_minute, 1, refused_for)),
        ("tokens", Bucket(settings.tokens_per_minute, tokens)),
    ):
        headers[f"x-ratelimit-limit-{name}"] = str(bucket.limit)
        headers[f"x-ratelimit-remaining-{name}"] = str(bucket.remaining)
        headers[f"x-ratelimit-reset-{name}"] = go_duration(bucket.reset)
    return headers


def anthropic_limits(
    settings: Settings, input_tokens: int, output_tokens: int, refused_for: float = 0.0
) -> Dict[str, str]:
    headers = {}
    limit = settings.tokens_per_minute
    for name, bucket in (
        ("requests", Bucket(settings.requests_per_minute, 1, refused_for)),
        ("tokens", Bucket(limit, input_tokens + output_tokens)),
        ("input-tokens", Bucket(limit, input_tokens)),
        ("output-tokens", Bucket(limit, output_tokens)),
    ):
        headers[f"anthropic-ratelimit-{name}-limit"] = str(bucket.limit)
        headers[f"anthropic-ratelimit-{name}-remaining"] = str(bucket.remaining)
        headers[f"anthropic-ratelimit-{name}-reset"] = instant(bucket.reset)
    return headers


def mistral_limits(settings: Settings, tokens: int, refused_for: float = 0.0) -> Dict[str, str]:
    requests = Bucket(settings.requests_per_minute, 1, refused_for)
    bucket = Bucket(settings.tokens_per_minute, tokens)
    return {
        "x-ratelimit-limit-req-minute": str(requests.limit),
        "x-ratelimit-remaining-req-minute": str(requests.remaining),
        "x-ratelimit-limit-tokens-minute": str(bucket.limit),
        "x-ratelimit-remaining-tokens-minute": str(bucket.remaining),
        "x-ratelimit-tokens-query-cost": str(tokens),
    }
