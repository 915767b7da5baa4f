"""Finished runs scored again: other numbers from the same responses, and nothing asked twice."""

import asyncio
import time
from collections import Counter
from typing import Any

import httpx
import pytest

from assay_contracts.metrics_events import RunScored, ScoringCompleted, ScoringFailed
from assay_harness.index import load_task_index
from assay_harness.process import HarnessProcess
from assay_harness.spec import BuiltinTask, RowFiles, Scoring, TaskOptions

GSM8K = BuiltinTask(task="gsm8k")
ROWS = [
    {"question": f"What is {number} + 3?", "answer": f"{number} and 3 make that.\n#### {number + 3}"}
    for number in range(20)
]
LAST_NUMBER = {
    "filters": [{"name": "last", "steps": [{"function": "last-number"}]}],
}
NAMES = ("gsm8k.exact_match,last", "gsm8k.exact_match_stderr,last")


def rambling(document: Any) -> list[str]:
    """Without the "####" that the task's strict filter wants; every fourth answer is wrong."""
    number = document.index + 3
    return [f"It is {number}" if document.index % 4 else "It is 1000"]


async def final_run(platform: Any, client: httpx.AsyncClient, run: Any) -> dict[str, Any]:
    for event in run.events:
        await platform.tell(event)
    return await settled(client, f"/v1/metrics/runs/{run.id}")


async def settled(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    deadline = time.monotonic() + 90
    while (found := (await client.get(path)).json())["state"] == "scoring":
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.05)
    return dict(found)


async def score_again(client: httpx.AsyncClient, run: Any, **body: Any) -> httpx.Response:
    return await client.post("/v1/scorings", json={"run_id": run.id, "scoring": LAST_NUMBER, **body})


async def test_another_filter_gives_another_view_of_the_same_samples(platform: Any) -> None:
    run = await platform.maker.make(ROWS, rambling, recipe=GSM8K)
    async with platform.service() as client:
        own = await final_run(platform, client, run)
        served = Counter(platform.peers.served)
        created = await score_again(client, run, name="last number")
        view_id = created.json()["id"]
        view = await settled(client, f"/v1/scorings/{view_id}")
        again = await score_again(client, run, name="another name")
        listed = (await client.get("/v1/scorings", params={"run_id": run.id})).json()["items"]
        wrong = {"metric": NAMES[0], "correct": "false"}
        path = f"/v1/scorings/{view_id}/samples"
        mistakes = (await client.get(path, params=wrong)).json()["items"]
        paged = (await client.get(path, params={"limit": 7})).json()
        untouched = (await client.get(f"/v1/metrics/runs/{run.id}")).json()
        not_a_run = await client.get(f"/v1/metrics/runs/{view_id}")
        not_a_view = await client.get(f"/v1/scorings/{run.id}")
    assert created.status_code == 202
    assert (view["run_id"], view["name"], view["created_by"]) == (run.id, "last number", "tester")
    assert view["state"] == "final"
    assert own["quality"]["gsm8k.exact_match,strict-match"] == 0.0
    assert set(view["quality"]) == set(NAMES)
    assert view["quality"][NAMES[0]] == 15 / 20
    assert view["sample_metrics"] == [NAMES[0]]
    assert view["samples_scored"] == view["samples_expected"] == 20
    assert "runtime" not in view
    assert (view["canonical"], view["deviations"][-1]["field"]) == (False, "scoring")
    assert (again.status_code, again.json()["id"], again.json()["name"]) == (200, view_id, "last number")
    assert [one["id"] for one in listed] == [view_id]
    assert sorted(item["index"] for item in mistakes) == [0, 4, 8, 12, 16]
    assert all(item["filtered"] == {"last": "1000"} for item in mistakes)
    assert len(paged["items"]) == 7
    assert paged["next_cursor"]
    assert untouched == own
    assert not_a_run.status_code == not_a_view.status_code == 404
    assert platform.peers.served == served, "the blocks were there already"
    (told,) = await platform.published(ScoringCompleted.SUBJECT)
    assert (told.scoring_id, told.run_id, told.samples) == (view_id, run.id, 20)
    assert told.quality == view["quality"]
    assert len(await platform.published(RunScored.SUBJECT)) == 1
    assert await platform.published(ScoringFailed.SUBJECT) == []


