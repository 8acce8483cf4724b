"""A store that does not answer: which errors say so, and how long to wait before the next attempt.

An outage passes, and the same step works later. Any other error is about the step itself and comes again.
"""

import re
import time
from collections.abc import Callable
from typing import TypeVar

import requests
from mlflow.exceptions import MlflowException, RestException

T = TypeVar("T")

FIRST_DELAY_S, MOST_DELAY_S = 0.5, 5.0

_UNREACHED = (
    ConnectionError,  # refused, reset, a broken pipe
    requests.exceptions.ConnectionError,
    requests.exceptions.Timeout,
    requests.exceptions.ChunkedEncodingError,
    # What MLflow's client makes of 408, 429, 500, 502, 503 and 504. An internal error is among them, as it is for
    # MLflow itself: a disk that is full, a database that restarts.
    requests.exceptions.RetryError,
)
_STATUSES = (408, 429, 500, 502, 503, 504)
_CODES = ("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED")

_REASONS = (
    ("refused", "connection refused"),
    ("reset by peer", "connection reset"),
    ("without response", "connection closed without a reply"),
    ("timed out|timeout", "no reply in time"),
    ("resolve|not known", "its name is not known"),
    ("database is locked", "the database is locked"),
)


def is_outage(error: BaseException) -> bool:
    """Tell whether the store could not be asked, or was too busy to answer."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, requests.exceptions.HTTPError):
            return cause.response is not None and cause.response.status_code in _STATUSES
        if isinstance(cause, _UNREACHED):
            return True
        if isinstance(cause, RestException):
            return cause.error_code in _CODES
        if isinstance(cause, MlflowException) and "database is locked" in str(cause):
            return True
        # MLflow wraps what `requests` raises, mostly without naming it as the cause.
        cause = cause.__cause__ or cause.__context__
    return False


def reason(error: BaseException) -> str:
    """Say in a few words why the store did not answer."""
    text = str(error).strip()
    if found := re.search(r"too many (\d{3}) error responses", text):
        return f"status {found[1]}"
    for pattern, words in _REASONS:
        if re.search(pattern, text, re.IGNORECASE):
            return words
    return text.partition("\n")[0][:200]


def delay_s(attempt: int) -> float:
    """Seconds to wait after the failed attempt number `attempt`, from 1: twice as long each time, up to a bound."""
    return min(FIRST_DELAY_S * 2.0 ** min(attempt - 1, 30), MOST_DELAY_S)


def outlast(step: Callable[[], T], pause: Callable[[Exception, int], None]) -> T:
    """Try a step until the store answers.

    Args:
        step: May be cut off anywhere, and run again.
        pause: Given the error and the number of the failed attempt, from 1. It waits, or raises to give up.
    """
    attempt = 0
    while True:
        try:
            return step()
        except Exception as error:
            if not is_outage(error):
                raise
            attempt += 1
            pause(error, attempt)


def patiently(step: Callable[[], T], patience_s: float) -> T:
    """Try a step until the store answers, for so many seconds at most; then what MLflow raised is raised."""
    deadline = time.monotonic() + patience_s

    def pause(error: Exception, attempt: int) -> None:
        if time.monotonic() + delay_s(attempt) > deadline:
            raise error
        time.sleep(delay_s(attempt))

    return outlast(step, pause)
