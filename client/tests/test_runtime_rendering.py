"""Runtime metrics in the terminal: intervals, counts, what is missing, what speaks against the numbers."""

from typing import Any

import pytest
from rich.console import Console

from assay.models import RunMetrics, RuntimeComparison
from assay.rendering.runtime import amount, runtime_comparison, runtime_table
from assay_evidence.runtime_metrics import COMPARED_METRICS, RUNTIME_METRICS

NO_SENSOR = "not measured: rapl: no /sys/class/powercap"


def estimate(value: float | None, **more: Any) -> dict[str, Any]:
    usual = {"low": None, "high": None, "n": 400, "window_s": 12.5, "at_least": False, "note": None}
    return {"value": value, **usual, **more}


def shown(renderable: Any, *, width: int = 100) -> list[str]:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(renderable)
    return console.export_text().splitlines()


def run(estimates: dict[str, Any], **details: Any) -> list[str]:
    metrics = RunMetrics.model_validate(
        {
            "run_id": "run",
            "state": "final",
            "runtime": {name: one["value"] for name, one in estimates.items()},
            "runtime_details": {"estimates": estimates, **details},
        }
    )
    return shown(runtime_table(metrics))


def row(lines: list[str], name: str) -> list[str]:
    return next(line.split() for line in lines if line.strip().startswith(f"{name} "))


def test_a_metric_has_value_interval_and_count() -> None:
    lines = run({"ttftP90": estimate(0.128, low=0.106, high=1.5, n=5557)})
    assert row(lines, "ttftP90")[-8:] == ["128.0", "ms", "106.0", "ms", "..", "1.50", "s", "5,557"]


def test_what_is_missing_for_one_reason_is_said_once() -> None:
    names = ("power", "tokensPerWatt", "joulesPerToken", "joulesPerRequest")
    absent = {name: estimate(None, note=NO_SENSOR) for name in names}
    lines = run({**absent, "goodput": estimate(None, note="no bounds given")})
    assert row(lines, "power")[-2:] == ["not", "measured"]
    assert not any(line.strip().startswith(("joules", "tokensPerWatt")) for line in lines)
    assert f"{', '.join(names)}: {NO_SENSOR}" in "\n".join(lines)
    assert "goodput: no bounds given" in [line.strip() for line in lines]


def test_the_reason_for_a_missing_interval_and_a_single_start() -> None:
    few = "30 requests with 8 in flight make 1 time block of the 8 that an interval needs"
    lines = run(
        {
            "ttftMean": estimate(0.05, note=few),
            "tps": estimate(300.0, note=few),
            "coldStart": estimate(12.5, n=1, window_s=None, note="one start"),
            "acceleratorSeconds": estimate(0.0, n=1, window_s=None),
            "itlP95": estimate(0.1, low=0.05, at_least=True, n=58),
        }
    )
    told = " ".join(lines)
    assert f"ttftMean, tps: no interval: {few}" in told.replace("  ", " ")
    assert "coldStart: one start" in told
    assert row(lines, "acceleratorSeconds")[-3:] == ["0", "s", "1"]
    assert "itlP95: at least; 58 observations are too few for an upper bound; p95 needs 59" in told
    assert row(lines, "itlP95")[-6:] == ["100.0", "ms", "50.0", "ms", "..", "?", "58"][-6:]


def test_warnings_and_gaps_that_were_spread_are_told() -> None:
    itl = {
        "n": 640,
        "spread_share": 0.25,
        "merged_reads": 80,
        "unknown_gaps": 3,
        "merged_gaps": 83,
        "merged_share": 0.13,
    }
    lines = run({"itlP50": estimate(0.01)}, itl=itl, warnings=["25.0 % \x1b[31mof the gaps"])
    told = " ".join(" ".join(lines).split())
    assert "25.0 % spread over tokens that came together, 80 reads with several tokens, 3 unknown" in told
    assert "warning: 25.0 % �[31mof the gaps" in told


def test_runs_scored_before_estimates_were_kept_are_shown(document: Any) -> None:
    lines = shown(runtime_table(RunMetrics.model_validate(document("metrics"))))
    assert row(lines, "itlP50")[-7:] == ["12.1", "ms", "11.9", "ms", "..", "12.4", "ms", "640"][-7:]
    assert "640 measured, 0.5 % left out as merged reads" in " ".join(lines)


@pytest.mark.parametrize("width", [80, 100])
def test_a_comparison_of_every_metric_fits_the_terminal(width: int) -> None:
    lines = shown(
        runtime_comparison(
            [
                RuntimeComparison(
                    metric=name,
                    higher_is_better=RUNTIME_METRICS[name].higher_is_better,
                    baseline=1234.5,
                    candidate=1300.25,
                    ratio=1.05,
                    ratio_interval_95=(1.01, 1.09),
                    interval_method="bootstrap",
                )
                for name in COMPARED_METRICS
            ]
        ),
        width=width,
    )
    assert max(map(len, lines)) <= width
    if width == 100:  # a table: one line for each
        for name in COMPARED_METRICS:
            assert row(lines, name)[-1] in {"better", "worse"}


def test_a_missing_interval_of_a_ratio_has_its_reason() -> None:
    line = RuntimeComparison(
        metric="coldStart", baseline=10.0, candidate=20.0, ratio=2.0, interval_method="none: one start"
    )
    assert "coldStart: no interval: one start" in "\n".join(shown(runtime_comparison([line])))


def test_metrics_that_neither_run_has_are_named_once() -> None:
    lines = [
        RuntimeComparison(metric=name, note=NO_SENSOR)
        for name in ("power", "tokensPerWatt", "joulesPerToken")
    ]
    lines.append(RuntimeComparison(metric="joulesPerCorrectAnswer", note="no answer is correct by x"))
    lines.append(RuntimeComparison(metric="tps", candidate=3.0, note="baseline: not measured: no times"))
    found = shown(runtime_comparison(lines))
    assert row(found, "power") == ["power", "not", "measured", "not", "measured", "-", "-", "-"]
    assert row(found, "tps")[1:5] == ["not", "measured", "3.00", "/s"]
    told = [line.strip() for line in found]
    assert f"power, tokensPerWatt, joulesPerToken: {NO_SENSOR}" in told
    assert "joulesPerCorrectAnswer: no answer is correct by x" in told
    assert sum("tokensPerWatt" in line for line in told) == 1


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("goodputShare", 0.714, "71.4 %"),
        ("inputTokens", 14616.0, "14,616"),
        ("power", 300.0, "300.0 W"),
        ("tokensPerWatt", 0.638, "0.638 /J"),
        ("joulesPerRequest", 6.9, "6.900 J"),
        ("requestsPerSecond", 16.0, "16.0 /s"),
        ("tps", 191.5, "191.5 /s"),
        ("tps", 5.917, "5.92 /s"),
        ("goodput", 0.0827, "0.083 /s"),
        ("coldStart", 31.0, "31.00 s"),
        ("not known", 2.0, "2.0"),
    ],
)
def test_every_unit(metric: str, value: float, text: str) -> None:
    assert amount(metric, value) == text
