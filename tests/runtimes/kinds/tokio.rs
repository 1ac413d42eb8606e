//! tokio in the words of the scenarios, on one thread and on two.

use super::*;
use crate::pipe;
use ::tokio::runtime::{Builder, Runtime};
use futures_lite::StreamExt;
use futures_lite::future::block_on;
use gearwheel::tokio::{Admin, Client, Futures, Pending, Server, Stream, Worker};
use std::sync::{LazyLock, mpsc};
use std::thread;

/// What must live where a driver is polled by hand.
pub(crate) fn context() -> ::tokio::runtime::EnterGuard<'static> {
    THREADS.enter()
}

pub(crate) static THREADS: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads"));

kind_of_futures!(Current, tokio, |future| drop(thread::spawn(|| {
    Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future);
})));
kind_of_futures!(Threads, tokio, |future| drop(THREADS.spawn(future)));
