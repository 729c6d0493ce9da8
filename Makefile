# `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
HARDY := target/release/hardy
RUNNER := $(shell command -v cargo-nextest >/dev/null && echo "nextest run" || echo test)

.PHONY: help setup build demo test chart images chaos nights flowers bench lint clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: ## fetch libtorch and the ImageNet weights into .deps/
	@deploy/setup.sh

build: setup ## build the program in release
	cargo build --release --locked
	cargo build --release --locked --no-default-features --bin hardy

demo: build ## run the whole job on the built-in synthetic flowers
	@test -d demo-run/photos || $(HARDY) dataset synth --out demo-run/photos --per-class 100
	$(HARDY) run --config configs/demo.toml --data demo-run/photos --out demo-run/result

test: ## run every test
	@deploy/setup.sh tests
	cargo $(RUNNER) --release --locked
	$(MAKE) chart
	@! ldd $(HARDY) | grep libtorch || { echo "hardy is linked with libtorch"; exit 1; }

chart: build ## check the chart, the alert rules and the images, and type every command of the documents
	@deploy/setup.sh tests
	.deps/helm/bin/python -m pytest -q tests/helm

images: ## build and try all images without a container engine: as root, takes an hour
	deploy/try_images.sh coordinator worker-cpu worker-cuda

chaos: ## the long form of the kills: HARDY_CHAOS_SEED=n repeats one
	@deploy/setup.sh tests
	HARDY_CHAOS=full cargo test --release --locked --test cluster -- --nocapture the_result_survives

nights: build ## play two weeks of nightly retraining on synthetic flowers
	$(HARDY) nightly simulate --nights 14 --out nights-run

flowers: build ## run the full recipe: make flowers DATA=folder [OUT=flowers-run]
	@test -n "$(DATA)" || { echo "usage: make flowers DATA=folder-of-photos [OUT=flowers-run]"; exit 2; }
	$(HARDY) run --config configs/flowers.toml --data "$(DATA)" --out "$(or $(OUT),flowers-run)"

bench: build ## measure throughput, and what a cluster costs
	cp $(HARDY) target/release/hardy-client
	cargo bench --locked --bench throughput
	HARDY_CLIENT=$(CURDIR)/target/release/hardy-client cargo bench --locked --bench cluster

lint: setup ## formatting and lints
	cargo fmt --check
	cargo clippy --release --locked --all-targets -- -D warnings
	cargo clippy --release --locked --no-default-features --lib --bins -- -D warnings

clean: ## remove what was built and run, but not what was fetched
	cargo clean
	rm -rf demo-run flowers-run nights-run
