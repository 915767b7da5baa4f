"""The ingest process: the unmodified libraries of the hub against a hub server on this machine."""

import asyncio
import hashlib
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import datasets
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import Hub, running_hub

from dataset_svc.hub.process import HubAccess, HubProcessDied, read_from_hub
from dataset_svc.hub.protocol import HubFailure, HubResult, HubTask, Progress

TOKEN = "hf_a-token-that-must-not-be-seen"
CARD = """\
---
configs:
- config_name: main
  data_files:
  - split: train
    path: main/train-*
  - split: test
    path: main/test-*
- config_name: socratic
  data_files:
  - split: test
    path: socratic/test-*
---
"""
FEATURES = datasets.Features(
    {
        "question": datasets.Value("string"),
        "label": datasets.ClassLabel(names=["negative", "positive"]),
        "choices": {
            "text": datasets.List(datasets.Value("string")),
            "label": datasets.List(datasets.ClassLabel(names=["A", "B"])),
        },
        "pair": datasets.List(datasets.Value("int32"), length=2),
        "long": datasets.Value("large_string"),
        "when": datasets.Value("timestamp[us]"),
    }
)


def rows(count: int, *, name: str = "q") -> datasets.Dataset:
    return datasets.Dataset.from_dict(
        {
            "question": [f"{name} {number}" for number in range(count)],
            "label": [number % 2 for number in range(count)],
            "choices": [{"text": ["x", str(number)], "label": [0, 1]} for number in range(count)],
            "pair": [[number, 1] if number % 3 else None for number in range(count)],
            "long": ["text" if number % 5 else None for number in range(count)],
            "when": list(range(count)),
        },
        features=FEATURES,
    )


def parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def noise(megabytes: int) -> bytes:
    """A JSON Lines file that does not compress; large enough to be in the middle of."""
    lines = (
        json.dumps({"n": number, "text": hashlib.sha512(b"%d" % number).hexdigest() * 8})
        for number in range(megabytes * 960)
    )
    return "\n".join(lines).encode()


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with running_hub() as running:
        running.add(
            "openai/gsm8k",
            {
                "README.md": CARD,
                "main/train-00000.parquet": parquet(rows(40, name="t").data.table),
                "main/test-00000.parquet": parquet(rows(3000).data.table),
                "main/test-00001.parquet": parquet(rows(7, name="last").data.table),
                "socratic/test-00000.parquet": parquet(rows(2).data.table),
            },
        )
        running.add("o/script", {"script.py": "raise SystemExit", "README.md": "hi"})
        running.add("o/nothing", {"README.md": "hi"})
        running.add("o/no-rows", {"test.jsonl": ""})
        running.add("o/broken", {"test.jsonl": '{"a": 1}\n{"a":\n'})
        running.add("o/pictures", {"test/a.png": b"x" * 10})
        running.add("o/table", {"test.csv": "q,a\nx,1\ny,2\n"})
        card = "---\nconfigs:\n- config_name: plain_text\n  data_files: rows.jsonl\n---\n"
        running.add("o/one-subset", {"README.md": card, "rows.jsonl": '{"a": 1}\n'})
        running.add("o/growing", {"test.jsonl": '{"a": 1}\n'})
        running.add("o/gated", {"test.jsonl": '{"a": 1}\n'}, gated=True)
        running.add("o/large", {"test-0.jsonl": noise(2), "test-1.jsonl": noise(6)})
        features = datasets.Features({"q": datasets.Value("string"), "picture": datasets.Image()})
        values = {"q": ["a"], "picture": [{"bytes": b"x", "path": None}]}
        running.add("o/image", {"test.parquet": parquet(pa.table(values, schema=features.arrow_schema))})
        running.allow(TOKEN, "o/gated")
        yield running


@pytest.fixture
def access(hub: Hub, tmp_path: Path) -> HubAccess:
    return HubAccess(home=tmp_path / "huggingface", endpoint=hub.url, offline=False)


