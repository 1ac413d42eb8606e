//! The text protocol, both ways.
//!
//! A command is a line, its words apart by blanks, its command word in any case; the end is LF or CRLF. A job server and
//! those who ask it share these types: [`Request::parse`] and [`Request::encode`]; the rows and [`Reply::encode`] as
//! gearmand prints them, and [`ReplyParser`], which also understands Perl's server and newer ones.

use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::str::FromStr;

use bytes::{Bytes, BytesMut};
use memchr::{memchr, memmem};

use crate::error::ProtocolError;

/// Bytes that a command line may have, its end included. A longer one closes its connection.
pub const MAX_LINE: usize = 8 << 10;
/// Words that a command line may have. More of them close its connection.
pub const MAX_WORDS: usize = 5;

/// Splits the first line off `stream`, without its LF or CRLF. `None`: its end is not there yet.
///
/// # Errors
/// [`ProtocolError::LineTooLong`] when there is no end within `limit` bytes.
pub fn split_line(stream: &mut BytesMut, limit: usize) -> Result<Option<Bytes>, ProtocolError> {
    match memchr(b'\n', stream) {
        Some(end) if end < limit => {
            let line = stream.split_to(end + 1).freeze();
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            let length = text.strip_suffix(b"\r").unwrap_or(text).len();
            Ok(Some(line.slice(..length)))
        }
        None if stream.len() < limit => Ok(None),
        _ => Err(ProtocolError::LineTooLong(limit)),
    }
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// `version`
    Version,
    /// `status`: jobs and workers of each function.
    Status,
    /// `prioritystatus`: queued jobs of each function by priority.
    PriorityStatus,
    /// `workers`: the connections.
    Workers,
    /// `show jobs`
    ShowJobs,
    /// `show unique jobs`
    ShowUniqueJobs,
    /// `cancel job HANDLE`
    CancelJob {
        /// The job's handle.
        handle: Bytes,
    },
    /// `create function FUNCTION`
    CreateFunction {
        /// Its name.
        function: Bytes,
    },
    /// `drop function FUNCTION`
    DropFunction {
        /// Its name.
        function: Bytes,
    },
    /// `maxqueue FUNCTION`, `maxqueue FUNCTION N`, `maxqueue FUNCTION HIGH NORMAL LOW`: how many jobs a function may have
    /// before a submission of each priority is refused.
    MaxQueue {
        /// Its name.
        function: Bytes,
        /// For high, normal and low priority. Zero is no limit.
        limits: [u32; 3],
    },
    /// `getpid`: the process id of the job server.
    Pid,
    /// `verbose`: how much it logs.
    Verbose,
    /// `shutdown`, `shutdown graceful`. gearmand has it no more.
    Shutdown {
        /// Whether jobs are to be finished first.
        graceful: bool,
    },
}

/// A line that is no command; what the job server answers to it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// Nobody knows this command.
    UnknownCommand(Bytes),
    /// This command has not the number of words that it takes.
    Incomplete(Bytes),
    /// `show` shows no such thing.
    UnknownShow,
    /// `cancel` cancels no such thing.
    UnknownCancel,
    /// More words than any command has. gearmand closes the connection without an answer.
    TooManyWords,
}

impl Refusal {
    /// Appends the answer. There is none to [`TooManyWords`](Self::TooManyWords).
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::UnknownCommand(word) => put(out, &[b"ERR UNKNOWN_COMMAND Unknown+server+command", word, b"\r\n"]),
            Self::Incomplete(word) => put(
                out,
                &[b"ERR INVALID_ARGUMENTS An+incomplete+set+of+arguments+was+sent+to+this+command+", word, b"\r\n"],
            ),
            Self::UnknownShow => put(out, &[b"ERR UNKNOWN_SHOW_ARGUMENTS\r\n"]),
            Self::UnknownCancel => put(out, &[b"ERR UNKNOWN_ERROR\r\n"]),
            Self::TooManyWords => {}
        }
    }
}

