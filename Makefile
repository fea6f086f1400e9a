CARGO ?= cargo
PREFIX ?= /usr/local
DESTDIR ?=

built := $(or $(CARGO_TARGET_DIR),target)
program := $(built)/release/mcp-auth-proxy

.DEFAULT_GOAL := help
.PHONY: help build release profile demo test test-counterparts lint fmt deny fuzz miri sanitize soak ci bench test-container install uninstall clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "  %-18s %s\n", $$1, $$2 }'

build: ## Build for development
	$(CARGO) build

host = $(shell rustc -vV | sed -n 's/^host: //p')

release: ## Build what is installed
	RUSTFLAGS="$$(packaging/flags)" $(CARGO) build --release --locked --target $(host)
	install -D -m 0755 $(built)/$(host)/release/mcp-auth-proxy $(program)

profile: ## Make the profile that releases are compiled by, anew (10 minutes; wants rustup's llvm-tools)
	benches/train

demo: ## Run a signed MCP conversation on this machine, then stay up
	$(CARGO) run -- demo

test: ## Run the tests; they need no network
	$(CARGO) test

test-counterparts: build ## Run real MCP clients, servers and the conformance suite (installs them first)
	tests/counterparts/run $(built)/debug/mcp-auth-proxy

lint: ## Check formatting and lints
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings

fmt: ## Format the sources
	$(CARGO) fmt

deny: ## Check licences, sources and advisories of what is linked (wants cargo-deny)
	$(CARGO) deny check

fuzz: ## Search for inputs that break what the fuzz targets check, MINUTES=10 for each of them (wants g++)
	fuzz/run $$(($(or $(MINUTES),10) * 60)) $(TARGETS)

# Those that call no C, start nothing and wait for nothing, but for what loops too long to be interpreted; two cases of each property.
pure := json::tests digits::tests framing::tests auth::redact bridge::message client::h1::head serve::h1::request mcp:: \
  path::tests proxy::cache::kept proxy::cache::question proxy::policy::listing sse::tests
impure := demo:: config:: log:: what_nests_is_passed_however_deep no_text_makes_it_stumble \
  what_names_and_paths_hold_is_bounded a_million_data_lines

miri: ## Interpret the tests of what is pure, to find undefined behaviour (wants a nightly toolchain with miri)
	MIRIFLAGS=-Zmiri-disable-isolation PROPTEST_CASES=2 \
	  $(CARGO) +nightly miri test --lib -- $(pure) $(addprefix --skip ,$(impure))

# The Rust of the program, of all that it links and of the standard library, not the C and assembly of aws-lc; first the
# unit tests, with leaks where the sanitizer finds them, then the program in the integration tests. Skipped is what looks
# at the size of memory or at all of it, as a sanitizer's own is part of it, or at the time an answer takes, or loads a
# library before the sanitizer's, or failed under ThreadSanitizer alone without a race: two signals at once.
SANITIZER ?= address
sanitized = RUSTFLAGS=-Zsanitizer=$(SANITIZER) $(CARGO) +nightly test -Zbuild-std --target $(host) --target-dir $(built)/sanitize
unfit := figures:: memory:: chaos::limits chaos::clock a_gigantic_chunked_json_body a_reader_that_stops \
  thousands_of_connections what_a_hostile_upstream_sends a_compressed_bomb \
  it_stays_small_also_after_a_large_message a_full_outage_is_answered_at_once stopping_is_said_with_the_time

sanitize: ## Run the tests under SANITIZER=address or thread (wants a nightly toolchain with rust-src)
	$(sanitized) --lib -- --skip what_lies_free_between_what_is_in_use_is_given_back
	ASAN_OPTIONS=detect_leaks=0 TSAN_OPTIONS=halt_on_error=1 \
	  $(sanitized) --test integration -- $(addprefix --skip ,$(unfit))

soak: release ## Have 64 agents at work for MINUTES=60, with reloads, rotations and restarts, and see what is lost or left
	MCP_AUTH_PROXY_BIN=$(abspath $(program)) SOAK_MINUTES=$(or $(MINUTES),60) \
	  $(CARGO) test --test integration soak -- --ignored --nocapture

ci: ## Run everything that has to pass before a change goes in
	.ci/run

bench: ## Measure against nginx, HAProxy and Envoy (25 minutes; QUICK=1 takes 3) and write benches/RESULTS.md
	benches/run $(if $(QUICK),--quick)

test-container: ## Build the image and try it where it shall run (as root; wants podman, buildah, runc)
	packaging/test/container

install: ## Install what "make release" built, under $(DESTDIR)$(PREFIX)
	@test -x $(program) || { echo 'install: nothing is built yet; run "make release" first' >&2; exit 1; }
	install -D -m 0755 $(program) $(DESTDIR)$(PREFIX)/bin/mcp-auth-proxy
	for page in man/*.[1578]; do \
	  install -D -m 0644 "$$page" "$(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/}" || exit; \
	done
	install -d $(addprefix $(DESTDIR)$(PREFIX)/share/,bash-completion/completions zsh/site-functions fish/vendor_completions.d)
	$(program) completions bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/mcp-auth-proxy
	$(program) completions zsh >$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_mcp-auth-proxy
	$(program) completions fish >$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/mcp-auth-proxy.fish

uninstall: ## Remove what "make install" installed
	rm -f $(DESTDIR)$(PREFIX)/bin/mcp-auth-proxy $(DESTDIR)$(PREFIX)/share/man/man[1578]/mcp-auth-proxy*.[1578] \
	  $(DESTDIR)$(PREFIX)/share/bash-completion/completions/mcp-auth-proxy \
	  $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_mcp-auth-proxy \
	  $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/mcp-auth-proxy.fish

clean: ## Remove all that was built
	$(CARGO) clean

include packaging/package.mk
include packaging/container/container.mk
