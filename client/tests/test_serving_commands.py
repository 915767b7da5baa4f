"""What the command says of a run's serving side, and how it takes the key of an endpoint."""

import io
from pathlib import Path
from typing import Any

import pytest

RUN = "run_01kaqy3m5r0000000000000001"
KEY = "sk-from-a-file"
LEDGER = {
    "waited_s": 0.0,
    "schedule_s": 0.5,
    "pull_s": 1.25,
    "load_s": 40.0,
    "ready_s": 0.75,
    "cold_start_s": 42.5,
    "serving_s": 120.0,
    "drain_s": 0.004,
    "occupied_s": 163.0,
    "accelerator_seconds": 326.0,
    "idle_joules": 1234.5,
    "idle_seconds": 8.0,
    "note": None,
}
CALIBRATION = {
    "ttft_error_p99": 0.00031,
    "itl_error_p99": 0.00002,
    "merged_gap_share": 0.001,
    "event_loop_lag_p99": 0.002,
    "stamp_source": "kernel",
    "other_instances": 2,
}
SERVED = {
    "instance_id": "first",
    "launcher": "kubernetes",
    "accelerators": 2,
    "ledger": LEDGER,
    "calibration": {"before": CALIBRATION, "after": None, "note": "after: the instance was gone"},
    "ended": {"state": "failed", "reason": "the engine was killed for want of memory"},
}


@pytest.fixture
def served(server: Any, answer: Any, document: Any) -> dict[str, Any]:
    """A run with one serving instance, which the platform knows by name and id."""
    sums = {
        **{name: value for name, value in LEDGER.items() if name != "note"},
        "instances": 1,
        "incomplete": 0,
    }
    run = {**document("run"), "serving": [SERVED], "ledger": sums}
    server.on("GET", "/v1/evaluations", answer({"items": [run], "next_cursor": None}))
    server.on("GET", f"/v1/evaluations/{RUN}", answer(run))
    return run


def test_a_run_shows_what_its_serving_has_cost(assay: Any, served: dict[str, Any]) -> None:
    shown = " ".join(assay("run", "show", RUN).out.split())
    assert "1 instance by kubernetes with 2 accelerators" in shown
    assert "42.50 s: schedule 500.0 ms, pull 1.25 s, load 40.00 s, ready 750.0 ms" in shown
    assert "120.00 s, then drained 4.0 ms; held 163.00 s, 326 accelerator-seconds" in shown
    assert "1,234 J in 8.00 s without a request" in shown
    assert "TTFT error p99 310 µs, ITL error p99 20 µs, merged gaps 0.1 %" in shown
    assert "kernel stamps, beside 2 other instances" in shown
    assert "none: after: the instance was gone" in shown
    assert "failed: the engine was killed for want of memory" in shown


def test_what_is_not_known_is_not_shown_as_nothing(
    assay: Any, server: Any, answer: Any, served: dict[str, Any]
) -> None:
    unknown: dict[str, Any] = {**dict.fromkeys(served["ledger"]), "instances": 1, "incomplete": 1}
    ledger = {**dict.fromkeys(LEDGER), "note": "its worker died"}
    lost = {**SERVED, "ledger": ledger, "calibration": None, "ended": {"state": "lost", "reason": "gone"}}
    run = {**served, "ledger": unknown, "serving": [lost]}
    server.on("GET", f"/v1/evaluations/{RUN}", answer(run))
    shown = " ".join(assay("run", "show", RUN).out.split())
    assert "idle energy not measured" in shown
    assert "cold start -: schedule -, pull -, load -, ready -" in shown
    assert "the end of 1 instance is not known: the sums are too low" in shown
    assert "its worker died" in shown
    server.on("GET", f"/v1/evaluations/{RUN}", answer({**run, "serving": [], "ledger": None}))
    assert "cold start" not in assay("run", "show", RUN).out


def test_logs_are_printed_without_steering_the_terminal(
    assay: Any, server: Any, answer: Any, served: dict[str, Any]
) -> None:
    server.on("GET", f"/v1/evaluations/{RUN}/logs", answer(b"loading 1 %\rloading 100 %\n\x1b[31mdone"))
    printed = assay("run", "logs", RUN, "--instance", "first")
    assert printed.out.splitlines() == ["loading 1 %", "loading 100 %", "\N{REPLACEMENT CHARACTER}[31mdone"]
    assert server.calls("GET", f"/v1/evaluations/{RUN}/logs")[0].query == {"instance_id": "first"}
    assert assay("run", "logs", RUN, "--json").json()["text"].endswith("\x1b[31mdone")
    server.on("GET", f"/v1/evaluations/{RUN}/logs", answer(b""))
    silent = assay("run", "logs", RUN)
    assert (silent.code, silent.out) == (0, "")
    assert "No log was kept" in silent.err


CREATE = [
    *["artifact", "create", "theirs", "--model", "m", "--backend", "gpu"],
    *["--format", "endpoint", "--uri", "https://models.example.com/v1"],
]


