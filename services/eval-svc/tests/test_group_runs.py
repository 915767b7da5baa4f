"""Groups of tasks: one method, one dataset for each task or one for all, one run."""

from typing import Any

import pytest

pytestmark = pytest.mark.model

TASKS = ["wmdp_bio", "wmdp_chem", "wmdp_cyber"]


def questions(name: str, count: int) -> dict[str, list[Any]]:
    return {
        "question": [f"Which of these is number {number} of {name}?" for number in range(count)],
        "choices": [[f"{name} {number}", "a", "b", "c"] for number in range(count)],
        "answer": [0] * count,
    }


async def group(service: Any, *, task: str = "wmdp") -> dict[str, Any]:
    """A request for a group; the rows are still to be named."""
    for number, name in enumerate(TASKS):
        service.peers.add_dataset(name, questions(name, 3 + number))
    method = service.peers.add_method("group", {"template": "builtin-lm-eval", "task": task})
    return {"artifact_id": await service.artifact(), "method_id": method}


async def plan(service: Any, *, status: int = 200, **body: Any) -> dict[str, Any]:
    answer = await service.http.post("/v1/evaluations/plan", json=body)
    assert answer.status_code == status, answer.text
    return dict(answer.json())


async def test_every_task_has_its_snapshot_rows_and_samples(service: Any) -> None:
    body = await group(service)
    datasets = {task: f"ds_{task}" for task in reversed(TASKS)}
    found = await plan(service, **body, member_datasets=datasets, options={"limit": 4})
    members = found["members"]
    assert [member["task"] for member in members] == TASKS
    assert [(member["start"], member["stop"]) for member in members] == [(0, 3), (3, 7), (7, 11)]
    assert [(member["row_count"], member["samples"]) for member in members] == [(3, 3), (4, 4), (5, 4)]
    assert [member["dataset"]["snapshot_id"] for member in members] == [f"snap_{task}" for task in TASKS]
    assert found["task"]["document_count"] == 11
    assert found["dataset"]["rows"] == 12
    assert not found["canonical"]
    assert all(member["deviations"] for member in members)


async def test_every_task_may_have_examples_of_its_own(service: Any) -> None:
    tasks = [f"med_concepts_qa_atc_{level}" for level in ("easy", "hard", "medium")]
    for task in tasks:
        for name in (task, f"shots-{task}"):
            rows = {
                "question": [f"{name} {number}?" for number in range(6)],
                "answer_id": ["A", "B", "C"] * 2,
            }
            companion_of = task if name != task and task != tasks[1] else None
            service.peers.add_dataset(name, rows, fewshot_of=companion_of)
    method = service.peers.add_method("atc", {"template": "builtin-lm-eval", "task": "med_concepts_qa_atc"})
    body = {"artifact_id": await service.artifact(), "method_id": method}
    datasets = {task: f"ds_{task}" for task in tasks}
    named = {tasks[2]: f"ds_shots-{tasks[1]}"}
    found = await plan(service, **body, member_datasets=datasets, member_fewshot_datasets=named)
    fewshot = [member["fewshot"] and member["fewshot"]["snapshot_id"] for member in found["members"]]
    assert fewshot == [f"snap_shots-{tasks[0]}", None, f"snap_shots-{tasks[1]}"]
    sources = [member["fewshot_source"] for member in found["members"]]
    assert sources == ["rows", "evaluation_rows", "rows"]
    without = await plan(service, **body, member_datasets=datasets, options={"num_fewshot": 0})
    assert [member["fewshot"] for member in without["members"]] == [None] * 3


async def test_missing_and_unknown_tasks_are_listed(service: Any) -> None:
    body = await group(service)
    datasets = {"wmdp_bio": "ds_wmdp_bio", "wmdp_physics": "ds_wmdp_chem"}
    refused = await plan(service, status=422, **body, member_datasets=datasets)
    assert "2 of 3 tasks of the group have no dataset: wmdp_chem, wmdp_cyber" in refused["detail"]
    assert [fault["field"] for fault in refused["errors"]] == [
        "member_datasets.wmdp_chem",
        "member_datasets.wmdp_cyber",
        "member_datasets.wmdp_physics",
    ]
    all_there = {task: f"ds_{task}" for task in TASKS}
    unknown = await plan(
        service, status=404, **body, member_datasets={**all_there, "wmdp_chem": "ds_nowhere"}
    )
    assert unknown["errors"][0]["field"] == "member_datasets.wmdp_chem"
    none = await plan(service, status=422, **body)
    assert "member_datasets" in none["detail"]
    single = {"artifact_id": body["artifact_id"], "method_id": "mth_sciq", "member_datasets": all_there}
    refused = await plan(service, status=422, **single)
    assert refused["errors"][0]["field"] == "member_datasets"


async def test_one_dataset_may_serve_all_57_tasks(service: Any) -> None:
    rows = {**questions("mmlu", 6), "subject": ["algebra"] * 6}
    service.peers.add_dataset("subjects", rows)
    method = service.peers.add_method("mmlu", {"template": "builtin-lm-eval", "task": "mmlu"})
    body = {"artifact_id": await service.artifact(), "method_id": method, "dataset_id": "ds_subjects"}
    found = await plan(service, **body)
    assert len(found["members"]) == 57
    assert found["task"]["document_count"] == 57 * 6
    assert found["dataset"]["snapshot_id"] == "snap_subjects"


async def test_a_row_that_cannot_be_rendered_is_named_in_its_own_file(service: Any) -> None:
    body = await group(service)
    broken = questions("wmdp_chem", 4)
    broken["answer"][2] = 9
    service.peers.add_dataset("broken", {**broken, "choices": [*broken["choices"][:2], [], []]})
    datasets = {task: f"ds_{task}" for task in TASKS} | {"wmdp_chem": "ds_broken"}
    refused = await plan(service, status=422, **body, member_datasets=datasets)
    first = refused["errors"][0]
    assert first["row"] == 2
    assert first["message"].startswith("wmdp_chem: ")


async def test_a_group_runs_and_each_sample_names_its_task(service: Any) -> None:
    body = await group(service)
    datasets = {task: f"ds_{task}" for task in TASKS}
    async with service.working():
        run = await service.start(**body, member_datasets=datasets, options={"concurrency": 4})
        run = await service.wait(run["id"], "Scoring")
    page = (await service.http.get(f"/v1/evaluations/{run['id']}/samples?limit=200")).json()
    by_index = {item["index"]: item["task"] for item in page["items"]}
    assert [by_index[index] for index in range(12)] == [TASKS[0]] * 3 + [TASKS[1]] * 4 + [TASKS[2]] * 5
    for task in TASKS:
        answer = await service.http.get("/v1/evaluations", params={"uses_dataset": f"ds_{task}"})
        assert [found["id"] for found in answer.json()["items"]] == [run["id"]]
