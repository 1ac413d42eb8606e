//! Drivers: the only place that knows std, sockets, threads and clocks.
extern crate std;
