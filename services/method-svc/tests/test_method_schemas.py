"""What method-svc remembers of datasets from their events."""

import asyncio
from typing import Any

from assay_contracts.dataset_events import DatasetDeleted
from method_svc.domain.fit import DatasetSchema

RECIPE = {"template": "jsonl-qa-lm-eval", "input_field": "question", "expected_output_field": "answer"}


def store_of(api: Any) -> Any:
    return api.app.state.services.methods._store


async def test_a_known_schema_needs_no_call_and_a_refusal_is_confirmed(
    api: Any, peer: Any, tell: Any, eventually: Any, question_rows: Any
) -> None:
    dataset_id = peer.add(question_rows)
    await tell(peer.event(dataset_id))

    async def known() -> bool:
        return await store_of(api).schema(dataset_id) is not None

    await eventually(known)
    await api.create(RECIPE, dataset_id=dataset_id)
    assert peer.calls == []

    # New columns, whose event has not arrived: what the copy would refuse is asked for.
    peer.add([{"input": "a", "target": "b"}], dataset_id=dataset_id)
    recipe = {**RECIPE, "input_field": "input", "expected_output_field": "target"}
    await api.create(recipe, dataset_id=dataset_id)
    assert peer.calls == [dataset_id]


async def test_a_deleted_dataset_is_forgotten_for_good(
    api: Any, peer: Any, tell: Any, eventually: Any, question_rows: Any
) -> None:
    dataset_id, other_id = peer.add(question_rows), peer.add(question_rows)
    ready, last = peer.event(dataset_id), peer.event(other_id)
    gone = DatasetDeleted(dataset_id=dataset_id, name="questions", version="main")
    del peer.datasets[dataset_id]
    for event in (ready, gone, ready, last):
        await tell(event)

    async def all_seen() -> bool:
        return await store_of(api).schema(other_id) is not None

    await eventually(all_seen)
    assert await store_of(api).schema(dataset_id) is None
    body = {"name": "never-made", "recipe": RECIPE, "dataset_id": dataset_id}
    fields, _ = await api.refused("/v1/methods", body)
    assert fields == ["dataset_id"]


async def test_schemas_go_by_the_age_of_the_snapshot_whatever_the_order(
    api: Any, peer: Any, tell: Any, eventually: Any, question_rows: Any
) -> None:
    dataset_id = peer.add(question_rows)
    old = peer.event(dataset_id)
    await asyncio.sleep(0.002)
    peer.add([{"input": "a"}], dataset_id=dataset_id)
    new = peer.event(dataset_id)
    last = peer.event(peer.add(question_rows))
    for event in (new, old, new, last):
        await tell(event)

    async def all_seen() -> bool:
        return await store_of(api).schema(last.dataset_id) is not None

    await eventually(all_seen)
    assert await store_of(api).schema(dataset_id) == DatasetSchema(
        dataset_id=dataset_id, dataset_name="questions", snapshot_id=new.snapshot_id, columns=new.columns
    )
