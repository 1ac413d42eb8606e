//! What a job server answers: a line, or rows and the line that ends them.

use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};
use memchr::{memchr, memmem};

use super::{Request, parse, put, put_name, put_text, split_line};
use crate::error::ProtocolError;

/// A row of `status`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FunctionStatus<T = Bytes> {
    /// The function.
    pub function: T,
    /// Its jobs, those that run included.
    pub total: u64,
    /// Those that run.
    pub running: u64,
    /// The connections that can run it.
    pub workers: u64,
}

/// A row of `prioritystatus`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PriorityStatus<T = Bytes> {
    /// The function.
    pub function: T,
    /// Its queued jobs of high, normal and low priority.
    pub queued: [u64; 3],
    /// The connections that can run it.
    pub workers: u64,
}

/// A row of `workers`: a connection, client or worker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerStatus<T = Bytes> {
    /// The file descriptor, or another number of the connection.
    pub fd: i64,
    /// Its address.
    pub address: T,
    /// What it gave as SET_CLIENT_ID, else `-`.
    pub id: T,
    /// What it can run.
    pub functions: Vec<T>,
}

/// A row of `show jobs`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobStatus<T = Bytes> {
    /// The job.
    pub handle: T,
    /// How often it has been requeued.
    pub retries: u64,
    /// Whether nobody waits for it and it is to be dropped.
    pub ignored: bool,
    /// Whether it is a background job.
    pub queued: bool,
}

/// A row of `show unique jobs`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UniqueJob<T = Bytes> {
    /// The job, which gearmand names from 2.2 on.
    pub handle: Option<T>,
    /// Its unique.
    pub unique: T,
}

impl<T: AsRef<[u8]>> FunctionStatus<T> {
    /// A row.
    pub const fn new(function: T, total: u64, running: u64, workers: u64) -> Self {
        Self { function, total, running, workers }
    }

    /// Appends the row as a line.
    pub fn encode(&self, out: &mut BytesMut) {
        put_name(out, self.function.as_ref());
        put_text(out, format_args!("\t{}\t{}\t{}\n", self.total, self.running, self.workers));
    }
}

impl<T: AsRef<[u8]>> PriorityStatus<T> {
    /// A row.
    pub const fn new(function: T, queued: [u64; 3], workers: u64) -> Self {
        Self { function, queued, workers }
    }

    /// Appends the row as a line.
    pub fn encode(&self, out: &mut BytesMut) {
        let [high, normal, low] = self.queued;
        put_name(out, self.function.as_ref());
        put_text(out, format_args!("\t{high}\t{normal}\t{low}\t{}\n", self.workers));
    }
}

impl<T: AsRef<[u8]>> WorkerStatus<T> {
    /// A row.
    pub const fn new(fd: i64, address: T, id: T, functions: Vec<T>) -> Self {
        Self { fd, address, id, functions }
    }

    /// Appends the row as a line.
    pub fn encode(&self, out: &mut BytesMut) {
        put_text(out, format_args!("{} ", self.fd));
        put_name(out, self.address.as_ref());
        put(out, &[b" "]);
        put_name(out, self.id.as_ref());
        put(out, &[b" :"]);
        for function in &self.functions {
            put(out, &[b" "]);
            put_name(out, function.as_ref());
        }
        put(out, &[b"\n"]);
    }
}

impl<T: AsRef<[u8]>> JobStatus<T> {
    /// A row.
    pub const fn new(handle: T, retries: u64, ignored: bool, queued: bool) -> Self {
        Self { handle, retries, ignored, queued }
    }

    /// Appends the row as a line.
    pub fn encode(&self, out: &mut BytesMut) {
        put_name(out, self.handle.as_ref());
        put_text(out, format_args!("\t{}\t{}\t{}\n", self.retries, u8::from(self.ignored), u8::from(self.queued)));
    }
}

impl<T: AsRef<[u8]>> UniqueJob<T> {
    /// A row. Without a handle it is encoded as gearmand did before 2.2.
    pub const fn new(handle: Option<T>, unique: T) -> Self {
        Self { handle, unique }
    }

    /// Appends the row as a line.
    pub fn encode(&self, out: &mut BytesMut) {
        if let Some(handle) = &self.handle {
            put_name(out, handle.as_ref());
            put(out, &[b"\t"]);
        }
        put_name(out, self.unique.as_ref());
        put(out, &[b"\n"]);
    }
}

