//! The examples as programs, for tests that run them.

use std::process::Command;

/// The runtimes that the examples were built with.
pub(crate) const RUNTIMES: &[&str] = &[
    "blocking",
    #[cfg(feature = "mio")]
    "mio",
    #[cfg(feature = "smol")]
    "smol",
    #[cfg(feature = "tokio")]
    "tokio",
];

/// An example. `cargo test` has built it beside this test.
pub(crate) fn example(name: &str) -> Command {
    let mut path = std::env::current_exe().expect("this test runs from a file");
    path.pop();
    path.set_file_name("examples");
    path.push(name);
    assert!(path.exists(), "{} is not built: run `cargo test`, or `cargo build --examples` before", path.display());
    let mut command = Command::new(path);
    command.env_remove("GEARMAN_SERVERS");
    command
}
