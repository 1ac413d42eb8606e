//! Drivers: the only place that knows std, sockets, threads and clocks.
#![allow(clippy::disallowed_types)]

extern crate std;
