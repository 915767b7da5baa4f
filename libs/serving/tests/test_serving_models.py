"""Model artifacts from a hub on this machine and from directories, by the process that fetches them."""

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hub_server import Hub, running_hub

from assay_serving.errors import ArtifactMismatch, ArtifactNotFound
from assay_serving.model_files import served_paths, tree_digest
from assay_serving.models import HubAccess, ModelStore, parse_model_uri
from assay_serving.settings import hub_environment
from assay_serving.types import Artifact

TOKEN = "hf_a-token-that-must-not-be-seen"
FILES = {
    ".gitattributes": "*.safetensors filter=lfs diff=lfs merge=lfs -text\nweights/** filter=lfs\n",
    "config.json": '{"model_type": "llama"}',
    "model.safetensors": b"\x01" * 70_000,
    "pytorch_model.bin": b"\x02" * 70_000,
    "tokenizer/tokenizer.json": "{}",
}
URI = "hf://acme/small"


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        hub.add("acme/small", FILES, kind="model")
        hub.add("acme/gated", FILES, kind="model", gated=True)
        hub.add("acme/rows", {"config.json": "{}"})
        hub.allow(TOKEN, "acme/gated")
        yield hub


def store_at(
    home: Path, *, endpoint: str = "", token: str = "", offline: bool = False, roots: tuple[Path, ...] = ()
) -> ModelStore:
    cache = home / "hub"
    access = HubAccess(
        cache=cache,
        environment=hub_environment(cache, offline=offline),
        endpoint=endpoint,
        token=token,
        offline=offline,
    )
    return ModelStore(hub=access, roots=roots, run_directory=home / "run", variables="ASSAY_GPU_")


async def test_a_repository_a_copy_of_it_and_the_cache_have_one_digest(hub: Hub, tmp_path: Path) -> None:
    commit = hub.repositories["acme/small"].branches["main"]
    store = store_at(tmp_path, endpoint=hub.url)
    only_known = await store.prepare(Artifact(uri=URI), download=False)
    assert only_known.path == Path()
    assert only_known.revision == commit
    assert not any("/resolve/" in each.path for each in hub.seen), "metadata alone was asked for"

    here = await store.prepare(Artifact(uri=URI, sha256=only_known.sha256), download=True)
    assert here.model_name == "acme/small"
    names = {path.name for path in here.path.rglob("*") if path.is_file()}
    assert names == {".gitattributes", "config.json", "model.safetensors", "tokenizer.json"}
    assert (here.path / "model.safetensors").read_bytes() == FILES["model.safetensors"]

    copy = tmp_path / "models" / "copy"
    shutil.copytree(here.path, copy)
    by_hand = store_at(tmp_path, roots=(tmp_path / "models",))
    found = await by_hand.prepare(Artifact(uri=f"file://{copy}"), download=True)
    assert (found.path, found.sha256) == (copy, only_known.sha256)
    (copy / "config.json").write_text('{"model_type": "other"}')
    with pytest.raises(ArtifactMismatch, match=only_known.sha256):
        await by_hand.prepare(Artifact(uri=f"file://{copy}", sha256=only_known.sha256), download=True)

    offline = store_at(tmp_path, offline=True)
    cached = await offline.prepare(Artifact(uri=URI, revision=commit), download=True)
    assert (cached.path, cached.sha256, cached.revision) == (here.path, only_known.sha256, commit)


@pytest.mark.parametrize(
    ("artifact", "token", "message"),
    [
        (Artifact(uri="hf://acme/none"), "", "no model 'acme/none'.*HF_TOKEN"),
        (Artifact(uri="hf://acme/rows"), "", "no model 'acme/rows'"),
        (Artifact(uri=URI, revision="v9"), "", "no revision 'v9'"),
        (Artifact(uri="hf://acme/gated"), "", "gated: set HF_TOKEN"),
        (Artifact(uri="hf://acme/gated"), "hf_unknown", "does not know this adapter's token"),
    ],
)
async def test_what_the_hub_does_not_give_is_said(
    hub: Hub, tmp_path: Path, artifact: Artifact, token: str, message: str
) -> None:
    store = store_at(tmp_path, endpoint=hub.url, token=token)
    with pytest.raises(ArtifactNotFound, match=message) as refused:
        await store.prepare(artifact, download=True)
    assert "hf_unknown" not in str(refused.value)


async def test_a_token_opens_a_gated_repository_and_stays_in_no_file(hub: Hub, tmp_path: Path) -> None:
    store = store_at(tmp_path, endpoint=hub.url, token=TOKEN)
    prepared = await store.prepare(Artifact(uri="hf://acme/gated"), download=True)
    assert (prepared.path / "config.json").exists()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]


async def test_a_cancelled_download_leaves_no_process(hub: Hub, tmp_path: Path) -> None:
    store = store_at(tmp_path, endpoint=hub.url)
    hub.faults.chunk_delay_s = 5.0
    try:
        fetching = asyncio.create_task(store.prepare(Artifact(uri=URI), download=True))
        seen = len(hub.seen)
        async with asyncio.timeout(60):
            while not any("/resolve/" in each.path for each in hub.seen[seen:]):
                await asyncio.sleep(0.05)
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
    finally:
        hub.faults.chunk_delay_s = 0.0
    assert not list((tmp_path / "run").iterdir())
    children = psutil.Process(os.getpid()).children(recursive=True)
    assert not [each for each in children if "assay_serving.model_files" in each.cmdline()]


def test_directories_are_read_below_the_allowed_roots_only(tmp_path: Path) -> None:
    inside, outside = tmp_path / "models" / "m", tmp_path / "elsewhere"
    for directory in (inside, outside):
        directory.mkdir(parents=True)
        (directory / "config.json").write_text("{}")
    (tmp_path / "models" / "way-out").symlink_to(outside)
    store = store_at(tmp_path, roots=(tmp_path / "models",))
    assert store.directory_of(f"file://{inside}") == inside
    for path in (outside, tmp_path / "models" / "way-out", tmp_path / "models" / ".." / "elsewhere"):
        with pytest.raises(ArtifactNotFound, match="ASSAY_GPU_ARTIFACT_ROOTS"):
            store.directory_of(f"file://{path}")
    with pytest.raises(ArtifactNotFound, match=r"config\.json"):
        store.directory_of(f"file://{tmp_path}/models")


@pytest.mark.parametrize("uri", ["hf://one", "hf://a/b/c", "s3://a/b", "file://host/a", "a/b", "hf://../b"])
def test_other_uris_are_refused_with_the_right_form(uri: str) -> None:
    with pytest.raises(ArtifactNotFound, match="hf://<owner>/<name>"):
        parse_model_uri(uri)


def test_weights_count_once() -> None:
    both = ["model.safetensors", "pytorch_model.bin", ".git/config", "a.fxb", "README.md"]
    assert served_paths(both) == ["README.md", "a.fxb", "model.safetensors"]
    assert served_paths(["pytorch_model.bin"]) == ["pytorch_model.bin"]
    assert tree_digest({"b": "2", "a": "1"}) == tree_digest({"a": "1", "b": "2"})
    assert tree_digest({"a": "1"}) != tree_digest({"a": "2"})
