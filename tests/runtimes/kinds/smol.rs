//! smol in the words of the scenarios.

use super::*;
use crate::pipe;
use futures_lite::StreamExt;
use futures_lite::future::block_on;
use gearwheel::smol::{Admin, Client, Futures, Pending, Server, Stream, Worker};
use std::sync::mpsc;
use std::thread;

/// What must live where a driver is polled by hand.
pub(crate) fn context() -> impl Sized {
    // Nothing.
    None::<String>
}

kind_of_futures!(Smol, smol, |future| drop(thread::spawn(|| async_io::block_on(future))));