def task(tmp_path: Path, **changes: Any) -> HubTask:
    directory = Path(changes.pop("directory", tmp_path / f"work-{os.urandom(4).hex()}"))
    directory.mkdir(parents=True, exist_ok=True)
    fields: dict[str, Any] = {
        "repo_id": "openai/gsm8k",
        "subset": None,
        "split": "test",
        "revision": "main",
        "fewshot_split": None,
        "token": None,
        "directory": str(directory),
        "max_rows": 1_000_000,
        "max_bytes": 1 << 30,
        "max_memory_bytes": 2 << 30,
        "patience_s": 5.0,
    }
    return HubTask(**{**fields, **changes})


async def read(what: HubTask, access: HubAccess) -> tuple[HubResult | HubFailure, list[Progress]]:
    seen: list[Progress] = []

    async def on_progress(progress: Progress) -> None:
        seen.append(progress)

    return await read_from_hub(what, access=access, on_progress=on_progress), seen


async def result_of(what: HubTask, access: HubAccess) -> HubResult:
    outcome, _ = await read(what, access)
    assert isinstance(outcome, HubResult), outcome
    return outcome


async def failure_of(what: HubTask, access: HubAccess) -> HubFailure:
    outcome, _ = await read(what, access)
    assert isinstance(outcome, HubFailure), outcome
    return outcome


async def test_features_and_rows_come_back_and_the_same_again_gives_the_same_bytes(
    access: HubAccess, hub: Hub, tmp_path: Path
) -> None:
    what = task(tmp_path, subset="main", fewshot_split="train")
    outcome, seen = await read(what, access)
    assert isinstance(outcome, HubResult), outcome
    assert outcome.commit == hub.repositories["openai/gsm8k"].branches["main"]
    assert outcome.fewshot is not None
    assert (outcome.evaluation.rows, outcome.fewshot.rows) == (3007, 40)

    path = Path(what.directory) / outcome.evaluation.file
    assert hashlib.sha256(path.read_bytes()).hexdigest() == outcome.evaluation.digest
    back = datasets.Dataset(pq.read_table(path))
    # Widths of offsets and lengths of lists are not kept; the values are.
    stored = {"pair": datasets.List(datasets.Value("int32")), "long": datasets.Value("string")}
    assert back.features == datasets.Features({**FEATURES, **stored})
    assert back.to_list() == [*rows(3000).to_list(), *rows(7, name="last").to_list()]
    types = {column.name: column.type for column in outcome.evaluation.columns}
    assert types["label"] == "ClassLabel(2)"
    assert types["choices"] == "struct<text: list<string>, label: list<ClassLabel(2)>>"

    phases = [progress.phase for progress in seen]
    assert [phase for number, phase in enumerate(phases) if phase not in phases[:number]] == [
        "resolving",
        "downloading",
        "converting",
    ]
    assert {progress.commit for progress in seen if progress.phase != "resolving"} == {outcome.commit}

    # Without the hub, from the cache: the same bytes.
    hub.seen.clear()
    offline = HubAccess(home=access.home, endpoint=hub.url, offline=True)
    again = await result_of(task(tmp_path, subset="main", fewshot_split="train"), offline)
    assert (again.evaluation.digest, again.fewshot) == (outcome.evaluation.digest, outcome.fewshot)
    assert hub.seen == []
    failure = await failure_of(task(tmp_path, subset="socratic"), offline)
    assert failure.code == "not-cached"


@pytest.mark.parametrize(
    ("repo_id", "split", "subset"), [("o/one-subset", "train", "plain_text"), ("o/table", "test", None)]
)
async def test_the_subset_that_was_read_is_named(
    repo_id: str, split: str, subset: str | None, access: HubAccess, tmp_path: Path
) -> None:
    """A task that is defined on a repository's only subset is then recognised as run on its own rows."""
    outcome = await result_of(task(tmp_path, repo_id=repo_id, split=split), access)
    assert outcome.subset == subset