/// A word of a command that is empty or holds a blank, a line end or a NUL: the text protocol cannot say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {what} is empty or holds a blank, a line end or a NUL: the text protocol cannot say it")]
pub struct NotAWord {
    /// What the word is for.
    pub what: &'static str,
}

impl Request {
    /// The command in a line without its end.
    ///
    /// # Errors
    /// What is to be answered instead.
    pub fn parse(line: &Bytes) -> Result<Self, Refusal> {
        let words = words(line).ok_or(Refusal::TooManyWords)?;
        let word = |index: usize| words.get(index).cloned().unwrap_or_default();
        let is = |index: usize, text: &str| words.get(index).is_some_and(|w| w.eq_ignore_ascii_case(text.as_bytes()));
        let command = word(0);
        let count = words.len();
        match command.to_ascii_lowercase().as_slice() {
            b"version" => Ok(Self::Version),
            b"status" => Ok(Self::Status),
            b"prioritystatus" => Ok(Self::PriorityStatus),
            b"workers" => Ok(Self::Workers),
            b"getpid" => Ok(Self::Pid),
            b"verbose" => Ok(Self::Verbose),
            b"shutdown" => Ok(Self::Shutdown { graceful: is(1, "graceful") }),
            b"show" if count == 2 && is(1, "jobs") => Ok(Self::ShowJobs),
            b"show" if count == 3 && is(1, "unique") && is(2, "jobs") => Ok(Self::ShowUniqueJobs),
            b"show" if count > 1 => Err(Refusal::UnknownShow),
            b"cancel" if count == 3 && is(1, "job") => Ok(Self::CancelJob { handle: word(2) }),
            b"cancel" if count > 2 => Err(Refusal::UnknownCancel),
            b"create" if count == 3 && is(1, "function") => Ok(Self::CreateFunction { function: word(2) }),
            b"drop" if count == 3 && is(1, "function") => Ok(Self::DropFunction { function: word(2) }),
            b"maxqueue" if count > 1 => Ok(Self::MaxQueue { function: word(1), limits: limits(words.get(2..)) }),
            b"create" | b"drop" | b"maxqueue" => Err(Refusal::Incomplete(command)),
            _ => Err(Refusal::UnknownCommand(command)),
        }
    }

    /// Appends the command as a line.
    ///
    /// # Errors
    /// A word that cannot be said; nothing has been appended then.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), NotAWord> {
        let line: &[&[u8]] = match self {
            Self::Version => &[b"version"],
            Self::Status => &[b"status"],
            Self::PriorityStatus => &[b"prioritystatus"],
            Self::Workers => &[b"workers"],
            Self::ShowJobs => &[b"show jobs"],
            Self::ShowUniqueJobs => &[b"show unique jobs"],
            Self::Pid => &[b"getpid"],
            Self::Verbose => &[b"verbose"],
            Self::Shutdown { graceful: false } => &[b"shutdown"],
            Self::Shutdown { graceful: true } => &[b"shutdown graceful"],
            Self::CancelJob { handle } => &[b"cancel job ", sayable("handle", handle)?],
            Self::CreateFunction { function } => &[b"create function ", sayable("function", function)?],
            Self::DropFunction { function } => &[b"drop function ", sayable("function", function)?],
            Self::MaxQueue { function, limits } => {
                put(out, &[b"maxqueue ", sayable("function", function)?]);
                match limits {
                    [0, 0, 0] => {}
                    [high, normal, low] if high == normal && normal == low => put_text(out, format_args!(" {high}")),
                    [high, normal, low] => put_text(out, format_args!(" {high} {normal} {low}")),
                }
                &[]
            }
        };
        put(out, line);
        // gearmand 1.1.20 takes the last letter of `create function` for the CR, so there must be one.
        put(out, &[b"\r\n"]);
        Ok(())
    }
}

