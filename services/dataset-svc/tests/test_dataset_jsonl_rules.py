"""The rules of an upload, each with the line and column it is reported at."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_svc.domain.snapshots import SnapshotContent, Source
from dataset_svc.errors import InvalidUpload
from dataset_svc.ingest import ingest
from dataset_svc.jsonl import Limits
from dataset_svc.parquet import read_rows

SOURCE = Source(kind="jsonl", filename="x.jsonl", sha256="0" * 64, bytes=1)


def take(data: bytes, *, limits: Limits | None = None) -> tuple[SnapshotContent, io.BytesIO]:
    target = io.BytesIO()
    content = ingest(io.BytesIO(data), target, limits=limits or Limits(), split="test", source=SOURCE)
    return content, target


def rows_of(data: bytes) -> list[dict[str, Any]]:
    _, target = take(data)
    rows: list[dict[str, Any]] = pq.read_table(target).to_pylist()
    return rows


def jsonl(*rows: object) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def refusal(data: bytes, *, limits: Limits | None = None) -> InvalidUpload:
    with pytest.raises(InvalidUpload) as caught:
        take(data, limits=limits)
    return caught.value


BAD_LINES = [
    pytest.param(b'{"q": "a" "r": 1}', 11, "not valid JSON", id="missing comma"),
    pytest.param(b'{"q": "a"', 10, "not valid JSON", id="cut off"),
    pytest.param(b'{"q": "a"} {"q": "b"}', 12, "after the object", id="two objects on a line"),
    pytest.param(b'["a"]', 1, "a list, not an object", id="a list"),
    pytest.param(b'"text"', 1, "text, not an object", id="text"),
    pytest.param(b"null", 1, "null, not an object", id="null"),
    pytest.param(b"true", 1, "true or false, not an object", id="boolean"),
    pytest.param(b"17", 1, "a number, not an object", id="number"),
    pytest.param(b'{"q": "a", "q": "b"}', 12, "'q' appears twice", id="duplicate key"),
    pytest.param(b'{"q": {"x": 1, "y": [], "x": 2}}', 25, "'x' appears twice", id="nested duplicate key"),
    pytest.param(rb'{"q": 1, "\u0071": 2}', 10, "'q' appears twice", id="duplicate key, escaped"),
    pytest.param(b'{"q": NaN}', 7, "NaN is not JSON", id="NaN"),
    pytest.param(b'{"q": [1, -Infinity]}', 11, "-Infinity is not JSON", id="Infinity"),
    pytest.param(b'{"q": 1e999}', 7, "too large for a double", id="overflowing float"),
    pytest.param(b'{"q": 9223372036854775808}', 7, "does not fit into 64 bits", id="beyond int64"),
    pytest.param(b'{"q": ' + b"1" * 5000 + b"}", 7, "does not fit into 64 bits", id="5000 digits"),
    pytest.param(rb'{"q": "a\ud800b"}', 7, "surrogate", id="lone surrogate"),
    pytest.param(rb'{"\uDC00": 1}', 2, "surrogate", id="lone surrogate in a key"),
    pytest.param('{"q": "é'.encode() + b'\xff"}', 9, "not UTF-8", id="not UTF-8"),
    pytest.param(b'{"q": ' + b"[" * 40 + b"]" * 40 + b"}", 38, "deeper than 32", id="nested too deep"),
    pytest.param(b'{"q": ' + b"[" * 100_000, 38, "deeper than 32", id="nested beyond the stack"),
    pytest.param(b'{"": 1}', None, "column name ''", id="empty column name"),
    pytest.param(b'{"a\\u0000b": 1}', None, "printable", id="control character in a column name"),
]


@pytest.mark.parametrize(("line", "column", "words"), BAD_LINES)
def test_a_bad_line_is_reported_where_it_is(line: bytes, column: int | None, words: str) -> None:
    good = jsonl(*({"q": str(number)} for number in range(16)))
    error = refusal(good + line + b"\n" + jsonl({"q": "z"}))
    assert [(fault.line, fault.column) for fault in error.faults] == [(17, column)]
    assert words in error.faults[0].message
    assert "line 17" in error.detail


def test_every_fault_is_listed_up_to_a_hundred() -> None:
    error = refusal(b'{"q": 1}\n{"q"\n' * 30)
    assert [fault.line for fault in error.faults] == list(range(2, 61, 2))
    error = refusal(b"{\n" * 250)
    assert [fault.line for fault in error.faults] == list(range(1, 101))
    assert "100 or more" in error.detail


def test_lines_after_blank_ones_keep_their_number() -> None:
    assert refusal(b'\n{"q": 1}\n\r\n  \n{').faults[0].line == 5


def test_byte_order_mark_crlf_blank_lines_and_no_final_line_end() -> None:
    assert rows_of('\ufeff{"q": "ä"}\r\n\r\n{"q": "\u2028"}'.encode()) == [{"q": "ä"}, {"q": "\u2028"}]


def test_utf16_is_named() -> None:
    assert "UTF-16" in refusal('{"q": 1}\n'.encode("utf-16")).faults[0].message


@pytest.mark.parametrize("data", [b"", b"\n \n\r\n", b"\xef\xbb\xbf"])
def test_a_file_without_rows_is_refused(data: bytes) -> None:
    assert "no rows" in refusal(data).detail


def test_rows_without_columns_are_refused() -> None:
    assert "empty" in refusal(b"{}\n{}\n").detail


def test_a_line_may_have_exactly_the_limit() -> None:
    line = b'{"q": "' + b"x" * 91 + b'"}'
    assert len(line) == 100
    limits = Limits(line_bytes=100)
    for end in (b"\n", b"\r\n", b""):
        assert take(line + end, limits=limits)[0].rows == 1
        error = refusal(b'{"q": ""}\n ' + line + end + b'{"q"' * bool(end), limits=limits)
        assert error.faults[0].line == 2
        assert "longer than 100 bytes" in error.faults[0].message
    error = refusal(b"x" * 3_000_000 + b"\n{\n", limits=limits)
    assert [fault.line for fault in error.faults] == [1, 2]


def test_too_many_columns_stop_the_reading() -> None:
    error = refusal(jsonl({"a": 1, "b": {"c": 1}}, {"d": 1}, {"e": 1}), limits=Limits(columns=3))
    assert [(fault.line, "more than 3 columns" in fault.message) for fault in error.faults] == [(2, True)]


def test_mixed_types_name_the_first_line_of_each() -> None:
    error = refusal(jsonl({"a": 1}, {"a": None}, {"a": 2}, {"a": "x"}, {"a": True}))
    message = error.faults[0].message
    assert error.faults[0].line == 4
    assert "'a'" in message
    assert "whole numbers (first at line 1)" in message
    assert "text (first at line 4)" in message
    assert "true/false (first at line 5)" in message


def test_mixed_types_inside_lists_and_objects_are_named_by_path() -> None:
    error = refusal(jsonl({"a": [{"b": 1}]}, {"a": [{"b": "x"}]}, {"c": {"d": []}}, {"c": {"d": {}}}))
    assert ["a[].b" in error.faults[0].message, "c.d" in error.faults[1].message] == [True, True]
    assert [fault.line for fault in error.faults] == [2, 4]


def test_whole_numbers_and_fractions_become_double_unless_a_value_would_change() -> None:
    content, target = take(jsonl({"a": 1}, {"a": 2.5}, {"a": 2**53}))
    assert content.columns[0].type == "double"
    assert pq.read_table(target).to_pylist() == [{"a": 1.0}, {"a": 2.5}, {"a": float(2**53)}]
    error = refusal(jsonl({"a": 1}, {"a": 2**53 + 1}, {"a": 2.5}))
    assert error.faults[0].line == 2
    assert "53 bits" in error.faults[0].message


def test_types_nulls_examples_and_column_order() -> None:
    long = "x" * 300
    content, target = take(
        jsonl(
            {"id": 2**62, "when": "2024-05-01", "text": long, "tags": ["a"]},
            {"id": -5, "flag": False, "text": "b", "tags": []},
            {"id": 7, "flag": True, "when": None, "inner": {"x": 1}},
            {"id": 7, "inner": {"y": [0.5]}, "nothing": None},
            {"id": 8},
        )
    )
    table = {column.name: column for column in content.columns}
    assert list(table) == ["id", "when", "text", "tags", "flag", "inner", "nothing"]
    assert {name: column.type for name, column in table.items()} == {
        "id": "int64",
        "when": "string",
        "text": "string",
        "tags": "list<string>",
        "flag": "bool",
        "inner": "struct<x: int64, y: list<double>>",
        "nothing": "string",
    }
    assert {name: column.nulls for name, column in table.items()} == {
        "id": 0,
        "when": 4,
        "text": 3,
        "tags": 3,
        "flag": 3,
        "inner": 3,
        "nothing": 5,
    }
    assert table["id"].examples == (2**62, -5, 7)
    assert table["text"].examples == ("x" * 200 + "…", "b")
    assert table["inner"].examples == ('{"x": 1, "y": null}', '{"x": null, "y": [0.5]}')
    assert table["nothing"].examples == ()
    assert pq.read_table(target).to_pylist()[3]["inner"] == {"x": None, "y": [0.5]}


def test_only_empty_objects_are_refused() -> None:
    assert "only empty objects" in refusal(jsonl({"a": {}}, {"a": {}})).detail


def test_the_same_rows_give_the_same_digest_however_they_are_written() -> None:
    rows = [{"q": f"ä{number}", "n": number, "l": [number]} for number in range(500)]
    plain = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
    spaced = b"\xef\xbb\xbf" + b"\r\n\r\n".join(
        json.dumps(row, separators=(" , ", " : ")).encode() for row in rows
    )
    assert take(plain)[0].digest == take(spaced)[0].digest
    assert take(plain)[0].digest != take(plain[: plain.index(b"\n") + 1])[0].digest


def test_rows_are_read_across_row_groups(tmp_path: Path) -> None:
    count = 150_000
    content, target = take(jsonl(*({"n": number} for number in range(count))))
    path = tmp_path / content.digest
    path.write_bytes(target.getvalue())
    assert pq.ParquetFile(path).num_row_groups == 3
    for offset, limit in (
        (0, 5),
        (65_533, 5),
        (65_536, 1),
        (65_000, 70_000),
        (count - 2, 50),
        (count, 5),
        (10**9, 1),
    ):
        found = [row["n"] for row in read_rows(path, offset=offset, limit=limit)]
        assert found == list(range(count))[offset : offset + limit]


SCALARS = {
    "text": st.text(st.characters(exclude_categories=["Cs"])),
    "whole": st.integers(-(2**63), 2**63 - 1),
    "fraction": st.floats(allow_nan=False, allow_infinity=False),
    "flag": st.booleans(),
    "items": st.lists(st.integers(-5, 5)),
    "inner": st.fixed_dictionaries({"x": st.text(st.characters(exclude_categories=["Cs"]))}),
}
ROW = st.fixed_dictionaries({name: st.none() | values for name, values in SCALARS.items()})


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=6), ascii_only=st.booleans())
def test_values_come_back_as_they_were_sent(rows: list[dict[str, Any]], *, ascii_only: bool) -> None:
    data = b"\n".join(json.dumps(row, ensure_ascii=ascii_only).encode() for row in rows)
    found = rows_of(data)
    for sent, got in zip(rows, found, strict=True):
        for name in SCALARS:
            if name == "inner" and all(row["inner"] is None for row in rows):
                continue
            assert got[name] == sent[name]
