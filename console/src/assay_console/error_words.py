"""What people are told of a failure: what happened in a few words, and what they can do now."""

import re
from collections.abc import Mapping

from assay.models import Problem

_NAME_PATTERN = "String should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$'"
_NAME_WORDS = "Letters, digits, dots, dashes and underscores, at most 100, with a letter or a digit first"
_CALL = re.compile(r"\b(?:GET|POST|PUT|PATCH|DELETE) /")

_TITLES: Mapping[int, str] = {
    404: "This does not exist",
    409: "That is not possible now",
    413: "This is too large",
    422: "Something is wrong with the input",
    429: "The platform has too much to do",
    500: "The platform failed",
}
_ADVICE: Mapping[int, str] = {
    404: "The address may be mistyped, or what was here has been deleted.",
    409: "Look at how things are now, then try again if it still makes sense.",
    413: "Send less at once: a smaller file, a shorter text.",
    429: "Nothing was changed. Wait a few seconds, then try again.",
    500: "Try again; if it goes on, give the request’s number to whoever runs the platform.",
}
_WAIT = "Nothing that was kept is lost. Try again in a few seconds; System health shows what is missing."


def title_of(status: int) -> str:
    """What happened, by the status of the API's answer; 0 is no answer."""
    if status == 0 or status > 500:
        return "The platform does not answer"
    return _TITLES.get(status, "The platform refused this")


def advice_of(status: int) -> str:
    """What can be done about it, in a sentence; empty where the platform's own words say it."""
    return _WAIT if status == 0 or status > 500 else _ADVICE.get(status, "")


def for_people(problem: Problem) -> Problem:
    """The same problem in words: calls of the API, which pages have links for, and patterns mean nothing."""
    faults = [
        fault.model_copy(update={"message": _worded(fault.message) or fault.message})
        for fault in problem.errors
    ]
    detail = _worded(problem.detail) if problem.detail else None
    return problem.model_copy(update={"detail": detail or None, "errors": faults})


def _worded(text: str) -> str:
    """The text without its clauses that name calls, and with the shape of names in words."""
    kept = "; ".join(clause for clause in text.split("; ") if not _CALL.search(clause))
    return kept.replace(_NAME_PATTERN, _NAME_WORDS)
