# Every check of the house. CI (.ci/run) calls these, so CI can be run at home: `just check`.

set shell := ["bash", "-euo", "pipefail", "-c"]

# The nightly toolchain for fuzzing, or nothing where none is installed.
nightly := `rustup toolchain list 2>/dev/null | grep -o '^nightly[^ ]*' | head -1 || true`

# List the checks.
default:
    @{{ just_executable() }} --list --unsorted

# Everything CI checks.
check: test rest

# Everything but the README's test command, the quick refusals first.
rest: fmt lint watch no-std-guard msrv deny doc test-features package simulate fuzz-smoke bench-check bench-smoke

# Formatting (change it with `cargo fmt`).
fmt:
    cargo fmt --check
    if [ -f fuzz/Cargo.toml ]; then cargo fmt --check --manifest-path fuzz/Cargo.toml; fi
    cargo fmt --check --manifest-path examples/watch/Cargo.toml
    cargo fmt --check --manifest-path benches/peers/gearman-rs/Cargo.toml

# Clippy: everything with no features, with each and with all; the library with each pair.
lint:
    #!/usr/bin/env bash
    set -euo pipefail
    mapfile -t features < <({{ just_executable() }} features)
    clippy() {
        echo "== features: ${1:-none}" >&2
        cargo clippy --locked --quiet --no-default-features --features "$1" "${@:2}" -- -D warnings
    }
    clippy "$(IFS=,; echo "${features[*]}")" --all-targets
    clippy "" --all-targets
    for ((i = 0; i < ${#features[@]}; i++)); do
        clippy "${features[i]}" --all-targets
        for ((j = i + 1; j < ${#features[@]}; j++)); do clippy "${features[i]},${features[j]}" --lib; done
    done

# The live view of queues, a package of its own.
watch:
    cargo clippy --locked --manifest-path examples/watch/Cargo.toml --all-targets -- -D warnings
    cargo test --locked --manifest-path examples/watch/Cargo.toml

# The features, one a line, read from Cargo.toml.
features:
    @sed -n '/^\[features\]/,/^\[[^f]/s/^\([a-z0-9_-]*\) *= *\[.*/\1/p' Cargo.toml | grep -vx default

# The README's test command: unit, property, example, interop and documentation tests.
test:
    cargo test

# The same with all features, and the bare machines with none.
test-features:
    cargo test --locked --all-features
    cargo test --locked --no-default-features

# Against real peers alone: gearmand, and clients and workers in six languages. A missing peer is a failure here.
interop:
    CI=true cargo test --locked --test interop --test clients --test cluster --test differential -- --nocapture

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

# The whole system on a virtual network with faults, from SEEDS seeds.
simulate SEEDS="2000" START="0":
    cargo run --locked --release --example simulate -- --seeds {{ SEEDS }} --start {{ START }}

# A sanitizer, which needs nightly, would find little where there is no unsafe code.
# Each fuzz target for SECONDS, from its corpus, with any toolchain.
fuzz-smoke SECONDS="10":
    cargo fuzz build --sanitizer none
    for target in $({{ just_executable() }} fuzz-targets); do cargo fuzz run --sanitizer none $target -- -max_total_time={{ SECONDS }}; done

# One fuzz target, with libFuzzer's options; under AddressSanitizer where there is a nightly toolchain.
fuzz TARGET *OPTIONS:
    cargo {{ if nightly == "" { "fuzz run --sanitizer none" } else { "+" + nightly + " fuzz run" } }} {{ TARGET }} -- {{ OPTIONS }}

# The fuzz targets, one a line.
fuzz-targets:
    @sed -n 's/^name = "\(.*\)"/\1/p' fuzz/Cargo.toml | tail -n +2

# What the tests of the machines run of src/, by file and line. Needs `cargo install cargo-tarpaulin` and no LLVM tools.
coverage:
    cargo tarpaulin --version >/dev/null || { echo "coverage: missing; cargo install cargo-tarpaulin" >&2; exit 1; }
    cargo tarpaulin --engine llvm --locked --features "tls encoding json" --lib --test client --test worker \
        --test server --test admin --test wire --test laws --test faults --test corpus --test memory --test latencies \
        --test simulation --test hostile --test back_pressure --test secured --timeout 600 --out Stdout \
        --exclude-files 'runtimes/*' 'tests/*' 'fuzz/*' 'examples/*' 'benches/*' \
        --target-dir target/coverage --skip-clean

# Instructions and allocations of the codec and the machines; `just bench machines --grow`, `--against FILE`.
bench BENCH="*" *ARGS:
    cargo bench --locked --all-features --bench '{{ BENCH }}' -- {{ ARGS }}

# That no packet and no job takes more instructions than it may. Where valgrind is missing only allocations are checked.
bench-check:
    cargo bench --locked --all-features --bench codec --bench machines -- --check

# Whole processes beside gearmand, libgearman, gearman-rs and raw bytes, and what of it was aimed at (`--install` first).
[positional-arguments]
bench-peers *ARGS:
    benches/peers/run.py "$@"

# What the embedded server holds, and what a job beside it costs: connections, queued jobs, functions (`--reps`, `--only`).
[positional-arguments]
bench-server *ARGS:
    benches/peers/grow.py "$@"

# That each row of these two works: a moment each, not optimised. Without gearmand and the like it is passed over, but in CI.
bench-smoke:
    benches/peers/run.py --smoke
    benches/peers/grow.py --smoke
