"""The columnar parser and the exact one give the same: rows, digest, columns, faults."""

import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataset_svc import columnar, growing, ingest, parquet
from dataset_svc.domain.snapshots import SnapshotContent, Source
from dataset_svc.errors import InvalidUpload
from dataset_svc.jsonl import Limits

SOURCE = Source(kind="jsonl", filename="x.jsonl", sha256="0" * 64, bytes=1)
LIMITS = Limits(line_bytes=200, nesting=4, columns=6, faults=5)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "_BLOCK_BYTES", 96)
    monkeypatch.setattr(ingest, "_PIECE_BYTES", 24)
    monkeypatch.setattr(growing, "_DECIDE_BYTES", 60)
    monkeypatch.setattr(parquet, "_GROUP_BYTES", 150)
    monkeypatch.setattr(parquet, "_GROUP_ROWS", 7)


def outcome(data: bytes, *, exact_only: bool, limits: Limits = LIMITS) -> SnapshotContent | list[str]:
    """What became of the file; a refusal as its faults in words."""
    target = io.BytesIO()
    try:
        content = ingest.ingest(
            io.BytesIO(data), target, limits=limits, split="test", source=SOURCE, exact_only=exact_only
        )
    except InvalidUpload as error:
        return [error.detail, *map(str, error.faults)]
    assert len(target.getvalue()) == content.bytes
    return content


def assert_same(data: bytes, *, limits: Limits = LIMITS) -> None:
    assert outcome(data, exact_only=False, limits=limits) == outcome(data, exact_only=True, limits=limits)


NASTY = [
    b"null",
    b'{"a": 1} null',
    b'{"a": 1}null{"a": 2}',
    b'{"a": 1} {"a": 2}',
    b'{"a":',
    b'{"a": {}',
    b'1} {"a": 2}',
    b"[]",
    b"",
    b"  \t",
    b'  {"a": 1}  ',
    b'{"a": 1}\r',
    b'\r{"a"\r:\t1}',
    b'{"a": NaN}',
    b'{"a": Inf}',
    b'{"a": -Infinity}',
    b'{"a": 1e999}',
    b'{"a": 1.7976931348623159e308}',
    b'{"a": 1e-999}',
    b'{"a": 9007199254740993}',
    b'{"a": 9007199254740993.0}',
    b'{"a": 9223372036854775807}',
    b'{"a": 9223372036854775808}',
    b'{"a": -0}',
    b'{"a": -0.0}',
    b'{"a": 1E2}',
    b'{"a": 0.1}',
    b'{"a": 01}',
    b'{"a": "' + b"x" * 150 + b'"}',
    b'{"a": "' + b"x" * 191 + b'"}',
    b'{"a": "' + b"x" * 193 + b'"}',
    b'{"a": "' + b"x" * 900 + b'"}',
    b'{"a": "tab\tinside"}',
    b'{"a": "\x00"}',
    b'{"a": "\x1f0123456789abcdef0123456789abcdef"}',
    b'{"a": "\xff"}',
    b'{"a": "\xed\xa0\x80"}',
    b'{"a": "\xc0\x80"}',
    b'{"a": "\xf4\x90\x80\x80"}',
    rb'{"a": "\ud800"}',
    rb'{"a": "\udc00\ud800"}',
    rb'{"a": "\ud83d\ude00"}',
    rb'{"a": "\u0000"}',
    rb'{"a": "\x"}',
    b'{"a": 1, "a": 1}',
    b'{"a": null, "a": 1}',
    rb'{"a": 1, "\u0061": 1}',
    b'{"c": {"d": 1, "d": 2}}',
    b'{"": 1}',
    b'{"a b": null}',
    b'{"c": {}}',
    b'{"c": [[], [null], null]}',
    b'{"c": [[[]]]}',
    b'{"c": [[[[]]]]}',
    b'{"c": {"d": {"e": {}}}}',
    b'{"c": [{"d": 1}, null, {}]}',
    b'{"a": "2020-01-01"}',
    b'{"a": "2020-01-01T00:00:00Z"}',
    b'{"a": true}',
    b"{}",
    b'{"a": 1,}',
    b"{'a': 1}",
    b'{"a": 1} // end',
    b'\xef\xbb\xbf{"a": 1}',
    b'\xff\xfe{"a": 1}',
]

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
BY_COLUMN: dict[str, st.SearchStrategy[Any]] = {
    "a": st.integers(-3, 3) | st.integers(-(2**63), 2**63 - 1),
    "b": TEXT,
    "c": st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9), max_size=3),
    "d": st.fixed_dictionaries({}, optional={"x": st.booleans(), "y": st.none() | TEXT}),
    "e": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**54), 2**54),
    "f": st.none(),
}
ROW = st.fixed_dictionaries({}, optional={name: st.none() | each for name, each in BY_COLUMN.items()})


@st.composite
def rows_as_lines(draw: st.DrawFn) -> bytes:
    row = draw(ROW)
    return json.dumps(row, ensure_ascii=draw(st.booleans())).encode()


LINE_END = st.sampled_from([b"\n", b"\n", b"\n", b"\r\n", b"\n\n", b"\n \n"])
FILES = st.lists(st.tuples(rows_as_lines(), LINE_END), min_size=1, max_size=30)


@st.composite
def nasty_files(draw: st.DrawFn) -> bytes:
    lines = [*draw(FILES)]
    for line in draw(st.lists(st.tuples(st.sampled_from(NASTY), LINE_END), max_size=4)):
        lines.insert(draw(st.integers(0, len(lines))), line)
    return b"".join(text + end for text, end in lines)


