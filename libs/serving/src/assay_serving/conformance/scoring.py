"""The check of scoring."""

import contextlib

from assay_serving.conformance.subject import Subject, expect, greedy
from assay_serving.errors import InvalidRequest
from assay_serving.types import ScoreRequest, Support


async def scores_sanely(subject: Subject) -> None:
    """Scores repeat, add up over a split continuation, and call the greedy continuation greedy."""
    instance = await subject.shared()
    if instance.capabilities.score is not Support.YES:
        return
    async with (
        subject.server.generate_session(instance.instance_id) as generation,
        subject.server.score_session(instance.instance_id) as scoring,
    ):
        best = (await generation.generate(greedy(subject.prompt, max_tokens=1))).text

        async def score(context: str, continuation: str) -> float:
            request = ScoreRequest(context=context, continuation=continuation)
            result = await scoring.score(request)
            assert result.log_probability < 0
            assert result.continuation_tokens >= 1
            assert result.times.received_mono_ns <= result.times.sent_mono_ns <= result.times.done_mono_ns
            assert result.is_greedy == (continuation == best) or continuation != best
            return result.log_probability

        top = await score(subject.prompt, best)
        assert await score(subject.prompt, best) == top, "the same score twice differs"
        assert await score(subject.prompt, " zebra") < top
        assert await score(subject.prompt, best) == top, "a score depends on what was scored before it"
        whole = await score(subject.prompt, best + " and it")
        parts = top + await score(subject.prompt + best, " and it")
        assert abs(whole - parts) <= subject.score_tolerance, f"{whole} in one, {parts} in two"
        assert await score(subject.prompt + " ", best.lstrip()) == top, "blanks did not move over"
        if subject.is_endpoint:
            # Whether its model has a token that can stand for an empty context, its server need not tell.
            with contextlib.suppress(InvalidRequest):
                await score("", "Hello world")
        else:
            await score("", "Hello world")
        await expect(InvalidRequest, scoring.score(ScoreRequest(context="a", continuation="")))
