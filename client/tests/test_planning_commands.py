"""``assay power`` and ``assay trends``."""

from typing import Any

POINT = {
    "run_id": "run_01kaqy3m5r0000000000000001",
    "run_name": "first",
    "artifact": {"id": "art_1", "name": "base", "backend": "gpu"},
    "method_version": 1,
    "snapshot_digest": "ab" * 32,
    "canonical": True,
    "finished_at": "2026-03-01T10:06:00Z",
    "value": 0.7,
    "stderr": 0.01,
    "runtime": {"tps": 512.0},
}


def test_power_says_what_samples_show_and_margins_need(assay: Any, server: Any, answer: Any) -> None:
    plan = {
        "churn": 0.06,
        "churn_source": "assumed",
        "observed_in": None,
        "samples": 500,
        "detectable_difference": 0.0274,
        "needed": [{"margin": 0.02, "samples": 929}],
        "alpha": 0.05,
        "power": 0.8,
        "note": "for equally good runs",
    }
    server.on("POST", "/v1/plan/power", answer(plan))
    outcome = assay("power", "--samples", "500", "--margin", "0.02", "--churn", "0.06")
    assert server.calls("POST", "/v1/plan/power")[0].json() == {
        "samples": 500,
        "margins": [0.02],
        "churn": 0.06,
    }
    lines = outcome.out.splitlines()
    assert lines[0] == "500 samples show a loss from 0.0274 on"
    assert ["0.02", "929"] in [line.split() for line in lines]
    assert "share of answers that change: 6.0 %, assumed: no method was named that has been compared" in lines
    assert assay("power", "--json").json() == plan
    assert server.calls("POST", "/v1/plan/power")[1].json() == {}


def test_trends_are_ordered_by_artifact_and_time(assay: Any, server: Any, answer: Any, document: Any) -> None:
    method = document("method")
    server.on("GET", "/v1/methods", answer({"items": [method], "next_cursor": None}))
    npu = {
        **POINT,
        "artifact": {"name": "compiled", "backend": "rngd"},
        "run_name": "second",
        "canonical": False,
    }
    later = {
        **POINT,
        "finished_at": "2026-03-02T10:06:00Z",
        "run_name": "third",
        "value": None,
        "runtime": {},
    }
    server.on("GET", "/v1/trends", answer({"items": [POINT, npu, later], "next_cursor": None}))
    outcome = assay("trends", "short-answers", "--metric", "acc", "--since", "2026-03-01")
    query = server.calls("GET", "/v1/trends")[0].query
    assert query["method_id"] == method["id"]
    assert (query["metric"], query["since"]) == ("acc", "2026-03-01")
    rows = [line.split() for line in outcome.out.splitlines()]
    assert [row[-1] for row in rows if row and row[-1] in {"first", "second", "third"}] == [
        "first",
        "third",
        "second",
    ]
    assert "0.7000 ± 0.0100" in outcome.out
    assert "v1, not as published" in outcome.out


def test_no_runs_is_said(assay: Any, server: Any, answer: Any, document: Any) -> None:
    server.on("GET", "/v1/methods", answer({"items": [document("method")], "next_cursor": None}))
    server.on("GET", "/v1/trends", answer({"items": [], "next_cursor": None}))
    assert assay("trends", "short-answers").out == "no finished run of this method matches\n"
    assert assay("trends", "short-answers", "--json").json() == {"items": []}
