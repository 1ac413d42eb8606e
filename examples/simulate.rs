//! Runs the whole system, clients, workers, job servers and a network that fails in every way, on one virtual clock.
//!
//! `cargo run --release --example simulate -- --seeds 1000` runs a thousand seeds. A seed that breaks a rule is shrunk to a
//! short script and says how to run it again: the same seed gives the same run, byte for byte.
#![allow(clippy::disallowed_types, reason = "it measures how long it takes")]

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

mod common {
    #[path = "../../tests/common/net/mod.rs"]
    pub mod net;
    #[path = "../../tests/common/simulation/mod.rs"]
    pub mod simulation;
}

use common::net::{Fault, Trace};
use common::simulation::{Report, Script, run, shrink};

/// Runs Gearwheel's machines on a virtual network with faults.
#[derive(Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// Print all that happens.
    #[arg(long)]
    trace: bool,
    /// Go on after a seed that breaks a rule.
    #[arg(long)]
    keep_going: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    std::panic::set_hook(Box::new(|_| {}));
    let begun = Instant::now();
    let mut sum = Report::default();
    let trace = if arguments.trace { Trace::Whole } else { Trace::Hash };
    let mut failures = 0;
    let mut held = 0;
    for seed in arguments.start..arguments.start.saturating_add(arguments.seeds) {
        match run(&Script::new(seed), trace) {
            Ok(report) => {
                print!("{}", report.trace);
                sum.add(&report);
                held += 1;
            }
            Err(cause) => {
                failures += 1;
                println!("seed {seed}: {cause}");
                println!("replay: cargo run --release --example simulate -- --start {seed} --seeds 1 --trace");
                if !arguments.trace {
                    show_shrunk(seed);
                }
                if !arguments.keep_going {
                    break;
                }
            }
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("{held} seeds held, {failures} failed, in {seconds:.1} s: {:.0} seeds/s", held as f64 / seconds);
    println!(
        "{:.1} virtual hours, {} connection attempts, {} bytes carried, {} inputs, {} outputs",
        sum.virtual_nanos as f64 / 3600e9,
        sum.connects,
        sum.carried,
        sum.inputs,
        sum.outputs
    );
    let faults = Fault::ALL.iter().zip(sum.faults).map(|(fault, count)| format!("{fault:?} {count}"));
    println!("faults injected: {}", faults.collect::<Vec<_>>().join(", "));
    let outcomes = sum.outcomes.iter().map(|(outcome, count)| format!("{outcome} {count}"));
    println!("jobs: {}", outcomes.collect::<Vec<_>>().join(", "));
    println!("hash of all traces: {:016x}", sum.digest);
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A short script that still breaks a rule.
fn show_shrunk(seed: u64) {
    let script = shrink(Script::new(seed));
    let cause = run(&script, Trace::Off).err().unwrap_or_default();
    println!("shrunk: {cause}");
    println!(
        "  {} servers, {} clients, {} workers, a storm of {} ms",
        script.servers,
        script.clients,
        script.workers,
        script.storm / 1_000_000
    );
    for (fault, chance) in Fault::ALL.iter().zip(&script.chances).filter(|(_, chance)| **chance > 0) {
        println!("  {fault:?}: {chance} in 1000");
    }
    for (at, step) in &script.steps {
        println!("  at {} ms: {step:?}", at / 1_000_000);
    }
}
