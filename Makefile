# Each target is one command that does everything it needs. `make setup` builds .venv; the others build it on first use.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo check test test-all bench peers system format docs site notebooks release clean

STAMP := .venv/.installed
RUN := .venv/bin
ORT_WEB := .venv/onnxruntime-web.tgz
# The first Python of the machine that headway runs on.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/' | expand -t 16

setup: $(STAMP)  ## .venv with everything, tools included

# Debian splits ensurepip off into python3-venv; pip can fill an environment without it.
$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "headway needs Python 3.11, 3.12 or 3.13; none was found. Name one: make PYTHON=/path/to/python3.12" >&2; exit 2; }
	@test -x $(RUN)/pip || $(PYTHON) -m venv .venv 2>/dev/null || { rm -rf .venv && $(PYTHON) -m venv --without-pip .venv \
	  && $(PYTHON) -m pip --disable-pip-version-check --python $(RUN)/python install --quiet pip; } \
	  || { echo "no virtual environment could be made. On Debian: apt-get install python3-venv" >&2; exit 2; }
	$(RUN)/python -m pip --disable-pip-version-check install --quiet -e '.[all,dev]'
	@touch $(STAMP)

demo: $(STAMP)  ## train on handwritten digits and read one that was held out
	@$(RUN)/python examples/demo.py

check: $(STAMP)  ## linters, format, types, import order
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	$(RUN)/lint-imports

test: check  ## check and the fast tests
	$(RUN)/pytest -m 'not slow' -n 2

test-all: check $(ORT_WEB)  ## check and every test, slow ones too
	HEADWAY_ORT_WEB=$(abspath $(ORT_WEB)) $(RUN)/pytest -n 2

# The engine of exported pages, as the tests of them want it; without a network they are skipped.
$(ORT_WEB): $(STAMP)
	@curl -fsSL --retry 5 --max-time 120 -o $@.part \
	  $$($(RUN)/python -c 'from headway.formats.ort_web import URL; print(URL)') && mv $@.part $@ \
	  || echo "onnxruntime-web could not be fetched: tests of exported pages are skipped" >&2

# Each also alone: python -m benchmarks.NAME --help. Results of ours: benchmarks/RESULTS.md. Peers that are not installed
# are skipped; make peers installs them. ROUNDS=1 takes a third of the time.
bench: $(STAMP)  ## benchmarks on a folder with train, val and test: make bench DATA=photos [CIFAR100=folder] [ROUNDS=3]
	@test -n "$(DATA)" || { echo "name a folder with train, val and test: make bench DATA=photos" >&2; exit 2; }
	$(RUN)/python -m benchmarks.cold_start
	$(RUN)/python -m benchmarks.predict_one $(DATA)
	$(RUN)/python -m benchmarks.serve_load $(DATA) $(ROUNDS:%=--rounds %)
	$(RUN)/python -m benchmarks.serve_slow $(DATA) $(ROUNDS:%=--rounds %)
	$(RUN)/python -m benchmarks.limits $(DATA) $(ROUNDS:%=--rounds %)
	$(RUN)/python -m benchmarks.pass_rate $(DATA) $(ROUNDS:%=--rounds %)
	$(RUN)/python -m benchmarks.head $(DATA) $(ROUNDS:%=--rounds %)
	$(RUN)/python -m benchmarks.against_plain_loop $(DATA) $(ROUNDS:%=--rounds %)
	$(RUN)/python -m benchmarks.warm_refit $(DATA) $(ROUNDS:%=--rounds %)
	$(RUN)/python -m benchmarks.scale
	$(RUN)/python -m benchmarks.planted_duplicates $(DATA)
	$(RUN)/python -m benchmarks.finetune_rate $(DATA) $(ROUNDS:%=--rounds %)
	$(RUN)/python -m benchmarks.against_timm_sklearn $(DATA) $(ROUNDS:%=--rounds %)
	$(RUN)/python -m benchmarks.against_fastai $(DATA) $(ROUNDS:%=--rounds %)
	$(RUN)/python -m benchmarks.best_plain_pytorch $(DATA) $(ROUNDS:%=--rounds %)
	$(RUN)/python -m benchmarks.best_plain_pytorch $(DATA) --backbone resnet18 $(ROUNDS:%=--rounds %)
	@test -n "$(CIFAR100)" || echo "two more need CIFAR-100: make bench DATA=$(DATA) CIFAR100=folder"
	test -z "$(CIFAR100)" || $(RUN)/python -m benchmarks.seed_b_transfer $(CIFAR100) $(ROUNDS:%=--rounds %)
	test -z "$(CIFAR100)" || $(RUN)/python -m benchmarks.scratch_against_dataloader $(CIFAR100) $(ROUNDS:%=--rounds %)

peers: $(STAMP)  ## what bench compares with and headway does not need (fastai)
	$(RUN)/python -m pip --disable-pip-version-check install --quiet -e '.[bench]'

system:  ## Debian packages that tests use (a browser, PostgreSQL, a C compiler), as root
	@{ command -v chromium && command -v gcc && ls /usr/lib/postgresql/*/bin/initdb; } >/dev/null 2>&1 || { \
	  test "$$(id -u)" = 0 || { echo "make system installs packages: run it as root" >&2; exit 2; }; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core gcc libc6-dev postgresql; }

format: $(STAMP)  ## put the code in form
	$(RUN)/ruff check --fix .
	$(RUN)/ruff format .

docs: $(STAMP)  ## write docs/cli.md and docs/settings.md anew, from the code
	$(RUN)/python -m tests.cli_page > docs/cli.md.new && mv docs/cli.md.new docs/cli.md
	$(RUN)/python -m tests.settings_page > docs/settings.md.new && mv docs/settings.md.new docs/settings.md

site: docs  ## build the site of docs/ into site/, strictly, without a network
	NO_MKDOCS_2_WARNING=1 $(RUN)/python -m mkdocs build --strict

notebooks: $(STAMP)  ## run the notebooks of examples/ and write their output into them
	$(RUN)/python -m tests.notebooks

release: $(STAMP)  ## build the wheel into dist/ and try it in new environments; what is left is told
	@test -z "$$(git status --porcelain)" || { echo "the working tree holds changes: commit them first" >&2; exit 2; }
	$(RUN)/python -m pip --disable-pip-version-check wheel . --no-deps --no-build-isolation --quiet --wheel-dir dist
	HEADWAY_REQUIRE=wheel $(RUN)/pytest -q tests/releases
	@echo "left to do: CONTRIBUTING.md, Releases"

clean:  ## remove .venv and whatever was built
	rm -rf .venv demo build dist site src/*.egg-info .*_cache .hypothesis
