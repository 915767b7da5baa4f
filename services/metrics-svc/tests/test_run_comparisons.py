"""Comparisons of real scored runs: pairing, flips, items, validity, refusals."""

import asyncio
import hashlib
import time
from typing import Any

import httpx
import pytest
from scipy import stats

from assay_contracts.metrics_events import ComparisonCreated
from assay_harness.spec import BuiltinTask, JsonlQuestionAnswer

ROWS = [
    {"question": f"What is {number} + 3?", "answer": str(number + 3), "family": f"tens {number // 10}"}
    for number in range(90)
]
STRICT = "jsonl_qa.exact_match,strict"
OVERLAP = "jsonl_qa.token_f1,strict"


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


async def compare(client: httpx.AsyncClient, baseline: Any, *candidates: Any, **more: Any) -> httpx.Response:
    body = {"baseline_run_id": baseline.id, "candidate_run_ids": [one.id for one in candidates], **more}
    return await client.post("/v1/comparisons", json=body, timeout=120)


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


async def items(client: httpx.AsyncClient, comparison: dict[str, Any], **wanted: Any) -> list[dict[str, Any]]:
    """All items, five at a time."""
    found: list[dict[str, Any]] = []
    cursor = {}
    while True:
        page = (
            await client.get(
                f"/v1/comparisons/{comparison['id']}/items", params={"limit": 5, **wanted, **cursor}
            )
        ).json()
        assert len(page["items"]) <= 5
        found += page["items"]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


def quality(report: dict[str, Any], metric: str) -> dict[str, Any]:
    (found,) = (one for one in report["quality"] if one["metric"] == metric)
    return dict(found)


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
        fetched = (await client.get(f"/v1/comparisons/{comparison['id']}")).json()
        listed = (await client.get("/v1/comparisons")).json()
        lost = await items(client, comparison, metric=STRICT, flip="lost")
        classified = await items(client, comparison, metric=STRICT, flip="lost", flip_class="other")
        everything = await items(client, comparison)
        address = f"/v1/comparisons/{comparison['id']}/items"
        misnamed = await client.get(address, params={"metric": "exact_match", "flip": "lost"})
        stranger = await client.get(address, params={"candidate": base.id})
        cursor = await client.get(address, params={"cursor": "-1"})
    assert response.status_code == 201, response.text
    assert (again.status_code, again.json()) == (200, comparison)
    assert fetched == comparison
    assert (listed["items"], listed["next_cursor"]) == ([comparison], None)
    assert comparison["created_by"] == "tester"
    assert comparison["policy"] is None
    (report,) = comparison["candidates"]
    assert report["valid"], report["findings"]
    coverage = report["coverage"]
    assert (coverage["paired"], coverage["baseline_total"], coverage["fraction"]) == (90, 90, 1.0)
    strict = quality(report, STRICT)
    gained = {index for index in first if (first[index], second[index]) == (0.0, 1.0)}
    gone = {index for index in first if (first[index], second[index]) == (1.0, 0.0)}
    assert gained
    assert gone
    assert strict["kind"] == "binary"
    assert (strict["flips"]["gained"], strict["flips"]["lost"]) == (len(gained), len(gone))
    assert sum(strict["flips"].values()) == strict["n"] == 90
    expected_p = stats.binomtest(len(gained), len(gained) + len(gone), 0.5).pvalue
    assert strict["mcnemar_p"] == pytest.approx(expected_p)
    assert strict["baseline"] == pytest.approx(base.expected.metrics[STRICT])
    assert strict["candidate_run"] == compiled.expected.metrics[STRICT]
    assert strict["difference"] == pytest.approx(strict["candidate"] - strict["baseline"])
    assert strict["interval_95"][0] < strict["difference"] < strict["interval_95"][1]
    assert strict["margin_test"]["margin"] == 0.02
    stderr = base.expected.metrics["jsonl_qa.exact_match_stderr,strict"]
    assert strict["baseline_run_stderr"] == strict["weak_rule"]["stderr"] == stderr
    assert "weak" in strict["weak_rule"]["label"]
    assert [item["baseline"]["index"] for item in lost] == sorted(gone)
    by_class = next(one for one in report["flips"] if one["metric"] == STRICT)["lost_by_class"]
    assert {item["flip_class"] for item in lost} == set(by_class)
    assert len(classified) == by_class.get("other", 0) < 1 + len(lost)
    for item in lost:
        assert (item["flip"], item["unstable_under_aa"]) == ("lost", None)
        assert item["baseline"]["response"] == item["target"]
        assert (item["baseline"]["value"], item["candidate"]["value"]) == (1.0, 0.0)
        assert item["candidate"]["response"] == "no idea"
        assert item["candidate"]["filtered"]["strict"] == "no idea"
        assert item["first_difference"]["char"] == 0
    assert [item["baseline"]["index"] for item in everything] == list(range(90))
    assert {item["first_difference"] for item in everything if item["flip"] == "both_right"} == {None}
    assert (misnamed.status_code, misnamed.json()["errors"][0]["field"]) == (422, "metric")
    assert (stranger.status_code, stranger.json()["errors"][0]["field"]) == (422, "candidate")
    assert f"there are: {compiled.id}" in stranger.json()["detail"]
    assert (cursor.status_code, cursor.json()["errors"][0]["field"]) == (422, "cursor")
    (event,) = await platform.published(ComparisonCreated.SUBJECT)
    assert (event.comparison_id, event.paired_items, event.valid) == (comparison["id"], 90, True)
    assert (event.candidate_run_id, event.candidate_run_ids) == (compiled.id, [compiled.id])


