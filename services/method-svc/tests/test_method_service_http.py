"""method-svc over HTTP, on a real NATS server, a real store, the real task index and the real harness."""

import asyncio
import hashlib
import io
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uvicorn
from fastapi import FastAPI, Response
from pydantic import SecretStr

from assay_chassis.bus import Bus, Subscription, open_bus
from assay_chassis.identifiers import new_id
from assay_chassis.infrastructure import consuming
from assay_chassis.local import LocalServer
from assay_chassis.processes import PortReservation
from assay_chassis.telemetry import Telemetry
from assay_chassis.web import INTERNAL_KEY_HEADER
from assay_contracts.dataset_events import SnapshotReady
from assay_contracts.envelope import Envelope, Event, envelop
from assay_contracts.method_events import MethodVersionCreated
from method_svc.domain import DatasetSchema, templates
from method_svc.settings import Settings
from method_svc.wiring import create_app

KEY = "test-internal-key"
RECIPE = {"template": "jsonl-qa-lm-eval", "input_field": "question", "expected_output_field": "answer"}
GSM8K = {"template": "builtin-lm-eval", "task": "gsm8k"}


class Peer:
    """The part of dataset-svc's contract that method-svc calls, with datasets that the tests write."""

    def __init__(self) -> None:
        self.datasets: dict[str, dict[str, Any]] = {}
        self.snapshots: dict[str, dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.app = FastAPI()
        self.app.get("/v1/datasets/{dataset_id}")(self.dataset)
        self.app.get("/v1/snapshots/{snapshot_id}")(self.snapshot)
        self.app.get("/v1/snapshots/{snapshot_id}/content.parquet")(self.content)

    async def dataset(self, dataset_id: str, response: Response) -> dict[str, Any]:
        self.calls.append(dataset_id)
        return self._find(self.datasets, dataset_id, response)

    async def snapshot(self, snapshot_id: str, response: Response) -> dict[str, Any]:
        return self._find(self.snapshots, snapshot_id, response)

    async def content(self, snapshot_id: str) -> Response:
        return Response(self.files[snapshot_id])

    @staticmethod
    def _find(table: dict[str, dict[str, Any]], name: str, response: Response) -> dict[str, Any]:
        if name in table:
            return table[name]
        response.status_code = 404
        return {"detail": f"there is no {name!r}", "status": 404}

    def add(self, rows: list[dict[str, Any]] | None, *, dataset_id: str | None = None) -> str:
        """A dataset whose current snapshot has these rows; without any if ``None``."""
        dataset_id = dataset_id or new_id("ds")
        current = self._snapshot(dataset_id, rows) if rows else None
        self.datasets[dataset_id] = {"id": dataset_id, "name": "questions", "current_snapshot": current}
        return dataset_id

    def _snapshot(self, dataset_id: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
        snapshot_id = new_id("snap")
        table = pa.Table.from_pylist(rows)
        file = io.BytesIO()
        pq.write_table(table, file)
        self.files[snapshot_id] = file.getvalue()
        self.snapshots[snapshot_id] = {
            "id": snapshot_id,
            "dataset_id": dataset_id,
            "dataset_name": "questions",
            "digest": hashlib.sha256(file.getvalue()).hexdigest(),
            "rows": len(rows),
            "split": "test",
            "columns": [{"name": field.name, "type": str(field.type)} for field in table.schema],
        }
        return self.snapshots[snapshot_id]

    def event(self, dataset_id: str) -> SnapshotReady:
        """What dataset-svc would say of the dataset's current snapshot."""
        snapshot = self.datasets[dataset_id]["current_snapshot"]
        return SnapshotReady(
            dataset_id=dataset_id,
            dataset_name=snapshot["dataset_name"],
            snapshot_id=snapshot["id"],
            digest=snapshot["digest"],
            rows=snapshot["rows"],
            columns={column["name"]: column["type"] for column in snapshot["columns"]},
            split=snapshot["split"],
        )


@asynccontextmanager
async def serving(app: FastAPI, *, port: int) -> AsyncIterator[None]:
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
    task = asyncio.create_task(server.serve())
    try:
        await eventually(lambda: server.started)
        yield
    finally:
        server.should_exit = True
        await task


@pytest.fixture
def peer() -> Peer:
    return Peer()


@pytest.fixture
async def peer_url(peer: Peer) -> AsyncIterator[str]:
    reservation = PortReservation()
    async with serving(peer.app, port=reservation.port):
        yield f"http://127.0.0.1:{reservation.port}"
    reservation.release()


@asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    headers = {INTERNAL_KEY_HEADER: KEY, "x-assay-client": "tester"}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=transport, base_url="http://method", headers=headers, timeout=120
        ) as client,
    ):
        deadline = time.monotonic() + 240
        while (await client.get("/readyz")).status_code == 503:
            assert time.monotonic() < deadline, "the task index was not loaded in time"
            await asyncio.sleep(0.05)
        client.service = app.state.service  # type: ignore[attr-defined]
        yield client


