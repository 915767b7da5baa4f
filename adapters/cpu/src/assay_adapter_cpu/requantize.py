"""Makes a re-quantised GGUF file from another one, in pure Python.

Run as a process of its own (``python -m assay_adapter_cpu.requantize SOURCE TARGET TYPE``): the arithmetic
takes seconds and would stall the loop that takes the times of tokens.
"""

import argparse
from pathlib import Path

import gguf
import numpy as np
from gguf.quants import dequantize, quantize

CHOICES = ("Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0")

# What llama.cpp calls the mostly-this-type file; it is shown to people, nothing is decoded by it.
_FILE_TYPES = {
    "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "Q5_1": gguf.LlamaFileType.MOSTLY_Q5_1,
    "Q5_0": gguf.LlamaFileType.MOSTLY_Q5_0,
    "Q4_1": gguf.LlamaFileType.MOSTLY_Q4_1,
    "Q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
}
_WRITTEN_BY_THE_WRITER = (gguf.Keys.General.ARCHITECTURE, gguf.Keys.General.FILE_TYPE)


def requantize(source: Path, target: Path, *, quantization: str) -> None:
    """Write `source` to `target` with every matrix, embeddings included, in `quantization`.

    Vectors (norms, biases) and matrices whose rows do not divide into blocks keep their type. The result
    depends on the source's bytes and the type alone, so it can be stored by content.

    Raises:
        ValueError: `quantization` is none of `CHOICES`, or `source` is no GGUF file that can be read.
    """
    if quantization not in CHOICES:
        raise ValueError(f"requantize to {quantization!r}: choose one of {', '.join(CHOICES)}")
    kind = gguf.GGMLQuantizationType[quantization]
    reader = gguf.GGUFReader(source)
    architecture = reader.get_field(gguf.Keys.General.ARCHITECTURE)
    if architecture is None:
        raise ValueError(f"{source}: has no {gguf.Keys.General.ARCHITECTURE}; is it a whole GGUF file?")
    writer = gguf.GGUFWriter(target, str(architecture.contents()))
    writer.add_file_type(int(_FILE_TYPES[quantization]))
    _copy_metadata(reader, writer)
    for tensor in reader.tensors:
        _add_tensor(writer, tensor, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _copy_metadata(reader: gguf.GGUFReader, writer: gguf.GGUFWriter) -> None:
    for field in reader.fields.values():
        if field.name in _WRITTEN_BY_THE_WRITER or field.name.startswith("GGUF."):
            continue
        value_type = field.types[0]
        item_type = field.types[-1] if value_type == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), value_type, sub_type=item_type)


def _add_tensor(writer: gguf.GGUFWriter, tensor: gguf.ReaderTensor, kind: gguf.GGMLQuantizationType) -> None:
    block, _ = gguf.GGML_QUANT_SIZES[kind]
    is_matrix = len(tensor.shape) > 1 and int(tensor.shape[0]) % block == 0
    if not is_matrix or tensor.tensor_type == kind:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        return
    values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
    writer.add_tensor(tensor.name, quantize(values, kind), raw_dtype=kind)


def main() -> None:
    """Command line: SOURCE TARGET TYPE."""
    parser = argparse.ArgumentParser(description="Re-quantise a GGUF file.")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("quantization", choices=CHOICES)
    arguments = parser.parse_args()
    requantize(arguments.source, arguments.target, quantization=arguments.quantization)


if __name__ == "__main__":
    main()