/// Appends the line that ends every list.
pub fn end_list(out: &mut BytesMut) {
    put(out, &[b".\n"]);
}

/// What a job server answers to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply {
    /// Done as told.
    Done,
    /// To [`Request::Version`].
    Version(Bytes),
    /// To [`Request::Pid`].
    Pid(u64),
    /// To [`Request::Verbose`].
    Verbose(Bytes),
    /// To [`Request::Status`].
    Status(Vec<FunctionStatus>),
    /// To [`Request::PriorityStatus`].
    PriorityStatus(Vec<PriorityStatus>),
    /// To [`Request::Workers`].
    Workers(Vec<WorkerStatus>),
    /// To [`Request::ShowJobs`].
    Jobs(Vec<JobStatus>),
    /// To [`Request::ShowUniqueJobs`].
    UniqueJobs(Vec<UniqueJob>),
    /// It was refused. What stands behind `ERR`.
    Refused(Bytes),
}

impl Reply {
    /// Appends the reply as gearmand prints it.
    pub fn encode(&self, out: &mut BytesMut) {
        fn list<T>(out: &mut BytesMut, rows: &[T], encode: impl Fn(&T, &mut BytesMut)) {
            rows.iter().for_each(|row| encode(row, out));
            end_list(out);
        }
        match self {
            Self::Done => put(out, &[b"OK\r\n"]),
            Self::Version(text) | Self::Verbose(text) => put(out, &[b"OK ", text, b"\n"]),
            Self::Pid(number) => put_text(out, format_args!("OK {number}\n")),
            Self::Status(rows) => list(out, rows, FunctionStatus::encode),
            Self::PriorityStatus(rows) => list(out, rows, PriorityStatus::encode),
            Self::Workers(rows) => list(out, rows, WorkerStatus::encode),
            Self::Jobs(rows) => list(out, rows, JobStatus::encode),
            Self::UniqueJobs(rows) => list(out, rows, UniqueJob::encode),
            Self::Refused(text) => put(out, &[b"ERR ", text, b"\r\n"]),
        }
    }
}

/// Takes the reply to one command from a stream, as it comes.
#[derive(Debug)]
pub struct ReplyParser {
    reply: Reply,
    rows: usize,
    left: usize,
}

impl ReplyParser {
    /// For the reply to `request`, which may have `limit` bytes.
    #[must_use]
    pub fn new(request: &Request, limit: usize) -> Self {
        let reply = match request {
            Request::Version => Reply::Version(Bytes::new()),
            Request::Pid => Reply::Pid(0),
            Request::Verbose => Reply::Verbose(Bytes::new()),
            Request::Status => Reply::Status(Vec::new()),
            Request::PriorityStatus => Reply::PriorityStatus(Vec::new()),
            Request::Workers => Reply::Workers(Vec::new()),
            Request::ShowJobs => Reply::Jobs(Vec::new()),
            Request::ShowUniqueJobs => Reply::UniqueJobs(Vec::new()),
            Request::CancelJob { .. }
            | Request::CreateFunction { .. }
            | Request::DropFunction { .. }
            | Request::MaxQueue { .. }
            | Request::Shutdown { .. } => Reply::Done,
        };
        Self { reply, rows: 0, left: limit }
    }

    /// Takes what there is of the reply off `stream`. `None`: more must come. After `Some` this parser is spent.
    ///
    /// # Errors
    /// [`ProtocolError::BadReply`] for lines that no server sends, [`ProtocolError::LineTooLong`] for more than the limit.
    pub fn take(&mut self, stream: &mut BytesMut) -> Result<Option<Reply>, ProtocolError> {
        while let Some(line) = split_line(stream, self.left)? {
            self.left = self.left.saturating_sub(line.len() + 1);
            if self.line(&line)? {
                return Ok(Some(core::mem::replace(&mut self.reply, Reply::Done)));
            }
        }
        Ok(None)
    }

