# The index for people who work on Peerglass. `make run` and `make test` need nothing but Rust: they install
# what is missing and say what they do. The first build compiles RocksDB, about 10 minutes on 2 cores, once.

CARGO := deploy/build/cargo.sh
SEEDS ?= 1..200
KILLS ?= 10
SECONDS ?= 300
ARGS ?=
# CI must not change Cargo.lock; a developer who adds a dependency wants it changed.
LOCKED := $(if $(CI),--locked)

.DEFAULT_GOAL := help
.PHONY: help run lab test check fix test-real test-kill test-chaos chaos chaos-mutations bench bench-fleet bench-swarm sample-config

help: ## list the targets
	@awk -F ':.*## '  '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## build and serve on 127.0.0.1:9292, data in ./peerglass-data (ARGS="--listen ..." for more)
	@binary=$$($(CARGO) --binary) && exec "$$binary" serve $(ARGS)

lab: ## three nodes on this machine until Ctrl-C: API on 9292, 9392, 9492, data in ./peerglass-lab
	@deploy/build/debian.sh lab
	@deploy/lab/cluster.sh $(ARGS)

test: ## all tests; no service, no network once the packages are there
	@$(CARGO) test --workspace $(LOCKED) $(ARGS)

check: ## format, clippy, documentation, style, licences; changes no file
	@deploy/build/debian.sh check
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --workspace --all-targets $(LOCKED) -- -D warnings
	@RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps $(LOCKED)
	@python3 deploy/build/style.py
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny $(LOCKED) check; \
	 else echo "check: cargo-deny is not installed: licences and advisories were NOT checked"; fi

fix: ## format, and apply clippy's suggestions
	@$(CARGO) fmt --all
	@$(CARGO) clippy --workspace --all-targets --fix --allow-dirty --allow-staged

sample-config: ## write deploy/peerglass.toml anew from the settings in the code
	@$(CARGO) run --quiet $(LOCKED) -p peerglass --bin peerglass -- config print >deploy/peerglass.toml.part
	@mv deploy/peerglass.toml.part deploy/peerglass.toml

test-real: ## real clients, a real disk, full disks, bad starts, KILLS=10 kill -9, the README's tour, a cluster
	@KILLS=$(KILLS) deploy/lab/real.sh $(ARGS)

test-kill: ## kill -9 at 50 random instants under load (ARGS="--seed N" to repeat one)
	@deploy/build/debian.sh lab
	@binary=$$($(CARGO) --binary) && python3 deploy/lab/kill.py --binary "$$binary" --kills 50 $(ARGS)

test-chaos: ## three nodes in namespaces (root): kills, cuts, pauses, a full disk, for SECONDS=300
	@deploy/build/debian.sh lab chaos
	@binary=$$($(CARGO) --binary) && $(CARGO) build --quiet --release $(LOCKED) -p peerglass-simulations --bin judge && \
	 python3 deploy/lab/chaos.py --binary "$$binary" --judge "$${binary%/*}/judge" --seconds $(SECONDS) $(ARGS)

chaos: ## simulated crashes, bad disks and bad networks, one run a seed, SEEDS=1..200
	@$(CARGO) run --release $(LOCKED) -p peerglass-simulations --bin simulate -- --seeds $(SEEDS) $(ARGS)

chaos-mutations: ## put known bugs back, one by one; each has to be found within 500 seeds
	@$(CARGO) run --release $(LOCKED) -p peerglass-simulations --bin simulate -- --drill $(ARGS)

bench: bench-fleet ## ratios against nginx, openssl, b3sum and etcd, side by side in one run (about 20 minutes)
	@deploy/build/debian.sh bench
	@$(CARGO) build --quiet --release $(LOCKED) -p peerglass-simulations --bin load
	@binary=$$($(CARGO) --binary) && python3 deploy/bench/bench.py --binary "$$binary" $(ARGS)

bench-fleet: ## 1,000 nodes in 10 sites: what the plan of a swarm comes to, in virtual time (minutes, the same figures anywhere)
	@PEERGLASS_FLEET=1000 $(CARGO) test --quiet $(LOCKED) -p peerglass-transfer --lib fleet -- --nocapture

bench-swarm: ## one image to many nodes over slow links, against libtorrent (root; ARGS="--content raw-os"; about 25 minutes)
	@deploy/build/debian.sh chaos swarm
	@binary=$$($(CARGO) --binary) && python3 deploy/bench/swarm.py --binary "$$binary" $(ARGS)
