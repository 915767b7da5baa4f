"""The process environment of the harness: the only module here that reads or writes it."""

import os
import tempfile
from pathlib import Path


def default_cache_directory() -> Path:
    """Where the task index is kept when nobody says otherwise: the user's cache directory."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "assay" / "harness"


def isolate_environment() -> None:
    """Cut lm-eval and its libraries off from the network, the user's caches and terminal output.

    Must run before any of them is imported: they read these variables once. The cache directory named
    here need not exist; nothing is expected to be written to it.
    """
    home = Path(tempfile.gettempdir()) / f"assay-harness-{os.getpid()}"
    os.environ.update(
        {
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "HF_EVALUATE_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HOME": str(home),
            # One process per evaluation: its bootstrap must not fork a pool of its own.
            "DISABLE_MULTIPROC": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "TQDM_DISABLE": "1",
        }
    )
    # A fork of a prepared process keeps the directory of its parent; secrets have no business in here.
    for name in [name for name in os.environ if name.endswith(("_TOKEN", "_API_KEY"))]:
        del os.environ[name]
