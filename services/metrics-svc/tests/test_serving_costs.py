"""What eval-svc tells of serving and of goodput bounds reaches metrics, comparisons and files."""

import asyncio
import copy
import time
from dataclasses import replace
from typing import Any

from assay_chassis.identifiers import new_id
from metrics_svc.domain.runs import RunMetrics

ROWS = [{"question": f"{number} + 1 =", "answer": str(number + 1)} for number in range(12)]
LEDGER = {"cold_start_s": 12.5, "accelerator_seconds": 90.0, "serving_s": 44.0, "note": None}
CALIBRATION = {
    "before": {"ttft_error_p99": 0.0001, "itl_error_p99": 0.0009, "merged_gap_share": 0.0, "streams": 16},
    "after": None,
    "note": "after: the adapter is gone",
}


async def test_cold_start_calibration_and_goodput_reach_metrics_and_comparisons(platform: Any) -> None:
    made = await platform.maker.make(ROWS, lambda document: [document.target])
    peers, runs = platform.peers, []
    for number, launcher in enumerate(("process", "endpoint")):
        run = replace(made, id=new_id("run"))
        plan = copy.deepcopy(peers.runs[made.id]["plan"])
        plan["options"]["goodput"] = {"ttft_s": 0.0035, "itl_s": None, "latency_s": 1.0}
        peers.runs[run.id] = copy.deepcopy(peers.runs[made.id]) | {
            "id": run.id,
            "name": f"run {number}",
            "plan": plan,
            "serving": [
                {"instance_id": "i1", "launcher": launcher, "ledger": LEDGER, "calibration": CALIBRATION}
            ],
            "ledger": {**LEDGER, "instances": 1, "incomplete": 0},
        }
        peers.blocks[run.id] = peers.blocks[made.id]
        run.events = [event.model_copy(update={"run_id": run.id}) for event in made.events]
        runs.append(run)
    async with platform.service() as client:
        for run in runs:
            for event in run.events:
                await platform.tell(event)
        deadline = time.monotonic() + 60
        metrics = []
        for run in runs:
            while (found := (await client.get(f"/v1/metrics/runs/{run.id}")).json())["state"] != "final":
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
            peers.runs[run.id]["state"] = "Succeeded"
            metrics.append(RunMetrics.model_validate(found))
        body = {"baseline_run_id": runs[0].id, "candidate_run_ids": [runs[1].id]}
        comparison = (await client.post("/v1/comparisons", json=body, timeout=60)).json()
        results = (await client.get(f"/v1/metrics/runs/{runs[0].id}/lm-eval/results.json")).json()
    process, endpoint = (one.runtime_details for one in metrics)
    assert process is not None
    assert endpoint is not None
    assert (metrics[0].runtime["coldStart"], metrics[0].runtime["acceleratorSeconds"]) == (12.5, 90.0)
    assert process.ledger == {**LEDGER, "instances": 1, "incomplete": 0}
    assert process.calibration[0].before == CALIBRATION["before"]
    assert process.calibration[0].note == CALIBRATION["note"]
    assert any("the adapter's own error of a gap" in one for one in process.warnings)
    assert metrics[0].runtime["goodputShare"] == 1.0
    assert process.goodput_bounds is not None
    assert process.goodput_bounds.given == {"ttft_s": 0.0035, "latency_s": 1.0}
    assert metrics[1].runtime["coldStart"] is None
    assert endpoint.null_reasons["coldStart"].startswith("not applicable: an endpoint")
    lines = {one["metric"]: one for one in comparison["candidates"][0]["runtime"]}
    assert (lines["coldStart"]["baseline"], lines["coldStart"]["candidate"]) == (12.5, None)
    assert lines["coldStart"]["note"] == f"candidate: {endpoint.null_reasons['coldStart']}"
    assert lines["goodput"]["ratio"] == 1.0
    assert results["assay"]["runtime"]["coldStart"] == 12.5
    assert results["assay"]["runtime_estimates"]["coldStart"]["note"] == "one start"
