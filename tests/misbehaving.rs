//! The examples `client` and `worker` against a job server that misbehaves in every way that came to mind: within a stated
//! time they end, or work again; they neither crash nor spin nor fill the memory, and never take a result for another's.
#![cfg(all(target_os = "linux", feature = "blocking"))]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use judge::{Row, judge};
use programs::RUNTIMES;

#[path = "misbehaving/client.rs"]
mod client;
#[path = "misbehaving/judge.rs"]
mod judge;
#[path = "misbehaving/peer.rs"]
mod peer;
#[path = "common/peers.rs"]
mod peers;
#[path = "common/programs.rs"]
mod programs;
#[path = "misbehaving/worker.rs"]
mod worker;

/// Rows that run at once: most of their time they wait.
const AT_ONCE: usize = 12;

/// Runs each row on the blocking runtime, and on one of the others in turn.
#[track_caller]
fn judge_all(rows: &[Row]) {
    let (blocking, others) = RUNTIMES.split_first().expect("one is there");
    let mut runs: Vec<(Row, &str)> = rows.iter().map(|row| (*row, *blocking)).collect();
    if !others.is_empty() {
        runs.extend(rows.iter().enumerate().map(|(number, row)| (*row, others[number % others.len()])));
    }
    if let Ok(only) = std::env::var("ROW") {
        runs.retain(|(row, _)| row.name.contains(&only));
    }
    let (next, faults) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((row, runtime)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = judge(row, runtime);
                    faults.lock().expect("no panic").extend(found);
                }
            });
        }
    });
    let faults = faults.into_inner().expect("no panic");
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn the_client_survives() {
    judge_all(&client::rows());
}

#[test]
fn the_worker_survives() {
    judge_all(worker::ROWS);
}

#[test]
fn no_behaviour_is_listed_twice() {
    let client = client::rows();
    let mut names: Vec<_> = client.iter().chain(worker::ROWS).map(|row| (row.program, row.name)).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(count >= 90, "{count}");
}
