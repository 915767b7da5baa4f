"""Which runs refer to a dataset or snapshot: what deleting one depends on."""

from typing import Any

import pytest

pytestmark = pytest.mark.model

EXAMPLES = {
    "input": ["The capital of Peru is", "The capital of Kenya is"],
    "expected_output": ["Lima", "Nairobi"],
}


async def listed(service: Any, **query: Any) -> list[str]:
    answer = await service.http.get("/v1/evaluations", params=query)
    assert answer.status_code == 200, answer.text
    return [run["id"] for run in answer.json()["items"]]


async def test_runs_are_found_by_every_dataset_and_snapshot_that_they_read(service: Any) -> None:
    service.peers.add_dataset("examples", EXAMPLES)
    body = {"artifact_id": await service.artifact(), "dataset_id": "ds_capitals", "method_id": "mth_qa"}
    plain = (await service.start(**body))["id"]
    fewshot = (await service.start(**body, fewshot_dataset_id="ds_examples", options={"num_fewshot": 1}))[
        "id"
    ]
    assert await listed(service, uses_dataset="ds_capitals") == [fewshot, plain]
    assert await listed(service, uses_snapshot="snap_capitals") == [fewshot, plain]
    assert await listed(service, uses_snapshot="snap_capitals", limit=1) == [fewshot]
    assert await listed(service, uses_dataset="ds_examples") == [fewshot]
    assert await listed(service, uses_snapshot="snap_examples") == [fewshot]
    assert await listed(service, uses_dataset="ds_capitals", uses_snapshot="snap_examples") == [fewshot]
    assert await listed(service, uses_dataset="ds_choices") == []
    assert await listed(service, uses_dataset="ds_choices", uses_snapshot="snap_examples") == []
    await service.http.post(f"/v1/evaluations/{fewshot}/cancel")
    assert await listed(service, uses_snapshot="snap_examples") == [fewshot], "its numbers still refer to it"


async def test_runs_are_found_by_artifact_and_a_part_of_the_name(service: Any) -> None:
    rows = {"dataset_id": "ds_capitals", "method_id": "mth_qa"}
    base, other = await service.artifact(), await service.artifact("Other-Build")
    first = (await service.start(**rows, artifact_id=base, name="Nightly.1"))["id"]
    second = (await service.start(**rows, artifact_id=other, name="nightly.2"))["id"]
    third = (await service.start(**rows, artifact_id=other, name="by-hand"))["id"]
    assert await listed(service, artifact_id=other) == [third, second]
    assert await listed(service, artifact_id=other, limit=1) == [third]
    assert await listed(service, artifact_id="art_none") == []
    assert await listed(service, search="NIGHTLY") == [second, first]
    assert await listed(service, search="nightly.", artifact_id=base) == [first]
    assert await listed(service, search="nightly", name="by-hand") == []
    artifacts = (await service.http.get("/v1/artifacts", params={"search": "build"})).json()["items"]
    assert [artifact["id"] for artifact in artifacts] == [other]
    refused = await service.http.get("/v1/evaluations", params={"search": "a\0b"})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "search"
