//! Lines of the text protocol word by word: what is a command, what is none, and what is said for it.

use bytes::{Bytes, BytesMut};
use gearwheel::wire::admin::{
    FunctionStatus, JobStatus, PriorityStatus, Refusal, Reply, ReplyParser, Request, UniqueJob, WorkerStatus,
};

fn parsed(line: &'static str) -> Result<Request, Refusal> {
    Request::parse(&Bytes::from_static(line.as_bytes()))
}

#[test]
fn a_command_has_its_words_and_their_number() {
    let name = || Bytes::from_static(b"x");
    assert_eq!(parsed("show jobs"), Ok(Request::ShowJobs));
    assert_eq!(parsed("SHOW Unique JOBS"), Ok(Request::ShowUniqueJobs));
    for line in ["show jobs now", "show unique", "show unique workers", "show other jobs", "show unique jobs now"] {
        assert_eq!(parsed(line), Err(Refusal::UnknownShow), "{line}");
    }
    assert_eq!(parsed("show"), Err(Refusal::UnknownCommand("show".into())));
    assert_eq!(parsed("cancel job x"), Ok(Request::CancelJob { handle: name() }));
    assert_eq!(parsed("cancel work x"), Err(Refusal::UnknownCancel));
    assert_eq!(parsed("cancel job x y"), Err(Refusal::UnknownCancel));
    assert_eq!(parsed("cancel job"), Err(Refusal::UnknownCommand("cancel".into())));
    assert_eq!(parsed("create function x"), Ok(Request::CreateFunction { function: name() }));
    assert_eq!(parsed("drop function x"), Ok(Request::DropFunction { function: name() }));
    for line in ["create function", "create table x", "create function x y"] {
        assert_eq!(parsed(line), Err(Refusal::Incomplete("create".into())), "{line}");
    }
    for line in ["drop function", "drop table x", "drop function x y"] {
        assert_eq!(parsed(line), Err(Refusal::Incomplete("drop".into())), "{line}");
    }
    assert_eq!(parsed("maxqueue"), Err(Refusal::Incomplete("maxqueue".into())));
    for (line, limits) in [
        ("maxqueue x", [0; 3]),
        ("maxqueue x 5", [5; 3]),
        ("maxqueue x 5 6", [5, 6, 0]),
        ("maxqueue x 5 6 7", [5, 6, 7]),
        ("maxqueue x -1 y 7z", [0, 0, 7]),
    ] {
        assert_eq!(parsed(line), Ok(Request::MaxQueue { function: name(), limits }), "{line}");
    }
}

#[test]
fn limits_are_written_as_short_as_they_can_be() {
    for (limits, line) in [
        ([0, 0, 0], "maxqueue x\r\n"),
        ([5, 5, 5], "maxqueue x 5\r\n"),
        ([5, 5, 6], "maxqueue x 5 5 6\r\n"),
        ([5, 6, 6], "maxqueue x 5 6 6\r\n"),
        ([5, 6, 5], "maxqueue x 5 6 5\r\n"),
        ([0, 0, 5], "maxqueue x 0 0 5\r\n"),
    ] {
        let mut out = BytesMut::new();
        let request = Request::MaxQueue { function: "x".into(), limits };
        request.encode(&mut out).expect("words");
        assert_eq!(&out[..], line.as_bytes());
        assert_eq!(Request::parse(&Bytes::copy_from_slice(line.trim_end().as_bytes())), Ok(request));
    }
}

/// What a reply is on the wire, and that it is read as it was written, a byte at a time.
fn written(request: &Request, reply: &Reply) -> String {
    let mut out = BytesMut::new();
    reply.encode(&mut out);
    let text = String::from_utf8(out.to_vec()).expect("text");
    let mut parser = ReplyParser::new(request, text.len());
    let mut stream = BytesMut::new();
    for (at, byte) in text.bytes().enumerate() {
        stream.extend_from_slice(&[byte]);
        let read = parser.take(&mut stream).expect("a reply");
        if at + 1 < text.len() {
            assert_eq!(read, None, "{text:?} at {at}");
        } else {
            assert_eq!(read.as_ref(), Some(reply), "{text:?}");
        }
    }
    assert!(stream.is_empty());
    let mut short = ReplyParser::new(request, text.len() - 2);
    assert!(short.take(&mut BytesMut::from(text.as_bytes())).is_err(), "{text:?} over the limit");
    text
}

#[test]
fn each_reply_is_written_as_gearmand_does_and_read_back() {
    let status =
        Reply::Status(vec![FunctionStatus::new("f".into(), 3, 1, 2), FunctionStatus::new("g".into(), 0, 0, 0)]);
    assert_eq!(written(&Request::Status, &status), "f\t3\t1\t2\ng\t0\t0\t0\n.\n");
    let priorities = Reply::PriorityStatus(vec![PriorityStatus::new("f".into(), [1, 2, 3], 4)]);
    assert_eq!(written(&Request::PriorityStatus, &priorities), "f\t1\t2\t3\t4\n.\n");
    let workers =
        Reply::Workers(vec![WorkerStatus::new(30, "127.0.0.1".into(), "-".into(), vec!["f".into(), "g".into()])]);
    assert_eq!(written(&Request::Workers, &workers), "30 127.0.0.1 - : f g\n.\n");
    let jobs = Reply::Jobs(vec![JobStatus::new("H:x:1".into(), 2, false, true)]);
    assert_eq!(written(&Request::ShowJobs, &jobs), "H:x:1\t2\t0\t1\n.\n");
    written(&Request::ShowUniqueJobs, &Reply::UniqueJobs(vec![UniqueJob::new(None, "u".into())]));
    assert_eq!(written(&Request::Version, &Reply::Version("1.1.20".into())), "OK 1.1.20\n");
    assert_eq!(written(&Request::Pid, &Reply::Pid(77)), "OK 77\n");
    assert_eq!(written(&Request::Verbose, &Reply::Verbose("ERROR".into())), "OK ERROR\n");
    assert_eq!(written(&Request::CreateFunction { function: "f".into() }, &Reply::Done), "OK\r\n");
    let refused = Reply::Refused("UNKNOWN_JOB".into());
    assert_eq!(written(&Request::CancelJob { handle: "H:x:1".into() }, &refused), "ERR UNKNOWN_JOB\r\n");
}

#[test]
fn a_row_that_looks_like_a_refusal_is_a_row_but_for_the_first() {
    let take = |text: &'static [u8]| {
        let mut parser = ReplyParser::new(&Request::ShowUniqueJobs, 1000);
        parser.take(&mut BytesMut::from(text))
    };
    let refused = take(b"ERR UNKNOWN_COMMAND nothing\r\n").expect("a reply");
    assert!(matches!(refused, Some(Reply::Refused(_))), "{refused:?}");
    let rows = take(b"u\nERR UNKNOWN_\n.\n").expect("a reply");
    assert!(matches!(&rows, Some(Reply::UniqueJobs(rows)) if rows.len() == 2), "{rows:?}");
}
