"""Bad files, archives, statistics, differences, downloads and deletion over HTTP, on real servers."""

import asyncio
import gzip
import hashlib
import json
import resource
import signal
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from assay_chassis.store import Change
from dataset_svc.store import deletion


async def eventually(check: Callable[[], Awaitable[bool]], *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not await check():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.05)


def zstd(data: bytes) -> bytes:
    packed: bytes = pa.compress(data, codec="zstd", asbytes=True)
    return packed


@pytest.mark.parametrize(
    ("pack", "headers", "query", "compression"),
    [
        (gzip.compress, {"content-encoding": "gzip"}, {}, "gzip"),
        (gzip.compress, {}, {"filename": "rows.jsonl.gz"}, "gzip"),
        (zstd, {"content-encoding": "zstd"}, {"filename": "rows.jsonl"}, "zstd"),
        (zstd, {}, {"filename": "rows.jsonl.zst"}, "zstd"),
    ],
)
async def test_a_compressed_upload_has_the_rows_and_the_digest_of_a_plain_one(
    api: Any,
    pack: Callable[[bytes], bytes],
    headers: dict[str, str],
    query: dict[str, str],
    compression: str,
) -> None:
    data = b'{"q": "a"}\n' * 50
    plain = (await api.send(await api.create(), data)).json()
    sent = pack(data)
    response = await api.send(await api.create(), sent, headers=headers, params=query)
    assert response.status_code == 201, response.text
    snapshot = response.json()
    assert snapshot["digest"] == plain["digest"]
    assert snapshot["source"] == {
        "kind": "jsonl",
        "filename": query.get("filename", ""),
        "sha256": hashlib.sha256(sent).hexdigest(),
        "bytes": len(sent),
        "compression": compression,
    }


async def test_archives_that_are_refused_change_nothing(api_at: Callable[..., Any], tmp_path: Path) -> None:
    async with api_at(tmp_path) as api:
        dataset = await api.create()
        before = await api.upload(dataset, {"q": 1})
        line = b'{"q": "%s"}\n' % (b"x" * (1 << 20))
        for data, name, status, problem in (
            (gzip.compress(line)[:-5], "x.gz", 422, "broken-archive"),
            (zstd(line)[:-5], "x.zst", 422, "broken-archive"),
            (line, "x.gz", 422, "broken-archive"),
            (zstd(line * 100), "x.zst", 422, "implausible-archive"),
        ):
            response = await api.send(dataset, data, params={"filename": name})
            assert response.status_code == status, response.text
            assert response.json()["type"].endswith(problem)
        assert (await api.get(f"/v1/datasets/{dataset}"))["current_snapshot"] == before
        assert not list((tmp_path / "uploads").iterdir())


async def test_the_limit_of_an_upload_holds_for_its_content(
    api_at: Callable[..., Any], tmp_path: Path
) -> None:
    async with api_at(tmp_path, max_upload_bytes=1 << 20) as api:
        line = b'{"q": "%s"}\n' % (b"x" * (600 << 10))
        for data, status in ((line, 201), (line * 2, 413)):
            response = await api.send(await api.create(), zstd(data), params={"filename": "x.zst"})
            assert response.status_code == status, response.text


BAD = [
    b'{"q": 1}\n{"q": "x"}\n',
    b"null\n",
    b'{"q": 1} null\n{"q": 2}\n',
    b'{"q": 1}\n' * 50_000 + b"null\n",
    b"\n" * 100_000,
    b"\x00" * 100_000,
    b"\xff" * 100_000,
    b'{"a":' * 100_000,
    b"[" * 100_000,
    b'"' * 100_001,
    b"\\" * 10_000,
    b'{"q": NaN}\n',
    b'{"q": 1e999}\n',
    b'{"q": ' + b"9" * 100_000 + b"}\n",
    b'{"q": "\\ud800"}\n',
    b'{"' + b"k" * 100_000 + b'": 1}\n',
    b"{" + b",".join(b'"k%d": 1' % number for number in range(5000)) + b"}\n",
]


