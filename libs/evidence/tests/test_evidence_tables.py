"""The tables of a view: written block by block, read as columns."""

import hashlib
from pathlib import Path

import numpy
import pyarrow.parquet
import pytest

from assay_evidence.facts import FailurePolicyName
from assay_evidence.tables import (
    EvidenceWriter,
    MalformedTables,
    RequestRow,
    RunEvidence,
    SampleRow,
    TableFiles,
    read_run,
)
from assay_evidence.tables.writer import ROWS_PER_GROUP
from assay_evidence.testing import digest, synthetic_facts


def row(index: int, *, task: str = "t", **fields: object) -> SampleRow:
    given: dict[str, object] = {
        "doc_hash": digest(f"d{index}"),
        "prompt_hash": digest(f"p{index}"),
        "target_hash": digest(f"t{index}"),
        "block": index // 64,
        "position": index % 64,
        "response": f"answer {index}",
        "values": {"acc,none": float(index % 2)},
        "filtered": {"none": f"answer {index}"},
        "requests": [RequestRow(kind="generate", sent_ns=index, token_offsets_us=[1, 2])],
    }
    return SampleRow(index=index, task=task, **{**given, **fields})  # type: ignore[arg-type]


def written(directory: Path, blocks: list[list[SampleRow]]) -> TableFiles:
    directory.mkdir(exist_ok=True)
    writer = EvidenceWriter(directory)
    for block in blocks:
        writer.add(block)
    return writer.close()


def read(
    directory: Path,
    blocks: list[list[SampleRow]],
    *,
    metrics: list[str],
    task: str = "t",
    policy: FailurePolicyName = "score_zero",
) -> RunEvidence:
    files = written(directory, blocks)
    facts = synthetic_facts(
        run_id="run_a",
        task=task,
        quality={},
        higher_is_better={},
        sample_metrics=metrics,
        samples=sum(map(len, blocks)),
    ).model_copy(update={"failure_policy": policy})
    return read_run(facts, files.samples, files.requests)


def test_what_was_written_comes_back_by_index(tmp_path: Path) -> None:
    blocks = [[row(3), row(1)], [row(0), row(2)]]
    run = read(tmp_path, blocks, metrics=["t.acc,none"])
    assert run.index.tolist() == [0, 1, 2, 3]
    assert run.column("response").to_pylist() == [f"answer {index}" for index in range(4)]
    assert run.filtered("none", numpy.array([2, 0])).to_pylist() == ["answer 2", "answer 0"]
    assert run.doc_hash[1].tobytes().hex() == digest("d1")
    found = run.metric("t.acc,none")
    assert found is not None
    assert found.values.tolist() == [0.0, 1.0, 0.0, 1.0]
    requests = run.requests(["sent_ns", "token_offsets_us"])
    assert requests.column("index").to_pylist() == requests.column("sent_ns").to_pylist() == [0, 1, 2, 3]
    assert requests.column("token_offsets_us").to_pylist() == [[1, 2]] * 4


def test_the_digests_are_those_of_the_files(tmp_path: Path) -> None:
    files = written(tmp_path, [[row(0)]])
    assert files.samples_sha256 == hashlib.sha256(files.samples.read_bytes()).hexdigest()
    assert files.requests_sha256 == hashlib.sha256(files.requests.read_bytes()).hexdigest()
    run = read(tmp_path / "again", [[row(0)]], metrics=[])
    assert run.digests == {"samples": files.samples_sha256, "requests": files.requests_sha256}


def test_many_blocks_become_row_groups_of_bounded_size(tmp_path: Path) -> None:
    count = 2 * ROWS_PER_GROUP + 100
    blocks = [
        [row(index) for index in range(first, min(first + 1000, count))] for first in range(0, count, 1000)
    ]
    files = written(tmp_path, blocks)
    layout = pyarrow.parquet.ParquetFile(files.samples).metadata
    assert layout.num_rows == count
    assert max(layout.row_group(place).num_rows for place in range(layout.num_row_groups)) <= ROWS_PER_GROUP
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["requests.parquet", "samples.parquet"]