@pytest.fixture
async def client(
    killable_nats: LocalServer, mongo_uri: str, tmp_path: Path, peer_url: str
) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings(
        home=tmp_path,
        nats_url=killable_nats.url,
        mongo_uri=mongo_uri,
        internal_key=SecretStr(KEY),
        dataset_url=peer_url,
        _env_file=None,
    )
    async with served(settings) as opened:
        yield opened


@pytest.fixture
async def bus(killable_nats: LocalServer) -> AsyncIterator[Bus]:
    telemetry = Telemetry(service_name="test", otlp_endpoint=None)
    async with open_bus(killable_nats.url, name="test", telemetry=telemetry) as opened:
        await opened.ensure_streams()
        yield opened


async def eventually(check: Callable[[], bool], *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.02)


async def eventually_async(check: Callable[[], Awaitable[bool]], *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not await check():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.02)


def unique() -> str:
    # The database is shared by the tests of a worker.
    return f"method-{uuid.uuid4().hex[:12]}"


async def create(client: httpx.AsyncClient, recipe: dict[str, Any], **fields: Any) -> dict[str, Any]:
    response = await client.post("/v1/methods", json={"name": unique(), "recipe": recipe, **fields})
    assert response.status_code == 201, response.text
    body: dict[str, Any] = response.json()
    return body


async def refused(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], *, status: int = 422
) -> tuple[list[str | None], str]:
    """Fields and detail of the refusal."""
    response = await client.post(path, json=body)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    return [fault.get("field") for fault in problem.get("errors", [])], problem["detail"]


def question_rows(count: int = 6) -> list[dict[str, Any]]:
    return [
        {"question": f"What is {n} + 1?", "answer": f"Sum.\n#### {n + 1}", "hint": f"h{n}"}
        for n in range(count)
    ]


async def test_templates_describe_every_parameter(client: httpx.AsyncClient) -> None:
    items = (await client.get("/v1/templates")).json()["items"]
    assert [(item["name"], item["title"]) for item in items] == [
        ("builtin-lm-eval", "Built-in-lm-eval"),
        ("jsonl-qa-lm-eval", "JSONL QA lm-eval"),
    ]
    assert all(parameter.description for template in templates() for parameter in template.parameters)
    parameters = {parameter["name"]: parameter for parameter in items[1]["parameters"]}
    assert parameters["input_field"]["required"]
    assert parameters["prompt_template"]["default"] == "{{input}}"


async def test_tasks_are_found_and_refusals_have_reasons(client: httpx.AsyncClient) -> None:
    page = (await client.get("/v1/tasks", params={"query": "gsm8k", "limit": 3})).json()
    assert len(page["items"]) == 3
    gsm8k = page["items"][0]
    assert (gsm8k["name"], gsm8k["output_type"], gsm8k["needs_log_probabilities"]) == (
        "gsm8k",
        "generate_until",
        False,
    )
    assert sorted(gsm8k["columns"]) == ["answer", "question"]
    assert gsm8k["refusal"] is None
    assert (await client.get("/v1/tasks/gsm8k")).json() == gsm8k
    assert (await client.get("/v1/tasks/humaneval")).json()["refusal"]
    missing = await client.get("/v1/tasks/gsm8kk")
    assert missing.status_code == 404
    assert "'gsm8kk'" in missing.json()["detail"]
    assert "gsm8k," in missing.json()["detail"]


