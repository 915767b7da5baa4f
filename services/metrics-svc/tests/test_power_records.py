"""A power figure has its record, and without a sensor there is none: in every view of runs over HTTP."""

import asyncio
import copy
import io
import re
import time
from dataclasses import replace
from typing import Any

import httpx
import pyarrow.csv
import pyarrow.parquet
import pytest

from assay_chassis.identifiers import new_id
from assay_evidence.runtime_metrics import ENERGY_METRICS

pytestmark = pytest.mark.slow

COUNT = 80
ROWS = [{"question": f"What is {number} + 3?", "answer": str(number + 3)} for number in range(COUNT)]
SECOND = 1_000_000_000
SENT_EVERY_NS, BUSY_NS = 10_000_000, 8_000_000
STARTED_S, APART_S = 7_200, 3_600
WHY = "nvml: NVML Shared Library Not Found"
NO_SENSOR = {"power": None, "unavailable": [WHY], "cpu_seconds": 3.5}
WATTS = re.compile(r"\d\s*\N{NO-BREAK SPACE}?(W|J|tokens/J|kJ|mJ)\b")
POLICY = {
    "name": "energy",
    "quality": [{"metric": "*", "margin": 0.5}],
    "allow_wide_margin": True,
    "runtime": [{"metric": "tokensPerWatt", "min_ratio": 0.1}],
    "min_samples": 10,
}


def sensors(watts: float, *, run: int) -> dict[str, Any]:
    """What eval-svc records of two cards: an energy counter five times a second, and the power before."""
    started = STARTED_S + run * APART_S
    begin, end = started - 1.0, started + COUNT * SENT_EVERY_NS / SECOND + 1.0
    moments = [begin + 0.2 * number for number in range(int((end - begin) / 0.2) + 1)]
    cards = [
        {
            "sensor": "nvml_energy",
            "device_id": f"GPU-{number}",
            "scope": "card",
            "method": "counter",
            "joules": watts * (moments[-1] - begin),
            "seconds": moments[-1] - begin,
            "readings": len(moments),
            "first_mono_ns": round(begin * SECOND),
            "last_mono_ns": round(moments[-1] * SECOND),
            "largest_gap_s": 0.2,
            "sparse_s": 0.0,
            "series": {
                "mono_ns": [round(at * SECOND) for at in moments],
                "joules": [watts * (at - begin) for at in moments],
                "spacing_s": 1.0,
            },
        }
        for number in range(2)
    ]
    baselines = [
        {"kind": "nvml_energy", "device_id": card["device_id"], "scope": "card", "watts": 25.0}
        for card in cards
    ]
    return {"power": cards, "unavailable": [], "accelerators": 2, "idle_baselines": baselines}


async def runs(platform: Any, *telemetry: dict[str, Any]) -> list[Any]:
    """Runs with equal answers, one after the other, served with these sensors."""
    made = await platform.maker.make(ROWS, lambda document: [document.target], started_s=STARTED_S)
    peers, found = platform.peers, []
    for number, record in enumerate(telemetry):
        run = replace(made, id=new_id("run"))
        peers.runs[run.id] = copy.deepcopy(peers.runs[made.id]) | {"id": run.id, "name": f"run {number}"}
        peers.runs[run.id]["serving"] = [{"instance_id": "i1", "telemetry": record}]
        peers.blocks[run.id] = copy.deepcopy(peers.blocks[made.id])
        for request in (
            one for block in peers.blocks[run.id] for sample in block for one in sample["requests"]
        ):
            for name in ("received_ns", "sent_ns", "first_token_ns", "done_ns"):
                request["times"][name] += number * APART_S * SECOND
        run.events = [event.model_copy(update={"run_id": run.id}) for event in made.events]
        found.append(run)
    return found


async def finished(platform: Any, client: httpx.AsyncClient, *given: Any) -> None:
    for run in given:
        for event in run.events:
            await platform.tell(event)
    deadline = time.monotonic() + 120
    for run in given:
        while (await client.get(f"/v1/metrics/runs/{run.id}")).json()["state"] != "final":
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        platform.peers.runs[run.id]["state"] = "Succeeded"


