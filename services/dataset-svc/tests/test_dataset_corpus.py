"""Bad and odd files, each with its verdict: the fault with its line and column, or the rows.

Each is judged by the library, by the service, and, damaged at random, by a property test. After every one the
service answers and serves the snapshot that it had, or the new one.
"""

import gzip
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay_chassis.errors import Fault
from dataset_svc.compression import Content, compression_of
from dataset_svc.domain.snapshots import Source
from dataset_svc.errors import BrokenArchive, InvalidUpload
from dataset_svc.ingest import ingest
from dataset_svc.jsonl import Limits

LIMITS = Limits(line_bytes=2000, nesting=8, columns=20, faults=100)
MOST_BYTES = 200_000
GOOD = b'{"q": "a", "n": 1}\n{"q": "b", "n": 2}\n'


@dataclass(frozen=True)
class Refused:
    """A file that is refused; ``line`` is ``None`` where the whole file is meant."""

    data: bytes
    line: int | None
    words: str
    column: int | None = None
    filename: str = "x.jsonl"


@dataclass(frozen=True)
class Accepted:
    """A file that is taken."""

    data: bytes
    rows: list[dict[str, Any]]
    filename: str = "x.jsonl"


def zstd(data: bytes) -> bytes:
    packed: bytes = pa.compress(data, codec="zstd", asbytes=True)
    return packed


