"""Columns of every kind that the hub's files have, as the service shows, counts and compares them."""

import io
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import datasets
from hub_imports import fast, over, start
from hub_server import Hub, running_hub


async def test_every_kind_of_column_can_be_looked_at(api_at: Callable[..., Any], tmp_path: Path) -> None:
    with running_hub() as hub:
        async with api_at(tmp_path, **fast(hub)) as api:
            await look_at_every_kind(api, hub)


async def look_at_every_kind(api: Any, hub: Hub) -> None:
    features = datasets.Features(
        {
            "small": datasets.Value("int8"),
            "half": datasets.Value("float32"),
            "flag": datasets.Value("bool"),
            "when": datasets.Value("timestamp[us]"),
            "day": datasets.Value("date32"),
            "long": datasets.Value("large_string"),
            "pair": datasets.List(datasets.Value("int32"), length=2),
            "grid": datasets.Array2D((1, 2), "int64"),
            "nothing": datasets.Value("null"),
        }
    )
    moment = datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001 - as Arrow keeps it
    row = {
        "small": 7,
        "half": 0.5,
        "flag": True,
        "when": moment,
        "day": moment.date(),
        "long": "ä",
        "pair": [1, 2],
        "grid": [[3, 4]],
        "nothing": None,
    }
    rows = [row, {**row, "small": -1}, dict.fromkeys(row)]
    data = io.BytesIO()
    datasets.Dataset.from_list(rows, features=features).to_parquet(data)
    hub.add("acme/quiz", {"test.parquet": data.getvalue()})
    dataset_id = await api.create()
    first = (await over(api, await start(api, dataset_id)))["snapshot_id"]
    shown = {**row, "when": "2026-01-02T03:04:05", "day": "2026-01-02"}
    assert await api.rows(first) == [shown, {**shown, "small": -1}, dict.fromkeys(row)]
    assert (await api.get(f"/v1/snapshots/{first}/statistics"))["rows"] == 3
    lines = (await api.http.get(f"/v1/snapshots/{first}/content.jsonl")).text.splitlines()
    assert json.loads(lines[1])["small"] == -1
    data = io.BytesIO()
    datasets.Dataset.from_list([rows[0], {**rows[1], "half": 1.5}], features=features).to_parquet(data)
    hub.repositories["acme/quiz"].commit({"test.parquet": data.getvalue()})
    second = (await over(api, await start(api, dataset_id)))["snapshot_id"]
    difference = await api.get(f"/v1/snapshots/{second}/diff", against=first)
    assert (difference["added"], difference["removed"], difference["unchanged"]) == (1, 2, 1)
