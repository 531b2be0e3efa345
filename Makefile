# What there is to do here. Slow things (Kubernetes from source, vLLM's environment, trained models) are made once, into
# $ADAPTERRELEASE_CACHE or ~/.cache/adapter-release-controller.
SHELL := /bin/bash
PYTHON := .venv/bin/python
CACHE := $(or $(ADAPTERRELEASE_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/adapter-release-controller)
CONTEXT :=
UV_COMPILE := .venv/bin/uv pip compile --quiet --no-config --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
  --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header

.DEFAULT_GOAL := help
.PHONY: help setup sandbox up down demo test test-life test-unit lint generate docs pictures recording sbom locks clean-cache

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/complete ## make .venv: the controller and its tools, from locks/dev.lock

.venv/complete: locks/dev.lock
	@echo "making .venv from $< ..."
	@python3.11 -m venv --clear .venv
	@awk '/^uv==/ {here = 1} here {print; if (!/\\$$/) exit}' $< > .venv/uv.lock
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement .venv/uv.lock
	@.venv/bin/uv pip install --quiet --no-config --python $(PYTHON) --no-deps --require-hashes --compile-bytecode --requirement $<
	@touch $@

sandbox: setup ## make what a cluster needs (Debian packages, Kubernetes, vLLM); 10 minutes the first time
	@sandbox/host-packages.sh
	@sandbox/programs.sh

up: sandbox ## start the sandbox cluster: one real node, nothing installed
	@sandbox/node/kube-up.sh up

down: ## stop the sandbox cluster and leave nothing behind
	@sandbox/node/kube-up.sh down

demo: $(if $(CONTEXT),setup,sandbox) ## play the life of a release; CONTEXT=name: on a cluster of yours
	@$(PYTHON) -m sandbox.demo $(if $(CONTEXT),--context $(CONTEXT))

test: sandbox ## all tests but those of test-life; first what can run two at a time, then what needs the machine
	@sandbox/host-packages.sh chromium:chromium /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf:fonts-dejavu-core
	@sandbox/helm/build.sh >/dev/null && sandbox/prometheus/build.sh >/dev/null
	@$(PYTHON) -m pytest -n 2 -m "not (e2e or ml or browser or prometheus)"
	@$(PYTHON) -m pytest -m "(e2e or ml or browser or prometheus) and not (e2e and prometheus)"

test-life: sandbox ## alerts and dashboards of a real life of releases, which a real Prometheus watches (8 minutes)
	@$(PYTHON) -m pytest -m "e2e and prometheus"

test-unit: setup ## the fast tests: less than a minute, and nothing but .venv
	@$(PYTHON) -m pytest -q -n 2 -m "not slow and not e2e and not apiserver and not prometheus and not ml and not helm and not browser"

lint: setup docs ## ruff, mypy --strict, import-linter, generated files up to date, the documentation site
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@$(PYTHON) -m controller crd --check
	@$(PYTHON) -m dashboards --check
	@$(PYTHON) -m charts.generate --check

generate: setup ## write what comes from code: CRD, references, dashboards, the chart's copies, manifests/install.yaml
	@$(PYTHON) -m dashboards
	@$(PYTHON) -m controller crd
	@$(PYTHON) -m charts.generate

docs: setup ## build the documentation site into build/site; every link and anchor of it must lead somewhere
	@NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict
	@echo "to read it: $(PYTHON) -m http.server --bind 127.0.0.1 --directory build/site 8000"

pictures: setup ## pictures of the dashboards; PROMETHEUS=URL or DATA=directory, ARGS="--start ..."
	@$(PYTHON) -m bench.pictures $(if $(PROMETHEUS),--prometheus $(PROMETHEUS)) $(if $(DATA),--data $(DATA)) $(ARGS)

recording: sandbox ## the terminal recording in docs, on a fresh cluster of the sandbox; ARGS="--kubeconfig FILE --take-over"
	@$(PYTHON) -m bench.recording $(ARGS)

sbom: setup ## write what is in both images to build/sbom, as CycloneDX
	@for image in controller job; do \
	  mkdir -p build/sbom; \
	  .venv/bin/cyclonedx-py requirements locks/$$image.lock --pyproject pyproject.toml --mc-type application \
	    --output-reproducible --of JSON --sv 1.6 --output-file build/sbom/$$image.cdx.json || exit 1; \
	done

locks: setup ## pin the newest allowed versions in locks/
	@$(UV_COMPILE) --upgrade pyproject.toml --group dev --output-file locks/dev.lock
	@$(UV_COMPILE) --upgrade --override locks/ml-overrides.txt locks/ml.in --output-file locks/ml.lock
	@$(UV_COMPILE) --constraints locks/dev.lock pyproject.toml --output-file locks/controller.lock
	@$(UV_COMPILE) --constraints locks/ml.lock pyproject.toml --extra job --output-file locks/job.lock
	@$(UV_COMPILE) --upgrade locks/build.in --output-file locks/build.lock

clean-cache: down ## stop the cluster and remove all that is cached (the next start is cold)
	@rm -rf "$(CACHE)"
