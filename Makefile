# make demo     install what is missing, build, convert a bundled checkpoint, show the report
# make test     lint and unit tests; needs no Python
# make interop  the written files in the hands of the real programs (PyPI, in .venv and .venv-transformer-lens)

SWIFT  ?= swift
PYTHON ?= python3
NORMFOLD = .build/release/normfold

.PHONY: all demo test lint format interop setup clean

all: setup
	$(SWIFT) build -c release --product normfold

setup:
	@Scripts/setup

demo: all
	@mkdir -p demo
	@echo
	@$(NORMFOLD) inspect fixtures/shakespeare-4x128/lnfree
	@echo
	@$(NORMFOLD) convert fixtures/shakespeare-4x128/lnfree demo/lnfree --for transformers --force

test: setup lint
	$(SWIFT) build --build-tests
	$(SWIFT) test --skip-build --disable-xctest

lint:
	$(SWIFT) format lint --strict --recursive Sources Tests Package.swift

format:
	$(SWIFT) format --in-place --recursive Sources Tests Package.swift

interop: all
	Tests/Interop/run $(NORMFOLD) $(PYTHON)

clean:
	rm -rf .build demo .venv .venv-transformer-lens
