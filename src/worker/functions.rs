//! What a worker offers to run: the table of its functions, and their names.

use alloc::vec::Vec;
use core::time::Duration;

use bytes::{Buf, Bytes};

use super::grab::Mood;
use super::{Function, Stop, Worker};
use crate::error::{ConfigError, Reason, Rejected};
use crate::job::check_function;
use crate::time::Instant;

impl Worker {
    /// Offers to run `function`, now and on each new connection. With `timeout` (CAN_DO_TIMEOUT, in milliseconds on the
    /// wire) a job of it that runs longer is failed by this worker shortly before its job server would give it to another;
    /// gearmand raises limits under 1 s to 1 s. One of more than 49 days is this worker's alone (CAN_DO).
    ///
    /// # Errors
    /// The name is none, or is registered already; a timeout of zero.
    pub fn register(
        &mut self,
        function: impl Into<Bytes>,
        timeout: Option<Duration>,
        now: Instant,
    ) -> Result<(), ConfigError> {
        self.links.advance_clock(now);
        let function = function.into();
        if function.is_empty() {
            return Err(ConfigError::EmptyFunction);
        }
        let function = self.on_the_wire(function);
        check_function(&function)?;
        if timeout.is_some_and(|timeout| timeout < Duration::from_millis(1)) {
            return Err(ConfigError::BadDuration { what: "timeout of a function", must_be: "at least 1 ms" });
        }
        if self.functions.get(&function).is_some_and(|known| !known.leaving) {
            return Err(ConfigError::DuplicateFunction { function: crate::error::lossy(&function) });
        }
        let old = self.withdraw(&function);
        let number = old.map_or(self.next_function, |old| old.number);
        self.next_function = self.next_function.wrapping_add(u32::from(old.is_none()));
        self.functions.insert(function.clone(), Function { number, timeout, leaving: false });
        self.timed += usize::from(timeout.is_some());
        for place in 0..self.sides.len() {
            let Some(side) = self.sides.get_mut(place) else { break };
            // A job server wakes nobody for a function that is offered asleep.
            side.mood = Mood::Awake;
            let told =
                side.to_forget.iter().position(|forgotten| *forgotten == function).map(|at| side.to_forget.remove(at));
            // gearmand counts a function twice that is offered twice.
            if told.is_none() || old.is_none_or(|old| old.timeout != timeout) {
                self.offer(place, &function, timeout);
            }
            if self.stop == Stop::No {
                self.links.dial(place);
            }
        }
        self.grab_more();
        Ok(())
    }

    /// Takes an offer back. Jobs of the function that are in hand are finished first, as a job server would take them away:
    /// only then is a server told (CANT_DO). Until it has been, jobs of the function may still come, and no others are asked
    /// of it: with each a job of the function could come, so that it might never end.
    /// [`Event::Unregistered`](super::Event::Unregistered) says when all have been.
    ///
    /// # Errors
    /// The function is not registered, or the worker has closed.
    pub fn unregister(&mut self, function: &[u8], now: Instant) -> Result<(), Rejected<()>> {
        self.links.advance_clock(now);
        if self.stop == Stop::Closed {
            return Err(Rejected::new(Reason::Closed, ()));
        }
        let name = self.on_the_wire(Bytes::copy_from_slice(function));
        let Some(known) = self.functions.get_mut(&name).filter(|known| !known.leaving) else {
            return Err(Rejected::new(Reason::Unknown("function"), ()));
        };
        known.leaving = true;
        self.leaving += 1;
        for (place, side) in self.sides.iter_mut().enumerate() {
            if self.links.is_up(place) {
                side.to_forget.push(name.clone());
            }
        }
        self.forget_functions();
        self.grab_more();
        Ok(())
    }

    /// Takes all offers back, each as [`unregister`](Self::unregister) does.
    pub fn unregister_all(&mut self, now: Instant) {
        let names: Vec<_> = self.functions().collect();
        for name in names {
            // It is offered, so that this cannot fail.
            let _ = self.unregister(&name, now);
        }
    }

    /// The functions that are offered, in the order of their names.
    pub fn functions(&self) -> impl Iterator<Item = Bytes> {
        self.functions.iter().filter(|(_, function)| !function.leaving).map(|(name, _)| self.plain(name.clone()))
    }

    /// Takes a function out of the table.
    pub(super) fn withdraw(&mut self, function: &Bytes) -> Option<Function> {
        let known = self.functions.remove(function)?;
        self.timed -= usize::from(known.timeout.is_some());
        self.leaving -= usize::from(known.leaving);
        Some(known)
    }

    /// The name of a function with the namespace before it.
    fn on_the_wire(&self, function: Bytes) -> Bytes {
        match &self.namespace {
            Some(namespace) => [namespace.as_bytes(), &function].concat().into(),
            None => function,
        }
    }

    /// Takes the namespace off the name of a function.
    #[inline]
    pub(super) fn strip(&self, function: &mut Bytes) {
        if let Some(namespace) = &self.namespace
            && function.starts_with(namespace.as_bytes())
        {
            function.advance(namespace.len());
        }
    }

    /// The name of a function without the namespace.
    pub(super) fn plain(&self, mut function: Bytes) -> Bytes {
        self.strip(&mut function);
        function
    }
}
