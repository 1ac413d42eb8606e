//! The guide: what to know beyond the pages of the types.
//!
//! - [`embedding`]: a machine in an event loop of your own
//! - [`testing`]: without installing a job server
//! - [`many_servers`]: several job servers, and failing over
//! - [`what_happens_when`]: every fault and what a job's owner sees of it
//! - [`observing`]: counters, latencies, `tracing`, and asking the job server
//! - [`differences`]: what the job server does otherwise than gearmand
//! - [`security`]: what the protocol does not protect
//! - [`performance`]: what a job costs, beside what, and how to measure it
//! - [`tuning`]: what to turn when
//! - [`proof`]: what has been tried to break it, and how to try again
#![cfg_attr(feature = "blocking", doc = "- [`runtimes`]: which one to pick")]
#![cfg_attr(feature = "blocking", doc = "- [`worker_patterns`]: concurrency, progress, limits, stopping")]
#![cfg_attr(feature = "blocking", doc = "- [`gearmanode`]: for those who come from GearmaNode")]

#[doc = include_str!("../docs/embedding.md")]
pub mod embedding {}

#[doc = include_str!("../docs/testing.md")]
pub mod testing {}

#[cfg(feature = "blocking")]
#[doc = include_str!("../docs/runtimes.md")]
pub mod runtimes {}

#[doc = include_str!("../docs/many-servers.md")]
pub mod many_servers {}

#[doc = include_str!("../docs/what-happens-when.md")]
pub mod what_happens_when {}

#[cfg(feature = "blocking")]
#[doc = include_str!("../docs/worker-patterns.md")]
pub mod worker_patterns {}

#[cfg(feature = "blocking")]
#[doc = include_str!("../docs/gearmanode.md")]
pub mod gearmanode {}

#[doc = include_str!("../docs/observing.md")]
pub mod observing {}

#[doc = include_str!("../docs/differences.md")]
pub mod differences {}

#[doc = include_str!("../docs/security.md")]
pub mod security {}

#[doc = include_str!("../docs/tuning.md")]
pub mod tuning {}

#[doc = include_str!("../docs/proof.md")]
pub mod proof {}

#[doc = include_str!("../docs/performance.md")]
pub mod performance {}
