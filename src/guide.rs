//! The guide: what to know beyond the pages of the types.
//!
//! - [`embedding`]: a machine in an event loop of your own
//! - [`many_servers`]: several job servers, and failing over
//! - [`what_happens_when`]: every fault and what a job's owner sees of it
//! - [`differences`]: what the job server does otherwise than gearmand
//! - [`security`]: what the protocol does not protect
//! - [`tuning`]: what to turn when
//! - [`performance`]: what a job costs, beside what, and how to measure it
#![cfg_attr(feature = "blocking", doc = "- [`worker_patterns`]: concurrency, progress, limits, stopping")]
#![cfg_attr(feature = "blocking", doc = "- [`gearmanode`]: for those who come from GearmaNode")]

#[doc = include_str!("../docs/embedding.md")]
pub mod embedding {}

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

#[doc = include_str!("../docs/differences.md")]
pub mod differences {}

#[doc = include_str!("../docs/security.md")]
pub mod security {}

#[doc = include_str!("../docs/tuning.md")]
pub mod tuning {}

#[doc = include_str!("../docs/performance.md")]
pub mod performance {}
