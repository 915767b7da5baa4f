"""Turn a GGUF file into a model directory as vLLM loads it: weights, configuration and tokenizer.

Usage: ``convert_model.py FILE.gguf DIRECTORY``; runs in the environment that `install.sh` makes. Weights are
what the quantised ones stand for, kept as bfloat16.
"""

import sys
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig


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
    # As instruct models bring them: they count wherever a request does not set the field itself.
    defaults = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "repetition_penalty": 1.8}
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, **defaults
    )
    model.save_pretrained(directory)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
