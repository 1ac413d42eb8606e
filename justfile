# Every check of the house. CI (.ci/run) calls these, so CI can be run at home: `just check`.

set shell := ["bash", "-euo", "pipefail", "-c"]

# The nightly toolchain for fuzzing, or nothing where none is installed.
nightly := `rustup toolchain list 2>/dev/null | grep -o '^nightly[^ ]*' | head -1 || true`

# List the checks.
default:
    @just --list --unsorted

# Everything CI checks.
check: test rest

# Everything but the README's test command, the quick refusals first.
rest: fmt lint no-std-guard msrv deny doc test-features package fuzz-smoke

# Formatting (change it with `cargo fmt`).
fmt:
    cargo fmt --check
    if [ -f fuzz/Cargo.toml ]; then cargo fmt --check --manifest-path fuzz/Cargo.toml; fi

# Clippy on every set of features that differs: none, each, each pair, all.
lint:
    just _each-feature-set cargo clippy --locked --all-targets

# Check each set of features with the command given, warnings refused.
_each-feature-set +command:
    #!/usr/bin/env bash
    set -euo pipefail
    mapfile -t sets < <(just feature-sets)
    for set in "${sets[@]}"; do
        echo "== features: ${set:-none}" >&2
        {{ command }} --no-default-features --features "$set" -- -D warnings
    done
    echo "== ${#sets[@]} feature sets pass" >&2

# The sets of features that lint goes through, one a line, read from Cargo.toml.
feature-sets:
    #!/usr/bin/env bash
    set -euo pipefail
    mapfile -t all < <(sed -n '/^\[features\]/,/^\[[^f]/s/^\([a-z0-9_-]*\) *= *\[.*/\1/p' Cargo.toml | grep -vx default)
    echo
    for ((i = 0; i < ${#all[@]}; i++)); do
        echo "${all[i]}"
        for ((j = i + 1; j < ${#all[@]}; j++)); do echo "${all[i]},${all[j]}"; done
    done
    if ((${#all[@]} > 2)); then (IFS=,; echo "${all[*]}"); fi

# The README's test command: unit, property, example, interop and documentation tests.
test:
    cargo test

# The same with all features, and the bare machines with none.
test-features:
    cargo test --locked --all-features
    cargo test --locked --no-default-features

# Against real peers alone: gearmand, libgearman's tools, Perl's Gearman. A missing peer is a failure here.
interop:
    CI=true cargo test --locked --test interop -- --nocapture

# The documentation, as docs.rs builds it, and with every private item.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --all-features
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --all-features --document-private-items
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --no-default-features

# What crates.io would get, built from its own archive.
package:
    cargo package --locked --allow-dirty

# src/ never sees std: the compiler says so, and so does this.
no-std-guard:
    .ci/no-std-guard

# The oldest Rust that Cargo.toml states still does.
msrv:
    .ci/msrv

# Licences, sources, and one version of each dependency.
deny:
    .ci/deny

# Each fuzz target for SECONDS, from its corpus, under AddressSanitizer.
fuzz-smoke SECONDS="10":
    #!/usr/bin/env bash
    set -euo pipefail
    if [ ! -f fuzz/Cargo.toml ]; then exit 0; fi
    for target in $(just fuzz-targets); do just fuzz "$target" -max_total_time={{ SECONDS }}; done

# One fuzz target, with the options of libFuzzer.
fuzz TARGET *OPTIONS:
    {{ if nightly == "" { "RUSTC_BOOTSTRAP=1 cargo" } else { "cargo +" + nightly } }} fuzz run {{ TARGET }} -- {{ OPTIONS }}

# The fuzz targets, one a line.
fuzz-targets:
    @sed -n 's/^name = "\(.*\)"/\1/p' fuzz/Cargo.toml | tail -n +2

# Instructions and allocations of the codec and the machines; `just bench machines --grow`, `--against FILE`.
bench BENCH="*" *ARGS:
    cargo bench --locked --all-features --bench '{{ BENCH }}' -- {{ ARGS }}

# Whole processes beside gearmand, libgearman and raw bytes: jobs/s, CPU time, ratios (`--reps`, `--only`, `--size`).
bench-peers *ARGS:
    benches/peers/run.py {{ ARGS }}
