# The menu. `make help` shows it.

PREFIX = /usr/local
CARGO = cargo
MINUTES = 5

help:     ## show this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

build:    ## the programs, optimised, in target/release
	$(CARGO) build --release --locked -p qmqpd -p tools

run:      ## a server of your own on 127.0.0.1:6628, with its queue in ./qmqpd-spool
	$(CARGO) run --release --locked -- serve

quick:    ## after a small change: format, lints, units, properties, house rules; no other program is needed
quick: format
	$(CARGO) clippy --locked --workspace --all-targets --quiet -- -D warnings
	$(CARGO) test --locked --quiet --workspace --lib $(addprefix --test ,$(QUICK))

test:     ## everything that must hold before a commit: format, lints, tests, manuals
test: peers format lint licences check fuzz-smoke model simulate manuals

format:   ## is the code formatted? (cargo fmt repairs it)
	$(CARGO) fmt --all --check

lint:     ## compiler, clippy and rustdoc without a warning
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --workspace --no-deps --document-private-items --quiet

check:    ## unit, property, differential and end-to-end tests; the differential suite also under a Postfix's master(8)
	$(CARGO) test --locked --workspace --no-fail-fast
	QMQPD_OURS=drop-in $(CARGO) test --locked --quiet -p qmqpd --test differential
	QMQPD_OURS=drop-in-local $(CARGO) test --locked --quiet -p qmqpd --test differential

# Test programs that need no other program and take seconds.
QUICK = house manual defaults match_lists indexed_files lmdb_pages berkeley_files

# One suite each; TEST=name runs only the tests of it with that in their name.
differential: ## suite: the same bytes to Postfix and to ours; OURS=drop-in or drop-in-local: ours under Postfix's master(8)
samples:      ## suite: real messages through both
tables:       ## suite: lookup tables with random contents, asked by postmap(1) and by ours
end-to-end:   ## suite: the program among other people's programs; stopped, killed, reloaded, starved
drop-in:      ## suite: ours in place of Postfix's qmqpd(8)
sandbox:      ## suite: what a service process can no longer do
faults:       ## suite: system calls that fail
operator:     ## suite: what check, start, reload and status say
master:       ## suite: serve, and the commands that steer it
differential samples tables end-to-end drop-in sandbox faults operator master:
	$(if $(OURS),QMQPD_OURS=$(OURS)) $(CARGO) test --locked -p qmqpd --test $(subst -,_,$@) -- $(TEST)

spool:        ## suite: the queue on a simulated disk: crashes and failures at each call
tools:        ## suite: qmqp-send, qmqp-bench, qmqpctl
spool tools:
	$(CARGO) test --locked -p $@ $(TEST)

fuzz-smoke: ## each fuzz target for two seconds, beginning with the cases of the differential suite
	@mkdir -p fuzz/target && QMQPD_SEEDS=$(CURDIR)/fuzz/target/seeds $(CARGO) test --locked --quiet -p qmqpd --test differential
	@CARGO=$(CARGO) fuzz/run smoke

fuzz:     ## one fuzz target for longer: make fuzz TARGET=message TIME=3600 (seconds)
	@mkdir -p fuzz/target && QMQPD_SEEDS=$(CURDIR)/fuzz/target/seeds $(CARGO) test --locked --quiet -p qmqpd --test differential
	@CARGO=$(CARGO) fuzz/run $(TARGET) $(TIME)

model:    ## threads and tasks under a model checker: make model ORDERS=100000 for long
	RUSTFLAGS='--cfg shuttle' CARGO_TARGET_DIR=$(CURDIR)/target/model QMQPD_MODELS=$(or $(ORDERS),1000) \
		$(CARGO) test --locked --quiet -p spool --test model
	RUSTFLAGS='--cfg shuttle' CARGO_TARGET_DIR=$(CURDIR)/target/model QMQPD_MODELS=$(or $(ORDERS),1000) \
		$(CARGO) test --locked --quiet -p daemon --lib service::model

