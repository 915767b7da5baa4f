"""What every adapter must do, as a suite that runs against a live one.

Each check is a coroutine function of a `Subject` and raises AssertionError with a sentence. `ALL_CHECKS` has
them all; an adapter's tests parametrise over it. Times are compared with each other only, never with a limit.
"""

from collections.abc import Awaitable, Callable

from assay_serving.conformance.generation import (
    answers_chats,
    answers_in_any_order,
    bounds_its_concurrency,
    cuts_at_stop_strings,
    frees_cancelled_sequences,
    maps_engine_errors,
    refuses_bad_requests,
    repeats_itself,
    stops_at_max_tokens,
    tells_the_text_of_tokens,
    times_are_monotonic,
)
from assay_serving.conformance.lifecycle import (
    accounts_for_its_time,
    describes_itself,
    ends_with_its_lease,
    fences_lower_tokens,
    provisions_once_per_key,
    refuses_wrong_artifacts,
    releases_idempotently,
    survives_its_engine,
    tells_states_in_order,
)
from assay_serving.conformance.observation import calibrates_itself, keeps_its_log, samples_telemetry
from assay_serving.conformance.scoring import scores_sanely
from assay_serving.conformance.subject import Subject, greedy

__all__ = ["ALL_CHECKS", "Subject", "greedy"]

ALL_CHECKS: tuple[Callable[[Subject], Awaitable[None]], ...] = (
    describes_itself,
    provisions_once_per_key,
    tells_states_in_order,
    answers_in_any_order,
    cuts_at_stop_strings,
    stops_at_max_tokens,
    times_are_monotonic,
    tells_the_text_of_tokens,
    refuses_bad_requests,
    repeats_itself,
    answers_chats,
    bounds_its_concurrency,
    maps_engine_errors,
    frees_cancelled_sequences,
    scores_sanely,
    calibrates_itself,
    samples_telemetry,
    keeps_its_log,
    accounts_for_its_time,
    fences_lower_tokens,
    refuses_wrong_artifacts,
    ends_with_its_lease,
    releases_idempotently,
    survives_its_engine,
)
