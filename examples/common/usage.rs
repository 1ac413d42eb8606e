//! What a process has used, as Linux tells it.

use std::fs;
use std::time::Duration;

/// The processor's time of all threads that live, user and system.
pub(crate) fn cpu_time() -> Duration {
    // The process's own count has ticks of 10 ms, this one nanoseconds. Threads that have ended are not in it.
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let nanos = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// The most memory it ever had, in KiB.
pub(crate) fn peak_kb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
