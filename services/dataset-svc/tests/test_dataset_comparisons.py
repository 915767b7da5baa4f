"""Statistics, differences and downloads, against the same counted row by row in Python."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay_chassis.errors import InvalidRequest
from dataset_svc.diff import Comparison, column_changes, compare, rows_at
from dataset_svc.domain.diffs import TypeChange
from dataset_svc.domain.snapshots import Source
from dataset_svc.download import json_lines
from dataset_svc.ingest import ingest
from dataset_svc.jsonl import Limits
from dataset_svc.rowhash import hashes_of
from dataset_svc.statistics import statistics_of

SOURCE = Source(kind="jsonl", filename="x.jsonl", sha256="0" * 64, bytes=1)

TEXT = st.text("ab", max_size=2)
ROW = st.fixed_dictionaries(
    {"t": TEXT},
    optional={
        "n": st.integers(-1, 1) | st.none(),
        "f": st.sampled_from([0.5, 1.0, -1.0, None]),
        "l": st.lists(st.lists(TEXT | st.none(), max_size=2), max_size=2) | st.none(),
        "o": st.fixed_dictionaries({"x": TEXT | st.none()}, optional={"y": st.booleans()}) | st.none(),
    },
)
ROWS = st.lists(ROW, min_size=1, max_size=12)


def snapshot(path: Path, rows: list[dict[str, Any]], name: str = "rows") -> Path:
    return from_lines(path, b"".join(json.dumps(row).encode() + b"\n" for row in rows), name)


def from_lines(path: Path, data: bytes, name: str = "rows") -> Path:
    target = path / f"{name}.parquet"
    upload = path / f"{name}.jsonl"
    upload.write_bytes(data)
    with upload.open("rb") as file, target.open("w+b") as parquet:
        ingest(file, parquet, limits=Limits(), split="test", source=SOURCE)
    return target


def content(row: object) -> object:
    """The row as it is compared: without null, numbers by value."""
    if isinstance(row, dict):
        return (
            tuple(sorted((name, content(value)) for name, value in row.items() if value is not None))
            or "an object"
        )
    if isinstance(row, list):
        return tuple(["a list", *(content(value) for value in row)])
    return ("flag", row) if isinstance(row, bool) else row


@settings(max_examples=80, deadline=None)
@given(rows=ROWS)
def test_hashes_are_the_same_for_the_same_rows_only(
    tmp_path_factory: pytest.TempPathFactory, rows: Any
) -> None:
    path = snapshot(tmp_path_factory.mktemp("hashes"), rows)
    table = pq.read_table(path)
    hashes = [int(each) for batch in table.to_batches() for each in hashes_of(batch, table.schema.names)]
    contents = [repr(row) for row in table.to_pylist()]
    for one in range(len(rows)):
        for other in range(len(rows)):
            assert (hashes[one] == hashes[other]) == (contents[one] == contents[other])
    # However the rows are cut.
    parts = [hashes_of(table.slice(at, 1).to_batches()[0], table.schema.names)[0] for at in range(len(rows))]
    assert [int(each) for each in parts] == hashes


def test_values_that_look_alike_have_different_hashes() -> None:
    rows = [
        ["a", "b"],
        ["ab", None],
        ["", "ab"],
        ["a", None],
        [None, "a"],
        [None, None],
        ["", None],
        [None, ""],
    ]
    names = ["one", "two"]
    batch = pa.RecordBatch.from_pylist([dict(zip(names, row, strict=True)) for row in rows])
    assert len(set(hashes_of(batch, names).tolist())) == len(rows)


@settings(max_examples=80, deadline=None)
@given(before=ROWS, after=ROWS)
def test_rows_matched_by_content(tmp_path_factory: pytest.TempPathFactory, before: Any, after: Any) -> None:
    folder = tmp_path_factory.mktemp("content")
    old, new = snapshot(folder, before, "old"), snapshot(folder, after, "new")
    found = compare(old, new, key=None)
    old_rows = [repr(content(row)) for row in pq.read_table(old).to_pylist()]
    new_rows = [repr(content(row)) for row in pq.read_table(new).to_pylist()]
    old_rows, new_rows = ([row.replace("1.0", "1") for row in rows] for rows in (old_rows, new_rows))
    assert Counter(new_rows[at] for at in found.added) == Counter(new_rows) - Counter(old_rows)
    assert Counter(old_rows[at] for at in found.removed) == Counter(old_rows) - Counter(new_rows)
    assert found.unchanged == (Counter(old_rows) & Counter(new_rows)).total()
    assert list(found.added) == sorted(found.added)


@settings(max_examples=80, deadline=None)
@given(
    before=st.dictionaries(st.integers(-3, 3), ROW, min_size=1),
    after=st.dictionaries(st.integers(-3, 3), ROW, min_size=1),
)
def test_rows_matched_by_a_key(tmp_path_factory: pytest.TempPathFactory, before: Any, after: Any) -> None:
    folder = tmp_path_factory.mktemp("key")
    old, new = (
        snapshot(folder, [{"id": key, **row} for key, row in rows.items()], name)
        for name, rows in (("old", before), ("new", after))
    )
    found = compare(old, new, key="id")
    old_rows, new_rows = pq.read_table(old).to_pylist(), pq.read_table(new).to_pylist()
    by_key = {row["id"]: row for row in old_rows}
    assert {new_rows[at]["id"] for at in found.added} == set(after) - set(before)
    assert {old_rows[at]["id"] for at in found.removed} == set(before) - set(after)
    changed = {
        row["id"] for row in new_rows if row["id"] in by_key and content(row) != content(by_key[row["id"]])
    }
    assert {new_rows[at]["id"] for at in found.changed} == changed
    pairs = zip(found.changed, found.changed_before, strict=True)
    assert all(new_rows[at]["id"] == old_rows[partner]["id"] for at, partner in pairs)
    assert found.unchanged == len(set(before) & set(after)) - len(changed)


def test_columns_that_differ(tmp_path: Path) -> None:
    old = snapshot(tmp_path, [{"a": 1, "b": "x", "n": 2**60 + 1}], "old")
    new = snapshot(tmp_path, [{"a": "1", "c": None, "n": 0.5}], "new")
    changes = column_changes(old, new)
    assert (changes.added, changes.removed) == (("c",), ("b",))
    assert changes.retyped == (TypeChange("a", "int64", "string"), TypeChange("n", "int64", "double"))
    assert numbers(compare(old, new, key=None)) == (1, 1, 0, 0)


def numbers(found: Comparison) -> tuple[int, int, int, int]:
    return len(found.added), len(found.removed), len(found.changed), found.unchanged


@pytest.mark.parametrize(
    ("rows", "key", "words", "row"),
    [
        ([{"id": 1}, {"id": 2}, {"id": 1}], "id", "row 2 of the older snapshot repeats", 2),
        ([{"id": 1}, {"a": 2}], "id", "row 1 of the older snapshot has no value", 1),
        ([{"id": 1}], "key", "there is no column 'key'", None),
        ([{"id": 0.5}], "id", "a key is text or a whole number", None),
    ],
)
def test_a_key_that_is_none(
    tmp_path: Path, rows: list[dict[str, Any]], key: str, words: str, row: int | None
) -> None:
    old, new = snapshot(tmp_path, rows, "old"), snapshot(tmp_path, [{"id": 1}], "new")
    with pytest.raises(InvalidRequest) as caught:
        compare(old, new, key=key)
    assert words in caught.value.detail
    assert [(fault.field, fault.row) for fault in caught.value.faults] == [("key", row)]


def test_rows_are_picked_across_row_groups(tmp_path: Path) -> None:
    path = snapshot(tmp_path, [{"n": number} for number in range(140_000)])
    wanted = [139_999, 0, 70_000, 65_535, 65_536, 0]
    assert [row["n"] for row in rows_at(path, wanted)] == wanted


def test_statistics_of_every_kind_of_column(tmp_path: Path) -> None:
    rows = [
        {"t": "ä" * n, "n": n - 50, "f": n / 4, "b": n % 2 == 0, "l": [1] * (n % 3), "o": {"x": n}, "s": None}
        for n in range(100)
    ]
    path = snapshot(tmp_path, [*rows, *rows[:7], {"t": "b" * 200_000}])
    found = statistics_of(path)
    assert (found.rows, found.duplicate_rows, found.bytes) == (108, 7, path.stat().st_size)
    columns = {column.name: column for column in found.columns}
    assert list(columns) == ["t", "n", "f", "b", "l", "o", "s"]
    assert {name: column.nulls for name, column in columns.items()} == {
        "t": 0,
        **dict.fromkeys("nfblo", 1),
        "s": 108,
    }
    text = columns["t"].lengths
    assert text is not None
    sizes = sorted([*range(100), *range(7), 200_000])
    exact = [sizes[math.ceil(share * len(sizes)) - 1] for share in (0.25, 0.5, 0.75, 0.95, 0.99)]
    assert [text.p25, text.median, text.p75, text.p95, text.p99] == exact
    assert (text.minimum, text.maximum) == (0, 200_000)
    lists = columns["l"].lengths
    assert lists is not None
    assert (lists.minimum, lists.median, lists.maximum) == (0, 1, 2)
    assert (columns["n"].minimum, columns["n"].maximum) == (-50, 49)
    assert (columns["f"].minimum, columns["f"].maximum) == (0.0, 24.75)
    assert [columns[name].distinct for name in "tnfblos"] == [101, 100, 100, 2, None, None, 0]
    assert columns["s"].lengths is None


def test_many_different_values_are_not_counted(tmp_path: Path) -> None:
    found = statistics_of(snapshot(tmp_path, [{"n": number, "m": number % 999} for number in range(5000)]))
    assert [column.distinct for column in found.columns] == [None, 999]


@settings(max_examples=60, deadline=None)
@given(rows=ROWS)
def test_a_download_uploaded_again_is_the_same(tmp_path_factory: pytest.TempPathFactory, rows: Any) -> None:
    folder = tmp_path_factory.mktemp("again")
    first = snapshot(folder, rows)
    again = from_lines(folder, b"".join(json_lines(first)), "again")
    assert again.read_bytes() == first.read_bytes()


def test_a_download_has_every_column_on_every_line(tmp_path: Path) -> None:
    path = snapshot(tmp_path, [{"b": "ü\u2028"}, {"a": [0.5], "b": None}])
    assert b"".join(json_lines(path)).decode() == ('{"b": "ü\u2028", "a": null}\n{"b": null, "a": [0.5]}\n')


def test_what_json_has_no_form_for(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"f": [math.nan, 1.5], "o": [{"x": math.inf}, None]}), path)
    assert [json.loads(line) for line in b"".join(json_lines(path)).splitlines()] == [
        {"f": None, "o": {"x": None}},
        {"f": 1.5, "o": None},
    ]
