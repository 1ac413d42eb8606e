//! The whole system on one virtual clock, from seeds: see `tests/common/simulation.rs`, and `examples/simulate.rs` for more
//! seeds than a test has time for.

mod common {
    pub mod net;
    pub mod simulation;
}

use common::net::Trace;
use common::simulation::{Script, run};

fn holds(seed: u64) {
    if let Err(cause) = run(&Script::new(seed), Trace::Off) {
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
    let script = Script::new(1);
    let (first, second) = (run(&script, Trace::Whole).expect("holds"), run(&script, Trace::Hash).expect("holds"));
    assert!(first.trace.lines().count() > 1000);
    assert_eq!(first.digest, second.digest, "two traces, or one that depends on being kept");
}

/// Tables that are hashed with a key of the process, and addresses in memory, are alike within one process only.
#[test]
fn the_same_seed_gives_the_same_trace_in_another_process() {
    let hashes =
        || [2, 3, 5, 8].map(|seed| format!("{:016x}", run(&Script::new(seed), Trace::Hash).expect("holds").digest));
    if std::env::var_os(CHILD).is_some() {
        println!("hashes {}", hashes().join(" "));
        return;
    }
    let this = std::env::current_exe().expect("this test");
    let name = "the_same_seed_gives_the_same_trace_in_another_process";
    let child = std::process::Command::new(this)
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, "1")
        // Another size of the environment and other arguments: nothing lies where it lay here.
        .env("GEARWHEEL_SIMULATION_PADDING", "x".repeat(1000))
        .output()
        .expect("it runs");
    let output = String::from_utf8_lossy(&child.stdout);
    let wanted = format!("hashes {}", hashes().join(" "));
    assert!(output.contains(&wanted), "wanted {wanted}, but the child says {output}");
}

const CHILD: &str = "GEARWHEEL_SIMULATION_CHILD";
