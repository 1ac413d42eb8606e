//! The whole system on one virtual clock, from seeds: see `tests/common/simulation.rs`, and `examples/simulate.rs` for more
//! seeds than a test has time for.

mod common {
    pub mod net;
    pub mod simulation;
}

use common::simulation::{Script, run};

fn holds(seed: u64) {
    if let Err(cause) = run(&Script::new(seed), false) {
        panic!(
            "seed {seed}: {cause}\nreplay: cargo run --release --example simulate -- --start {seed} --seeds 1 --trace"
        );
    }
}

#[test]
fn whatever_goes_wrong_each_job_ends_once_and_nothing_is_left() {
    (0..40).for_each(holds);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [1, 2, 3] {
        let script = Script::new(seed);
        let (first, second) = (run(&script, true).expect("holds"), run(&script, true).expect("holds"));
        assert!(!first.trace.is_empty());
        assert!(first.trace == second.trace, "seed {seed} gives two traces");
    }
}