async def test_a_method_and_its_versions(client: httpx.AsyncClient) -> None:
    method = await create(client, RECIPE, description="first")
    assert method["id"].startswith("mth_")
    assert (method["version"], method["created_by"], method["description"]) == (1, "tester", "first")
    assert method["recipe"] == {
        **RECIPE,
        "prompt_template": "{{input}}",
        "max_tokens": method["recipe"]["max_tokens"],
        "stop": method["recipe"]["stop"],
        "target_delimiter": " ",
        "fewshot_delimiter": "\n\n",
    }
    assert method["output"] == {"output_type": "generate_until", "needs_log_probabilities": False}

    path = f"/v1/methods/{method['id']}"
    changed = {**RECIPE, "prompt_template": "Q: {{input}}\nA:"}
    second = (await client.post(f"{path}/versions", json={"recipe": changed})).json()
    assert (second["version"], second["description"], second["name"]) == (2, "first", method["name"])
    assert second["recipe_hash"] != method["recipe_hash"]
    again = (await client.post(f"{path}/versions", json={"recipe": changed})).json()
    assert again == second
    assert (await client.get(path)).json() == second
    assert (await client.get(f"{path}/versions/1")).json() == method
    assert (await client.get(f"{path}/versions/2")).json() == second
    for number in (0, 3, -1):
        response = await client.get(f"{path}/versions/{number}")
        assert response.status_code == 404
        assert "1 to 2" in response.json()["detail"]
    assert (await client.get("/v1/methods", params={"name": method["name"]})).json()["items"] == [second]
    assert (await client.get("/v1/methods/mth_0")).status_code == 404


async def test_a_built_in_method_says_what_it_needs(client: httpx.AsyncClient) -> None:
    assert (await create(client, GSM8K))["output"]["needs_log_probabilities"] is False
    sciq = await create(client, {"template": "builtin-lm-eval", "task": "sciq"})
    assert sciq["output"] == {"output_type": "multiple_choice", "needs_log_probabilities": True}


async def test_lists_are_newest_first_and_paged(client: httpx.AsyncClient) -> None:
    ids = [(await create(client, RECIPE))["id"] for _ in range(3)]
    first = (await client.get("/v1/methods", params={"limit": 2})).json()
    second = (await client.get("/v1/methods", params={"limit": 1, "cursor": first["next_cursor"]})).json()
    found = [item["id"] for item in (*first["items"], *second["items"])]
    assert found == sorted(ids, reverse=True)


async def test_a_taken_name_names_the_method_that_has_it(client: httpx.AsyncClient) -> None:
    method = await create(client, RECIPE)
    fields, detail = await refused(
        client, "/v1/methods", {"name": method["name"], "recipe": GSM8K}, status=409
    )
    assert fields == ["name"]
    assert method["id"] in detail


BAD_RECIPES: list[tuple[dict[str, Any], str, str]] = [
    ({**GSM8K, "task": "gsm8kk"}, "recipe.task", "gsm8k,"),
    ({**GSM8K, "task": "humaneval"}, "recipe.task", "cannot be run here"),
    ({**GSM8K, "task": "/etc/passwd"}, "recipe.task", "no lm-eval task"),
    ({**GSM8K, "task": "x.yaml"}, "recipe.task", "no lm-eval task"),
    ({**GSM8K, "taks": 1}, "recipe.taks", "Extra"),
    ({"template": "nope"}, "recipe.template", "jsonl-qa-lm-eval"),
    ({}, "recipe.template", "template"),
    (
        {"template": "jsonl-qa-lm-eval", "input_field": "q"},
        "recipe.expected_output_field",
        "required",
    ),
    ({**RECIPE, "max_tokens": 0}, "recipe.max_tokens", "greater"),
    ({**RECIPE, "stop": ["a", ""]}, "recipe.stop.1", "at least 1"),
    (
        {**RECIPE, "prompt_template": "a\n{% for x in y %}"},
        "recipe.prompt_template",
        "line 2, column 1",
    ),
    ({**RECIPE, "prompt_template": "a {{"}, "recipe.prompt_template", "{{"),
    ({**RECIPE, "prompt_template": "a"}, "recipe.prompt_template", "{{input}}"),
]


async def test_a_bad_recipe_names_its_field_and_changes_nothing(client: httpx.AsyncClient) -> None:
    # One service for all of them: its start takes longer than the requests.
    name = unique()
    method = await create(client, RECIPE)
    for recipe, field, words in BAD_RECIPES:
        fields, detail = await refused(client, "/v1/methods", {"name": name, "recipe": recipe})
        assert (recipe, fields) == (recipe, [field])
        assert words in detail
        fields, _ = await refused(client, f"/v1/methods/{method['id']}/versions", {"recipe": recipe})
        assert (recipe, fields) == (recipe, [field])
    assert (await client.get("/v1/methods", params={"name": name})).json()["items"] == []
    assert (await client.get(f"/v1/methods/{method['id']}")).json() == method


