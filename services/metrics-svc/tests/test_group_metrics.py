"""Runs of a group: numbers of every task and of the group, item by item, compared like any others."""

import asyncio
import hashlib
import time
from typing import Any

import httpx

from assay_harness.spec import BuiltinTask

TASKS = ["wmdp_bio", "wmdp_chem", "wmdp_cyber"]
SIZES = [9, 14, 23]
GROUP = BuiltinTask(task="wmdp")


def rows(name: str, count: int) -> list[dict[str, Any]]:
    # The first question is the same in all tasks: it must count for each.
    return [
        {
            "question": f"What is number {number} of {name if number else 'all'}?",
            "choices": ["one", "two", "three", "four"],
            "answer": number % 4,
        }
        for number in range(count)
    ]


TABLES = {task: rows(task, size) for task, size in zip(TASKS, SIZES, strict=True)}


def choosing(salt: str, *, of: int) -> Any:
    """The right choice is the most probable one, but for about one document in ``of``."""

    def answers(document: Any) -> list[Any]:
        digest = hashlib.sha256(f"{salt}{document.task}{document.prompt_hash}".encode()).digest()
        right = int(document.target) if digest[0] % of else (int(document.target) + 1) % 4
        return [(-1.0 if number == right else -5.0 - number, False) for number in range(4)]

    return answers


async def final(platform: Any, client: httpx.AsyncClient, run: Any, state: str = "final") -> dict[str, Any]:
    for event in run.events:
        await platform.tell(event)
    deadline = time.monotonic() + 90
    while (metrics := (await client.get(f"/v1/metrics/runs/{run.id}")).json())["state"] != state:
        assert time.monotonic() < deadline, metrics
        await asyncio.sleep(0.05)
    return dict(metrics)


async def test_a_group_has_the_numbers_of_its_tasks_and_its_own(platform: Any) -> None:
    run = await platform.maker.make(TABLES, choosing("a", of=3), recipe=GROUP)
    async with platform.service() as client:
        metrics = await final(platform, client, run)
        path = f"/v1/metrics/runs/{run.id}/samples"
        chem = (await client.get(path, params={"task": "wmdp_chem", "limit": 200})).json()["items"]
        group = {"metric": "wmdp.acc,none", "correct": "false", "limit": "200"}
        wrong = (await client.get(path, params=group)).json()["items"]
        refused = await client.get(path, params={"task": "wmdp_physics"})
    assert metrics["quality"] == run.expected.metrics
    right = {task: metrics["quality"][f"{task}.acc,none"] for task in TASKS}
    assert len(set(right.values())) == 3, "the test needs tasks that differ"
    pooled = sum(right[task] * size for task, size in zip(TASKS, SIZES, strict=True)) / sum(SIZES)
    assert abs(metrics["quality"]["wmdp.acc,none"] - pooled) < 1e-12
    assert metrics["sample_metrics"] == ["wmdp.acc,none", *(f"{task}.acc,none" for task in TASKS)]
    assert metrics["members"] == [
        {"task": task, "samples_scored": size, "samples_failed": 0, "samples_expected": size}
        for task, size in zip(TASKS, SIZES, strict=True)
    ]
    assert metrics["canonical"] is False
    assert metrics["deviations"][0]["field"] == "dataset_path"
    assert sorted(item["index"] for item in chem) == list(range(9, 23))
    assert all(set(item["values"]) == {"wmdp.acc,none", "wmdp_chem.acc,none"} for item in chem)
    assert len(wrong) == round((1 - pooled) * sum(SIZES))
    assert refused.status_code == 422
    assert "wmdp_bio" in refused.json()["errors"][0]["message"]


async def test_a_failed_sample_counts_for_its_task_only(platform: Any) -> None:
    everything_right = choosing("a", of=10_000)

    def answers(document: Any) -> list[Any] | None:
        return None if document.index in (9, 10) else list(everything_right(document))

    run = await platform.maker.make(TABLES, answers, recipe=GROUP)
    async with platform.service() as client:
        metrics = await final(platform, client, run)
        path = f"/v1/metrics/runs/{run.id}/samples"
        wrong = {"metric": "wmdp.acc,none", "correct": "false"}
        failed = (await client.get(path, params=wrong)).json()["items"]
    assert sorted(item["index"] for item in failed) == [9, 10]
    assert all(item["values"] == {"wmdp.acc,none": 0.0, "wmdp_chem.acc,none": 0.0} for item in failed)
    accuracy = [metrics["quality"][f"{task}.acc,none"] for task in TASKS]
    assert accuracy == [1.0, 12 / 14, 1.0]
    assert metrics["quality"]["wmdp.acc,none"] == 44 / 46
    assert [member["samples_failed"] for member in metrics["members"]] == [0, 2, 0]


async def test_two_runs_of_a_group_are_compared_by_task_and_as_a_whole(platform: Any) -> None:
    base = await platform.maker.make(TABLES, choosing("base", of=4), recipe=GROUP)
    other = await platform.maker.make(TABLES, choosing("other", of=3), recipe=GROUP, artifact="compiled")
    async with platform.service() as client:
        for run in (base, other):
            await final(platform, client, run)
            platform.peers.runs[run.id]["state"] = "Succeeded"
        body = {"baseline_run_id": base.id, "candidate_run_ids": [other.id]}
        comparison = (await client.post("/v1/comparisons", json=body)).json()
        items = f"/v1/comparisons/{comparison['id']}/items"
        of_chem = (await client.get(items, params={"metric": "wmdp_chem.acc,none", "limit": 200})).json()
        flips = {
            flip: (await client.get(items, params={"metric": "wmdp.acc,none", "flip": flip})).json()["items"]
            for flip in ("gained", "lost")
        }
    (report,) = comparison["candidates"]
    assert report["valid"], report["findings"]
    assert report["coverage"]["paired"] == sum(SIZES)
    by_metric = {one["metric"]: one for one in report["quality"]}
    assert list(by_metric) == ["wmdp.acc,none", *(f"{task}.acc,none" for task in TASKS)]
    assert [by_metric[f"{task}.acc,none"]["n"] for task in TASKS] == SIZES
    whole = by_metric["wmdp.acc,none"]
    assert whole["n"] == sum(SIZES)
    for name in ("gained", "lost", "both_right", "both_wrong"):
        assert whole["flips"][name] == sum(by_metric[f"{task}.acc,none"]["flips"][name] for task in TASKS)
    assert {name: len(found) for name, found in flips.items()} == {
        name: whole["flips"][name] for name in ("gained", "lost")
    }
    assert whole["flips"]["gained"] > 0
    assert len(of_chem["items"]) == 14
    assert comparison["baseline"]["canonical"] is False