    /// Takes one line. Says whether it was the last one.
    fn line(&mut self, line: &Bytes) -> Result<bool, ProtocolError> {
        let first = self.rows == 0;
        self.rows += 1;
        let in_list = !matches!(self.reply, Reply::Done | Reply::Version(_) | Reply::Pid(_) | Reply::Verbose(_));
        if in_list && &line[..] == b"." {
            return Ok(true);
        }
        let done = match &mut self.reply {
            Reply::Status(rows) => function_row(line).map(|row| rows.push(row)),
            Reply::PriorityStatus(rows) => priority_row(line).map(|row| rows.push(row)),
            Reply::Workers(rows) => worker_row(line).map(|row| rows.push(row)),
            Reply::Jobs(rows) => job_row(line).map(|row| rows.push(row)),
            // A unique may begin with ERR, but gearmand refuses this command only where it does not know it.
            Reply::UniqueJobs(_) if first && line.starts_with(b"ERR UNKNOWN_") => None,
            Reply::UniqueJobs(rows) => {
                let _: () = rows.push(unique_row(line));
                Some(())
            }
            Reply::Done if line.starts_with(b"OK") || &line[..] == b"BYE" => Some(()),
            Reply::Version(text) if !line.starts_with(b"ERR ") => {
                let _: () = *text = after_ok(line);
                Some(())
            }
            Reply::Verbose(text) if line.starts_with(b"OK") => {
                let _: () = *text = after_ok(line);
                Some(())
            }
            Reply::Pid(number) => line.strip_prefix(b"OK ").and_then(parse).map(|parsed| *number = parsed),
            Reply::Done | Reply::Version(_) | Reply::Verbose(_) | Reply::Refused(_) => None,
        };
        if done.is_some() {
            return Ok(!in_list);
        }
        let refused = line.strip_prefix(b"ERR").filter(|_| first).ok_or(ProtocolError::BadReply)?;
        self.reply = Reply::Refused(line.slice_ref(refused.trim_ascii()));
        Ok(true)
    }
}

fn after_ok(line: &Bytes) -> Bytes {
    let text = line.strip_prefix(b"OK").unwrap_or(line);
    line.slice_ref(text.trim_ascii())
}

/// A name and `N` numbers behind it, apart by tabs. The name may hold tabs.
fn name_and_numbers<const N: usize>(line: &Bytes) -> Option<(Bytes, [u64; N])> {
    let mut parts = line.rsplitn(N + 1, |&byte| byte == b'\t');
    let mut numbers = [0; N];
    for number in numbers.iter_mut().rev() {
        *number = parts.next().and_then(parse)?;
    }
    Some((line.slice_ref(parts.next()?), numbers))
}

fn function_row(line: &Bytes) -> Option<FunctionStatus> {
    let (function, [total, running, workers]) = name_and_numbers(line)?;
    Some(FunctionStatus { function, total, running, workers })
}

fn priority_row(line: &Bytes) -> Option<PriorityStatus> {
    let (function, [high, normal, low, workers]) = name_and_numbers(line)?;
    Some(PriorityStatus { function, queued: [high, normal, low], workers })
}

fn job_row(line: &Bytes) -> Option<JobStatus> {
    let (handle, [retries, ignored, queued]) = name_and_numbers(line)?;
    Some(JobStatus { handle, retries, ignored: ignored != 0, queued: queued != 0 })
}

fn unique_row(line: &Bytes) -> UniqueJob {
    match memchr(b'\t', line) {
        Some(tab) => UniqueJob { handle: Some(line.slice(..tab)), unique: line.slice(tab + 1..) },
        None => UniqueJob { handle: None, unique: line.clone() },
    }
}

/// `FD ADDRESS ID : FUNCTION FUNCTION`. An id may hold blanks; a function that does cannot be told from two.
fn worker_row(line: &Bytes) -> Option<WorkerStatus> {
    let mut parts = line.splitn(3, |&byte| byte == b' ');
    let fd = parts.next().and_then(parse)?;
    let address = line.slice_ref(parts.next()?);
    let rest = parts.next()?;
    let (id, functions) = match memmem::find(rest, b" : ") {
        Some(place) => (rest.get(..place)?, rest.get(place + 3..)?),
        None => (rest.strip_suffix(b" :")?, &[][..]),
    };
    let functions = functions.split(|&byte| byte == b' ').filter(|name| !name.is_empty());
    let functions = functions.map(|name| line.slice_ref(name)).collect();
    Some(WorkerStatus { fd, address, id: line.slice_ref(id), functions })
}