MISFITS: list[tuple[dict[str, Any], str, str]] = [
    ({**RECIPE, "input_field": "quest"}, "recipe.input_field", "'question', 'answer', 'hint'"),
    ({**RECIPE, "expected_output_field": "gold"}, "recipe.expected_output_field", "'gold'"),
    (
        {**RECIPE, "prompt_template": "{{ input | upper }}"},
        "recipe.prompt_template",
        "one field name and nothing else",
    ),
    ({**RECIPE, "prompt_template": "{{nosuch}}"}, "recipe.prompt_template", "'{{nosuch}}'"),
    ({**RECIPE, "prompt_template": "{{answer}}"}, "recipe.prompt_template", "'{{answer}}'"),
    ({"template": "builtin-lm-eval", "task": "sciq"}, "recipe.task", "'correct_answer'"),
]


async def test_a_recipe_that_does_not_fit_the_dataset(client: httpx.AsyncClient, peer: Peer) -> None:
    dataset_id = peer.add(question_rows())
    for recipe, field, words in MISFITS:
        body = {"name": unique(), "recipe": recipe, "dataset_id": dataset_id}
        fields, detail = await refused(client, "/v1/methods", body)
        assert (recipe, fields) == (recipe, [field])
        assert words in detail
    await create(client, {**RECIPE, "prompt_template": "{{hint}}: {{input}}"}, dataset_id=dataset_id)
    await create(client, GSM8K, dataset_id=dataset_id)


async def test_a_dataset_that_cannot_be_used_is_named(client: httpx.AsyncClient, peer: Peer) -> None:
    empty = peer.add(None)
    for dataset_id, words in ((empty, "no data yet"), ("ds_0", "ds_0"), ("../x", "pattern")):
        body = {"name": unique(), "recipe": RECIPE, "dataset_id": dataset_id}
        fields, detail = await refused(client, "/v1/methods", body)
        assert fields == ["dataset_id"]
        assert words in detail


async def tell(bus: Bus, event: Event) -> None:
    envelope = envelop(event, source="/assay/dataset-svc")
    await bus.publish(event.SUBJECT, envelope.model_dump_json().encode(), message_id=envelope.id)


def service_of(client: httpx.AsyncClient) -> Any:
    return client.service  # type: ignore[attr-defined]


async def test_a_known_schema_needs_no_call_and_a_refusal_is_confirmed(
    client: httpx.AsyncClient, peer: Peer, bus: Bus
) -> None:
    dataset_id = peer.add(question_rows())
    event = peer.event(dataset_id)
    await tell(bus, event)

    async def known() -> bool:
        return await service_of(client)._store.schema(dataset_id) is not None

    await eventually_async(known)
    await create(client, RECIPE, dataset_id=dataset_id)
    assert peer.calls == []

    # New columns, whose event has not arrived: what the copy would refuse is asked for.
    peer.add([{"input": "a", "target": "b"}], dataset_id=dataset_id)
    recipe = {**RECIPE, "input_field": "input", "expected_output_field": "target"}
    await create(client, recipe, dataset_id=dataset_id)
    assert peer.calls == [dataset_id]


async def test_schemas_go_by_the_age_of_the_snapshot_whatever_the_order(
    client: httpx.AsyncClient, peer: Peer, bus: Bus
) -> None:
    dataset_id = peer.add(question_rows())
    old = peer.event(dataset_id)
    await asyncio.sleep(0.002)
    peer.add([{"input": "a"}], dataset_id=dataset_id)
    new = peer.event(dataset_id)
    last = peer.event(peer.add(question_rows()))
    for event in (new, old, new, last):
        await tell(bus, event)
    store = service_of(client)._store

    async def all_seen() -> bool:
        return await store.schema(last.dataset_id) is not None

    await eventually_async(all_seen)
    assert await store.schema(dataset_id) == DatasetSchema(
        dataset_id=dataset_id, dataset_name="questions", snapshot_id=new.snapshot_id, columns=new.columns
    )


