# SPDX-License-Identifier: GPL-2.0-or-later
#
# A thin front over meson. Every target works in a fresh clone: what is missing
# is installed by scripts/setup, and nothing happens if nothing is missing.
#
#   make            build into build/
#   make demo       a tour on a real disk image (IMAGE=path for your own)
#   make check      all tests, random ones on a seeded sample (SEED=n to repeat)
#   make check-long the same with every combination and many more rounds
#   make bench      ours beside the distribution's tools (BENCH_ARGS=--quick)
#   make install    PREFIX=/usr/local, DESTDIR=
#   make check-asan, make check-tsan   the tests under sanitizers
#   make clean      remove what was built

BUILD ?= build
MESON_FLAGS ?=
PREFIX ?=

all: build

build:
	@scripts/setup
	@scripts/build $(BUILD) $(MESON_FLAGS)

demo:
	@scripts/setup
	@TARGETS='qemu-img qemu-io tests/demo-claims' \
	    scripts/build $(BUILD) $(MESON_FLAGS)
	@BUILD_DIR=$(BUILD) scripts/demo $(IMAGE)

check: build
	@scripts/setup --test
	@BUILD_DIR=$(BUILD) scripts/check

check-long: build
	@scripts/setup --test
	@BUILD_DIR=$(BUILD) scripts/check --long

bench: build
	@scripts/setup --test
	@BUILD_DIR=$(BUILD) tests/bench/bench $(BENCH_ARGS)

install: build
	@$(if $(PREFIX),meson configure $(BUILD) -Dprefix=$(PREFIX))
	@meson install -C $(BUILD) --quiet

check-asan:
	@scripts/setup --test
	@scripts/build $(BUILD)-asan -Db_sanitize=address,undefined $(MESON_FLAGS)
	@BUILD_DIR=$(BUILD)-asan scripts/check

check-tsan:
	@scripts/setup --test
	@scripts/build $(BUILD)-tsan -Db_sanitize=thread $(MESON_FLAGS)
	@MESON_TEST_ARGS='--suite unit --timeout-multiplier 10' BUILD_DIR=$(BUILD)-tsan scripts/check --part unit

clean:
	@for dir in $(BUILD) $(BUILD)-asan $(BUILD)-tsan $(BUILD)-clang; do \
	    if [ -d "$$dir/meson-private" ]; then \
	        rm -rf --one-file-system "$$dir"; \
	    fi; \
	done

.PHONY: all build demo check check-long bench install check-asan check-tsan clean