@st.composite
def damaged_files(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(nasty_files()))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(data)))
        removed = draw(st.integers(0, 3))
        data[place : place + removed] = draw(st.lists(st.sampled_from(TOKENS), max_size=2).map(b"".join))
    return bytes(data)


TOKENS = [
    *(bytes([each]) for each in b'{}[]:,"\\ \n\r\tn01e-.\x00\xff'),
    b"null",
    b"NaN",
    b"\\u",
    b'"a":',
    b"{}",
]
PROPERTY = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@PROPERTY
@given(data=FILES.map(lambda lines: b"".join(text + end for text, end in lines)))
def test_rows_of_growing_types(small_blocks: None, data: bytes) -> None:
    assert_same(data)


@PROPERTY
@given(data=nasty_files())
def test_nasty_lines(small_blocks: None, data: bytes) -> None:
    assert_same(data)


@PROPERTY
@given(data=damaged_files())
def test_damaged_files(small_blocks: None, data: bytes) -> None:
    assert_same(data)


@pytest.mark.parametrize("line", NASTY)
@pytest.mark.parametrize("column", [b"1", b"1.5", b'"text"', b"null", b"{}", b"[1]"])
def test_every_nasty_line_behind_each_type(small_blocks: None, line: bytes, column: bytes) -> None:
    good = b'{"a": ' + column + b', "c": null}\n'
    assert_same(good * 20 + line + b"\n" + good * 20)


def test_as_many_rows_as_lines_but_not_one_on_each(small_blocks: None) -> None:
    good = b'{"a": {"b": 1}}\n'
    for odd in (b'{"a":\n{"b": 1}}\n{"a": null} {"a": null}\n', b'{"a":\n{"b": 1}} {}\n'):
        assert_same(good * 9 + odd + good * 9)
        assert isinstance(outcome(good * 9 + odd + good * 9, exact_only=False), list)


@pytest.fixture
def exact_lines(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the lines that went to the exact parser."""
    seen: list[int] = []
    read_lines = ingest.read_lines

    def watched(*arguments: Any, **more: Any) -> Iterator[Any]:
        for line in read_lines(*arguments, **more):
            seen.append(line.number)
            yield line

    monkeypatch.setattr(ingest, "read_lines", watched)
    return seen


def test_a_plain_file_takes_the_fast_way(exact_lines: list[int]) -> None:
    row = {"q": "ä" * 30, "n": 1, "f": 0.5, "l": ["a"], "o": {"x": True}, "s": None}
    line = json.dumps(row, ensure_ascii=False).encode()
    for end in (b"\n", b"\r\n", b"\n\n"):
        exact_lines.clear()
        content = outcome((line + end) * 60_000, exact_only=False, limits=Limits())
        assert isinstance(content, SnapshotContent)
        assert content.rows == 60_000
        assert len(exact_lines) < 5_000


def test_one_odd_line_costs_its_piece_only(exact_lines: list[int]) -> None:
    lines = [b'{"n": %d, "text": "some words"}\n' % number for number in range(200_000)]
    lines[150_000] = b'{"n": 1.5, "text": "a fraction among whole numbers"}\n'
    content = outcome(b"".join(lines), exact_only=False, limits=Limits())
    assert isinstance(content, SnapshotContent)
    assert content.columns[0].type == "double"
    assert len(exact_lines) < 25_000


@pytest.mark.parametrize("late", [b'{"new": [1], "o": {"y": "s"}}', b'{"n": 0.5}', b'{"l": [{"z": null}]}'])
def test_types_that_grow_late_in_a_large_file(late: bytes) -> None:
    first = [b'{"n": %d, "o": {"x": %d}, "l": [], "t": "%s"}' % (n, n, b"t" * 100) for n in range(90_000)]
    data = b"\n".join([*first, late, *first[:1000]])
    assert_same(data, limits=Limits())


def test_objects_without_fields_until_late() -> None:
    first = [b'{"o": {}, "t": "%s"}' % (b"t" * 100)] * 100_000
    assert_same(b"\n".join([*first, b'{"o": {"x": 1}}', *first[:9]]), limits=Limits())


def test_data_that_would_end_the_process_do_not_reach_the_parser() -> None:
    # pyarrow.json crashes on data whose first value is null.
    schema = ingest.SchemaInference(LIMITS).types_seen().append(ingest.pa.field("a", ingest.pa.int64()))
    for data in (b"null", b"null\n{}", b"\n\nnull", b"{}\nnull", b"{}null", b" null\n", b"\xef\xbb\xbfnull"):
        assert columnar.parse_columns(data, schema, LIMITS) is None


PEAK = """
import re, sys, tempfile
from pathlib import Path
from dataset_svc.domain.snapshots import Source
from dataset_svc.ingest import ingest
from dataset_svc.jsonl import Limits

source = Source(kind="jsonl", filename="x.jsonl", sha256="0" * 64, bytes=1)
with open(sys.argv[1], "rb") as file, tempfile.TemporaryFile() as target:
    ingest(file, target, limits=Limits(), split="test", source=source)
# Unlike the figure of getrusage, this one does not begin with the parent's.
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""


def peak_megabytes(path: Path, *, megabytes: int) -> int:
    with path.open("wb") as file:
        for number in range(megabytes):
            text = hashlib.sha256(b"%d" % number).hexdigest().encode() * 8
            file.writelines(b'{"n": %d, "t": "%d %s"}\n' % (each, each, text) for each in range(1850))
    finished = subprocess.run(
        [sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True
    )
    return int(finished.stdout)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    small = peak_megabytes(tmp_path / "small.jsonl", megabytes=30)
    large = peak_megabytes(tmp_path / "large.jsonl", megabytes=120)
    assert large < 300
    assert large - small < 40