async def test_two_versions_at_once_get_two_numbers_and_each_is_told_once(
    client: httpx.AsyncClient, bus: Bus
) -> None:
    method = await create(client, RECIPE)
    recipes = [{**RECIPE, "max_tokens": number} for number in range(1, 7)]
    answers = await asyncio.gather(
        *(client.post(f"/v1/methods/{method['id']}/versions", json={"recipe": recipe}) for recipe in recipes)
    )
    assert sorted(answer.json()["version"] for answer in answers) == [2, 3, 4, 5, 6, 7]
    for answer in answers:
        version = answer.json()
        path = f"/v1/methods/{method['id']}/versions/{version['version']}"
        assert (await client.get(path)).json() == version
    told: list[MethodVersionCreated] = []

    async def handle(_: Envelope, event: Event) -> None:
        assert isinstance(event, MethodVersionCreated)
        told.append(event)

    subscription = Subscription(
        stream="ASSAY_METHOD", durable="reader", subjects=("assay.method.>",), handler=handle
    )
    async with consuming(bus, [subscription]):
        await eventually(lambda: len(told) >= 7)
        await asyncio.sleep(0.3)
    assert [event.version for event in told] == [1, 2, 3, 4, 5, 6, 7]
    assert {event.method_id for event in told} == {method["id"]}


async def test_preview_renders_real_rows(client: httpx.AsyncClient, peer: Peer) -> None:
    rows = question_rows()
    dataset_id = peer.add(rows)
    recipe = {**RECIPE, "prompt_template": "Q: {{input}} ({{hint}})\nA:", "max_tokens": 7}
    response = await client.post(
        "/v1/methods/preview", json={"recipe": recipe, "dataset_id": dataset_id, "rows": 2}
    )
    assert response.status_code == 200, response.text
    items = response.json()["items"]
    assert [item["prompt"] for item in items] == [
        "Q: What is 0 + 1? (h0)\nA:",
        "Q: What is 1 + 1? (h1)\nA:",
    ]
    assert items[1]["target"].strip() == rows[1]["answer"]
    assert items[0]["requests"][0]["kind"] == "generate"
    assert items[0]["requests"][0]["generation_kwargs"]["max_gen_toks"] == 7

    snapshot_id = peer.datasets[dataset_id]["current_snapshot"]["id"]
    body = {"recipe": GSM8K, "snapshot_id": snapshot_id, "rows": 1, "num_fewshot": 2}
    item = (await client.post("/v1/methods/preview", json=body)).json()["items"][0]
    assert item["prompt"].count("Question:") == 3
    assert item["prompt"].endswith("Question: What is 0 + 1?\nAnswer:")


async def test_preview_names_what_cannot_be_rendered(client: httpx.AsyncClient, peer: Peer) -> None:
    rows = [{"question": "q", "answer": "a"}, {"question": None, "answer": "b"}]
    dataset_id = peer.add(rows)
    for change, field, words in (
        ({"recipe": {**GSM8K, "task": "gsm8kk"}}, "recipe.task", "gsm8k,"),
        ({"recipe": {**RECIPE, "prompt_template": "{{nosuch}}"}}, "recipe.prompt_template", "nosuch"),
        ({"recipe": {"template": "builtin-lm-eval", "task": "sciq"}}, None, "correct_answer"),
        ({"recipe": GSM8K, "column_mapping": {"question": "nope"}}, "column_mapping.nope", "nope"),
        ({"recipe": GSM8K, "num_fewshot": 5}, "num_fewshot", "lower num_fewshot"),
        ({"num_fewshot": -1}, "num_fewshot", "greater"),
        ({"rows": 0}, "rows", "greater"),
        ({"snapshot_id": "snap_0"}, "body", "either dataset_id or snapshot_id"),
        ({"dataset_id": "ds_0"}, "dataset_id", "ds_0"),
    ):
        body = {"recipe": RECIPE, "dataset_id": dataset_id, **change}
        fields, detail = await refused(client, "/v1/methods/preview", body)
        assert words in detail
        assert field is None or fields == [field]
    response = await client.post("/v1/methods/preview", json={"recipe": RECIPE, "dataset_id": dataset_id})
    assert response.status_code == 422
    assert [fault.get("row") for fault in response.json()["errors"]] == [1]


async def test_without_the_index_only_what_needs_it_is_unavailable(
    killable_nats: LocalServer, mongo_uri: str, tmp_path: Path
) -> None:
    blocked = tmp_path / "a-file"
    blocked.write_text("")
    settings = Settings(
        home=tmp_path,
        cache_dir=blocked / "below",
        nats_url=killable_nats.url,
        mongo_uri=mongo_uri,
        internal_key=SecretStr(KEY),
        _env_file=None,
    )
    app = create_app(settings)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=transport, base_url="http://method", headers={INTERNAL_KEY_HEADER: KEY}
        ) as client,
    ):
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/v1/tasks")).status_code == 503
        fields, detail = await refused(client, "/v1/methods", {"name": "x", "recipe": GSM8K}, status=503)
        assert "being built" in detail
        assert fields == []
        await create(client, RECIPE)
