"""Comparisons of real scored runs: pairing, flips, items, refusals."""

import asyncio
import hashlib
import time
from typing import Any

import httpx
import pytest
from scipy import stats

from assay_contracts.metrics_events import ComparisonCreated
from assay_harness.spec import BuiltinTask, JsonlQuestionAnswer

ROWS = [{"question": f"What is {number} + 3?", "answer": str(number + 3)} for number in range(90)]
STRICT = "jsonl_qa.exact_match,strict"


def answering(salt: str, *, of: int) -> Any:
    """Wrong for about one document in ``of``, chosen by the salt."""

    def answers(document: Any) -> list[str]:
        digest = hashlib.sha256(f"{salt}{document.prompt_hash}".encode()).digest()
        return [document.target if digest[0] % of else "no idea"]

    return answers


def hedging(document: Any) -> list[str]:
    """Every second answer says more than it should: a part of it is right."""
    return [document.target if document.index % 2 else f"{document.target} perhaps"]


async def finished(platform: Any, client: httpx.AsyncClient, *runs: Any) -> None:
    """Wait until the runs are scored and eval-svc calls them Succeeded."""
    for run in runs:
        for event in run.events:
            await platform.tell(event)
    deadline = time.monotonic() + 90
    for run in runs:
        while (await client.get(f"/v1/metrics/runs/{run.id}")).json()["state"] != "final":
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        platform.peers.runs[run.id]["state"] = "Succeeded"


async def compare(client: httpx.AsyncClient, baseline: Any, candidate: Any) -> httpx.Response:
    return await client.post(
        "/v1/comparisons", json={"baseline_run_id": baseline.id, "candidate_run_id": candidate.id}
    )


async def values(client: httpx.AsyncClient, run: Any, metric: str) -> dict[int, float]:
    found: dict[int, float] = {}
    cursor = None
    while True:
        parameters = {"limit": 200} if cursor is None else {"limit": 200, "cursor": cursor}
        page = (await client.get(f"/v1/metrics/runs/{run.id}/samples", params=parameters)).json()
        found |= {item["index"]: item["values"][metric] for item in page["items"]}
        cursor = page["next_cursor"]
        if cursor is None:
            return found


async def test_two_runs_item_by_item(platform: Any) -> None:
    base = await platform.maker.make(ROWS, answering("base", of=4))
    compiled = await platform.maker.make(ROWS, answering("compiled", of=3), artifact="compiled")
    async with platform.service() as client:
        await finished(platform, client, base, compiled)
        response = await compare(client, base, compiled)
        again = await compare(client, base, compiled)
        comparison = response.json()
        first = await values(client, base, STRICT)
        second = await values(client, compiled, STRICT)
        address = f"/v1/comparisons/{comparison['id']}"
        fetched = (await client.get(address)).json()
        listed = (await client.get("/v1/comparisons")).json()
        lost: list[dict[str, Any]] = []
        cursor = None
        while True:
            parameters = {"metric": STRICT, "flip": "lost", "limit": 5} | (
                {"cursor": cursor} if cursor else {}
            )
            page = (await client.get(f"{address}/items", params=parameters)).json()
            assert len(page["items"]) <= 5
            lost += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        everything = (await client.get(f"{address}/items?limit=200")).json()
        misnamed = await client.get(f"{address}/items", params={"metric": "exact_match", "flip": "lost"})
    assert response.status_code == 201
    assert (again.status_code, again.json()) == (200, comparison)
    assert fetched == comparison
    assert (listed["items"], listed["next_cursor"]) == ([comparison], None)
    assert comparison["created_by"] == "tester"
    assert comparison["coverage"] == {
        "paired": 90,
        "baseline_only": 0,
        "candidate_only": 0,
        "fraction": 1.0,
        "pairing": "task,doc_hash,prompt_hash,target_hash",
    }
    assert comparison["warnings"] == []
    (strict,) = (one for one in comparison["quality"] if one["metric"] == STRICT)
    gained = {index for index in first if (first[index], second[index]) == (0.0, 1.0)}
    gone = {index for index in first if (first[index], second[index]) == (1.0, 0.0)}
    assert gained
    assert gone
    assert strict["kind"] == "binary"
    assert (strict["flips"]["gained"], strict["flips"]["lost"]) == (len(gained), len(gone))
    assert sum(strict["flips"].values()) == strict["n"] == 90
    expected_p = stats.binomtest(len(gained), len(gained) + len(gone), 0.5).pvalue
    assert strict["mcnemar_p"] == pytest.approx(expected_p)
    reference = stats.ttest_rel([second[index] for index in first], [first[index] for index in first])
    assert strict["confidence_interval"] == pytest.approx(list(reference.confidence_interval(0.95)))
    assert strict["baseline"] == pytest.approx(base.expected.metrics[STRICT])
    assert strict["candidate_run"] == compiled.expected.metrics[STRICT]
    assert strict["difference"] == pytest.approx(strict["candidate"] - strict["baseline"])
    stderr = base.expected.metrics["jsonl_qa.exact_match_stderr,strict"]
    assert strict["weak_rule"]["stderr"] == stderr
    assert strict["weak_rule"]["within_stderr"] == (abs(strict["difference"]) <= stderr)
    assert "weak" in strict["weak_rule"]["label"]
    assert {item["baseline"]["index"] for item in lost} == gone
    assert [item["baseline"]["index"] for item in lost] == sorted(gone)
    for item in lost:
        assert item["flip"] == "lost"
        assert item["baseline"]["response"] == item["target"]
        assert item["candidate"]["response"] == "no idea"
        assert item["candidate"]["filtered"]["strict"] == "no idea"
        assert (item["baseline"]["value"], item["candidate"]["value"]) == (1.0, 0.0)
        assert "What is" in item["prompt"]
    assert len(everything["items"]) == 90
    assert (misnamed.status_code, misnamed.json()["errors"][0]["field"]) == (422, "metric")
    assert STRICT in misnamed.json()["detail"]
    runtime = {one["metric"]: one for one in comparison["runtime"]}
    assert runtime["tps"]["ratio"] == 1.0
    assert runtime["power"]["ratio"] is None
    assert "baseline: not measured: no sensor here" in runtime["power"]["note"]
    (event,) = await platform.published(ComparisonCreated.SUBJECT)
    assert (event.comparison_id, event.paired_items) == (comparison["id"], 90)