async def test_after_every_bad_file_the_old_snapshot_is_served(api: Any) -> None:
    dataset = await api.create()
    before = await api.upload(dataset, {"q": "a"}, {"q": "b"})
    for data in BAD:
        response = await api.send(dataset, data)
        assert response.status_code == 422, data[:40]
        assert all(fault["line"] >= 1 for fault in response.json()["errors"])
        assert (await api.get(f"/v1/datasets/{dataset}"))["current_snapshot"] == before
        assert await api.rows(before["id"]) == [{"q": "a"}, {"q": "b"}]
    assert (await api.get("/readyz"))["status"] == "ready"
    assert len((await api.get(f"/v1/datasets/{dataset}/snapshots"))["items"]) == 1


@pytest.fixture
def small_files() -> Any:
    """No file may grow beyond 3 MB, which is how a full disk shows without one."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("compress", [False, True])
async def test_a_full_disk_is_said_and_changes_nothing(
    api: Any, small_files: None, *, compress: bool
) -> None:
    dataset = await api.create()
    before = await api.upload(dataset, {"q": 1})
    # So varied that its Parquet file is too large as well.
    values = (hashlib.sha256(b"%d" % number).hexdigest() for number in range(90_000))
    data = b"".join(b'{"q": "%s"}\n' % value.encode() for value in values)
    data = gzip.compress(data) if compress else data
    response = await api.send(dataset, data, params={"filename": "x.gz" if compress else "x.jsonl"})
    assert response.status_code == 507, response.text
    assert response.json()["type"].endswith("storage-full")
    assert (await api.get(f"/v1/datasets/{dataset}"))["current_snapshot"] == before
    assert not list((api.home / "uploads").iterdir())
    assert (await api.upload(dataset, {"q": 2}))["rows"] == 1


async def test_statistics_are_counted_once(api: Any) -> None:
    dataset = await api.create()
    snapshot = await api.upload(dataset, {"q": "aa", "n": 1}, {"q": "b"}, {"q": "b"})
    path = f"/v1/snapshots/{snapshot['id']}/statistics"
    found = await api.get(path)
    assert (found["rows"], found["duplicate_rows"], found["bytes"]) == (3, 1, snapshot["bytes"])
    text, number = found["columns"]
    assert (text["lengths"]["median"], text["lengths"]["maximum"], text["distinct"]) == (1, 2, 2)
    assert (number["nulls"], number["minimum"], number["maximum"], number["lengths"]) == (2, 1, 1, None)
    # The second answer needs no file.
    (api.home / "cache" / "snapshots" / snapshot["digest"]).write_bytes(b"")
    assert await api.get(path) == found


async def test_a_download_uploaded_again_is_the_same_snapshot(api: Any) -> None:
    dataset = await api.create()
    snapshot = await api.upload(dataset, {"q": "ä\u2028", "n": None}, {"n": 0.5, "l": [{"x": 1}]})
    response = await api.http.get(f"/v1/snapshots/{snapshot['id']}/content.jsonl")
    assert response.headers["content-type"] == "application/x-ndjson"
    lines = response.content.decode().removesuffix("\n").split("\n")
    assert [json.loads(line) for line in lines] == await api.rows(snapshot["id"])
    assert (await api.send(dataset, response.content)).json() == snapshot


async def test_differences_are_paged(api: Any) -> None:
    dataset = await api.create()
    old = await api.upload(dataset, *({"id": n, "q": f"q{n}"} for n in range(30)))
    new = await api.upload(
        dataset, *({"id": n, "q": "new" if n < 12 else f"q{n}", "more": None} for n in range(5, 40))
    )
    path = f"/v1/snapshots/{new['id']}/diff"
    page = await api.get(path, against=old["id"], key="id", limit=4)
    names = ("added", "removed", "changed", "unchanged", "total")
    assert [page[name] for name in names] == [10, 5, 7, 18, 22]
    assert page["columns"] == {"added": ["more"], "removed": [], "retyped": []}
    every = []
    for offset in range(0, 24, 4):
        every += (await api.get(path, against=old["id"], key="id", limit=4, offset=offset))["items"]
    assert [item["change"] for item in every] == ["added"] * 10 + ["removed"] * 5 + ["changed"] * 7
    assert every[0] == {
        "change": "added",
        "index_before": None,
        "index_after": 25,
        "before": None,
        "after": {"id": 30, "q": "q30", "more": None},
    }
    changed = await api.get(path, against=old["id"], key="id", change="changed", offset=6)
    assert changed["total"] == 7
    assert changed["items"] == [every[-1]]
    assert every[-1]["before"] == {"id": 11, "q": "q11"}
    assert (every[-1]["index_before"], every[-1]["index_after"]) == (11, 6)
    by_content = await api.get(path, against=old["id"])
    assert [by_content[name] for name in names] == [17, 12, 0, 18, 29]
    response = await api.http.get(path, params={"against": old["id"], "key": "q"})
    assert response.status_code == 422
    assert response.json()["errors"][0]["row"] == 1
    assert await api.status(f"{path}?against=snap_0") == 404


async def test_a_dataset_that_runs_refer_to_stays(api: Any) -> None:
    dataset = await api.create()
    snapshot = await api.upload(dataset, {"q": 1})
    api.runs.using[dataset] = ["run_a", "run_b"]
    response = await api.http.delete(f"/v1/datasets/{dataset}")
    assert response.status_code == 409
    assert response.json()["type"].endswith("used-by-runs")
    assert "run_a (name of run_a), run_b" in response.json()["detail"]
    assert await api.rows(snapshot["id"]) == [{"q": 1}]


async def test_a_deleted_dataset_is_gone_and_its_name_free(api: Any) -> None:
    name = f"gone-{uuid.uuid4().hex[:8]}"
    dataset = await api.create(name)
    snapshots = [await api.upload(dataset, {"q": n}) for n in range(3)]
    assert (await api.http.delete(f"/v1/datasets/{dataset}")).status_code == 204
    assert api.runs.asked == [dataset]
    for path in (
        f"/v1/datasets/{dataset}",
        f"/v1/datasets/{dataset}/snapshots",
        *(f"/v1/snapshots/{each['id']}" for each in snapshots),
        f"/v1/snapshots/{snapshots[0]['id']}/content.parquet",
    ):
        assert await api.status(path) == 404
    assert (await api.send(dataset, b'{"q": 1}\n')).status_code == 404
    assert (await api.http.delete(f"/v1/datasets/{dataset}")).status_code == 404
    assert (await api.get("/v1/datasets", name=name))["items"] == []
    assert await api.create(name) != dataset


async def test_a_snapshot_is_deleted_when_it_was_replaced(api: Any) -> None:
    dataset = await api.create()
    first = await api.upload(dataset, {"q": 1})
    assert (await api.http.delete(f"/v1/snapshots/{first['id']}")).json()["type"].endswith("current-snapshot")
    second = await api.upload(dataset, {"q": 2})
    api.runs.using[first["id"]] = ["run_a"]
    assert (await api.http.delete(f"/v1/snapshots/{first['id']}")).status_code == 409
    api.runs.using.clear()
    assert (await api.http.delete(f"/v1/snapshots/{first['id']}")).status_code == 204
    assert await api.status(f"/v1/snapshots/{first['id']}") == 404
    listed = (await api.get(f"/v1/datasets/{dataset}/snapshots"))["items"]
    assert [each["id"] for each in listed] == [second["id"]]
    # The same content again is a new snapshot, with its file.
    again = await api.upload(dataset, {"q": 1})
    assert again["id"] not in (first["id"], second["id"])
    assert await api.rows(again["id"]) == [{"q": 1}]


async def test_the_examples_of_another_snapshot_are_kept(api: Any) -> None:
    dataset = await api.create()
    first, second = [await api.upload(dataset, {"q": n}) for n in range(2)]
    stores = api.http._transport.app.state.services.deletion._stores
    change = Change(set={"fewshot_snapshot_id": first["id"]})
    assert await stores.snapshots.collection.update(second["id"], change)
    response = await api.http.delete(f"/v1/snapshots/{first['id']}")
    assert response.json()["type"].endswith("companion-snapshot")
    assert second["id"] in response.json()["detail"]
    assert await api.rows(first["id"]) == [{"q": 0}]


async def test_nothing_is_deleted_while_eval_svc_does_not_answer(api: Any) -> None:
    dataset = await api.create()
    first = await api.upload(dataset, {"q": 1})
    await api.upload(dataset, {"q": 2})
    api.runs.fails = True
    for path in (f"/v1/datasets/{dataset}", f"/v1/snapshots/{first['id']}"):
        response = await api.http.delete(path)
        assert response.status_code == 503
        assert "Nothing was changed" in response.json()["detail"]
        assert await api.status(path) == 200
    assert await api.rows(first["id"]) == [{"q": 1}]


async def test_readers_are_refused_while_eval_svc_is_asked(api: Any) -> None:
    dataset = await api.create()
    first = await api.upload(dataset, {"q": 1})
    second = await api.upload(dataset, {"q": 2})
    seen: dict[str, int] = {}

    async def read(_: str) -> None:
        for each in (first, second):
            seen[each["id"]] = await api.status(f"/v1/snapshots/{each['id']}")
        seen[dataset] = await api.status(f"/v1/datasets/{dataset}")
        seen["upload"] = (await api.send(dataset, b'{"q": 3}\n')).status_code
        seen["again"] = (await api.http.delete(f"/v1/snapshots/{first['id']}")).status_code

    api.runs.while_asked = read
    api.runs.using = {dataset: ["run_a"]}
    assert (await api.http.delete(f"/v1/datasets/{dataset}")).status_code == 409
    assert set(seen.values()) == {409}
    api.runs.while_asked = None
    assert await api.status(f"/v1/snapshots/{first['id']}") == 200


async def test_files_go_later_and_only_those_that_nothing_needs(
    api_at: Callable[..., Any], tmp_path: Path
) -> None:
    async with api_at(tmp_path, deletion_grace_s=0.5) as api:
        shared, own, held = ({"q": uuid.uuid4().hex} for _ in range(3))
        doomed, other = await api.create(), await api.create()
        snapshots = [await api.upload(doomed, row) for row in (shared, own, held)]
        kept = await api.upload(other, shared)
        assert kept["digest"] == snapshots[0]["digest"]
        await api.get(f"/v1/snapshots/{snapshots[1]['id']}/statistics")
        # A run that was being planned appears after the deletion.
        api.runs.using[snapshots[2]["id"]] = ["run_late"]
        assert (await api.http.delete(f"/v1/datasets/{doomed}")).status_code == 204
        files = tmp_path / "cache" / "snapshots"

        async def is_swept() -> bool:
            return not (files / snapshots[1]["digest"]).exists()

        await eventually(is_swept)
        assert await api.rows(kept["id"]) == [shared]
        asked = api.runs.asked.count(snapshots[2]["id"])

        async def is_asked_again() -> bool:
            return api.runs.asked.count(snapshots[2]["id"]) > asked

        await eventually(is_asked_again)
        # What was swept can be uploaded again, and what the late run needs is still in the store.
        again = [await api.upload(other, row) for row in (own, held)]
        assert [await api.rows(each["id"]) for each in again] == [[own], [held]]


async def test_content_that_comes_back_while_its_file_goes(
    api_at: Callable[..., Any], tmp_path: Path
) -> None:
    async with api_at(tmp_path, deletion_grace_s=0.01, deletion_sweep_s=0.01) as api:
        row = {"q": uuid.uuid4().hex}
        keeper = await api.create()
        for turn in range(25):
            dataset = await api.create()
            await api.upload(dataset, row)
            deleting = asyncio.create_task(api.http.delete(f"/v1/datasets/{dataset}"))
            await asyncio.sleep(turn * 0.004)
            snapshot = await api.upload(keeper, row)
            assert (await deleting).status_code == 204
            # Without the cache, so that the store is asked.
            (tmp_path / "cache" / "snapshots" / snapshot["digest"]).unlink(missing_ok=True)
            await asyncio.sleep(0.05)
            assert await api.rows(snapshot["id"]) == [row]
            await api.upload(keeper, {"q": turn})
            assert (await api.http.delete(f"/v1/snapshots/{snapshot['id']}")).status_code == 204


async def test_a_mark_that_a_crash_left_is_taken_back(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = await api.create()
    stores = api.http._transport.app.state.services.deletion._stores  # type: ignore[attr-defined]
    assert await stores.datasets.deletions.mark(dataset)
    assert await api.status(f"/v1/datasets/{dataset}") == 409
    monkeypatch.setattr(deletion, "_MARK_AGE", timedelta(0))

    async def is_back() -> bool:
        return await api.status(f"/v1/datasets/{dataset}") == 200

    await eventually(is_back)
