import pytest

from assay_adapter_cpu.testing import CpuAdapterProcess
from assay_serving.client import ModelServer
from assay_serving.types import Artifact, ProvisionSpec, Resources, ScoreRequest

pytestmark = pytest.mark.model

SHOTS = "".join(f"Q: What comes after {n}?\nA: {n + 1}\n\n" for n in range(3, 7))
REQUESTS = [
    *(ScoreRequest(context=SHOTS + "Q: What comes after 9?\nA:", continuation=c) for c in (" 10", " 7")),
    *(ScoreRequest(context=SHOTS + "Q: What comes after 20?\nA:", continuation=c) for c in (" 21", " 20")),
    ScoreRequest(context=SHOTS, continuation="Q: What"),
    ScoreRequest(context=SHOTS + "Q: What", continuation=" comes"),
    ScoreRequest(context=SHOTS + "Q: What comes", continuation=" next"),
    ScoreRequest(context="Hello", continuation=" there"),
    ScoreRequest(context="", continuation="Hello there"),
    ScoreRequest(context="Hello there", continuation=", friend"),
]


@pytest.mark.parametrize("quantization", ["", pytest.param("Q4_0", marks=pytest.mark.slow)])
async def test_a_score_does_not_depend_on_what_was_scored_before(
    cpu_adapter: CpuAdapterProcess, cpu_model: Artifact, quantization: str
) -> None:
    async with ModelServer.connect(cpu_adapter.address) as server:

        async def scored(order: list[int]) -> dict[int, tuple[float, bool]]:
            """On an engine of its own, as after a restart."""
            instance = await server.provision(
                ProvisionSpec(
                    idempotency_key=f"scoring-{quantization}-{order}",
                    artifact=cpu_model,
                    max_context_tokens=512,
                    resources=Resources(cpus=1),  # two threads wait for each other where cores are busy
                    serving_parameters={"requantize": quantization} if quantization else {},
                    lease=600.0,
                )
            )
            await server.wait_ready(instance.instance_id, timeout=120)
            async with server.score_session(instance.instance_id) as session:
                results = {index: await session.score(REQUESTS[index]) for index in order}
            await server.release(instance.instance_id, reason="test")
            return {index: (each.log_probability, each.is_greedy) for index, each in results.items()}

        forward = list(range(len(REQUESTS)))
        expected = await scored(forward)
        assert await scored(forward[::-1]) == expected
        resumed = await scored(forward[4:])
        assert resumed == {index: expected[index] for index in resumed}


async def test_the_likelier_answer_scores_higher_and_tokens_are_counted_by_the_joined_text(
    cpu_adapter: CpuAdapterProcess, cpu_model: Artifact
) -> None:
    async with ModelServer.connect(cpu_adapter.address) as server:
        instance = await server.provision(
            ProvisionSpec(
                idempotency_key="scoring-sanity",
                artifact=cpu_model,
                resources=Resources(cpus=1),
                lease=600.0,
            )
        )
        await server.wait_ready(instance.instance_id, timeout=120)
        async with server.score_session(instance.instance_id) as session:
            right = await session.score(REQUESTS[0])
            wrong = await session.score(REQUESTS[1])
            assert right.log_probability > wrong.log_probability
            # A blank at the context's end belongs to the continuation's first token.
            moved = await session.score(ScoreRequest(context=REQUESTS[0].context + " ", continuation="10"))
            assert (moved.log_probability, moved.context_tokens) == (
                right.log_probability,
                right.context_tokens,
            )
        await server.release(instance.instance_id, reason="test")
