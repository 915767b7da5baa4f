"""Runs every benchmark, one after the other: ``python bench/run.py``."""

import subprocess
import sys
from pathlib import Path


def main() -> None:
    """Run the scripts beside this one; stops at the first that fails."""
    here = Path(__file__).parent
    for script in sorted(here.glob("*.py")):
        if script.name != Path(__file__).name:
            print(f"## {script.stem}", flush=True)
            subprocess.run([sys.executable, str(script)], check=True)
            print(flush=True)


if __name__ == "__main__":
    main()