class Views:
    """Everything that the service says of two runs."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def read(self, base: Any, candidate: Any) -> None:
        self.run = (await self._client.get(f"/v1/metrics/runs/{candidate.id}")).json()
        body = {"baseline_run_id": base.id, "candidate_run_ids": [candidate.id]}
        comparison = (await self._client.post("/v1/comparisons", json=body, timeout=120)).json()
        [self.report] = comparison["candidates"]
        created = await self._client.post("/v1/policies", json=POLICY)
        assert created.status_code in (200, 201), created.text
        body = {"baseline_run_id": base.id, "candidate_run_id": candidate.id, "policy": "energy"}
        self.decision = (await self._client.post("/v1/decisions", json=body, timeout=120)).json()
        compared, decided = f"/v1/comparisons/{comparison['id']}", f"/v1/decisions/{self.decision['id']}"
        self.pages = [
            await self._text(f"{place}/report.{kind}")
            for place in (compared, decided)
            for kind in ("html", "md")
        ]
        exported = f"/v1/metrics/runs/{candidate.id}"
        self.results = (await self._client.get(f"{exported}/lm-eval/results.json", timeout=120)).json()
        self.tables = [
            pyarrow.csv.read_csv(io.BytesIO(await self._bytes(f"{exported}/samples.csv"))),
            pyarrow.parquet.read_table(io.BytesIO(await self._bytes(f"{exported}/samples.parquet"))),
            pyarrow.csv.read_csv(io.BytesIO(await self._bytes(f"{compared}/items.csv"))),
            pyarrow.parquet.read_table(io.BytesIO(await self._bytes(f"{compared}/items.parquet"))),
        ]

    async def _bytes(self, address: str) -> bytes:
        response = await self._client.get(address, timeout=120)
        assert response.status_code == 200, response.text
        return response.content

    async def _text(self, address: str) -> str:
        return (await self._bytes(address)).decode()


async def test_a_figure_has_its_record_and_without_a_sensor_there_is_none(platform: Any) -> None:
    base, candidate, measured, frugal = await runs(
        platform, NO_SENSOR, NO_SENSOR, sensors(60.0, run=2), sensors(40.0, run=3)
    )
    async with platform.service() as client:
        await finished(platform, client, base, candidate, measured, frugal)
        views = Views(client)
        await views.read(base, candidate)
        check_absence(views)
        # The other side's sensor makes no figure of this one's.
        await views.read(measured, candidate)
        check_absence_of_a_side(views)
        await views.read(measured, frugal)
        check_records(views)


def check_absence(views: Views) -> None:
    of_run = [name for name in ENERGY_METRICS if name in views.run["runtime"]]
    assert {"power", "tokensPerWatt", "joulesPerToken"} <= set(of_run)
    details = views.run["runtime_details"]
    for name in of_run:
        assert views.run["runtime"][name] is None
        assert WHY in details["null_reasons"][name]
        estimate = details["estimates"][name]
        assert (estimate["value"], estimate["low"], estimate["high"]) == (None, None, None)
    power = details["power"]
    assert (power["status"], power["watts"], power["readings"]) == ("not measured", None, [])
    assert details["cpu_seconds"] == 3.5, "which is real, and no substitute"
    lines = {line["metric"]: line for line in views.report["runtime"]}
    for name in ENERGY_METRICS:
        line = lines[name]
        numbers = (
            "baseline",
            "candidate",
            "difference",
            "ratio",
            "difference_interval_95",
            "ratio_interval_95",
        )
        assert {line[field] for field in numbers} == {None}, name
        assert WHY in line["note"]
    for side in (power["provenance"], *(views.report["energy"][one] for one in ("baseline", "candidate"))):
        assert (side["grade"], side["watts"], side["joules"], side["measured_joules"]) == (
            "D",
            None,
            None,
            None,
        )
        assert (side["idle_watts"], side["idle_watts_before"], side["devices"]) == (None, None, [])
        assert side["reasons"] == [WHY]
    assert not views.report["energy"]["comparable"]
    assert (views.decision["verdict"], views.decision["valid"]) == (
        "INCONCLUSIVE",
        True,
    ), views.decision["reasons"]
    assert any("tokensPerWatt" in str(reason) for reason in views.decision["reasons"])
    for page in views.pages:
        assert WHY in page
        assert "not measured" in page
        assert not WATTS.search(without_styles(page)), WATTS.search(without_styles(page))
    runtime = views.results["assay"]["runtime"]
    assert {runtime[name] for name in of_run} == {None}
    for table in views.tables:
        assert table.num_rows == COUNT
        assert not [name for name in table.column_names if re.search("power|watt|joule|energy", name.lower())]


def without_styles(page: str) -> str:
    return re.sub(r"<(style|svg)\b.*?</\1>", "", page, flags=re.DOTALL)


def check_absence_of_a_side(views: Views) -> None:
    lines = {line["metric"]: line for line in views.report["runtime"]}
    assert (round(lines["power"]["baseline"], 6), lines["power"]["candidate"]) == (120.0, None)
    for name in ENERGY_METRICS:
        assert (lines[name]["candidate"], lines[name]["ratio"]) == (None, None)
    assert views.decision["verdict"] == "INCONCLUSIVE"


def check_records(views: Views) -> None:
    window = COUNT * BUSY_NS / SECOND
    assert abs(views.run["runtime"]["power"] - 80.0) < 1e-6
    compared = views.report["energy"]
    # What the run says of itself is what the comparison says of it.
    assert views.run["runtime_details"]["power"]["provenance"] == compared["candidate"]
    line = next(line for line in views.report["runtime"] if line["metric"] == "power")
    assert [round(line[side], 6) for side in ("baseline", "candidate")] == [120.0, 80.0]
    for side, watts in ((compared["baseline"], 60.0), (compared["candidate"], 40.0)):
        assert (side["grade"], side["scope"], side["sensors"]) == ("A", "card", ["nvml_energy"])
        assert round(side["watts"], 6) == 2 * watts
        assert round(side["measured_joules"], 6) == round(side["joules"], 6) == round(2 * watts * window, 6)
        assert (side["idle_watts_before"], round(side["idle_watts"], 6)) == (50.0, 2 * watts)
        for number, device in enumerate(side["devices"]):
            assert (device["instance_id"], device["device_id"]) == ("i1", f"GPU-{number}")
            assert (device["sensor"], device["method"], device["grade"]) == ("nvml_energy", "counter", "A")
            assert abs(device["watts"] - watts) < 1e-6
            assert abs(device["covered_s"] - window) < 1e-6
            assert abs(device["interval_s"] - 0.2) < 1e-6
            assert (device["largest_gap_s"], device["idle_watts_before"]) == (0.2, 25.0)
            assert device["reason"]
    assert compared["comparable"]
    for page in views.pages:
        assert "GPU-1" in page
        assert "nvml_energy" in page.replace("\\", "")
        assert WATTS.search(without_styles(page))
    assert not [reason for reason in views.decision["reasons"] if "power" in str(reason)]