async def test_two_requests_at_once_give_one_comparison(platform: Any) -> None:
    base = await platform.maker.make(ROWS, answering("base", of=4))
    other = await platform.maker.make(ROWS, hedging)
    async with platform.service() as client:
        await finished(platform, client, base, other)
        responses = await asyncio.gather(*(compare(client, base, other) for _ in range(6)))
        turned = (await compare(client, other, base)).json()
        no_flips = await client.get(
            f"/v1/comparisons/{turned['id']}/items",
            params={"metric": "jsonl_qa.token_f1,strict", "flip": "lost"},
        )
    assert len({response.json()["id"] for response in responses}) == 1
    assert sum(response.status_code == 201 for response in responses) == 1
    there, back = (
        next(one for one in comparison["quality"] if one["metric"] == STRICT)
        for comparison in (responses[0].json(), turned)
    )
    assert back["difference"] == -there["difference"]
    assert back["flips"]["gained"] == there["flips"]["lost"]
    (overlap,) = (one for one in turned["quality"] if one["metric"] == "jsonl_qa.token_f1,strict")
    assert (overlap["kind"], overlap["flips"], overlap["mcnemar_p"]) == ("continuous", None, None)
    assert (no_flips.status_code, no_flips.json()["errors"][0]["field"]) == (422, "flip")


async def test_other_rows_pair_as_far_as_they_are_the_same(platform: Any) -> None:
    base = await platform.maker.make(ROWS[:60], answering("base", of=4))
    # The same documents at other positions, one of them twice, and some that the baseline has not.
    moved = await platform.maker.make([ROWS[70], ROWS[5], ROWS[5], *ROWS[20:50]], answering("x", of=4))
    async with platform.service() as client:
        await finished(platform, client, base, moved)
        comparison = (await compare(client, base, moved)).json()
        items = (await client.get(f"/v1/comparisons/{comparison['id']}/items?limit=200")).json()["items"]
    assert comparison["coverage"]["paired"] == 31
    assert comparison["coverage"]["baseline_only"] == 29
    assert comparison["coverage"]["candidate_only"] == 2
    assert comparison["coverage"]["fraction"] == pytest.approx(31 / 60)
    assert any("different snapshots" in warning for warning in comparison["warnings"])
    assert any("have no partner" in warning for warning in comparison["warnings"])
    assert [(item["baseline"]["index"], item["candidate"]["index"]) for item in items] == [
        (5, 1),
        *((index, index - 17) for index in range(20, 50)),
    ]


async def test_excluded_samples_are_no_evidence_and_differences_are_told(platform: Any) -> None:
    base = await platform.maker.make(ROWS, answering("base", of=4))
    partial = await platform.maker.make(
        ROWS,
        lambda document: None if document.index < 30 else answering("base", of=4)(document),
        on_failure="exclude",
    )
    platform.peers.runs[partial.id]["plan"]["task"]["generation_kwargs"]["temperature"] = 0.7
    async with platform.service() as client:
        await finished(platform, client, base, partial)
        comparison = (await compare(client, base, partial)).json()
    assert (comparison["coverage"]["paired"], comparison["coverage"]["baseline_only"]) == (60, 30)
    assert any("30 samples of the candidate have no response" in text for text in comparison["warnings"])
    assert any(text.startswith("generation arguments differs") for text in comparison["warnings"])
    (strict,) = (one for one in comparison["quality"] if one["metric"] == STRICT)
    assert strict["changed"] == 0
    low, high = strict["confidence_interval"]
    assert high == -low == pytest.approx(1 - 0.05 ** (1 / 60))


