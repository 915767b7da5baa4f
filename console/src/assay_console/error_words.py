"""What people are told of a failure: what happened in a few words, and what they can do now."""

import re
from collections.abc import Mapping

from assay.models import Problem

_CALL = re.compile(r"\b(?:GET|POST|PUT|PATCH|DELETE) /")

_TITLES: Mapping[int, str] = {
    403: "Your key may not do this",
    404: "This does not exist",
    409: "That is not possible now",
    413: "This is too large",
    422: "Something is wrong with the input",
    429: "The platform has too much to do",
    500: "The platform failed",
}
_ADVICE: Mapping[int, str] = {
    403: "Whoever runs the platform can give you a key that may.",
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
    """The same problem without the hints that name calls of the API, which the pages have links for."""
    faults = [
        fault.model_copy(update={"message": _without_calls(fault.message) or fault.message})
        for fault in problem.errors
    ]
    detail = _without_calls(problem.detail) if problem.detail else None
    return problem.model_copy(update={"detail": detail or None, "errors": faults})


def _without_calls(text: str) -> str:
    """The clauses of a text that name no call; all of it where there are only such."""
    return "; ".join(clause for clause in text.split("; ") if not _CALL.search(clause))
