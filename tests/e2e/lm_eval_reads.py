"""lm-eval's own tools on files of results: ``python lm_eval_reads.py FOLDER`` prints what they find, as JSON.

FOLDER holds one folder for each model, as lm-eval writes them. It runs in a process of its own, so that
nothing of Assay is loaded beside lm-eval.
"""

import json
import sys
from pathlib import Path
from typing import Any

from datasets import load_dataset
from lm_eval.loggers.trackio_logger import _sample_to_trace
from lm_eval.utils import (
    get_file_datetime,
    get_file_task_name,
    get_latest_filename,
    get_results_filenames,
    get_sample_results_filenames,
    hash_string,
    make_table,
)


class Traces:
    """Takes the place of the tracking service's client."""

    @staticmethod
    def Trace(*, messages: list[dict[str, str]], metadata: dict[str, Any]) -> dict[str, Any]:
        return {"answer": messages[-1]["content"], **metadata}


def main() -> None:
    root = Path(sys.argv[1])
    names = [str(path.relative_to(root.parent)) for path in sorted(root.rglob("*")) if path.is_file()]
    (results_name,) = get_results_filenames(names)
    results = json.loads((root.parent / results_name).read_text())
    # As lm-eval reads them to make a page of a run.
    table = load_dataset("json", data_files=str(root.parent / results_name), split="train")
    found: dict[str, Any] = {}
    for name in get_sample_results_filenames(names):
        assert get_file_datetime(name) == get_file_datetime(results_name).removesuffix(".json")
        task = get_file_task_name(Path(name).name)
        lines = [json.loads(line) for line in (root.parent / name).read_text().splitlines()]
        dataset = load_dataset("json", data_files=str(root.parent / name), split="train")
        hashes = [one["doc_hash"] + one["prompt_hash"] + one["target_hash"] for one in lines]
        kind = results["configs"][task]["output_type"]
        found[task] = {
            "rows": len(dataset),
            "columns": dataset.column_names,
            "hash": hash_string("".join(hashes)),
            "traces": [_sample_to_trace(Traces, one, task, kind) for one in lines],
        }
    print(
        json.dumps(
            {
                "latest": get_latest_filename(get_results_filenames(names)),
                "results": results,
                "read": sorted(table["results"][0]),
                "table": make_table(results),
                "groups": make_table(results, "groups") if "groups" in results else None,
                "samples": found,
            }
        )
    )


if __name__ == "__main__":
    main()
