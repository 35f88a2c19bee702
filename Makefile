# make demo     install what is missing, build, convert a bundled checkpoint, show what was proved; demo/report.html has charts
# make dist     packages that need no Swift where they are installed: a wheel, a .tar.gz and a .deb, in dist/
# make test-dist  installs them into empty directories and tries them there
# make install  the program with completions and manual pages: make install PREFIX=~/.local
# make test     lint and unit tests; needs no Python
# make faults   kills, full disks, failing system calls: what is left afterwards (root and strace for all of it)
# make mpi      removals by several processes of an MPI, also as two hosts; builds a program with it (libopenmpi-dev)
# make proof    random networks of every family: none refused that is honest, no planted error passed: make proof SEED=2
# make fuzz     every parser under libFuzzer and AddressSanitizer: make fuzz SECONDS=60
# make sanitize the whole test suite under the address and the thread sanitizer
# make bench    whole commands and kernels beside what one would take instead: make bench SIZE=xl
# make screenshots  pictures of the demo's report on a desk, a phone and paper (chromium)
# make docs     the documentation of the library, in .build/docs/NormFold.doccarchive
# make interop  the written files in the hands of the real programs (PyPI, in .venv; with ALL=1 also in environments of their own, and a browser)


SWIFT  ?= swift
PYTHON ?= python3
NORMFOLD = .build/release/normfold

.PHONY: all dist test-dist install demo screenshots docs test faults mpi proof fuzz sanitize bench proto lint format interop setup clean

all: setup
	$(SWIFT) build -c release --product normfold

setup:
	@Scripts/setup

demo: all
	@mkdir -p demo
	@echo
	@$(NORMFOLD) inspect fixtures/shakespeare-4x128/lnfree
	@echo
	@$(NORMFOLD) convert fixtures/shakespeare-4x128/lnfree demo/lnfree --for transformers --force \
	  --tokenizer fixtures/shakespeare-4x128/tokenizer --report demo/report.html

# Programs are linked with archives there, which pkg-config's packages bring.
dist: setup
	SWIFT=$(SWIFT) $(PYTHON) Scripts/dist

test-dist:
	@ls dist/normfold-*.whl >/dev/null 2>&1 || $(MAKE) dist
	Tests/Packages/run $(PYTHON)

PREFIX ?= /usr/local
install:
	@[ -x $(NORMFOLD) ] || $(MAKE) all
	install -D $(NORMFOLD) $(DESTDIR)$(PREFIX)/bin/normfold
	Scripts/extras $(NORMFOLD) $(DESTDIR)$(PREFIX)

screenshots: demo
	Scripts/screenshots demo/report.html demo/screenshots

# The modules whose public types NormFold re-exports, before it.
DOCUMENTED = $(addprefix NormFold,Formats Networks Folding Arithmetic Verify Measurement Training) NormFold
docs: setup
	@Scripts/setup libopenmpi-dev
	@mkdir -p .build/docs && rm -rf .build/docs/NormFold.doccarchive
	NORMFOLD_DOCS=1 $(SWIFT) package --allow-writing-to-directory .build/docs generate-documentation \
	  --enable-experimental-combined-documentation $(DOCUMENTED:%=--target %) --warnings-as-errors \
	  --output-path .build/docs/NormFold.doccarchive

# Every output is synced, which takes much longer on a disk than in memory: there where it has 2 GB of room.
MEMORY = $(shell [ "$$(df --output=avail /dev/shm 2>/dev/null | tail -n 1)" -gt 2000000 ] 2>/dev/null && \
  echo /dev/shm || echo "$${TMPDIR:-/tmp}")

# The modules in which the suite spends its time are optimised: see Package.swift.
test faults mpi: export NORMFOLD_OPTIMISED = 1
test: setup lint
	$(SWIFT) build --build-tests
	TMPDIR=$(MEMORY) $(SWIFT) test --skip-build --disable-xctest
	Tests/Faults/run .build/debug/normfold 20

# The tests expand the fixtures that the faults use.
KILLS ?= 200
faults: setup
	$(SWIFT) build --build-tests
	$(SWIFT) test --skip-build --disable-xctest --filter MatrixTests
	Tests/Faults/run .build/debug/normfold $(KILLS)

# Optimised, and as many networks as README.md speaks of.
SEED        ?= 1
CONVERSIONS ?= 15000
PERIOD      ?= 45
proof: setup
	$(SWIFT) build -c release --product normfold-proof
	TMPDIR=$(MEMORY) .build/release/normfold-proof --seed $(SEED) --conversions $(CONVERSIONS) --period $(PERIOD)

SECONDS ?= 60
fuzz: setup
	SWIFT=$(SWIFT) Fuzz/run $(SECONDS)

# Optimised, since the sanitizers alone make it slow enough; preconditions and overflow checks stay.
SANITIZED = $(SWIFT) test --disable-xctest -c release -Xswiftc -enable-testing
sanitize: setup
	LSAN_OPTIONS=suppressions=$(CURDIR)/Tests/leaks.txt:print_suppressions=0 \
	  $(SANITIZED) --sanitize=address --scratch-path .build/address
	TSAN_OPTIONS=suppressions=$(CURDIR)/Tests/races.txt \
	  $(SANITIZED) --sanitize=thread --scratch-path .build/thread

# Needs what 'make interop' installs.
SIZE ?= small
bench: setup
	$(SWIFT) build -c release --product normfold
	$(SWIFT) build -c release --product normfold-benchmarks
	Benchmarks/run $(NORMFOLD) .build/release/normfold-benchmarks .venv/bin/python $(SIZE)

# After a change of the schema; the generated C is part of the repository.
proto:
	@Scripts/setup protobuf-c-compiler
	protoc-c --proto_path=Sources/COnnxProto --c_out=Sources/COnnxProto onnx.proto
	mv Sources/COnnxProto/onnx.pb-c.h Sources/COnnxProto/include/

lint:
	$(SWIFT) format lint --strict --recursive Sources Tests Benchmarks Examples Package.swift

format:
	$(SWIFT) format --in-place --recursive Sources Tests Benchmarks Examples Package.swift

# A program of its own, which nobody needs who has no MPI.
mpi: setup
	@Scripts/setup libopenmpi-dev openmpi-bin iproute2 procps
	$(SWIFT) build -c release --traits MPI --scratch-path .build/mpi --product normfold
	$(SWIFT) build --build-tests
	$(SWIFT) test --skip-build --disable-xctest --filter MatrixTests
	Tests/MPI/run .build/mpi/release/normfold

interop: all
	ALL=$(ALL) Tests/Interop/run $(NORMFOLD) $(PYTHON)

clean:
	rm -rf .build dist demo .venv .venv-*
