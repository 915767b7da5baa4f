"""``assay dataset``: imports, files in and out, statistics, differences, deletion."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DATASET = "ds_01kaqy3m5r0000000000000001"
SNAPSHOT = "snap_01kaqy3m5r0000000000000001"
OLDER = "snap_01kaqy3m5r0000000000000000"
INGEST = "ing_01kaqy3m5r0000000000000001"
SOURCE = {
    "kind": "huggingface",
    "repo_id": "openai/gsm8k",
    "subset": "main",
    "split": "test",
    "revision": "main",
    "fewshot_split": "train",
}


def job(state: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": INGEST,
        "dataset_id": DATASET,
        "state": state,
        "source": SOURCE,
        "progress": {"phase": "", "rows": 0, "rows_total": None, "bytes": 0, "bytes_total": None},
        "error": None,
        "snapshot_id": None,
        "created_at": "2026-01-01T00:00:00Z",
        **fields,
    }


def converting(rows: int) -> dict[str, Any]:
    return {"phase": "converting", "rows": rows, "rows_total": 1319, "bytes": 2048, "bytes_total": 4096}


@pytest.fixture
def known(server: Any, answer: Any, document: Any) -> None:
    """The dataset ``questions`` and its snapshots."""
    server.on("GET", "/v1/datasets", answer({"items": [document("dataset")], "next_cursor": None}))
    server.on("GET", f"/v1/datasets/{DATASET}", answer(document("dataset")))
    current = document("dataset")["current_snapshot"]
    older = {**current, "id": OLDER, "rows": 251}
    companion = {**older, "id": f"{OLDER[:-1]}9", "role": "fewshot"}
    server.on(
        "GET",
        f"/v1/datasets/{DATASET}/snapshots",
        answer({"items": [current, companion, older], "next_cursor": None}),
    )
    for snapshot in (current, older):
        server.on("GET", f"/v1/snapshots/{snapshot['id']}", answer(snapshot))


def test_an_import_creates_the_dataset_and_shows_how_far_it_is(
    assay: Any, server: Any, answer: Any, document: Any
) -> None:
    server.on("GET", "/v1/datasets", answer({"items": [], "next_cursor": None}))
    server.on("POST", "/v1/datasets", answer(document("dataset"), status=201))
    server.on("GET", f"/v1/datasets/{DATASET}", answer(document("dataset")))
    server.on("POST", f"/v1/datasets/{DATASET}/ingests", answer(job("Queued"), status=202))
    server.on(
        "GET",
        f"/v1/ingests/{INGEST}",
        answer(job("Queued")),
        answer(job("Running", progress=converting(10))),
        answer(job("Running", progress=converting(900))),
        answer(job("Succeeded", progress=converting(1319), snapshot_id=SNAPSHOT)),
    )
    arguments = "--subset main --split test --fewshot-split train"
    outcome = assay("dataset", "import", "questions", "openai/gsm8k", *arguments.split())
    assert outcome.code == 0, outcome.err
    assert server.calls("POST", f"/v1/datasets/{DATASET}/ingests")[0].json() == {"source": SOURCE}
    assert outcome.err.splitlines() == [
        "dataset questions: created",
        "openai/gsm8k: Queued",
        "openai/gsm8k: converting, 10/1319 rows, 2.0 KiB of 4.0 KiB",
        "openai/gsm8k: Succeeded, 1319/1319 rows, 2.0 KiB of 4.0 KiB",
    ]
    assert "questions (main)" in outcome.out


def test_a_failed_import_ends_with_1_and_says_what_to_try(
    assay: Any, server: Any, answer: Any, known: None
) -> None:
    error = {
        "code": "unknown-split",
        "message": "there is no split 'tst'",
        "hints": ["tst", "the splits are train, test"],
    }
    server.on("POST", f"/v1/datasets/{DATASET}/ingests", answer(job("Queued"), status=202))
    server.on("GET", f"/v1/ingests/{INGEST}", answer(job("Failed", error=error)))
    outcome = assay("dataset", "import", "questions", "openai/gsm8k", "--split", "tst")
    assert outcome.code == 1
    assert outcome.err.splitlines()[-2:] == [
        f"error: import {INGEST} is Failed: unknown-split: there is no split 'tst'",
        "  the splits are train, test",
    ]
    shown = assay("dataset", "ingest", "show", INGEST)
    assert shown.code == 0
    assert "unknown-split: there is no split 'tst'" in shown.out
    assert "the splits are train, test" in shown.out


def test_an_import_that_is_not_waited_for(assay: Any, server: Any, answer: Any, known: None) -> None:
    server.on("POST", f"/v1/datasets/{DATASET}/ingests", answer(job("Queued"), status=202))
    outcome = assay("dataset", "import", "questions", "openai/gsm8k", "--no-wait", "--json")
    assert outcome.json() == job("Queued")
    assert f"assay dataset ingest watch {INGEST}" in outcome.err
    server.on("POST", f"/v1/ingests/{INGEST}/cancel", answer(job("Cancelled")))
    assert "Cancelled" in assay("dataset", "ingest", "cancel", INGEST).out
    server.on(
        "GET",
        f"/v1/datasets/{DATASET}/ingests",
        answer({"items": [job("Cancelled")], "next_cursor": None}),
    )
    assert "openai/gsm8k, subset main, split test" in assay("dataset", "ingest", "list", "questions").out


def test_an_unknown_id_is_not_taken_for_a_new_name(assay: Any, server: Any) -> None:
    outcome = assay("dataset", "import", DATASET, "openai/gsm8k")
    assert outcome.code == 2
    assert server.calls("POST", "/v1/datasets") == []


def test_ctrl_c_leaves_the_import_going(server: Any, answer: Any) -> None:
    server.on("GET", f"/v1/ingests/{INGEST}", answer(job("Running", progress=converting(10))))
    environment = {**os.environ, "ASSAY_URL": server.url, "ASSAY_API_KEY": "key"}
    # Whoever runs the tests may ignore SIGINT, which a child inherits.
    main = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [
        sys.executable,
        "-c",
        f"{main}; from assay.cli import main; main()",
        "dataset",
        "ingest",
        "watch",
    ]
    with subprocess.Popen(
        [*command, INGEST], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert "converting" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "The import goes on" in err
    assert out == ""
    assert server.calls("POST", f"/v1/ingests/{INGEST}/cancel") == []


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.jsonl.zst"])
def test_a_file_is_sent_as_it_is_under_its_name(
    assay: Any, server: Any, answer: Any, document: Any, known: None, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(b"whatever the file holds")
    server.on(
        "POST", f"/v1/datasets/{DATASET}/data", answer(document("dataset")["current_snapshot"], status=201)
    )
    assert assay("dataset", "upload", "questions", str(path), "--split", "train").code == 0
    [request] = server.calls("POST", f"/v1/datasets/{DATASET}/data")
    assert request.query == {"split": "train", "filename": name}
    assert request.body == b"whatever the file holds"


def test_wrong_lines_are_listed_with_their_places(
    assay: Any, server: Any, answer: Any, known: None, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("{}\n")
    problem = {
        "title": "The upload is not valid",
        "status": 422,
        "detail": "2 lines cannot be read; nothing was changed",
        "errors": [
            {"message": "NaN is no JSON; write null", "line": 3, "column": 14},
            {"message": "the key 'a' appears twice", "line": 7, "column": 2},
        ],
    }
    server.on("POST", f"/v1/datasets/{DATASET}/data", answer(problem, status=422))
    outcome = assay("dataset", "upload", "questions", str(path))
    assert outcome.code == 2
    assert outcome.err.splitlines()[1:] == [
        "error: 2 lines cannot be read; nothing was changed",
        "  line 3, column 14: NaN is no JSON; write null",
        "  line 7, column 2: the key 'a' appears twice",
    ]


@pytest.mark.parametrize("file_format", ["jsonl", "parquet"])
def test_a_download_never_overwrites(
    assay: Any,
    server: Any,
    answer: Any,
    known: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file_format: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    server.on("GET", f"/v1/snapshots/{SNAPSHOT}/content.{file_format}", answer(b"the rows"))
    outcome = assay("dataset", "download", "questions", "--format", file_format)
    assert outcome.code == 0, outcome.err
    path = tmp_path / f"questions.{file_format}"
    assert path.read_bytes() == b"the rows"
    path.write_bytes(b"precious")
    outcome = assay("dataset", "download", "questions", "--format", file_format)
    assert (outcome.code, path.read_bytes()) == (2, b"precious")
    assert "is there already" in outcome.err


def test_a_download_that_breaks_off_leaves_no_file(
    assay: Any, server: Any, answer: Any, known: None, tmp_path: Path
) -> None:
    target = tmp_path / "rows.jsonl"
    outcome = assay("dataset", "download", "questions", "--output", str(target))
    assert outcome.code == 2
    assert not target.exists()
    server.on("GET", f"/v1/snapshots/{SNAPSHOT}/content.jsonl", answer(None))
    outcome = assay("dataset", "download", "questions", "--output", str(target))
    assert outcome.code == 3
    assert "stopped answering" in outcome.err
    assert not target.exists()


def test_the_difference_is_to_the_snapshot_before(assay: Any, server: Any, answer: Any, known: None) -> None:
    path = f"/v1/snapshots/{SNAPSHOT}/diff"
    changed = {
        "change": "changed",
        "index_before": 3,
        "index_after": 4,
        "before": {"id": 1, "answer": "a", "same": "x"},
        "after": {"id": 1, "answer": "b", "same": "x"},
    }
    difference = {
        "added": 2,
        "removed": 0,
        "changed": 1,
        "unchanged": 250,
        "columns": {"added": ["hint"], "removed": [], "retyped": []},
        "items": [changed],
        "total": 1,
    }
    server.on("GET", path, answer(difference))
    outcome = assay("dataset", "diff", "questions", "--key", "id", "--change", "changed")
    assert outcome.code == 0
    lines = [line.split() for line in outcome.out.splitlines()]
    assert ["3", "4", "changed", '{"answer":', '"a"}', '{"answer":', '"b"}'] in lines
    assert "2 added, 0 removed, 1 changed, 250 the same" in outcome.out
    assert "hint added" in outcome.out
    [request] = server.calls("GET", path)
    assert request.query == {
        "against": OLDER,
        "key": "id",
        "change": "changed",
        "offset": "0",
        "limit": "20",
    }
    outcome = assay("dataset", "diff", "questions", "--new", OLDER)
    assert outcome.code == 2
    assert "no older snapshot" in outcome.err


def test_statistics_are_a_table(assay: Any, server: Any, answer: Any, known: None) -> None:
    lengths = {"minimum": 1, "p25": 2, "median": 3, "p75": 4, "p95": 5, "p99": 6, "maximum": 7}
    text = {"name": "input", "type": "string", "nulls": 2, "distinct": None, "lengths": lengths}
    number = {"name": "level", "type": "int64", "nulls": 0, "distinct": 4, "minimum": -1, "maximum": 2.5}
    server.on(
        "GET",
        f"/v1/snapshots/{SNAPSHOT}/statistics",
        answer({"rows": 252, "bytes": 2048, "duplicate_rows": 3, "columns": [text, number]}),
    )
    outcome = assay("dataset", "stats", "questions")
    lines = [line.split() for line in outcome.out.splitlines()]
    assert ["input", "string", "2", "-", "1", "3", "5", "7", "-", "-"] in lines
    assert ["level", "int64", "0", "4", "-", "-", "-", "-", "-1", "2.5"] in lines
    assert "252, of which 3 repeat an earlier one" in outcome.out


def test_a_snapshot_of_another_dataset_is_refused(
    assay: Any, server: Any, answer: Any, document: Any, known: None
) -> None:
    other = {**document("dataset")["current_snapshot"], "dataset_id": f"{DATASET[:-1]}2"}
    server.on("GET", f"/v1/snapshots/{OLDER}", answer(other))
    outcome = assay("dataset", "stats", "questions", "--snapshot", OLDER)
    assert outcome.code == 2
    assert f"{OLDER} is no snapshot of questions" in outcome.err


def test_deletion_is_asked_for_and_names_the_runs_that_rule_it_out(
    assay: Any, server: Any, answer: Any, known: None
) -> None:
    path = f"/v1/datasets/{DATASET}"
    outcome = assay("dataset", "delete", "questions")
    assert outcome.code == 2
    assert "--yes" in outcome.err
    assert server.calls("DELETE", path) == []
    refusal = {"title": "In use", "status": 409, "detail": "2 runs refer to it: base, lossy"}
    server.on("DELETE", path, answer(refusal, status=409), answer(b"", status=204))
    outcome = assay("dataset", "delete", "questions", "--yes")
    assert outcome.code == 2
    assert outcome.err == "error: 2 runs refer to it: base, lossy\n"
    assert assay("dataset", "delete", "questions", "--yes", "--json").json() == {"deleted": DATASET}
    server.on("DELETE", f"/v1/snapshots/{OLDER}", answer(b"", status=204))
    assert assay("dataset", "delete", "questions", "--snapshot", OLDER, "--yes").code == 0


def test_a_deletion_is_sent_once(assay: Any, server: Any, answer: Any, known: None) -> None:
    server.on("DELETE", f"/v1/datasets/{DATASET}", answer(None))
    assert assay("dataset", "delete", "questions", "--yes").code == 3
    assert len(server.calls("DELETE", f"/v1/datasets/{DATASET}")) == 1