CORPUS: dict[str, Refused | Accepted] = {
    # syntax
    "cut off in the last line": Refused(GOOD + b'{"q": "c"', 3, "not valid JSON", 10),
    "cut off inside text": Refused(GOOD + b'{"q": "c', 3, "not valid JSON", 7),
    "trailing comma": Refused(b'{"q": 1,}\n' + GOOD, 1, "not valid JSON"),
    "single quotes": Refused(GOOD + b"{'q': 'a'}\n", 3, "not valid JSON", 2),
    "comment": Refused(b"// rows\n" + GOOD, 1, "not valid JSON", 1),
    "comment behind a row": Refused(GOOD + b'{"q": "a"} // x\n', 3, "after the object", 12),
    "python literals": Refused(GOOD + b'{"q": None}\n', 3, "not valid JSON", 7),
    "python booleans": Refused(GOOD + b'{"q": True}\n', 3, "not valid JSON", 7),
    "leading zero": Refused(GOOD + b'{"q": "a", "n": 01}\n', 3, "not valid JSON"),
    "plus sign": Refused(GOOD + b'{"q": "a", "n": +1}\n', 3, "not valid JSON"),
    "hexadecimal": Refused(GOOD + b'{"q": "a", "n": 0x1}\n', 3, "not valid JSON"),
    "bare point": Refused(GOOD + b'{"q": "a", "n": 1.}\n', 3, "not valid JSON"),
    "bad escape": Refused(GOOD + rb'{"q": "\d"}' + b"\n", 3, "not valid JSON"),
    "bad unicode escape": Refused(GOOD + rb'{"q": "\u12g4"}' + b"\n", 3, "not valid JSON"),
    "tab inside text": Refused(GOOD + b'{"q": "a\tb"}\n', 3, "not valid JSON", 9),
    "zero byte inside text": Refused(GOOD + b'{"q": "a\x00b"}\n', 3, "not valid JSON", 9),
    "zero bytes at the end": Refused(GOOD + b"\x00" * 100, 3, "not valid JSON", 1),
    "missing colon": Refused(GOOD + b'{"q" "a"}\n', 3, "not valid JSON", 6),
    "unquoted key": Refused(GOOD + b'{q: "a"}\n', 3, "not valid JSON", 2),
    "row over two lines": Refused(b'{"q":\n"a"}\n', 1, "not valid JSON"),
    "pretty printed": Refused(b'{\n  "q": "a"\n}\n', 1, "not valid JSON", 2),
    "a JSON list of rows": Refused(b'[{"q": "a"}, {"q": "b"}]\n', 1, "a list, not an object", 1),
    "two rows on a line": Refused(GOOD + b'{"q": "a"} {"q": "b"}\n', 3, "after the object", 12),
    "null on a line": Refused(GOOD + b"null\n", 3, "null, not an object", 1),
    "null behind a row": Refused(GOOD + b'{"q": "a"} null\n', 3, "after the object", 12),
    "null first": Refused(b"null\n" + GOOD, 1, "null, not an object", 1),
    "a number on a line": Refused(GOOD + b"17\n", 3, "a number, not an object", 1),
    "text on a line": Refused(GOOD + b'"text"\n', 3, "text, not an object", 1),
    "CSV": Refused(b"q,n\na,1\n", 1, "not valid JSON", 1),
    "HTML": Refused(b"<!DOCTYPE html>\n<html></html>\n", 1, "not valid JSON", 1),
    "closing braces only": Refused(GOOD + b"}}}}\n", 3, "not valid JSON", 1),
    # bytes and characters
    "UTF-16": Refused(GOOD.decode().encode("utf-16"), 1, "UTF-16", 1),
    "UTF-16 without mark": Refused(GOOD.decode().encode("utf-16-le"), 1, "not valid JSON"),
    "latin-1": Refused(GOOD + '{"q": "café"}\n'.encode("latin-1"), 3, "not UTF-8", 11),
    "cut inside a character": Refused(GOOD + '{"q": "é'.encode()[:-1], 3, "not UTF-8", 8),
    "overlong encoding": Refused(GOOD + b'{"q": "\xc0\xaf"}\n', 3, "not UTF-8", 8),
    "encoded surrogate": Refused(GOOD + b'{"q": "\xed\xa0\x80"}\n', 3, "not UTF-8", 8),
    "beyond Unicode": Refused(GOOD + b'{"q": "\xf5\x80\x80\x80"}\n', 3, "not UTF-8", 8),
    "mark in the middle": Refused(GOOD + b"\xef\xbb\xbf" + GOOD, 3, "not valid JSON", 1),
    "lone high surrogate": Refused(GOOD + rb'{"q": "\ud83d"}', 3, "surrogate", 7),
    "lone low surrogate": Refused(GOOD + rb'{"q": "x", "n": null, "t": "\ude00"}', 3, "surrogate", 28),
    "surrogates the wrong way": Refused(GOOD + rb'{"q": "\ude00\ud83d"}', 3, "surrogate", 7),
    "surrogate in a key": Refused(GOOD + rb'{"\ud83d": 1}', 3, "surrogate", 2),
    "binary": Refused(bytes(range(256)), 1, "", None),
    "PNG": Refused(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", 1, "not UTF-8", 1),
    # values
    "duplicate key": Refused(GOOD + b'{"q": "a", "q": "b"}\n', 3, "'q' appears twice", 12),
    "duplicate key, one null": Refused(GOOD + b'{"q": "a", "q": null}\n', 3, "'q' appears twice", 12),
    "duplicate key by an escape": Refused(GOOD + rb'{"q": "a", "\u0071": "b"}', 3, "'q' appears twice", 12),
    "duplicate key inside": Refused(b'{"o": {"x": 1, "x": 1}}\n', 1, "'x' appears twice", 16),
    "NaN": Refused(GOOD + b'{"q": "a", "n": NaN}\n', 3, "NaN is not JSON", 17),
    "Infinity": Refused(b'{"n": 0.5}\n{"n": -Infinity}\n', 2, "-Infinity is not JSON", 7),
    "Inf": Refused(b'{"n": 0.5}\n{"n": Inf}\n', 2, "not valid JSON", 7),
    "a number too large": Refused(b'{"n": 0.5}\n{"n": 1e999}\n', 2, "too large for a double", 7),
    "beyond 64 bits": Refused(GOOD + b'{"n": 9223372036854775808}\n', 3, "64 bits", 7),
    "beyond 64 bits, negative": Refused(GOOD + b'{"n": -9223372036854775809}\n', 3, "64 bits", 7),
    "two thousand digits": Refused(GOOD + b'{"n": ' + b"9" * 1900 + b"}\n", 3, "64 bits", 7),
    "53 bits and a fraction": Refused(b'{"n": 9007199254740993}\n{"n": 0.5}\n', 1, "53 bits"),
    "a fraction and 53 bits": Refused(b'{"n": 0.5}\n{"n": 9007199254740993}\n', 2, "53 bits"),
    # types over rows
    "text among numbers": Refused(GOOD + b'{"q": "c", "n": "3"}\n', 3, "whole numbers (first at line 1)"),
    "numbers among text": Refused(GOOD + b'{"q": 3, "n": 3}\n', 3, "text (first at line 1)"),
    "true among numbers": Refused(GOOD + b'{"q": "c", "n": true}\n', 3, "true/false (first at line 3)"),
    "a list among text": Refused(GOOD + b'{"q": ["c"]}\n', 3, "lists (first at line 3)"),
    "an object among lists": Refused(b'{"o": []}\n{"o": {"x": 1}}\n', 2, "objects (first at line 2)"),
    "mixed list": Refused(b'{"l": [1, "a"]}\n', 1, "'l[]'"),
    "mixed inside objects": Refused(b'{"o": {"x": 1}}\n{"o": {"x": "a"}}\n', 2, "'o.x'"),
    "only empty objects": Refused(b'{"o": {}}\n{"o": {}}\n', 1, "only empty objects"),
    "only empty rows": Refused(b"{}\n{}\n", 1, "all empty"),
    # names and limits
    "empty name": Refused(GOOD + b'{"": 1}\n', 3, "column name ''"),
    "control character in a name": Refused(GOOD + rb'{"a\u0007": 1}', 3, "printable"),
    "long name": Refused(GOOD + b'{"' + b"x" * 201 + b'": 1}\n', 3, "1 to 200"),
    "long line": Refused(GOOD + b'{"q": "' + b"x" * 2000 + b'"}\n' + b"{\n", 3, "longer than 2000 bytes"),
    "endless line": Refused(GOOD + b"x" * 100_000, 3, "longer than 2000 bytes"),
    "nested too deep": Refused(GOOD + b'{"o": ' + b"[" * 8 + b"]" * 8 + b"}\n", 3, "deeper than 8", 14),
    "nested without end": Refused(GOOD + b'{"o":' + b'{"o":' * 300 + b"\n", 3, "not valid JSON"),
    "too many columns": Refused(
        b"".join(b'{"c%d": 1}\n' % number for number in range(30)), 21, "more than 20 columns"
    ),
    "too many fields": Refused(
        b'{"o": {' + b", ".join(b'"f%d": 1' % number for number in range(30)) + b"}}\n", 1, "more than 20"
    ),
    "empty file": Refused(b"", 1, "no rows"),
    "blank lines only": Refused(b"\n\r\n  \n", 1, "no rows"),
    "byte order mark only": Refused(b"\xef\xbb\xbf", 1, "no rows"),
    # archives
    "gzip under another name": Refused(gzip.compress(GOOD), 1, "Content-Encoding: gzip", 1),
    "zstd under another name": Refused(zstd(GOOD), 1, "Content-Encoding: zstd", 1),
    "gzip cut off": Refused(gzip.compress(GOOD)[:-9], None, "Truncated", filename="x.gz"),
    "gzip damaged": Refused(
        gzip.compress(GOOD)[:-6] + b"\x00" * 6, None, "incorrect data check", filename="x.gz"
    ),
    "gzip with a tail": Refused(gzip.compress(GOOD) + b"tail", None, "incorrect header", filename="x.gz"),
    "not gzip": Refused(GOOD, None, "incorrect header", filename="x.GZ"),
    "zstd cut off": Refused(zstd(GOOD)[:-3], None, "Truncated", filename="x.zst"),
    "not zstd": Refused(GOOD, None, "frame descriptor", filename="x.jsonl.zst"),
    "a fault inside gzip": Refused(gzip.compress(GOOD + b"{\n"), 3, "not valid JSON", 2, filename="x.gz"),
    "gzip inside gzip": Refused(
        gzip.compress(gzip.compress(GOOD)), 1, "Content-Encoding: gzip", 1, filename="x.gz"
    ),
    # accepted
    "plain": Accepted(GOOD, [{"q": "a", "n": 1}, {"q": "b", "n": 2}]),
    "byte order mark": Accepted(b'\xef\xbb\xbf{"q": 1}\n', [{"q": 1}]),
    "CRLF": Accepted(b'{"q": 1}\r\n{"q": 2}\r\n', [{"q": 1}, {"q": 2}]),
    "no final line end": Accepted(b'{"q": 1}\n{"q": 2}', [{"q": 1}, {"q": 2}]),
    "blank lines and blanks": Accepted(b'\n\r\n {"q": 1}\t\n  \n\n{"q": 2} \r\n', [{"q": 1}, {"q": 2}]),
    "missing keys": Accepted(
        b'{"a": 1}\n{"b": 2}\n{}\n', [{"a": 1, "b": None}, {"a": None, "b": 2}, {"a": None, "b": None}]
    ),
    "null first, value later": Accepted(b'{"a": null}\n{"a": [1]}\n', [{"a": None}, {"a": [1]}]),
    "nothing but null": Accepted(b'{"a": null}\n', [{"a": None}]),
    "whole numbers, then a fraction": Accepted(b'{"a": 1}\n{"a": 0.5}\n', [{"a": 1.0}, {"a": 0.5}]),
    "the ends of 64 bits": Accepted(
        b'{"a": 9223372036854775807}\n{"a": -9223372036854775808}\n', [{"a": 2**63 - 1}, {"a": -(2**63)}]
    ),
    "numbers near the ends of doubles": Accepted(
        b'{"a": 1e308}\n{"a": 5e-324}\n{"a": 1e-999}\n', [{"a": 1e308}, {"a": 5e-324}, {"a": 0.0}]
    ),
    "dates stay text": Accepted(b'{"a": "2024-05-01T10:00:00Z"}\n', [{"a": "2024-05-01T10:00:00Z"}]),
    "line separators inside text": Accepted('{"a": "\u2028\u0085"}\n'.encode(), [{"a": "\u2028\u0085"}]),
    "paired surrogates": Accepted(rb'{"a": "\ud83d\ude00"}', [{"a": "😀"}]),
    "escaped zero": Accepted(rb'{"a": "\u0000"}', [{"a": "\x00"}]),
    "objects that grow": Accepted(
        b'{"o": {}}\n{"o": {"x": 1}}\n{"o": null}\n', [{"o": {"x": None}}, {"o": {"x": 1}}, {"o": None}]
    ),
    "lists of nothing, then of text": Accepted(
        b'{"l": []}\n{"l": [null]}\n{"l": ["a"]}\n', [{"l": []}, {"l": [None]}, {"l": ["a"]}]
    ),
    "as deep as the limit": Accepted(b'{"o": [[[[[[[1]]]]]]]}', [{"o": [[[[[[[1]]]]]]]}]),
    "names that need quoting": Accepted('{"a b.c": 1, "ä": 2}'.encode(), [{"a b.c": 1, "ä": 2}]),
    "a name as long as the limit": Accepted(b'{"%s": 1}' % (b"x" * 200), [{"x" * 200: 1}]),
    "gzip": Accepted(gzip.compress(b'{"q": 1}\n'), [{"q": 1}], filename="x.jsonl.gz"),
    "gzip in two members": Accepted(
        gzip.compress(b'{"q": 1}\n{"q"') + gzip.compress(b": 2}\n"), [{"q": 1}, {"q": 2}], filename="x.gz"
    ),
    "zstd": Accepted(zstd(b'{"q": 1}\n'), [{"q": 1}], filename="x.jsonl.zst"),
}


def taken(data: bytes, filename: str = "x.jsonl") -> list[dict[str, Any]]:
    """The rows that the file becomes; raises what the service would answer."""
    target = io.BytesIO()
    packing = compression_of(content_encoding="", filename=filename)
    content = Content(io.BytesIO(data), packing, sent_bytes=len(data), limit=MOST_BYTES)
    source = Source(kind="jsonl", filename=filename, sha256="0" * 64, bytes=len(data))
    ingest(content, target, limits=LIMITS, split="test", source=source)
    rows: list[dict[str, Any]] = pq.read_table(target).to_pylist()
    return rows


def test_the_corpus_is_large_enough() -> None:
    assert sum(isinstance(each, Refused) for each in CORPUS.values()) >= 60


@pytest.mark.parametrize("name", CORPUS)
def test_verdict(name: str) -> None:
    file = CORPUS[name]
    if isinstance(file, Accepted):
        assert taken(file.data, file.filename) == file.rows
        return
    with pytest.raises((InvalidUpload, BrokenArchive)) as caught:
        taken(file.data, file.filename)
    first = caught.value.faults[0]
    assert first.line == file.line
    assert file.words in first.message
    if file.column is not None:
        assert first.column == file.column


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(sorted(name for name, file in CORPUS.items() if file.filename == "x.jsonl")),
    place=st.integers(0, 2000),
    removed=st.integers(0, 4),
    inserted=st.binary(max_size=4),
)
def test_every_fault_names_its_line(name: str, place: int, removed: int, inserted: bytes) -> None:
    data = CORPUS[name].data
    data = data[:place] + inserted + data[place + removed :]
    lines = data.count(b"\n") + 1
    for fault in faults_of(data):
        assert fault.line is not None
        assert 1 <= fault.line <= lines
        assert fault.message