@pytest.mark.parametrize(
    ("changes", "code", "hints", "words"),
    [
        ({"repo_id": "o/missing"}, "unknown-repository", [], "'o/missing'"),
        ({"repo_id": "json"}, "unknown-repository", [], "'json'"),
        ({"subset": "main", "revision": "v9"}, "unknown-revision", [], "'v9'"),
        ({}, "subset-needed", ["main", "socratic"], "main, socratic"),
        ({"subset": "sokratic"}, "unknown-subset", ["main", "socratic"], "main, socratic"),
        ({"subset": "main", "split": "validation"}, "unknown-split", ["test", "train"], "test, train"),
        ({"subset": "main", "fewshot_split": "dev"}, "unknown-split", ["test", "train"], "'dev'"),
        ({"repo_id": "o/script"}, "loader-script", [], "dataset scripts are not supported"),
        ({"repo_id": "o/nothing"}, "no-data-files", [], "o/nothing"),
        ({"repo_id": "o/no-rows"}, "no-rows", [], "o/no-rows"),
        ({"repo_id": "o/broken"}, "unreadable-data", [], "row"),
        ({"repo_id": "o/image"}, "unsupported-column", [], "'picture'"),
        ({"repo_id": "o/table", "max_rows": 1}, "too-many-rows", [], "ASSAY_MAX_HUB_ROWS"),
        ({"repo_id": "o/table", "max_bytes": 5}, "too-large", [], "ASSAY_MAX_HUB_BYTES"),
        ({"repo_id": "o/table", "max_memory_bytes": 1 << 20}, "memory-exceeded", [], "ASSAY_HUB_MEMORY"),
        ({"repo_id": "o/gated"}, "gated-repository", [], "ASSAY_HF_TOKEN"),
        ({"repo_id": "o/gated", "token": "hf_wrong"}, "invalid-token", [], "ASSAY_HF_TOKEN"),
    ],
)
async def test_refusals_say_what_to_do(
    access: HubAccess, tmp_path: Path, changes: dict[str, Any], code: str, hints: list[str], words: str
) -> None:
    failure = await failure_of(task(tmp_path, **changes), access)
    assert (failure.code, failure.hints) == (code, hints)
    assert words in failure.message


async def test_pictures_are_a_format_without_rows(access: HubAccess, tmp_path: Path) -> None:
    failure = await failure_of(task(tmp_path, repo_id="o/pictures"), access)
    assert failure.code == "unsupported-format"
    assert "imagefolder" in failure.message


async def test_a_hub_that_does_not_answer(tmp_path: Path) -> None:
    nowhere = HubAccess(home=tmp_path / "huggingface", endpoint="http://127.0.0.1:9", offline=False)
    failure = await failure_of(task(tmp_path, repo_id="o/table"), nowhere)
    assert failure.code == "hub-unreachable"


