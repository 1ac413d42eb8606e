//! One connection of a job server that misbehaves, and the words in which that is told.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Packet types, by their numbers.
pub(crate) const PRE_SLEEP: u32 = 4;
pub(crate) const NOOP: u32 = 6;
pub(crate) const SUBMIT_JOB: u32 = 7;
pub(crate) const JOB_CREATED: u32 = 8;
pub(crate) const GRAB_JOB: u32 = 9;
pub(crate) const NO_JOB: u32 = 10;
pub(crate) const JOB_ASSIGN: u32 = 11;
pub(crate) const WORK_STATUS: u32 = 12;
pub(crate) const WORK_COMPLETE: u32 = 13;
pub(crate) const WORK_FAIL: u32 = 14;
pub(crate) const GET_STATUS: u32 = 15;
pub(crate) const ECHO_REQ: u32 = 16;
pub(crate) const ECHO_RES: u32 = 17;
pub(crate) const ERROR: u32 = 19;
pub(crate) const STATUS_RES: u32 = 20;
pub(crate) const WORK_EXCEPTION: u32 = 25;
pub(crate) const OPTION_REQ: u32 = 26;
pub(crate) const OPTION_RES: u32 = 27;
pub(crate) const WORK_DATA: u32 = 28;
pub(crate) const WORK_WARNING: u32 = 29;
pub(crate) const GRAB_JOB_UNIQ: u32 = 30;
pub(crate) const JOB_ASSIGN_UNIQ: u32 = 31;
pub(crate) const JOB_ASSIGN_ALL: u32 = 40;

/// How long a read waits before it looks whether all is over.
const LOOK: Duration = Duration::from_millis(20);

/// A packet as it stands on the wire.
pub(crate) fn packet(kind: u32, arguments: &[&[u8]]) -> Vec<u8> {
    with_magic(b"\0RES", kind, arguments)
}

pub(crate) fn with_magic(magic: &[u8; 4], kind: u32, arguments: &[&[u8]]) -> Vec<u8> {
    let body = arguments.join(&0);
    [magic, &kind.to_be_bytes()[..], &(body.len() as u32).to_be_bytes(), &body].concat()
}

/// A header alone.
pub(crate) fn header(kind: u32, size: u32) -> Vec<u8> {
    [b"\0RES", &kind.to_be_bytes()[..], &size.to_be_bytes()].concat()
}

/// The server's end of one connection. It ends in order when it is dropped.
pub(crate) struct Peer {
    stream: TcpStream,
    /// Which connection it is, from 0.
    pub(crate) number: usize,
    over: Arc<AtomicBool>,
    came: Vec<u8>,
    /// What a worker did that a good one does not.
    pub(crate) complaint: Option<String>,
}

