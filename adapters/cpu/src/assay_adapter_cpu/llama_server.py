"""The engine's process: llama.cpp's own HTTP server, configured to repeat itself.

Run as ``python -m assay_adapter_cpu.llama_server CONFIG.json``. It listens on a free loopback port, writes
the port to the file that the configuration names, and serves until SIGTERM.

Settings that repeatable output depends on, each measured:

- Flash attention off and a KV cache of its own per sequence: with either of llama.cpp's defaults, greedy
  output depends on what else is in the batch.
- No prompt cache in RAM: a prompt that is found there is evaluated in another split than a fresh one.
- A batch that holds a whole prompt: a prompt that is cut after some tokens may leave a single one for the
  last piece, and a token that is evaluated alone comes out differently in its low digits.
"""

import json
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import xllamacpp

# Larger batches cost memory in the square of their size; a longer prompt is cut into pieces of this size.
MAX_BATCH_TOKENS = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaServerConfig:
    """What one engine is started with."""

    model_path: str
    sequences: int
    context_tokens: int  # per sequence
    decode_threads: int
    prompt_threads: int
    api_key: str
    port_file: str

    def save(self, path: Path) -> None:
        """Write to `path`, readable by this user alone because of the key."""
        path.touch(mode=0o600)
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> "LlamaServerConfig":
        """Read what `save` wrote."""
        return cls(**json.loads(path.read_text()))

    @property
    def batch_tokens(self) -> int:
        """Room for one whole prompt beside one token of every other sequence."""
        return min(self.context_tokens, MAX_BATCH_TOKENS) + self.sequences

    def engine_settings(self) -> dict[str, str]:
        """The settings that may change a number, for provenance."""
        return {
            "flash_attention": "disabled",
            "kv_unified": "false",
            "cache_ram_mib": "0",
            "sequences": str(self.sequences),
            "context_tokens_per_sequence": str(self.context_tokens),
            "batch_tokens": str(self.batch_tokens),
            "decode_threads": str(self.decode_threads),
            "prompt_threads": str(self.prompt_threads),
        }


def server_parameters(config: LlamaServerConfig) -> "xllamacpp.CommonParams":
    """llama.cpp's parameters for `config`."""
    parameters = xllamacpp.CommonParams()
    parameters.model.path = config.model_path
    parameters.n_parallel = config.sequences
    parameters.n_ctx = config.sequences * config.context_tokens
    parameters.n_batch = config.batch_tokens
    parameters.n_ubatch = config.batch_tokens
    parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    parameters.kv_unified = False
    parameters.cache_ram_mib = 0
    parameters.cache_idle_slots = False
    parameters.ctx_shift = False
    parameters.fit_params = False
    parameters.n_gpu_layers = 0
    # One thread decodes: two fall behind one as soon as anything else runs on the machine.
    parameters.cpuparams.n_threads = config.decode_threads
    parameters.cpuparams_batch.n_threads = config.prompt_threads
    # TCP and not a unix socket: only TCP reads carry the kernel's receive time. The key keeps others out.
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.api_keys = [config.api_key]
    parameters.ui = False
    parameters.verbosity = 1  # errors; warnings would be several lines per scored continuation
    return parameters


def main() -> None:
    """Command line: CONFIG.json."""
    config = LlamaServerConfig.load(Path(sys.argv[1]))
    # Before the server's threads start, so that none of them takes the signals.
    ending = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    server = xllamacpp.Server(server_parameters(config))
    port_file = Path(config.port_file)
    partial = port_file.with_suffix(".partial")
    partial.write_text(server.listening_address.rpartition(":")[2])
    partial.replace(port_file)
    signal.sigwait(ending)


if __name__ == "__main__":
    main()
