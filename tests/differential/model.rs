//! What a conversation has come to, as far as it decides what may be said next and which differences are to be expected.
//!
//! It follows the replies of our server, so that it needs no rules of its own for what is queued and who gets what.

use std::collections::BTreeMap;

use gearwheel::wire::PacketType;

use crate::talk::{Conn, Replies, Reply, Step};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) conns: BTreeMap<Conn, Line>,
    pub(crate) jobs: BTreeMap<Vec<u8>, Job>,
    /// Handles that were ever given out.
    pub(crate) handles: Vec<Vec<u8>>,
    /// Some connection's last bytes were a submission: nobody was told its handle.
    pub(crate) has_unseen_jobs: bool,
}

/// A connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line {
    pub(crate) is_closed: bool,
    pub(crate) abilities: Vec<Vec<u8>>,
    pub(crate) is_asleep: bool,
    /// It has had a NOOP and not grabbed since.
    pub(crate) is_woken: bool,
}

/// A job that has not ended.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) function: Vec<u8>,
    /// As it was first submitted: `-` stands for the payload.
    pub(crate) unique: Vec<u8>,
    /// It is not to be run before a time that no conversation comes to.
    pub(crate) is_delayed: bool,
    pub(crate) is_background: bool,
    /// Its first submission was a foreground one.
    pub(crate) began_in_foreground: bool,
    /// Foreground submissions that wait for it.
    pub(crate) waiters: Vec<Conn>,
    /// The connection that runs it.
    pub(crate) worker: Option<Conn>,
}

impl Job {
    /// One that a connection left behind.
    fn unseen(function: &[u8]) -> Self {
        Self {
            function: function.to_vec(),
            unique: Vec::new(),
            is_delayed: false,
            is_background: true,
            began_in_foreground: false,
            waiters: Vec::new(),
            worker: None,
        }
    }
}

impl Model {
    pub(crate) fn line(&self, conn: Conn) -> Line {
        self.conns.get(&conn).cloned().unwrap_or_default()
    }

    /// The jobs that `conn` runs.
    pub(crate) fn held_by(&self, conn: Conn) -> Vec<Vec<u8>> {
        let held = self.jobs.iter().filter(|(_, job)| job.worker == Some(conn));
        held.map(|(handle, _)| handle.clone()).collect()
    }

    /// Whether a job of `function` may wait for a worker.
    pub(crate) fn is_queued(&self, function: &[u8]) -> bool {
        self.has_unseen_jobs || self.jobs.values().any(|job| job.function == function && job.worker.is_none())
    }

    /// Takes up what a step did, by its replies.
    pub(crate) fn follow(&mut self, step: &Step, replies: &Replies) {
        if let Some(conn) = step.conn() {
            self.conns.entry(conn).or_default();
            self.follow_step(conn, step, replies.get(&conn).map(Vec::as_slice).unwrap_or_default());
        }
        for (&conn, replies) in replies {
            let line = self.conns.entry(conn).or_default();
            if replies.iter().any(|reply| reply.kind() == Some(PacketType::NOOP)) {
                (line.is_asleep, line.is_woken) = (false, true);
            }
            if replies.contains(&Reply::Closed) {
                self.close(conn);
            }
        }
    }