async def test_what_cannot_be_compared_is_refused(platform: Any) -> None:
    base = await platform.maker.make(ROWS[:20], answering("base", of=4))
    disjoint = await platform.maker.make(ROWS[40:60], answering("base", of=4))
    reworded = await platform.maker.make(
        ROWS[:20],
        answering("base", of=4),
        recipe=JsonlQuestionAnswer(
            input_field="question", expected_output_field="answer", prompt_template="Q: {{input}}"
        ),
    )
    running = await platform.maker.make(ROWS[:20], answering("base", of=4), state="Running")
    cancelled = await platform.maker.make(ROWS[:20], answering("base", of=4))
    async with platform.service() as client:
        await finished(platform, client, base, disjoint, reworded, cancelled)
        platform.peers.runs[cancelled.id]["state"] = "Cancelled"
        itself = await compare(client, base, base)
        nothing = await compare(client, base, disjoint)
        prompts = await compare(client, base, reworded)
        early = await compare(client, base, running)
        stopped = await compare(client, cancelled, base)
        unknown = await client.post(
            "/v1/comparisons", json={"baseline_run_id": "run_none", "candidate_run_id": base.id}
        )
        misspelt = await client.post("/v1/comparisons", json={"baseline": base.id})
        missing = await client.get("/v1/comparisons/cmp_none/items")
        listed = (await client.get("/v1/comparisons")).json()
    assert (itself.status_code, itself.json()["errors"][0]["field"]) == (422, "candidate_run_id")
    assert nothing.status_code == 422
    assert "share no item" in nothing.json()["detail"]
    assert prompts.status_code == 422
    assert "20 documents are in both runs with another prompt" in prompts.json()["detail"]
    assert early.status_code == 409
    assert f"run {running.id} is Running" in early.json()["detail"]
    assert (stopped.status_code, stopped.json()["errors"][0]["field"]) == (409, "baseline_run_id")
    assert (unknown.status_code, unknown.json()["errors"][0]["field"]) == (404, "baseline_run_id")
    assert misspelt.status_code == 422
    assert missing.status_code == 404
    assert listed["items"] == []
    assert not await platform.published(ComparisonCreated.SUBJECT)


CHOICES = [
    {
        "question": f"Which number is {number} plus one?",
        "support": "",
        "correct_answer": str(number + 1),
        "distractor1": str(number + 2),
        "distractor2": str(number + 3),
        "distractor3": str(number + 4),
    }
    for number in range(24)
]


def choosing(salt: str) -> Any:
    """Log-probabilities drawn from the content."""

    def answers(document: Any) -> list[tuple[float, bool]]:
        made = []
        for request in document.requests:
            digest = hashlib.sha256(f"{salt}{request.context}{request.continuation}".encode()).digest()
            made.append((-float(int.from_bytes(digest[:4])) / 1e8, False))
        return made

    return answers


async def test_a_multiple_choice_task_by_log_probabilities(platform: Any) -> None:
    task = BuiltinTask(task="sciq")
    base = await platform.maker.make(CHOICES, choosing("a"), recipe=task)
    other = await platform.maker.make(CHOICES, choosing("b"), recipe=task)
    questions = await platform.maker.make(ROWS[:20], answering("base", of=4))
    async with platform.service() as client:
        await finished(platform, client, base, other, questions)
        metrics = (await client.get(f"/v1/metrics/runs/{base.id}")).json()
        comparison = (await compare(client, base, other)).json()
        items = (
            await client.get(
                f"/v1/comparisons/{comparison['id']}/items",
                params={"metric": "sciq.acc,none", "flip": "lost", "limit": 200},
            )
        ).json()["items"]
        mixed = await compare(client, base, questions)
    assert metrics["quality"] == base.expected.metrics
    assert metrics["runtime"]["ttftP50"] is None
    assert metrics["runtime_details"]["null_reasons"]["tps"].startswith("not applicable")
    assert metrics["runtime"]["requestsPerSecond"] > 0
    accuracy = next(one for one in comparison["quality"] if one["metric"] == "sciq.acc,none")
    assert accuracy["baseline"] == pytest.approx(base.expected.metrics["sciq.acc,none"])
    assert accuracy["flips"]["lost"] == len(items) > 0
    for item in items:
        right = CHOICES[item["baseline"]["index"]]["correct_answer"]
        assert item["baseline"]["response"].strip() == right != item["candidate"]["response"].strip()
    assert mixed.status_code == 422
    assert "'sciq'" in mixed.json()["detail"]