async def test_several_candidates_a_noise_floor_and_clusters(platform: Any) -> None:
    base = await platform.maker.make(ROWS, answering("base", of=4))
    again = await platform.maker.make(
        ROWS, lambda document: ["no idea"] if document.index == 7 else answering("base", of=4)(document)
    )
    near = await platform.maker.make(
        ROWS,
        lambda document: ["no idea"] if document.index in (7, 8) else answering("base", of=4)(document),
        artifact="near",
    )
    far = await platform.maker.make(ROWS, hedging, artifact="far")
    async with platform.service() as client:
        await finished(platform, client, base, again, near, far)
        response = await compare(
            client, base, near, far, noise_floor_run_id=again.id, cluster_column="family", margin=0.05
        )
        comparison = response.json()
        turned = (await compare(client, base, far, near, noise_floor_run_id=again.id)).json()
        alone = (await compare(client, base, near)).json()
        of_near = await items(client, comparison, metric=STRICT, flip="lost", candidate=near.id)
        of_far = await items(client, comparison, metric=STRICT, flip="lost", candidate=far.id)
        by_default = await items(client, comparison, metric=STRICT, flip="lost")
        no_flips = await client.get(
            f"/v1/comparisons/{comparison['id']}/items",
            params={"metric": OVERLAP, "flip": "lost", "candidate": far.id},
        )
    assert response.status_code == 201, response.text
    assert comparison["settings"]["cluster_column"] == "family"
    assert comparison["noise_floor_run"]["run_id"] == again.id
    first, second = comparison["candidates"]
    assert (first["candidate"]["run_id"], second["candidate"]["run_id"]) == (near.id, far.id)
    assert [one["candidate"]["run_id"] for one in turned["candidates"]] == [far.id, near.id]
    assert quality(first, STRICT)["clusters"] == 9
    assert quality(turned["candidates"][1], STRICT)["clusters"] is None
    assert quality(first, STRICT)["margin_test"]["margin"] == 0.05
    assert quality(first, STRICT)["flips"] == quality(alone["candidates"][0], STRICT)["flips"]
    noise = next(one for one in first["noise"] if one["metric"] == STRICT)
    assert (noise["run_id"], noise["n"]) == (again.id, 90)
    # Which of the two documents the baseline had right is up to the salt; the counts follow from it.
    lost = {item["baseline"]["index"]: item for item in of_near}
    assert set(lost) <= {7, 8}
    assert {index: item["unstable_under_aa"] for index, item in lost.items()} == {
        index: index == 7 for index in lost
    }
    assert quality(second, STRICT)["flips"]["lost"] == len(of_far) > 0
    assert by_default == of_near
    assert quality(second, OVERLAP)["kind"] == "continuous"
    assert (no_flips.status_code, no_flips.json()["errors"][0]["field"]) == (422, "flip")
    events = await platform.published(ComparisonCreated.SUBJECT)
    assert events[0].candidate_run_ids == [near.id, far.id]


async def test_comparisons_asked_for_at_once_are_one(platform: Any) -> None:
    base = await platform.maker.make(ROWS, answering("base", of=4))
    other = await platform.maker.make(ROWS, answering("other", of=4), artifact="other")
    async with platform.service() as client, platform.service() as second:
        await finished(platform, client, base, other)
        responses = await asyncio.gather(
            *(compare(one, base, other) for one in (client, second, client, second, client, second))
        )
        turned = (await compare(client, other, base)).json()
        wider = await compare(client, base, other, margin=0.1)
    assert len({response.json()["id"] for response in responses}) == 1
    assert sum(response.status_code == 201 for response in responses) == 1
    there, back = (
        quality(comparison["candidates"][0], STRICT) for comparison in (responses[0].json(), turned)
    )
    assert back["difference"] == -there["difference"]
    assert back["flips"]["gained"] == there["flips"]["lost"]
    assert (wider.status_code, wider.json()["id"] == responses[0].json()["id"]) == (201, False)
    assert len(await platform.published(ComparisonCreated.SUBJECT)) == 3


