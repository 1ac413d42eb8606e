//! What the benches share.

use std::env;
use std::fs;
use std::process::{Command, Stdio, id};

/// Whether instructions can be counted; says so where they cannot.
pub(crate) fn has_valgrind() -> bool {
    let found = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !found {
        println!("valgrind is not installed: instructions are not counted");
    }
    found
}

/// Instructions of one whole run of this program with these arguments, under callgrind.
pub(crate) fn instructions(arguments: &[&str]) -> u64 {
    let out = env::temp_dir().join(format!("gearwheel-bench-{}.callgrind", id()));
    let run = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(env::current_exe().expect("the path of this program"))
        .args(arguments)
        .output()
        .expect("valgrind runs");
    assert!(run.status.success(), "valgrind: {}", String::from_utf8_lossy(&run.stderr));
    let text = fs::read_to_string(&out).expect("what callgrind wrote");
    drop(fs::remove_file(&out));
    let total = text.lines().find_map(|line| line.strip_prefix("summary: ").or(line.strip_prefix("totals: ")));
    total.and_then(|total| total.trim().parse().ok()).expect("a total in what callgrind wrote")
}