async def test_the_token_reads_what_is_gated_and_is_told_to_nobody(
    access: HubAccess, hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    outcome = await result_of(task(tmp_path, repo_id="o/gated", token=TOKEN), access)
    assert outcome.evaluation.rows == 1
    assert any(request.token == TOKEN for request in hub.seen)
    assert TOKEN not in caplog.text
    assert TOKEN not in json.dumps(access.environment())
    kept = [path for path in access.home.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert kept == []


async def test_a_limited_rate_is_waited_for_and_then_reported(
    access: HubAccess, hub: Hub, tmp_path: Path
) -> None:
    try:
        hub.faults.rate_limited = 2
        assert (await result_of(task(tmp_path, repo_id="o/table"), access)).evaluation.rows == 2
        assert hub.faults.rate_limited == 0
        hub.faults.rate_limited, hub.faults.retry_after_s = None, 700
        failure = await failure_of(task(tmp_path, repo_id="o/gated"), access)
    finally:
        hub.faults.rate_limited, hub.faults.retry_after_s = 0, 1
    assert failure.code == "rate-limited"
    assert "700 seconds" in failure.message


async def test_the_commit_stays_while_the_branch_moves(access: HubAccess, hub: Hub, tmp_path: Path) -> None:
    repository = hub.repositories["o/growing"]
    first = repository.branches["main"]

    def move(method: str, path: str) -> None:
        if "/tree/" in path:  # the revision is resolved, nothing is downloaded
            hub.faults.before = None
            repository.commit({"test.jsonl": '{"a": 1}\n{"a": 2}\n'})

    hub.faults.before = move
    outcome = await result_of(task(tmp_path, repo_id="o/growing"), access)
    assert repository.branches["main"] != first
    assert (outcome.commit, outcome.evaluation.rows) == (first, 1)
    # A later attempt that was told the commit reads the same, another ingest what is there now.
    pinned = await result_of(task(tmp_path, repo_id="o/growing", commit=first), access)
    assert pinned == outcome
    assert (await result_of(task(tmp_path, repo_id="o/growing"), access)).evaluation.rows == 2


async def test_a_full_disk_is_named(access: HubAccess, tmp_path: Path) -> None:
    what = task(tmp_path, repo_id="o/table")
    (Path(what.directory) / "0.parquet").symlink_to("/dev/full")
    failure = await failure_of(what, access)
    assert failure.code == "disk-full"
    assert "free space" in failure.message


@asynccontextmanager
async def in_the_middle(hub: Hub, what: HubTask, access: HubAccess) -> AsyncIterator[asyncio.Task[Any]]:
    """The task while it downloads the second of two files."""

    async def on_progress(_: Progress) -> None:
        pass

    hub.faults.chunk_delay_s = 0.02
    running = asyncio.create_task(read_from_hub(what, access=access, on_progress=on_progress))
    try:
        async with asyncio.timeout(60):
            while not [*access.home.rglob("snapshots/*/test-0.jsonl")]:
                await asyncio.sleep(0.02)
            while not [*access.home.rglob("*.incomplete")]:
                await asyncio.sleep(0.02)
        yield running
    finally:
        hub.faults.chunk_delay_s = 0.0
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def children() -> list[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    return [process for process in found if "dataset_svc.hub" in process.cmdline()]


async def test_cancelling_kills_the_process_at_once(access: HubAccess, hub: Hub, tmp_path: Path) -> None:
    async with in_the_middle(hub, task(tmp_path, repo_id="o/large"), access) as running:
        assert len(children()) == 1
        running.cancel()
        async with asyncio.timeout(2):
            with pytest.raises(asyncio.CancelledError):
                await running
        assert children() == []


@pytest.mark.slow
async def test_after_a_kill_complete_files_are_kept_and_incomplete_ones_removed(
    access: HubAccess, hub: Hub, tmp_path: Path
) -> None:
    async with in_the_middle(hub, task(tmp_path, repo_id="o/large"), access) as running:
        children()[0].send_signal(signal.SIGKILL)
        with pytest.raises(HubProcessDied):
            await running
    assert len([*access.home.rglob("*.incomplete")]) == 1
    hub.seen.clear()
    again = await result_of(task(tmp_path, repo_id="o/large"), access)
    content = [
        request.path for request in hub.seen if request.method == "GET" and "/content/" in request.path
    ]
    assert [path.rpartition("/")[2] for path in content] == ["test-1.jsonl"]
    assert [*access.home.rglob("*.incomplete")] == []
    fresh = HubAccess(home=tmp_path / "fresh", endpoint=hub.url, offline=False)
    assert await result_of(task(tmp_path, repo_id="o/large"), fresh) == again


async def test_the_process_ends_with_its_service(access: HubAccess, hub: Hub, tmp_path: Path) -> None:
    service = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from dataset_svc.hub.process import HubAccess, read_from_hub\n"
        "from dataset_svc.hub.protocol import HubTask\n"
        "async def tell(progress):\n"
        "    print(progress.phase, progress.bytes, flush=True)\n"
        "what = HubTask.model_validate_json(sys.argv[1])\n"
        "access = HubAccess(Path(sys.argv[2]), sys.argv[3], offline=False)\n"
        "asyncio.run(read_from_hub(what, access=access, on_progress=tell))\n",
        task(tmp_path, repo_id="o/large").model_dump_json(),
        str(access.home),
        hub.url,
        stdout=asyncio.subprocess.PIPE,
    )
    hub.faults.chunk_delay_s = 0.02
    try:
        assert service.stdout is not None
        async with asyncio.timeout(60):
            while not (await service.stdout.readline()).startswith(b"downloading"):
                pass
        [child] = children()
        service.kill()
        await service.wait()
        gone, _ = await asyncio.to_thread(psutil.wait_procs, [child], timeout=10)
        assert gone == [child]
    finally:
        hub.faults.chunk_delay_s = 0.0