def test_columns_may_come_later(tmp_path: Path) -> None:
    """A block of failed samples has no values; the next task of a group has others."""
    blocks = [
        [row(0, failed=True, values={}, filtered={}, response=None)],
        [row(1, task="a", values={"acc,none": 1.0})],
        [row(2, task="b", values={"f1,none": 0.5}, filtered={"strict": "x"})],
        [row(3, task="a", values={"acc,none": 0.0})],
    ]
    run = read(tmp_path, blocks, metrics=["a.acc,none", "b.f1,none"], task="g")
    assert set(run.values) == {"acc,none", "f1,none"}
    assert run.values["acc,none"].present.tolist() == [False, True, False, True]
    assert run.values["f1,none"].values.tolist() == [0.0, 0.0, 0.5, 0.0]
    assert run.filters == ("none", "strict")
    assert run.filtered("strict").to_pylist() == [None, None, "x", None]


@pytest.mark.parametrize(
    ("policy", "present"), [("score_zero", [True, True]), ("exclude", [True, False]), ("fail", [True, False])]
)
def test_a_failed_sample_counts_as_the_policy_says(
    tmp_path: Path, policy: FailurePolicyName, present: list[bool]
) -> None:
    blocks = [[row(0, values={"acc,none": 1.0}), row(1, failed=True, values={})]]
    run = read(tmp_path, blocks, metrics=["t.acc,none"], policy=policy)
    found = run.metric("t.acc,none")
    assert found is not None
    assert found.present.tolist() == present
    assert found.values.tolist() == [1.0, 0.0]


def test_a_failed_sample_has_no_zero_in_a_metric_that_its_task_does_not_have(tmp_path: Path) -> None:
    blocks = [
        [row(0, task="a", values={"acc,none": 1.0}), row(1, task="b", failed=True, values={})],
        [row(2, task="b", values={"f1,none": 0.5})],
    ]
    run = read(tmp_path, blocks, metrics=["a.acc,none", "b.f1,none"], task="g")
    assert run.values["acc,none"].present.tolist() == [True, False, False]
    assert run.values["f1,none"].present.tolist() == [False, True, True]


def test_a_sample_has_the_value_of_its_task_in_the_group(tmp_path: Path) -> None:
    blocks = [[row(0, task="g_a"), row(1, task="g_b"), row(2, task="g_b", values={"acc,none": 1.0})]]
    run = read(tmp_path, blocks, metrics=["g.acc,none", "g_a.acc,none", "g_b.acc,none"], task="g")
    whole, member = run.metric("g.acc,none"), run.metric("g_b.acc,none")
    assert whole is not None
    assert member is not None
    assert whole.values.tolist() == [0.0, 1.0, 1.0]
    assert member.present.tolist() == [False, True, True]
    assert run.metric("g_c.acc,none") is None
    assert run.metric_parts("g_b.acc,none") == ("g_b", "acc,none")


def test_a_null_is_no_value_and_nan_is_one(tmp_path: Path) -> None:
    run = read(
        tmp_path, [[row(0, values={"f1,none": float("nan")}), row(1, values={})]], metrics=["t.f1,none"]
    )
    found = run.metric("t.f1,none")
    assert found is not None
    assert found.present.tolist() == [True, False]
    assert numpy.isnan(found.values[0])


def test_a_selection_has_its_own_requests_only(tmp_path: Path) -> None:
    run = read(tmp_path, [[row(index) for index in range(5)]], metrics=["t.acc,none"])
    some = run.selected(numpy.isin(run.index, [1, 4]))
    assert some.column("response").to_pylist() == ["answer 1", "answer 4"]
    assert some.requests(["kind"]).column("index").to_pylist() == [1, 4]
    assert some.values["acc,none"].values.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("doc_hash", "abc", r"samples\.doc_hash of document 7 is not 64"),
        ("target_hash", "z" * 64, r"samples\.target_hash of document 7"),
        ("block", 2**40, r"samples\.block"),
        ("values", {"acc,none": "right"}, r"samples\.value:acc,none"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, field: str, value: object, message: str) -> None:
    with pytest.raises(MalformedTables, match=message):
        EvidenceWriter(tmp_path).add([row(7, **{field: value})])


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    files = written(tmp_path, [[row(0)]])
    facts = synthetic_facts(
        run_id="r", task="t", quality={}, higher_is_better={}, sample_metrics=[], samples=1
    )
    files.samples.write_bytes(b"not a table")
    with pytest.raises(MalformedTables, match="cannot be read"):
        read_run(facts, files.samples, files.requests)
    with pytest.raises(MalformedTables, match="samples has no column 'task'"):
        read_run(facts, files.requests, files.requests)


def test_a_run_without_samples_can_be_read(tmp_path: Path) -> None:
    run = read(tmp_path, [], metrics=[])
    assert len(run) == 0
    assert run.requests(["kind"]).num_rows == 0