async def test_other_rows_pair_as_far_as_they_are_the_same(platform: Any) -> None:
    base = await platform.maker.make(ROWS[:60], answering("base", of=4))
    # The same documents at other positions, one of them twice, and some that the baseline has not.
    moved = await platform.maker.make([ROWS[70], ROWS[5], ROWS[5], *ROWS[20:50]], answering("x", of=4))
    async with platform.service() as client:
        await finished(platform, client, base, moved)
        comparison = (await compare(client, base, moved)).json()
        lenient = (await compare(client, base, moved, coverage_floor=0.3)).json()
        found = await items(client, comparison, metric=STRICT)
    (report,) = comparison["candidates"]
    coverage = report["coverage"]
    assert (coverage["paired"], coverage["missing_in_candidate"], coverage["missing_in_baseline"]) == (
        31,
        29,
        2,
    )
    assert coverage["fraction"] == pytest.approx(31 / 60)
    assert not report["valid"]
    assert "coverage-below-floor" in {finding["code"] for finding in report["findings"]}
    assert "coverage-below-floor" not in {finding["code"] for finding in lenient["candidates"][0]["findings"]}
    # What there is of them is there to be looked at.
    assert [(item["baseline"]["index"], item["candidate"]["index"]) for item in found] == [
        (5, 1),
        *((index, index - 17) for index in range(20, 50)),
    ]
    assert [event.valid for event in await platform.published(ComparisonCreated.SUBJECT)] == [False, True]


async def test_runs_that_answer_other_questions_are_kept_as_invalid(platform: Any) -> None:
    base = await platform.maker.make(ROWS[:20], answering("base", of=4))
    disjoint = await platform.maker.make(ROWS[40:60], answering("base", of=4))
    reworded = await platform.maker.make(
        ROWS[:20],
        answering("base", of=4),
        recipe=JsonlQuestionAnswer(
            input_field="question", expected_output_field="answer", prompt_template="Q: {{input}}"
        ),
    )
    partial = await platform.maker.make(
        ROWS[:20],
        lambda document: None if document.index < 8 else answering("base", of=4)(document),
        on_failure="exclude",
    )
    choices = await platform.maker.make(CHOICES, choosing("a"), recipe=BuiltinTask(task="sciq"))
    async with platform.service() as client:
        await finished(platform, client, base, disjoint, reworded, partial, choices)
        found = {}
        for name, run in (
            ("disjoint", disjoint),
            ("reworded", reworded),
            ("partial", partial),
            ("choices", choices),
        ):
            response = await compare(client, base, run)
            assert response.status_code == 201, response.text
            (found[name],) = response.json()["candidates"]
            listed = await items(client, response.json())
            assert len(listed) == (12 if name == "partial" else 0)
        flips = await client.get(
            f"/v1/comparisons/{response.json()['id']}/items", params={"metric": STRICT, "flip": "lost"}
        )
    for name, report in found.items():
        assert not report["valid"], name
        invalid = [one for one in report["findings"] if one["severity"] == "invalid"]
        assert invalid, name
        assert all(one["message"] for one in invalid)
    assert found["disjoint"]["coverage"]["paired"] == 0
    assert found["reworded"]["coverage"]["prompt_differs"] == 20
    assert found["partial"]["coverage"]["failed_in_candidate"] == 8
    assert flips.status_code == 422


async def test_what_cannot_be_compared_is_refused(platform: Any) -> None:
    base = await platform.maker.make(ROWS[:20], answering("base", of=4))
    other = await platform.maker.make(ROWS[:20], answering("other", of=4))
    running = await platform.maker.make(ROWS[:20], answering("base", of=4), state="Running")
    cancelled = await platform.maker.make(ROWS[:20], answering("base", of=4))
    async with platform.service() as client:
        await finished(platform, client, base, other, cancelled)
        platform.peers.runs[cancelled.id]["state"] = "Cancelled"
        itself = await compare(client, base, base)
        twice = await compare(client, base, other, other)
        noise = await compare(client, base, other, noise_floor_run_id=base.id)
        early = await compare(client, base, running)
        stopped = await compare(client, cancelled, base)
        column = await compare(client, base, other, cluster_column="subject")
        unknown = await client.post(
            "/v1/comparisons", json={"baseline_run_id": "run_none", "candidate_run_ids": [base.id]}
        )
        strangers = await client.post(
            "/v1/comparisons", json={"baseline_run_id": base.id, "candidate_run_ids": [other.id, "run_none"]}
        )
        misspelt = await client.post("/v1/comparisons", json={"baseline": base.id})
        nobody = await compare(client, base)
        missing = await client.get("/v1/comparisons/cmp_none/items")
        listed = (await client.get("/v1/comparisons")).json()
    for response, field in (
        (itself, "candidate_run_ids.0"),
        (twice, "candidate_run_ids.1"),
        (noise, "noise_floor_run_id"),
        (column, "cluster_column"),
        (nobody, "candidate_run_ids"),
    ):
        assert (response.status_code, response.json()["errors"][0]["field"]) == (422, field)
    assert "there are: answer, family, question" in column.json()["detail"]
    assert early.status_code == 409
    assert f"run {running.id} is Running" in early.json()["detail"]
    assert (stopped.status_code, stopped.json()["errors"][0]["field"]) == (409, "baseline_run_id")
    assert (unknown.status_code, unknown.json()["errors"][0]["field"]) == (404, "baseline_run_id")
    assert (strangers.status_code, strangers.json()["errors"][0]["field"]) == (404, "candidate_run_ids.1")
    assert misspelt.status_code == 422
    assert missing.status_code == 404
    assert listed["items"] == []
    assert not await platform.published(ComparisonCreated.SUBJECT)