# The simulated world needs the locks and threads of the model checker.
SIM = RUSTFLAGS='--cfg shuttle' CARGO_TARGET_DIR=$(CURDIR)/target/model $(CARGO)

simulate: ## the queue in a simulated world: make simulate SEED=1 SEEDS=300; a failing seed is made small and told
	$(SIM) test --locked --quiet -p sim --test seeds
	$(SIM) run --locked --quiet -p sim -- $(or $(SEED),1) $(or $(SEEDS),$(if $(SEED),1,300))

simulate-mutants: ## does the simulator find the faults that are planted for it? SEEDS=2000 seeds for each
	$(SIM) run --locked --quiet -p sim -- 1 $(or $(SEEDS),2000) --planted all

mutants:  ## which changes of a crate do its tests not see? make mutants CRATE=qmqp, JOBS=1, FILE=…, SHARD=0/8 (minutes to hours)
	@CRATE=$(CRATE) FILE=$(FILE) JOBS=$(JOBS) SHARD=$(SHARD) .ci/mutants

test-crash: ## kill -9 and power cuts, many of them: make test-crash CUTS=500 (as root)
	QMQPD_CRASHES=$(or $(CUTS),200) $(CARGO) test --locked -p qmqpd --test crash

oracle:   ## the differential suite against Postfix alone, for writing new cases
	QMQPD_ORACLE=only $(CARGO) test --locked -p qmqpd --test differential

soak:     ## a mixed load with everything going wrong, for MINUTES=5
	QMQPD_PEERS=required QMQPD_SOAK_SECONDS=$$(($(MINUTES) * 60)) $(CARGO) test --locked -p qmqpd --test soak

manuals:  ## do the manual pages parse?
	@if command -v mandoc >/dev/null; then mandoc -T lint -W warning man/*.[1-8]; else echo 'no mandoc: manual pages not checked'; fi

peers:    ## fetch the programs that the tests run against (Postfix, nullmailer, pflogsumm, samples)
	@.ci/peers

bench:    ## ours, Postfix and a bare program under the same loads, into bench/RESULTS.md; as root, 20 minutes
bench: build
	@[ "$$(id -u)" = 0 ] || { echo 'make bench needs root: it makes and mounts file systems, and starts a Postfix' >&2; exit 1; }
	$(CARGO) build --release --locked -p bench
	target/release/race $(BENCH)

bench-check: ## instruction counts of the pure crates against bench/instructions.csv (needs valgrind)
	$(CARGO) build --release --locked -p bench
	target/release/instructions

bench-bless: ## write bench/instructions.csv anew
	$(CARGO) build --release --locked -p bench
	target/release/instructions --bless

licences: ## licences, sources and duplicates of the dependencies, those of fuzz/ too; needs no network
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
		$(CARGO) deny --offline --all-features check bans licenses sources && \
		$(CARGO) deny --offline --all-features --manifest-path fuzz/Cargo.toml --config deny.toml check bans licenses sources; \
	else echo 'no cargo-deny: licences, sources and duplicates of the dependencies not checked (cargo install cargo-deny --locked)'; fi

deny:     ## the same with the advisories, whose database comes from the network (needs cargo-deny)
	$(CARGO) deny --all-features check
	$(CARGO) deny --all-features --manifest-path fuzz/Cargo.toml --config deny.toml check

install:  ## to $(DESTDIR)$(PREFIX); after make build
	install -D -m 755 target/release/qmqpd $(DESTDIR)$(PREFIX)/sbin/qmqpd
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/bin target/release/qmqp-send target/release/qmqp-bench target/release/qmqpctl
	for page in man/*.[1-8]; do install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man$${page##*.} $$page; done

clean:    ## remove target/, with the unpacked peers
	$(CARGO) clean

.PHONY: help build run quick differential samples tables end-to-end drop-in sandbox faults operator master spool tools test format lint check fuzz-smoke fuzz model simulate simulate-mutants mutants test-crash oracle soak manuals peers bench bench-check bench-bless licences deny install clean