/// The words of a line. Runs of blanks separate; one before the first word makes it empty, one behind the last makes
/// another, empty word. `None`: too many.
fn words(line: &Bytes) -> Option<Vec<Bytes>> {
    let mut words = Vec::new();
    let mut rest = line.clone();
    loop {
        if words.len() == MAX_WORDS {
            return None;
        }
        let Some(end) = memchr(b' ', &rest) else {
            words.push(rest);
            return Some(words);
        };
        words.push(rest.split_to(end));
        let blanks = rest.iter().take_while(|&&byte| byte == b' ').count();
        rest = rest.slice(blanks..);
    }
}

/// The limits of `maxqueue`: what is no number, or a negative one, is no limit.
fn limits(words: Option<&[Bytes]>) -> [u32; 3] {
    let number = |word: &Bytes| {
        let digits = word.iter().take_while(|byte| byte.is_ascii_digit()).count();
        word.get(..digits).and_then(parse::<u32>).unwrap_or(0)
    };
    match words.unwrap_or_default() {
        [] => [0; 3],
        [all] => [number(all); 3],
        [high, normal] => [number(high), number(normal), 0],
        [high, normal, low, ..] => [number(high), number(normal), number(low)],
    }
}

fn sayable<'a>(what: &'static str, word: &'a Bytes) -> Result<&'a [u8], NotAWord> {
    let bad = |byte: &u8| matches!(byte, 0 | b' ' | b'\n' | b'\r');
    if word.is_empty() || word.iter().any(bad) { Err(NotAWord { what }) } else { Ok(word) }
}

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

fn parse<T: FromStr>(text: &[u8]) -> Option<T> {
    core::str::from_utf8(text).ok()?.parse().ok()
}