    fn follow_step(&mut self, conn: Conn, step: &Step, replies: &[Reply]) {
        let line = self.conns.entry(conn).or_default();
        let reply = replies.iter().find(|reply| reply.kind() != Some(PacketType::NOOP));
        match (step, step.kind()) {
            (Step::Close { last, .. }, _) => {
                self.close(conn);
                self.has_unseen_jobs |= !last.is_empty();
            }
            (Step::Text { line, .. }, _) => {
                let said = String::from_utf8_lossy(line).into_owned();
                if let (Some(handle), Some(Reply::Text(text))) = (said.trim_end().strip_prefix("cancel job "), reply)
                    && text.starts_with(b"OK")
                {
                    self.jobs.remove(handle.as_bytes());
                }
            }
            (_, Some(PacketType::CAN_DO | PacketType::CAN_DO_TIMEOUT)) => {
                line.abilities.retain(|function| function != step.argument(0));
                line.abilities.push(step.argument(0).to_vec());
            }
            (_, Some(PacketType::CANT_DO)) => {
                line.abilities.retain(|function| function != step.argument(0));
                self.requeue(conn, |job| job.function == step.argument(0));
            }
            (_, Some(PacketType::RESET_ABILITIES)) => {
                line.abilities.clear();
                self.requeue(conn, |_| true);
            }
            (_, Some(PacketType::PRE_SLEEP)) => (line.is_asleep, line.is_woken) = (true, false),
            (_, Some(PacketType::GRAB_JOB | PacketType::GRAB_JOB_UNIQ | PacketType::GRAB_JOB_ALL)) => {
                (line.is_asleep, line.is_woken) = (false, false);
                if let Some(&[handle, function, ..]) = reply.map(Reply::arguments).as_deref() {
                    self.jobs.entry(handle.to_vec()).or_insert_with(|| Job::unseen(function)).worker = Some(conn);
                }
            }
            (_, Some(PacketType::WORK_COMPLETE | PacketType::WORK_FAIL | PacketType::WORK_EXCEPTION)) => {
                let handle = step.argument(0);
                let handle = handle.strip_suffix(&[0]).unwrap_or(handle);
                if self.jobs.get(handle).is_some_and(|job| job.worker == Some(conn)) {
                    self.jobs.remove(handle);
                }
            }
            _ => {
                if let Some(created) = reply.filter(|reply| reply.kind() == Some(PacketType::JOB_CREATED)) {
                    self.created(conn, step, created.arguments()[0]);
                }
            }
        }
    }

    fn created(&mut self, conn: Conn, step: &Step, handle: &[u8]) {
        if !self.handles.iter().any(|known| known == handle) {
            self.handles.push(handle.to_vec());
        }
        let is_foreground = matches!(
            step.kind(),
            Some(
                PacketType::SUBMIT_JOB
                    | PacketType::SUBMIT_JOB_HIGH
                    | PacketType::SUBMIT_JOB_LOW
                    | PacketType::SUBMIT_REDUCE_JOB
            )
        );
        let job = self.jobs.entry(handle.to_vec()).or_insert_with(|| Job {
            function: step.argument(0).to_vec(),
            unique: step.argument(1).to_vec(),
            is_delayed: is_delayed(step),
            is_background: false,
            began_in_foreground: is_foreground,
            waiters: Vec::new(),
            worker: None,
        });
        job.is_background |= !is_foreground;
        job.waiters.extend(is_foreground.then_some(conn));
    }

    fn close(&mut self, conn: Conn) {
        let line = self.conns.entry(conn).or_default();
        *line = Line { is_closed: true, ..Line::default() };
        for job in self.jobs.values_mut() {
            job.waiters.retain(|&waiter| waiter != conn);
        }
        self.jobs.retain(|_, job| job.is_background || !job.waiters.is_empty() || job.worker.is_some());
        self.requeue(conn, |_| true);
    }

    fn requeue(&mut self, conn: Conn, which: impl Fn(&Job) -> bool) {
        for job in self.jobs.values_mut().filter(|job| job.worker == Some(conn) && which(job)) {
            job.worker = None;
        }
        self.jobs.retain(|_, job| job.is_background || !job.waiters.is_empty() || job.worker.is_some());
    }
}

/// Whether it submits a job that is not to be run before a time that no conversation comes to.
pub(crate) fn is_delayed(step: &Step) -> bool {
    step.kind() == Some(PacketType::SUBMIT_JOB_EPOCH) && step.argument(2) == FAR
}

/// A wall time beyond any conversation.
pub(crate) const FAR: &[u8] = b"4000000000";
