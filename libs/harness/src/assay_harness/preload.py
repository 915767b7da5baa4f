"""Imported once by the fork server: every harness process then starts as a copy with lm-eval in memory."""

import gc
import importlib
import multiprocessing.spawn
from collections.abc import Mapping
from typing import Any

from assay_harness.settings import isolate_environment


def skip_main_module() -> None:
    """Keep the copies from importing the program's main module a second time, as multiprocessing would.

    A service's web framework has no business in here, and a script without a main guard would start anew.
    """
    prepare = multiprocessing.spawn.prepare

    def prepare_without_main(data: Mapping[str, Any]) -> None:
        prepare({key: value for key, value in data.items() if not key.startswith("init_main_from")})

    multiprocessing.spawn.prepare = prepare_without_main


skip_main_module()
isolate_environment()
importlib.import_module("assay_harness.engine")
# What is loaded now stays: collections in the copies need not look at it, nor so copy its memory pages.
gc.collect()
gc.freeze()
