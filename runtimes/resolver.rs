//! Host names looked up beside the loop: each on a thread that ends with it.

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::task::Waker;

use super::resolve;
use super::std::sync::{Mutex, PoisonError};
use super::std::{io, thread};
use crate::{Address, ConnId};

/// Lookups under way at once; more fail.
const MOST: usize = 64;

/// What has been found, for the driver that asked.
#[derive(Clone, Default)]
pub(crate) struct Resolver(Arc<Mutex<Found>>);

#[derive(Default)]
struct Found {
    results: Vec<(ConnId, io::Result<Vec<SocketAddr>>)>,
    under_way: usize,
}

impl Resolver {
    /// Begins to look `server` up. `waker` is woken when [`take`](Self::take) has the result.
    pub(crate) fn begin(&self, conn: ConnId, server: &Address, waker: Waker) -> io::Result<()> {
        {
            let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if found.under_way >= MOST {
                return Err(io::Error::other("too many host names are being looked up"));
            }
            found.under_way += 1;
        }
        let (this, address) = (self.clone(), server.clone());
        let lookup = move || {
            let result = resolve(&address).map_err(|reason| io::Error::other(reason.to_string()));
            let mut found = this.0.lock().unwrap_or_else(PoisonError::into_inner);
            found.under_way -= 1;
            found.results.push((conn, result));
            drop(found);
            waker.wake();
        };
        let spawned = thread::Builder::new().name("gearwheel-resolve".into()).spawn(lookup);
        if spawned.is_err() {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).under_way -= 1;
        }
        spawned.map(drop)
    }

    /// What has been found since.
    pub(crate) fn take(&self) -> Vec<(ConnId, io::Result<Vec<SocketAddr>>)> {
        core::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).results)
    }
}
