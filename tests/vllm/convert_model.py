"""Turn a GGUF file into a model directory as vLLM loads it: weights, configuration and tokenizer.

Usage: ``convert_model.py FILE.gguf DIRECTORY``; runs in the environment that `install.sh` makes. Weights are
what the quantised ones stand for, kept as bfloat16.
"""

import sys
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer


def convert(source: Path, directory: Path) -> None:
    """Write the directory; an unfinished one has no ``config.json``."""
    place = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    loaded = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.bfloat16)
    config = AutoConfig.from_pretrained(**place)
    config.torch_dtype = torch.bfloat16
    # A model that came from GGUF refuses to be saved; one of the same shape with the same weights does not.
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(loaded.state_dict())
    directory.mkdir(parents=True, exist_ok=True)
    AutoTokenizer.from_pretrained(**place).save_pretrained(directory)
    model.generation_config = loaded.generation_config
    model.save_pretrained(directory)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
