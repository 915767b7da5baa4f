# The README's two commands are `make demo` and `make test`; each sets up what it needs by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
UV_VERSION := 0.13.9
MEMBERS := libs/contracts libs/serving libs/harness libs/evidence libs/chassis \
           services/access-svc services/dataset-svc services/method-svc services/eval-svc services/metrics-svc \
           adapters/cpu adapters/gpu adapters/rngd client console allinone
PROJECTS := $(addsuffix /pyproject.toml,$(MEMBERS))
PACKAGES := assay_contracts assay_serving assay_harness assay_evidence assay_chassis access_svc dataset_svc method_svc eval_svc metrics_svc \
            assay_adapter_cpu assay_adapter_gpu assay_adapter_rngd assay assay_console assay_allinone
SETUP := $(VENV)/.setup-done

.PHONY: help setup demo up test test-slow test-browser screenshots test-vllm check format lock proto contracts bench clean

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(SETUP) ## Create .venv with everything pinned in requirements.lock

$(VENV)/.uv-$(UV_VERSION):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "Assay needs Python 3.11 to 3.13 as '$(PYTHON)'; name another with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

# The compiled part of libs/serving is made when it is installed: whoever changes it installs again.
$(SETUP): $(VENV)/.uv-$(UV_VERSION) requirements.lock pyproject.toml $(PROJECTS) $(wildcard libs/*/src/*/*.c)
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps $(addprefix -e ,$(MEMBERS))
	@echo "building the index of lm-eval's tasks (half a minute, once per version)"
	@$(BIN)/python -c "from assay_harness.index import load_task_index; load_task_index()"
	@touch $@

lock: $(VENV)/.uv-$(UV_VERSION) ## Resolve the dependencies again into requirements.lock
	$(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  --all-extras --group dev pyproject.toml $(PROJECTS) \
	  $(foreach project,$(PROJECTS),--no-emit-package $(shell sed -n '/^name = "/{s/^name = "\(.*\)"/\1/p;q;}' $(project))) \
	  --output-file requirements.lock

proto: $(SETUP) ## Generate the gRPC stubs from proto/
	$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=libs/serving/src --pyi_out=libs/serving/src \
	  --grpc_python_out=libs/serving/src proto/assay_serving/v1/serving.proto

contracts: $(SETUP) ## Generate contracts/ from the code: JSON Schema, AsyncAPI, OpenAPI, examples
	$(BIN)/python -m assay_contracts.generate contracts
	$(BIN)/python -m assay_allinone.openapi contracts/openapi

contracts-check: $(SETUP)
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT \
	  && $(BIN)/python -m assay_contracts.generate "$$scratch" \
	  && $(BIN)/python -m assay_allinone.openapi "$$scratch/openapi" \
	  && diff -r "$$scratch" contracts \
	  || { echo "contracts/ does not match the code; run: make contracts"; exit 1; }

proto-check: $(SETUP)
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT \
	  && $(BIN)/python -m grpc_tools.protoc -Iproto --python_out="$$scratch" --pyi_out="$$scratch" \
	       --grpc_python_out="$$scratch" proto/assay_serving/v1/serving.proto \
	  && for file in $$(cd "$$scratch" && find . -type f); do \
	       cmp "$$scratch/$$file" "libs/serving/src/$$file" || exit 1; done \
	  || { echo "the gRPC stubs do not match proto/; run: make proto"; exit 1; }

format: $(SETUP) ## Format the code
	$(BIN)/ruff format --quiet .
	$(BIN)/ruff check --quiet --fix .

check: $(SETUP) ## Everything that needs no server: format, lint, types, imports, generated files
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy $(addprefix -p ,$(PACKAGES))
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory contracts-check proto-check

test: $(SETUP) ## The tests, against real servers (under 10 minutes on 2 cores)
	$(BIN)/pytest -n 2 --dist loadgroup -m "not slow and not browser" -q

test-slow: $(SETUP) ## The tests that take minutes: whole runs under failures, a clean clone
	$(BIN)/pytest -m slow -q

test-browser: $(SETUP) ## The console in headless Chromium, the walkthrough from beginning to end
	$(BIN)/pytest -n 2 --dist loadfile -m browser -q

screenshots: $(SETUP) ## What every screen of the console looks like, into docs/screenshots
	ASSAY_SCREENSHOTS=docs/screenshots $(BIN)/pytest -m browser -q tests/console/test_console_screens.py

test-vllm: $(SETUP) ## A real vLLM on this processor against our faithful server (downloads 3 GB)
	@bash tests/vllm/run.sh

demo: $(SETUP) ## Evaluate a real model on real rows, compare two builds of it, clean up
	@$(BIN)/assay demo

up: $(SETUP) ## Keep the platform running in the foreground; Ctrl-C ends it
	@$(BIN)/assay up

bench: $(SETUP) ## Benchmarks: ratios within one run, medians of several
	$(BIN)/python bench/run.py

clean: ## Remove the environment and all local data
	rm -rf $(VENV) .assay