fn put(out: &mut BytesMut, parts: &[&[u8]]) {
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

fn put_text(out: &mut BytesMut, text: fmt::Arguments<'_>) {
    // A BytesMut takes all that there is memory for.
    let _ = out.write_fmt(text);
}

/// Appends a name that a peer chose. A line end in it would forge another line.
fn put_name(out: &mut BytesMut, name: &[u8]) {
    let start = out.len();
    out.extend_from_slice(name);
    for byte in out.iter_mut().skip(start) {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b'?';
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn request(line: &'static str) -> Result<Request, Refusal> {
        Request::parse(&Bytes::from_static(line.as_bytes()))
    }

    fn text(encode: impl FnOnce(&mut BytesMut)) -> alloc::string::String {
        let mut out = BytesMut::new();
        encode(&mut out);
        alloc::string::String::from_utf8_lossy(&out).into_owned()
    }

    fn reply(request: &Request, bytes: &str) -> Result<Option<Reply>, ProtocolError> {
        ReplyParser::new(request, 1 << 20).take(&mut BytesMut::from(bytes))
    }

    #[test]
    fn command_words_are_of_any_case_and_surplus_words_are_ignored_where_gearmand_does() {
        assert_eq!(request("VERSION x y"), Ok(Request::Version));
        assert_eq!(request("Show  Jobs"), Ok(Request::ShowJobs));
        assert_eq!(request("show unique jobs"), Ok(Request::ShowUniqueJobs));
        assert_eq!(request("show jobs "), Err(Refusal::UnknownShow));
        assert_eq!(request("show"), Err(Refusal::UnknownCommand("show".into())));
        assert_eq!(request("cancel job"), Err(Refusal::UnknownCommand("cancel".into())));
        assert_eq!(request("cancel job H:a:1 x"), Err(Refusal::UnknownCancel));
        assert_eq!(request(" version"), Err(Refusal::UnknownCommand("".into())));
        assert_eq!(request("create function a b"), Err(Refusal::Incomplete("create".into())));
        assert_eq!(request("Foo bar"), Err(Refusal::UnknownCommand("Foo".into())));
    }

    #[test]
    fn five_words_are_taken_and_six_are_not() {
        assert_eq!(request("maxqueue f 1 2 3"), Ok(Request::MaxQueue { function: "f".into(), limits: [1, 2, 3] }));
        assert_eq!(request("a b c d e f"), Err(Refusal::TooManyWords));
        assert_eq!(request("a b c d e "), Err(Refusal::TooManyWords));
    }

    #[test]
    fn maxqueue_takes_text_and_negative_numbers_for_no_limit() {
        let limits = |line| match request(line) {
            Ok(Request::MaxQueue { limits, .. }) => limits,
            other => panic!("{other:?}"),
        };
        assert_eq!(limits("maxqueue f"), [0; 3]);
        assert_eq!(limits("maxqueue f 10"), [10; 3]);
        assert_eq!(limits("maxqueue f -5"), [0; 3]);
        assert_eq!(limits("maxqueue f abc"), [0; 3]);
        assert_eq!(limits("maxqueue f 7x"), [7; 3]);
        assert_eq!(limits("maxqueue f 1 2"), [1, 2, 0]);
    }

    #[test]
    fn every_request_is_parsed_from_what_it_encodes_to() {
        let all = [
            Request::Version,
            Request::Status,
            Request::PriorityStatus,
            Request::Workers,
            Request::ShowJobs,
            Request::ShowUniqueJobs,
            Request::CancelJob { handle: "H:a:1".into() },
            Request::CreateFunction { function: "f".into() },
            Request::DropFunction { function: "f".into() },
            Request::MaxQueue { function: "f".into(), limits: [0; 3] },
            Request::MaxQueue { function: "f".into(), limits: [7; 3] },
            Request::MaxQueue { function: "f".into(), limits: [1, 0, 3] },
            Request::Pid,
            Request::Verbose,
            Request::Shutdown { graceful: false },
            Request::Shutdown { graceful: true },
        ];
        for request in all {
            let mut stream = BytesMut::new();
            request.encode(&mut stream).unwrap();
            let line = split_line(&mut stream, MAX_LINE).unwrap().unwrap();
            assert_eq!(Request::parse(&line), Ok(request));
            assert!(stream.is_empty());
        }
    }

    #[test]
    fn a_word_that_cannot_be_said_is_refused_before_anything_is_written() {
        let mut out = BytesMut::new();
        for function in ["", "a b", "a\nshutdown", "a\r", "a\0"] {
            let request = Request::MaxQueue { function: function.into(), limits: [1; 3] };
            assert_eq!(request.encode(&mut out), Err(NotAWord { what: "function" }));
        }
        assert!(out.is_empty());
    }

    #[test]
    fn refusals_are_gearmands() {
        let refusal = |line| text(|out| request(line).unwrap_err().encode(out));
        assert_eq!(refusal("foo"), "ERR UNKNOWN_COMMAND Unknown+server+commandfoo\r\n");
        assert_eq!(refusal(""), "ERR UNKNOWN_COMMAND Unknown+server+command\r\n");
        assert_eq!(refusal("show foo"), "ERR UNKNOWN_SHOW_ARGUMENTS\r\n");
        assert_eq!(refusal("cancel foo bar"), "ERR UNKNOWN_ERROR\r\n");
        assert_eq!(
            refusal("create"),
            "ERR INVALID_ARGUMENTS An+incomplete+set+of+arguments+was+sent+to+this+command+create\r\n"
        );
    }

    #[test]
    fn a_line_ends_with_lf_or_crlf_and_not_beyond_the_limit() {
        let mut stream = BytesMut::from("a\r\nb\nc\r\r\nd");
        let mut next = || split_line(&mut stream, 8);
        assert_eq!(next(), Ok(Some("a".into())));
        assert_eq!(next(), Ok(Some("b".into())));
        assert_eq!(next(), Ok(Some("c\r".into())));
        assert_eq!(next(), Ok(None));
        assert_eq!(split_line(&mut BytesMut::from("123\n"), 4), Ok(Some("123".into())));
        assert_eq!(split_line(&mut BytesMut::from("1234\n"), 4), Err(ProtocolError::LineTooLong(4)));
        assert_eq!(split_line(&mut BytesMut::from("1234"), 4), Err(ProtocolError::LineTooLong(4)));
    }

    #[test]
    fn every_reply_is_parsed_from_what_it_encodes_to_at_any_split() {
        let all = [
            (Request::Shutdown { graceful: true }, Reply::Done),
            (Request::Version, Reply::Version("1.1.20+ds".into())),
            (Request::Pid, Reply::Pid(18073)),
            (Request::Verbose, Reply::Verbose("ERROR".into())),
            (
                Request::Status,
                Reply::Status(vec![
                    FunctionStatus::new("a\tb c".into(), 3, 2, 1),
                    FunctionStatus::new("".into(), 0, 0, 0),
                ]),
            ),
            (Request::PriorityStatus, Reply::PriorityStatus(vec![PriorityStatus::new("f".into(), [1, 2, 3], 4)])),
            (
                Request::Workers,
                Reply::Workers(vec![
                    WorkerStatus::new(16, "127.0.0.1".into(), "id with blank".into(), vec!["x".into(), "y".into()]),
                    WorkerStatus::new(-1, "::1".into(), "".into(), vec![]),
                ]),
            ),
            (Request::ShowJobs, Reply::Jobs(vec![JobStatus::new("H:a:1".into(), 2, false, true)])),
            (
                Request::ShowUniqueJobs,
                Reply::UniqueJobs(vec![
                    UniqueJob::new(None, "".into()),
                    UniqueJob::new(Some("H:a:2".into()), "u".into()),
                ]),
            ),
            (Request::CancelJob { handle: "x".into() }, Reply::Refused("UNKNOWN_JOB".into())),
            (Request::Status, Reply::Refused("UNKNOWN_COMMAND Unknown+server+commandstatus".into())),
        ];
        for (request, reply) in all {
            let mut bytes = BytesMut::new();
            reply.encode(&mut bytes);
            for split in 0..bytes.len() {
                let mut parser = ReplyParser::new(&request, 1 << 20);
                let mut stream = BytesMut::from(&bytes[..split]);
                assert_eq!(parser.take(&mut stream), Ok(None));
                stream.extend_from_slice(&bytes[split..]);
                assert_eq!(parser.take(&mut stream), Ok(Some(reply.clone())));
                assert!(stream.is_empty());
            }
        }
    }

    #[test]
    fn what_other_servers_print_is_understood() {
        assert_eq!(reply(&Request::Version, "v1.130.1\n"), Ok(Some(Reply::Version("v1.130.1".into()))));
        assert_eq!(reply(&Request::Shutdown { graceful: false }, "BYE\n"), Ok(Some(Reply::Done)));
        assert_eq!(
            reply(&Request::ShowJobs, "ERR unknown_command \r\n"),
            Ok(Some(Reply::Refused("unknown_command".into())))
        );
        let row = WorkerStatus::new(4, "127.0.0.1:9".into(), "-".into(), vec![]);
        assert_eq!(reply(&Request::Workers, "4 127.0.0.1:9 - : \n.\n"), Ok(Some(Reply::Workers(vec![row]))));
    }

    #[test]
    fn nonsense_and_floods_are_errors() {
        assert_eq!(reply(&Request::Status, "what\n"), Err(ProtocolError::BadReply));
        assert_eq!(reply(&Request::Pid, "OK x\n"), Err(ProtocolError::BadReply));
        assert_eq!(reply(&Request::Status, "f\t1\t1\t1\nERR x\n"), Err(ProtocolError::BadReply));
        let mut parser = ReplyParser::new(&Request::ShowUniqueJobs, 8);
        assert_eq!(parser.take(&mut BytesMut::from("abc\nabc\nabc\n")), Err(ProtocolError::LineTooLong(0)));
    }

    #[test]
    fn a_name_cannot_forge_a_line() {
        assert_eq!(text(|out| FunctionStatus::new("a\n.\r\n", 1, 0, 0).encode(out)), "a?.??\t1\t0\t0\n");
    }
}
