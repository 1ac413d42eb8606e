//! What a job server is told, a line each.

use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};
use memchr::memchr;

use super::{MAX_WORDS, parse, put, put_text};

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
/// another, empty word. A word ends with a NUL: gearmand reads C strings. `None`: too many.
fn words(line: &Bytes) -> Option<Vec<Bytes>> {
    let mut words = Vec::new();
    let mut rest = line.clone();
    loop {
        if words.len() == MAX_WORDS {
            return None;
        }
        let Some(end) = memchr(b' ', &rest) else {
            words.push(up_to_nul(rest));
            return Some(words);
        };
        words.push(up_to_nul(rest.split_to(end)));
        let blanks = rest.iter().take_while(|&&byte| byte == b' ').count();
        rest = rest.slice(blanks..);
    }
}

fn up_to_nul(mut word: Bytes) -> Bytes {
    word.truncate(memchr(0, &word).unwrap_or(word.len()));
    word
}

/// The limits of `maxqueue`: what is no number, or a negative one, is no limit.
fn limits(words: Option<&[Bytes]>) -> [u32; 3] {
    let number = |word: &Bytes| {
        let word = word.trim_ascii_start();
        let word = word.strip_prefix(b"+").unwrap_or(word);
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