impl Peer {
    pub(crate) fn new(stream: TcpStream, number: usize, over: Arc<AtomicBool>) -> Self {
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(LOOK)).expect("above zero");
        stream.set_write_timeout(Some(LOOK)).expect("above zero");
        Self { stream, number, over, came: Vec::new(), complaint: None }
    }

    /// Whether the judge has seen enough.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Reads something; false at the end.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        while !self.is_over() {
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => {
                    self.came.extend_from_slice(&buffer[..count]);
                    return true;
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(_) => return false,
            }
        }
        false
    }

    /// The next packet: its type and its arguments. `None` at the end.
    pub(crate) fn next(&mut self) -> Option<(u32, Vec<u8>)> {
        loop {
            if let Some(header) = self.came.first_chunk::<12>() {
                let [kind, size] = [4, 8].map(|at| u32::from_be_bytes(header[at..at + 4].try_into().expect("four")));
                let end = 12 + size as usize;
                if self.came.len() >= end {
                    let body = self.came[12..end].to_vec();
                    self.came.drain(..end);
                    return Some((kind, body));
                }
            }
            if !self.read() {
                return None;
            }
        }
    }

    /// Reads so many bytes, whatever they are.
    pub(crate) fn swallow(&mut self, count: usize) {
        while self.came.len() < count && self.read() {}
        self.came.drain(..count.min(self.came.len()));
    }

    /// The next packet of this type; what else is asked meanwhile is answered well.
    pub(crate) fn until(&mut self, wanted: u32) -> Option<Vec<u8>> {
        loop {
            let (kind, body) = self.next()?;
            if kind == wanted {
                return Some(body);
            }
            self.answer(kind, &body);
        }
    }

    fn answer(&mut self, kind: u32, body: &[u8]) {
        match kind {
            ECHO_REQ => drop(self.send(ECHO_RES, &[body])),
            OPTION_REQ => drop(self.send(OPTION_RES, &[body])),
            GRAB_JOB | GRAB_JOB_UNIQ => drop(self.send(NO_JOB, &[])),
            _ => {}
        }
    }

    /// Lives: answers well what it is asked, but for submissions, until the other side ends it.
    pub(crate) fn live(&mut self) {
        self.until(u32::MAX);
    }

    /// Reads, and says nothing any more.
    pub(crate) fn fall_silent(&mut self) {
        while self.next().is_some() {}
    }

    /// Reads for a while, and says nothing.
    pub(crate) fn pause(&mut self, millis: u64) {
        let until = Instant::now() + Duration::from_millis(millis);
        while Instant::now() < until && !self.is_over() {
            let mut buffer = [0; 4096];
            if let Ok(count) = self.stream.read(&mut buffer) {
                self.came.extend_from_slice(&buffer[..count]);
            }
        }
    }

    /// Neither reads nor writes.
    pub(crate) fn sit(&self) {
        while !self.is_over() {
            crate::peers::nap();
        }
    }

    pub(crate) fn send(&mut self, kind: u32, arguments: &[&[u8]]) -> bool {
        self.raw(&packet(kind, arguments))
    }

    /// Writes all, if the other side ever takes it. False when that is gone.
    pub(crate) fn raw(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(_) if self.is_over() => return false,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Writes the same again and again, for as long as it is taken.
    pub(crate) fn flood(&mut self, bytes: &[u8]) {
        let much = bytes.repeat((64 << 10) / bytes.len().max(1) + 1);
        while self.raw(&much) {}
    }

    /// Writes it byte by byte, each a little after the one before.
    pub(crate) fn dribble(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if !self.raw(&[*byte]) {
                return;
            }
            crate::peers::nap();
        }
    }

    /// Ends the connection by a reset.
    pub(crate) fn reset(&self) {
        let linger = rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO));
        linger.expect("a socket");
    }

    /// Ends its own half.
    pub(crate) fn half_close(&self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// Waits for a job, and takes it under this handle.
    pub(crate) fn accept(&mut self, handle: &str) -> Option<Vec<u8>> {
        let job = self.until(SUBMIT_JOB)?;
        self.send(JOB_CREATED, &[handle.as_bytes()]);
        Some(job)
    }

    pub(crate) fn complete(&mut self, handle: &str, result: &str) {
        self.send(WORK_COMPLETE, &[handle.as_bytes(), result.as_bytes()]);
    }

    /// What a good job server does for a worker: gives it jobs, and takes their results.
    pub(crate) fn employ(&mut self) {
        let mut jobs = 0;
        self.send(NOOP, &[]);
        while let Some((kind, body)) = self.next() {
            let handle = format!("H:good:{}.{jobs}", self.number);
            match kind {
                GRAB_JOB => {
                    jobs += 1;
                    self.send(JOB_ASSIGN, &[handle.as_bytes(), b"f", b"abc"]);
                }
                GRAB_JOB_UNIQ => {
                    jobs += 1;
                    self.send(JOB_ASSIGN_UNIQ, &[handle.as_bytes(), b"f", b"", b"abc"]);
                }
                PRE_SLEEP => drop(self.send(NOOP, &[])),
                WORK_STATUS | WORK_COMPLETE | WORK_FAIL | WORK_EXCEPTION | WORK_DATA | WORK_WARNING => {
                    let ours = format!("H:good:{}.", self.number);
                    if kind != WORK_COMPLETE || !body.starts_with(ours.as_bytes()) || !body.ends_with(b"\0cba") {
                        self.complaint = Some(format!("it sent type {kind}, {}", body.escape_ascii()));
                    }
                }
                _ => self.answer(kind, &body),
            }
        }
    }
}