@pytest.mark.parametrize("source", ["file", "stdin", "environment", "nothing"])
def test_the_key_of_an_endpoint_comes_from_where_nobody_reads_it(
    source: str,
    assay: Any,
    server: Any,
    answer: Any,
    document: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    artifact = {**document("artifact"), "format": "endpoint", "has_endpoint_key": source != "nothing"}
    server.on("POST", "/v1/artifacts", answer(artifact, status=201))
    options: list[str] = []
    if source == "file":
        (tmp_path / "key").write_text(f"{KEY}\n")
        options = ["--endpoint-key-file", str(tmp_path / "key")]
    elif source == "stdin":
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{KEY}\n"))
        options = ["--endpoint-key-file", "-"]
    elif source == "environment":
        monkeypatch.setenv("ASSAY_ENDPOINT_KEY", KEY)
    outcome = assay(*CREATE, *options)
    assert outcome.code == 0, outcome.err
    body = server.calls("POST", "/v1/artifacts")[0].json()
    assert body.get("endpoint_key") == (None if source == "nothing" else KEY)
    assert KEY not in outcome.out + outcome.err
    assert "has_endpoint_key" in outcome.out


def test_a_key_is_replaced(
    assay: Any, server: Any, answer: Any, document: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = {**document("artifact"), "format": "endpoint", "has_endpoint_key": True}
    path = f"/v1/artifacts/{artifact['id']}"
    server.on("GET", path, answer(artifact))
    server.on("PUT", f"{path}/endpoint-key", answer(b"", status=204))
    without = assay("artifact", "set-key", artifact["id"])
    assert without.code != 0
    assert "--endpoint-key-file" in without.err
    (tmp_path / "empty").write_text("\n")
    assert (
        "no key in it"
        in assay("artifact", "set-key", artifact["id"], "--endpoint-key-file", str(tmp_path / "empty")).err
    )
    assert (
        "missing"
        in assay("artifact", "set-key", artifact["id"], "--endpoint-key-file", str(tmp_path / "missing")).err
    )
    assert server.calls("PUT", f"{path}/endpoint-key") == []
    monkeypatch.setenv("ASSAY_ENDPOINT_KEY", KEY)
    replaced = assay("artifact", "set-key", artifact["id"])
    assert replaced.code == 0, replaced.err
    assert server.calls("PUT", f"{path}/endpoint-key")[0].json() == {"endpoint_key": KEY}
    assert KEY not in replaced.out + replaced.err


@pytest.mark.parametrize(
    "wrong", ["ttft", "ttft=", "ttft=fast", "speed=1", "ttft=0", "ttft=1,ttft=2", "", "itl=nan"]
)
def test_wrong_goodput_bounds_are_refused_before_anything_is_sent(
    wrong: str, assay: Any, server: Any
) -> None:
    outcome = assay("run", "plan", "--artifact", "a", "--method", "m", "--dataset", "d", "--goodput", wrong)
    assert outcome.code != 0
    assert "--goodput" in outcome.err
    assert server.received == []


def test_goodput_bounds_reach_the_platform(assay: Any, server: Any, answer: Any, document: Any) -> None:
    for name, path in (("artifact", "artifacts"), ("dataset", "datasets"), ("method", "methods")):
        server.on("GET", f"/v1/{path}", answer({"items": [document(name)], "next_cursor": None}))
    server.on("POST", "/v1/evaluations/plan", answer(document("run")["plan"]))
    arguments = ["--artifact", "base", "--method", "short-answers", "--dataset", "questions"]
    assay("run", "plan", *arguments, "--goodput", "ttft=0.5,latency=10")
    body = server.calls("POST", "/v1/evaluations/plan")[0].json()
    assert body["options"]["goodput"] == {"ttft_s": 0.5, "latency_s": 10.0}


def test_backends_show_devices_and_sensors(assay: Any, server: Any, answer: Any) -> None:
    devices = [{"id": "GPU-1", "product": "NVIDIA H100", "memory_bytes": 80 * 2**30}]
    backends = [
        {
            "backend": "gpu",
            "address": "10.0.0.5:7001",
            "healthy": True,
            "engine": "vLLM",
            "devices": devices,
            "capabilities": {"power_sensors": ["nvml_energy", "nvml_power"]},
        },
        {
            "backend": "cpu",
            "address": "127.0.0.1:7001",
            "healthy": True,
            "capabilities": {"seed": "yes", "min_p": "refused", "chat": "ignored", "power_sensors": []},
        },
        {"backend": "rngd", "address": "127.0.0.1:7002", "healthy": False, "unhealthy_reason": "no answer"},
    ]
    server.on("GET", "/v1/backends", answer({"items": backends, "next_cursor": None}))
    gpu, cpu, rngd = [
        line
        for line in assay("backends").out.splitlines()
        if line.split()[:1] in (["gpu"], ["cpu"], ["rngd"])
    ]
    assert "GPU-1: NVIDIA H100, 80 GiB" in gpu
    assert "nvml_energy" in gpu
    assert "not measured" in cpu
    assert "min_p, chat" in cpu
    assert "no answer" in rngd
    assert "not measured" not in rngd
