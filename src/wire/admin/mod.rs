//! The text protocol, both ways.
//!
//! A command is a line, its words apart by blanks, its command word in any case; the end is LF or CRLF. A job server and
//! those who ask it share these types: [`Request::parse`] and [`Request::encode`]; the rows and [`Reply::encode`] as
//! gearmand prints them, and [`ReplyParser`], which also understands Perl's server and newer ones.

mod reply;
mod request;

use core::fmt::{self, Write};
use core::str::FromStr;

use bytes::{Bytes, BytesMut};
use memchr::memchr;

pub use self::reply::{
    FunctionStatus, JobStatus, PriorityStatus, Reply, ReplyParser, UniqueJob, WorkerStatus, end_list,
};
pub use self::request::{NotAWord, Refusal, Request};
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
    fn a_word_ends_with_a_nul_and_the_line_does_not() {
        assert_eq!(request("ver\0sion"), Err(Refusal::UnknownCommand("ver".into())));
        assert_eq!(request("version\0 x"), Ok(Request::Version));
        assert_eq!(request("show\0 jobs\0x"), Ok(Request::ShowJobs));
        assert_eq!(request("create function a\0b"), Ok(Request::CreateFunction { function: "a".into() }));
        assert_eq!(request("create function a \0"), Err(Refusal::Incomplete("create".into())));
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
        assert_eq!(limits("maxqueue f +7"), [7; 3]);
        assert_eq!(limits("maxqueue f +-7"), [0; 3]);
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