def faults_of(data: bytes) -> Sequence[Fault]:
    """What is wrong with the file; nothing if it has rows."""
    try:
        return [] if taken(data) else [Fault(message="neither rows nor faults")]
    except InvalidUpload as error:
        return error.faults or [Fault(message="a refusal without faults")]


PACKED_GOOD = {"x.gz": gzip.compress(GOOD * 9, mtime=0), "x.zst": zstd(GOOD * 9)}


@settings(max_examples=100, deadline=None)
@given(
    filename=st.sampled_from(sorted(PACKED_GOOD)), place=st.integers(0, 60), inserted=st.binary(max_size=3)
)
def test_damaged_archives_are_refused_or_give_the_rows(filename: str, place: int, inserted: bytes) -> None:
    data = PACKED_GOOD[filename]
    try:
        rows = taken(data[:place] + inserted + data[place + 1 :], filename)
    except (BrokenArchive, InvalidUpload):
        return
    # gzip has a checksum, so a damage that is not seen (in a header's time or name) changes no row. This zstd
    # file has none.
    assert filename == "x.zst" or rows == taken(GOOD * 9)


async def test_the_service_holds_through_the_whole_corpus(api_at: Callable[..., Any], tmp_path: Path) -> None:
    limits = {
        "max_line_bytes": LIMITS.line_bytes,
        "max_nesting": LIMITS.nesting,
        "max_columns": LIMITS.columns,
        "max_upload_bytes": MOST_BYTES,
    }
    async with api_at(tmp_path, **limits) as api:
        dataset = await api.create()
        served = await api.upload(dataset, {"q": "old"})
        for name, file in CORPUS.items():
            response = await api.send(dataset, file.data, params={"filename": file.filename})
            if isinstance(file, Accepted):
                assert response.status_code == 201, name
                served = response.json()
                assert await api.rows(served["id"]) == file.rows, name
            else:
                assert response.status_code == 422, name
                assert response.json()["errors"][0].get("line") == file.line, name
            current = (await api.get(f"/v1/datasets/{dataset}"))["current_snapshot"]
            assert current == served, name
            assert len(await api.rows(served["id"])) == served["rows"], name
        assert (await api.get("/readyz"))["status"] == "ready"
