"""``assay compare``: what is asked for, and what a reader sees first."""

import copy
from pathlib import Path
from typing import Any

import pytest

from assay_evidence.report import ComparisonReport

RUN_A = "run_01kaqy3m5r0000000000000001"
RUN_B = "run_01kaqy3m5r0000000000000002"
COMPARISON = "cmp_01kaqy3m5r0000000000000001"
STRICT = "jsonl_qa.exact_match,strict"


@pytest.fixture
def comparison(server: Any, answer: Any, document: Any) -> Any:
    """Answers the comparison with its document, after ``change`` has changed its one candidate."""

    def script(change: Any = None) -> dict[str, Any]:
        found: dict[str, Any] = document("comparison")
        if change is not None:
            change(found["candidates"][0])
        server.on("POST", "/v1/comparisons", answer(found, status=201))
        return found

    return script


def words(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_the_recorded_document_has_the_shape_of_a_report(document: Any) -> None:
    ComparisonReport.model_validate(document("comparison"))


def test_the_first_lines_say_what_was_found(assay: Any, comparison: Any) -> None:
    comparison()
    outcome = assay("compare", RUN_A, RUN_B)
    assert outcome.code == 0, outcome.err
    lines = [line for line in outcome.out.splitlines() if line]
    assert lines[0].startswith("not comparable: the candidate's answers are 1.25 times")
    assert lines[1] == "lossy against base: WORSE"
    assert lines[2] == (
        f"{STRICT}: 0.6786 -> 0.4643 (-0.2143; 95 % interval -0.2747 .. -0.1539), "
        "worse by more than the margin of 0.02."
    )
    assert lines[3] == "1 other metric: 1 not shown."
    assert lines[4] == "Of 252 items, 62 lost and 8 gained."
    assert lines[5] == "Runtime is not comparable: the runs did not do the same work."
    assert lines[6] == "252 items paired, 100.0 % of the larger run, at least 99.0 % wanted."
    assert lines[7] == "warning: the runs had different concurrency"


def test_every_number_is_shown(assay: Any, comparison: Any) -> None:
    comparison()
    out = assay("compare", RUN_A, RUN_B).out
    rows = [row for row in words(out) if row[:1] == [STRICT]]
    assert rows[0][1:] == ["0.6786", "0.4643", "-0.2143", "-0.2747", "..", "-0.1539", "worse"]
    assert rows[1][1:] == ["0.02", "-0.2650", "..", "-0.1636", "0.9999", "0.9999", "0.0825"]
    assert rows[2][1:] == ["252", "62", "8", "109", "73", "27.8", "%", "<", "0.0001", "(<", "0.0001)"]
    assert rows[3][1:] == ["0.6786", "±", "0.0295", "0.4643", "±", "0.0315", "beyond"]
    assert "weak rule: difference within the baseline's stderr" in out
    assert ["numeric_answer", "40", "3", "another", "number"] in words(out)
    assert "120 of 252 are identical; of the 132 others 90 differ from the first word on" in out
    assert "plans differ in options.num_fewshot: 0 -> 5" in out
    assert "artifact.serving_parameters" not in out
    speed = next(row for row in words(out) if row[:1] == ["tps"])
    assert speed[-5:] == ["1.55x", "1.40", "..", "1.70", "better"]
    assert "power: not measured: rapl: no /sys/class/powercap" in out.splitlines()
    assert "energy is not compared: neither side has a sensor" in out
    assert "not the same work" in out


@pytest.mark.parametrize("width", ["80", "120"])
def test_narrow_terminals_lose_nothing(
    assay: Any, comparison: Any, monkeypatch: pytest.MonkeyPatch, width: str
) -> None:
    comparison()
    monkeypatch.setenv("COLUMNS", width)
    out = assay("compare", RUN_A, RUN_B).out
    assert max(len(line) for line in out.splitlines()) <= int(width)
    for number in ("0.6786", "-0.2747 .. -0.1539", "-0.2650 .. -0.1636", "0.4643 ± 0.0315", "1.40 .. 1.70"):
        assert number in out, number


def test_invalid_comparisons_say_so_before_anything_else(assay: Any, comparison: Any) -> None:
    def invalidate(report: dict[str, Any]) -> None:
        report["valid"] = False
        report["findings"] = [
            {"code": "plan", "severity": "warning", "message": "a warning", "subject": None},
            {
                "code": "coverage-below-floor",
                "severity": "invalid",
                "message": "12 of 252 items are paired",
                "subject": None,
            },
        ]
        report["coverage"] |= {"paired": 12, "fraction": 0.0476, "prompt_differs": 240}

    comparison(invalidate)
    lines = [line for line in assay("compare", RUN_A, RUN_B).out.splitlines() if line]
    assert lines[0] == "INVALID: 12 of 252 items are paired"
    headline = next(line for line in lines if line.startswith("lossy against base"))
    assert headline.endswith("INVALID, nothing may be concluded")
    assert "Not paired: 240 with another prompt." in lines[lines.index(headline) + 1]


@pytest.mark.parametrize(
    ("test", "interval", "result"),
    [
        ({"non_inferior": True, "equivalent": True}, [-0.01, 0.01], "EQUIVALENT"),
        ({"non_inferior": True}, [-0.01, 0.03], "NOT WORSE"),
        ({"non_inferior": True}, [0.01, 0.03], "BETTER"),
        ({}, [-0.03, 0.03], "NOT SHOWN"),
        ({"inferior": True}, [-0.2, -0.1], "WORSE"),
    ],
)
def test_results_are_what_the_tests_prove(
    assay: Any, comparison: Any, test: dict[str, bool], interval: list[float], result: str
) -> None:
    def change(report: dict[str, Any]) -> None:
        line = report["quality"][0]
        line["margin_test"] |= {"non_inferior": False, "equivalent": False, "inferior": False, **test}
        line["interval_95"] = interval

    comparison(change)
    assert f"lossy against base: {result}\n" in assay("compare", RUN_A, RUN_B).out


def test_what_holds_for_several_metrics_is_told_once(assay: Any, comparison: Any) -> None:
    def change(report: dict[str, Any]) -> None:
        for line in report["quality"]:
            message = f"{line['metric']}: 12 pairs are few"
            line["guards"] = [
                {"code": "few-pairs", "severity": "warning", "message": message, "subject": line["metric"]}
            ]

    comparison(change)
    lines = assay("compare", RUN_A, RUN_B).out.splitlines()
    told = [line for line in lines if "pairs are few" in line]
    assert told == [f"warning: {STRICT}: 12 pairs are few (and so for 1 other metric)"]


def test_lower_may_be_better(assay: Any, comparison: Any) -> None:
    def change(report: dict[str, Any]) -> None:
        line = report["quality"][0]
        line["higher_is_better"] = False
        line["margin_test"] |= {"non_inferior": True, "equivalent": False, "inferior": False}

    comparison(change)
    assert "lossy against base: BETTER\n" in assay("compare", RUN_A, RUN_B).out


def test_several_candidates_are_summed_up_first(assay: Any, server: Any, answer: Any, document: Any) -> None:
    found = document("comparison")
    other = copy.deepcopy(found["candidates"][0])
    other["candidate"] |= {"artifact_name": "small", "run_id": f"{RUN_A[:-1]}3"}
    found["candidates"].append(other)
    server.on("POST", "/v1/comparisons", answer(found, status=201))
    outcome = assay("compare", RUN_A, RUN_B, f"{RUN_A[:-1]}3")
    assert server.calls("POST", "/v1/comparisons")[0].json()["candidate_run_ids"] == [RUN_B, f"{RUN_A[:-1]}3"]
    lines = outcome.out.splitlines()
    first, second = lines.index("lossy against base: WORSE"), lines.index("small against base: WORSE")
    assert first < second < next(n for n, line in enumerate(lines) if line.startswith("lossy ─"))


def test_every_option_reaches_the_platform(
    assay: Any, server: Any, answer: Any, comparison: Any, document: Any
) -> None:
    comparison()
    view = "scr_0123456789abcdef0123456789"
    run = document("run")
    server.on("GET", "/v1/evaluations", answer({"items": [run], "next_cursor": None}))
    options = f"--noise-floor {RUN_B} --margin 0.01 --cluster topic"
    assert assay("compare", "base-questions", view, *options.split()).code == 0
    assert server.calls("GET", "/v1/evaluations")[0].query["name"] == "base-questions"
    assert server.calls("POST", "/v1/comparisons")[0].json() == {
        "baseline_run_id": RUN_A,
        "candidate_run_ids": [view],
        "noise_floor_run_id": RUN_B,
        "margin": 0.01,
        "cluster_column": "topic",
    }


def test_flipped_items_show_both_answers(
    assay: Any, server: Any, answer: Any, document: Any, comparison: Any
) -> None:
    found = comparison()
    server.on("GET", f"/v1/comparisons/{COMPARISON}/items", answer(document("comparison_items_lost")))
    outcome = assay("compare", RUN_A, RUN_B, "--items", "lost", "--class", "other")
    line = next(line for line in outcome.out.splitlines() if "The opposite of big is" in line)
    assert line.split()[-4:] == ["small", "small", "big", "other"]
    query = server.calls("GET", f"/v1/comparisons/{COMPARISON}/items")[0].query
    assert query == {
        "candidate": RUN_B,
        "metric": STRICT,
        "flip": "lost",
        "flip_class": "other",
        "limit": "10",
    }
    as_json = assay("compare", RUN_A, RUN_B, "--items", "lost", "--json").json()
    [items] = as_json.pop("items")
    assert items["items"] == document("comparison_items_lost")["items"]
    assert (items["candidate_run_id"], items["metric"], items["flip"]) == (RUN_B, STRICT, "lost")
    assert as_json == found


def test_an_unknown_flip_class_of_a_newer_platform_is_counted(assay: Any, comparison: Any) -> None:
    def change(report: dict[str, Any]) -> None:
        report["flips"][0]["lost_by_class"] = {"hallucinated": 7}

    comparison(change)
    assert ["hallucinated", "7", "0"] in words(assay("compare", RUN_A, RUN_B).out)


def test_noise_stands_beside_the_change(assay: Any, comparison: Any) -> None:
    def change(report: dict[str, Any]) -> None:
        report["noise"] = [
            {
                "metric": STRICT,
                "run_id": RUN_B,
                "n": 252,
                "churn_aa": 0.02,
                "churn_ab": 0.278,
                "excess": 0.258,
                "excess_interval_95": [0.2, 0.31],
                "excess_p": 1e-9,
                "difference_aa": 0.0,
                "above_noise": True,
            }
        ]

    comparison(change)
    rows = words(assay("compare", RUN_A, RUN_B).out)
    expected = ["252", "2.0", "%", "27.8", "%", "+0.2000", "..", "+0.3100", "<", "0.0001", "above", "noise"]
    assert [STRICT, *expected] in rows


def test_reports_are_written_as_the_name_says(
    assay: Any, server: Any, answer: Any, comparison: Any, tmp_path: Path
) -> None:
    comparison()
    for name, path in (("report.html", "a.html"), ("report.md", "a.MD"), ("items.csv", "a.csv")):
        server.on("GET", f"/v1/comparisons/{COMPARISON}/{name}", answer(name.encode()))
        target = tmp_path / path
        target.write_text("older")
        outcome = assay("compare", RUN_A, RUN_B, "--report", str(target))
        assert outcome.code == 0, outcome.err
        assert target.read_text() == name
        assert str(target) in outcome.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (f"{RUN_A} {RUN_B} --report a.pdf", ".html, .md, .csv or .parquet"),
        (f"{RUN_A} {RUN_B} --report nowhere/a.html", "there is no directory"),
        (f"{RUN_A} {RUN_B} {RUN_A} --report a.csv", "of one candidate"),
        (f"{RUN_A} {RUN_B} --class truncated", "--items lost"),
        (f"{RUN_A}", "CANDIDATE"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_sent(
    assay: Any, server: Any, arguments: str, message: str
) -> None:
    outcome = assay("compare", *arguments.split())
    assert (outcome.code, server.received) == (2, [])
    assert message in outcome.err


def test_the_reason_that_holds_for_both_runs_is_told_once(assay: Any, comparison: Any) -> None:
    reason = "not measured: rapl: no /sys/class/powercap; hwmon: none"

    def change(report: dict[str, Any]) -> None:
        report["energy"] = None
        report["runtime"] = [
            {"metric": name, "note": f"baseline: {reason}; candidate: {reason}"}
            for name in ("power", "tokensPerWatt")
        ]
        report["runtime"].append(
            {"metric": "tps", "candidate": 3.0, "note": "baseline: not measured: no times"}
        )

    comparison(change)
    lines = assay("compare", RUN_A, RUN_B).out.splitlines()
    assert f"power, tokensPerWatt: {reason}" in lines
    assert "tps: baseline: not measured: no times" in lines
    assert sum("rapl" in line for line in lines) == 1