async def test_scored_views_compare_like_runs(platform: Any) -> None:
    rows = [
        {"question": f"What is {number} + 3?", "answer": f"It is.\n#### {number + 3}"} for number in range(30)
    ]
    task = BuiltinTask(task="gsm8k")
    base = await platform.maker.make(rows, lambda document: [f"It is {document.index + 3}"], recipe=task)
    other = await platform.maker.make(
        rows,
        lambda document: [f"It is {document.index + 3 if document.index % 5 else 1000}"],
        recipe=task,
        artifact="other",
    )
    scoring = {"filters": [{"name": "last", "steps": [{"function": "last-number"}]}]}
    async with platform.service() as client:
        await finished(platform, client, base, other)
        views = []
        for run in (base, other):
            asked = await client.post("/v1/scorings", json={"run_id": run.id, "scoring": scoring})
            views.append(asked.json()["id"])
        early = await client.post(
            "/v1/comparisons", json={"baseline_run_id": views[0], "candidate_run_ids": ["scr_none"]}
        )
        for view_id in views:
            deadline = time.monotonic() + 60
            while (await client.get(f"/v1/scorings/{view_id}")).json()["state"] != "final":
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
        body = {"baseline_run_id": views[0], "candidate_run_ids": [views[1], other.id]}
        comparison = (await client.post("/v1/comparisons", json=body)).json()
        lost = await items(
            client, comparison, metric="gsm8k.exact_match,last", flip="lost", candidate=views[1]
        )
        clustered = await compare(client, base, other, cluster_column="answer")
        no_column = await compare(client, base, other, cluster_column="subject")
    assert early.status_code in (404, 409)
    assert (comparison["baseline"]["run_id"], comparison["baseline"]["scoring_id"]) == (base.id, views[0])
    assert [one["candidate"]["scoring_id"] for one in comparison["candidates"]] == [views[1], None]
    compared = quality(comparison["candidates"][0], "gsm8k.exact_match,last")
    assert (compared["baseline"], compared["candidate"]) == (1.0, 24 / 30)
    assert [item["baseline"]["index"] for item in lost] == [0, 5, 10, 15, 20, 25]
    assert {item["flip_class"] for item in lost} == {"numeric_answer"}
    assert quality(clustered.json()["candidates"][0], "gsm8k.exact_match,flexible-extract")["clusters"] == 30
    assert no_column.status_code == 422
    assert "there are: answer, question" in no_column.json()["detail"]
    assert comparison["candidates"][1]["quality"] == []  # scored by other filters, so nothing is shared


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
    other = await platform.maker.make(CHOICES, choosing("b"), recipe=task, artifact="other")
    async with platform.service() as client:
        await finished(platform, client, base, other)
        metrics = (await client.get(f"/v1/metrics/runs/{base.id}")).json()
        comparison = (await compare(client, base, other)).json()
        lost = await items(client, comparison, metric="sciq.acc,none", flip="lost")
    assert metrics["quality"] == base.expected.metrics
    assert metrics["runtime"]["ttftP50"] is None
    assert metrics["runtime_details"]["null_reasons"]["tps"].startswith("not applicable")
    assert metrics["runtime"]["requestsPerSecond"] > 0
    (report,) = comparison["candidates"]
    accuracy = quality(report, "sciq.acc,none")
    assert accuracy["baseline"] == pytest.approx(base.expected.metrics["sciq.acc,none"])
    assert accuracy["chance"] == 0.25
    # A model that only guesses shows nothing, whatever the difference is.
    assert "floor" in " ".join(guard["code"] for guard in accuracy["guards"])
    assert accuracy["flips"]["lost"] == len(lost) > 0
    assert {item["flip_class"] for item in lost} == {"choice_changed"}
    for item in lost:
        right = CHOICES[item["baseline"]["index"]]["correct_answer"]
        assert item["baseline"]["response"].strip() == right != item["candidate"]["response"].strip()
