//! What each admin command does.

use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};

use super::jobs::State;
use super::packets::MAX_FUNCTION;
use super::{Event, Server};
use crate::error::ProtocolError;
use crate::machine::Output;
use crate::trace;
use crate::wire::admin::{
    self, FunctionStatus, JobStatus, PriorityStatus, Refusal, Reply, Request, UniqueJob, WorkerStatus,
};

impl Server {
    /// Does what a line asks. `Err`: its connection is to be closed.
    pub(super) fn command(&mut self, peer: u32, line: &Bytes) -> Result<(), ProtocolError> {
        let mut out = core::mem::take(&mut self.scratch);
        let mut shutdown = None;
        match Request::parse(line) {
            Ok(Request::Shutdown { graceful }) if self.may_shut_down(peer) => {
                Reply::Done.encode(&mut out);
                shutdown = Some(graceful);
            }
            Ok(Request::Shutdown { .. }) => Refusal::UnknownCommand(first_word(line)).encode(&mut out),
            Ok(request) => self.answer(request, &mut out),
            Err(Refusal::TooManyWords) => return Err(ProtocolError::TooManyWords(admin::MAX_WORDS)),
            Err(refusal) => refusal.encode(&mut out),
        }
        self.peers.text(peer, &out);
        out.clear();
        // A long list is not worth keeping its room.
        self.scratch = if out.capacity() > 64 << 10 { BytesMut::new() } else { out };
        if let Some(graceful) = shutdown {
            self.peers.get(peer).into_iter().for_each(|this| trace::shutdown(&this.span, graceful));
            self.shut_down(graceful);
        }
        Ok(())
    }

    fn may_shut_down(&self, peer: u32) -> bool {
        self.config.allow_shutdown && self.peers.get(peer).is_some_and(|this| this.loopback)
    }

    fn shut_down(&mut self, graceful: bool) {
        self.peers.outputs.push_back(Output::Event(Event::Shutdown { graceful }));
        if graceful {
            self.drain(self.now);
        } else {
            self.close(self.now);
        }
    }

    fn answer(&mut self, request: Request, out: &mut BytesMut) {
        match request {
            Request::Version => Reply::Version(self.config.version.clone().into()).encode(out),
            Request::Verbose => Reply::Verbose(self.config.verbose.clone().into()).encode(out),
            Request::Pid => Reply::Pid(self.config.process_id.into()).encode(out),
            Request::Status => {
                for (_, function) in self.queue.functions.iter() {
                    let [total, running, workers] = [function.total, function.running, function.workers].map(u64::from);
                    FunctionStatus::new(&function.name, total, running, workers).encode(out);
                }
                admin::end_list(out);
            }
            Request::PriorityStatus => {
                for (_, function) in self.queue.functions.iter() {
                    let queued = function.queued.map(u64::from);
                    PriorityStatus::new(&function.name, queued, function.workers.into()).encode(out);
                }
                admin::end_list(out);
            }
            Request::Workers => self.workers(out),
            Request::ShowJobs => self.show_jobs(out),
            Request::ShowUniqueJobs => {
                for (_, index) in self.jobs_in_order() {
                    UniqueJob::new(None, self.queue.jobs.table[index].unique()).encode(out);
                }
                admin::end_list(out);
            }
            Request::CancelJob { handle } => self.cancel(&handle, out),
            Request::CreateFunction { function } => {
                if function.len() <= MAX_FUNCTION && self.queue.intern(&function).is_ok() {
                    Reply::Done.encode(out);
                } else {
                    Reply::Refused(Bytes::from_static(b"QUEUE_ERROR")).encode(out);
                }
            }
            Request::DropFunction { function } => self.drop_function(&function, out),
            Request::MaxQueue { function, limits } => {
                if let Some(function) = self.queue.function(&function) {
                    self.queue.functions[function].limits = limits;
                }
                Reply::Done.encode(out);
            }
            Request::Shutdown { .. } => {}
        }
    }

    /// The newest connection first, as gearmand does. The number stands where it has the file descriptor.
    fn workers(&self, out: &mut BytesMut) {
        let mut all: Vec<_> = self.peers.iter().collect();
        all.sort_unstable_by_key(|(_, peer)| core::cmp::Reverse(peer.serial));
        for (index, peer) in all {
            let functions = self.queue.functions_of(index).map(|function| &*function.name).collect();
            WorkerStatus::new(index.into(), peer.address.as_bytes(), &*peer.id, functions).encode(out);
        }
        admin::end_list(out);
    }

    fn jobs_in_order(&self) -> Vec<(u64, u32)> {
        let mut all: Vec<_> = self.queue.jobs.table.iter().map(|(index, job)| (job.number, index)).collect();
        all.sort_unstable();
        all
    }

    fn show_jobs(&self, out: &mut BytesMut) {
        for (number, index) in self.jobs_in_order() {
            let job = &self.queue.jobs.table[index];
            let is_ignored = job.cancelled || (job.waiting == 0 && !job.background);
            let handle = self.handles.write(number);
            JobStatus::new(&*handle, job.retries.into(), is_ignored, job.background && !is_ignored).encode(out);
        }
        admin::end_list(out);
    }

    /// Ends a job that does not run. One that runs goes on for nobody, and no submission is joined with it.
    fn cancel(&mut self, handle: &[u8], out: &mut BytesMut) {
        let job = self.handles.parse(handle).and_then(|number| self.queue.jobs.with_number(number));
        let Some(index) = job.filter(|&job| !self.queue.jobs.table[job].cancelled) else {
            Reply::Refused(Bytes::from_static(b"UNKNOWN_JOB")).encode(out);
            return;
        };
        if self.queue.jobs.table[index].state == State::Running {
            self.tell_failed(index);
            self.queue.disown(index);
            self.queue.jobs.forget_key(index);
            self.queue.jobs.table[index].cancelled = true;
        } else {
            self.fail(index);
        }
        Reply::Done.encode(out);
    }

    fn drop_function(&mut self, name: &[u8], out: &mut BytesMut) {
        let reply = match self.queue.function(name) {
            None => Reply::Refused(Bytes::from_static(b"function not found")),
            Some(function) if self.queue.drop_function(function) => Reply::Done,
            Some(_) => Reply::Refused(Bytes::from_static(b"there are still connected workers or executing clients")),
        };
        reply.encode(out);
    }
}

fn first_word(line: &Bytes) -> Bytes {
    line.slice_ref(line.split(|&byte| byte == b' ').next().unwrap_or_default())
}