async def test_the_harness_itself_gives_the_same_numbers(platform: Any) -> None:
    run = await platform.maker.make(ROWS, rambling, recipe=GSM8K)
    scoring = {"question_answer": {"expected_steps": [{"function": "last-number"}]}, **LAST_NUMBER}
    _, path = platform.maker.snapshot(ROWS)
    rows, options = RowFiles(evaluation=path), TaskOptions(num_fewshot=0)
    async with HarnessProcess.open(GSM8K, options, rows, scoring=Scoring.model_validate(scoring)) as harness:
        documents = [document async for batch in harness.documents() for document in batch]
        scores = await harness.score([(document.index, rambling(document)) for document in documents])
        expected = (await harness.aggregate(scores)).metrics
    async with platform.service() as client:
        await final_run(platform, client, run)
        created = (await score_again(client, run, scoring=scoring)).json()
        view = await settled(client, f"/v1/scorings/{created['id']}")
    assert view["quality"] == expected
    assert view["quality"]["gsm8k.exact_match,last"] == 15 / 20


@pytest.mark.parametrize(
    ("scoring", "field", "words"),
    [
        (
            {"filters": [{"name": "x", "steps": [{"function": "regex", "arguments": {"p": ".*"}}]}]},
            "scoring.filters.0.steps.0.function",
            "last-number",
        ),
        (
            {
                "filters": [
                    {"name": "x", "steps": [{"function": "task-filter", "arguments": {"name": "stricter"}}]}
                ]
            },
            "scoring.filters",
            "strict-match",
        ),
        (
            {"question_answer": {"expected_output_field": "solution"}},
            "scoring.question_answer.expected_output_field",
            "question, answer",
        ),
        ({}, "scoring", "at least one filter"),
    ],
)
async def test_a_scoring_that_cannot_work_is_refused_before_it_is_stored(
    platform: Any, scoring: dict[str, Any], field: str, words: str
) -> None:
    run = await platform.maker.make(ROWS[:4], rambling, recipe=GSM8K)
    async with platform.service() as client:
        await final_run(platform, client, run)
        refused = await score_again(client, run, scoring=scoring)
        listed = (await client.get("/v1/scorings", params={"run_id": run.id})).json()
    assert refused.status_code == 422, refused.text
    fault = refused.json()["errors"][0]
    assert fault["field"] == field
    assert words in fault["message"]
    assert listed["items"] == []


async def test_only_a_finished_run_is_scored_again(platform: Any) -> None:
    run = await platform.maker.make(ROWS[:4], rambling, recipe=GSM8K, state="Running")
    async with platform.service() as client:
        early = await score_again(client, run)
        unknown = await client.post("/v1/scorings", json={"run_id": "run_no", "scoring": LAST_NUMBER})
    assert early.status_code == 409
    assert "Running" in early.json()["detail"]
    assert unknown.status_code == 404
    assert unknown.json()["errors"][0]["field"] == "run_id"


async def test_a_view_of_a_group_has_its_tasks(platform: Any) -> None:
    tasks = load_task_index().tasks_of("kormedmcqa")
    tables = {
        task: [
            {"question": f"{task} {number}?", "answer": number % 5 + 1, **dict.fromkeys("ABCDE", "choice")}
            for number in range(6)
        ]
        for task in tasks
    }
    group = BuiltinTask(task="kormedmcqa")
    run = await platform.maker.make(
        tables, lambda document: [f"The answer is ({document.target})."], recipe=group
    )
    choice = {"filters": [{"name": "letter", "steps": [{"function": "choice-letter"}]}]}
    async with platform.service() as client:
        own = await final_run(platform, client, run)
        created = (await score_again(client, run, scoring=choice)).json()
        view = await settled(client, f"/v1/scorings/{created['id']}")
    assert view["state"] == "final", view["error"]
    assert set(own["quality"]).isdisjoint(view["quality"])
    for name in tasks:
        assert view["quality"][f"{name}.exact_match,letter"] == 1.0
    assert [member["samples_scored"] for member in view["members"]] == [6] * len(tasks)


async def test_a_stopped_scorer_leaves_a_view_that_the_next_one_finishes(platform: Any) -> None:
    run = await platform.maker.make(ROWS, rambling, recipe=GSM8K)
    async with platform.service() as client:
        await final_run(platform, client, run)
        created = (await score_again(client, run)).json()
    # The service has ended, with the view at whatever point it had reached.
    async with platform.service() as client:
        view = await settled(client, f"/v1/scorings/{created['id']}")
        samples = (await client.get(f"/v1/scorings/{created['id']}/samples?limit=200")).json()["items"]
    assert view["quality"][NAMES[0]] == 15 / 20
    assert sorted(item["index"] for item in samples) == list(range(20))
    assert len(await platform.published(ScoringCompleted.SUBJECT)) == 1
