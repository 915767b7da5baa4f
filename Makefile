# The README's two commands are `make demo` and `make test`; each sets up what it needs by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
UV_VERSION := 0.13.9
MEMBERS := libs/contracts libs/serving libs/harness libs/chassis \
           services/dataset-svc services/method-svc services/eval-svc services/metrics-svc \
           adapters/cpu client allinone
PROJECTS := $(addsuffix /pyproject.toml,$(MEMBERS))
PACKAGES := assay_contracts assay_serving assay_harness assay_chassis dataset_svc method_svc eval_svc metrics_svc \
            assay_adapter_cpu assay assay_allinone
SETUP := $(VENV)/.setup-done

.PHONY: help setup demo up test test-slow check format lock proto contracts bench clean

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(SETUP) ## Create .venv with everything pinned in requirements.lock

$(VENV)/.uv-$(UV_VERSION):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "Assay needs Python 3.11 to 3.13 as '$(PYTHON)'; name another with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

$(SETUP): $(VENV)/.uv-$(UV_VERSION) requirements.lock pyproject.toml $(PROJECTS)
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps $(addprefix -e ,$(MEMBERS))
	@touch $@

lock: $(VENV)/.uv-$(UV_VERSION) ## Resolve the dependencies again into requirements.lock
	$(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  --all-extras --group dev pyproject.toml $(PROJECTS) \
	  $(foreach project,$(PROJECTS),--no-emit-package $(shell sed -n 's/^name = "\(.*\)"/\1/p' $(project))) \
	  --output-file requirements.lock

proto: $(SETUP) ## Generate the gRPC stubs from proto/
	$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=libs/serving/src --pyi_out=libs/serving/src \
	  --grpc_python_out=libs/serving/src proto/assay_serving/v1/serving.proto
