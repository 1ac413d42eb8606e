//! The admin machine against a job server that the test plays line by line.

#[path = "common/rig.rs"]
mod rig;

use std::time::Duration;

use bytes::BytesMut;
use gearwheel::admin::{Admin, Config, Error, Event};
use gearwheel::wire::admin::{FunctionStatus, Reply, Request};
use gearwheel::{CloseReason, ConfigError, ConnId, Input, Machine, ProtocolError, Reason};
use rig::{Rig, address, millis, secs};

fn config() -> Config {
    let mut config = Config::new([1; 32]);
    config.server = Some(address("a"));
    config
}

fn lost<T>(reason: CloseReason) -> Result<T, Error> {
    Err(Error::Lost { server: address("a"), reason })
}

fn asked(request: Request) -> (Rig<Admin>, ConnId) {
    let mut rig = Rig::new(Admin::new(config()).expect("valid"));
    rig.act(|admin, now| admin.ask(request, now)).expect("asked");
    let conn = rig.connect();
    assert_eq!(rig.events(), [Event::Connected]);
    (rig, conn)
}

fn results(rig: &mut Rig<Admin>) -> Vec<Result<Reply, Error>> {
    let result = |event| if let Event::Reply { result, .. } = event { Some(result) } else { None };
    rig.events().into_iter().filter_map(result).collect()
}

#[test]
fn a_reply_may_come_a_byte_at_a_time() {
    let (mut rig, conn) = asked(Request::Status);
    assert_eq!(rig.sent_text(conn), "status\r\n");
    for byte in b"reverse\t3\t1\t2\nsum\t0\t0\t0\n.\n" {
        assert_eq!(rig.events(), []);
        rig.receive_bytes(conn, &[*byte]);
    }
    let rows = vec![FunctionStatus::new("reverse".into(), 3, 1, 2), FunctionStatus::new("sum".into(), 0, 0, 0)];
    assert_eq!(results(&mut rig), [Ok(Reply::Status(rows))]);
}

#[test]
fn commands_are_answered_in_order() {
    let (mut rig, conn) = asked(Request::Version);
    for request in [Request::Pid, Request::CancelJob { handle: "H:x:1".into() }, Request::Verbose] {
        rig.act(|admin, now| admin.ask(request, now)).expect("asked");
    }
    assert_eq!(rig.sent_text(conn), "version\r\ngetpid\r\ncancel job H:x:1\r\nverbose\r\n");
    rig.receive_bytes(conn, b"OK 1.1.20\nOK 77\nERR UNKNOWN_JOB\r\nOK ERROR\n");
    let results = results(&mut rig);
    assert_eq!(results[..2], [Ok(Reply::Version("1.1.20".into())), Ok(Reply::Pid(77))]);
    assert!(matches!(&results[2], Err(Error::Refused(error)) if &*error.code == "UNKNOWN_JOB"));
    assert_eq!(results[3], Ok(Reply::Verbose("ERROR".into())));
}

#[test]
fn a_loss_ends_each_command_once_and_the_next_one_connects_again() {
    let (mut rig, conn) = asked(Request::Workers);
    rig.act(|admin, now| admin.ask(Request::ShowJobs, now)).expect("asked");
    rig.receive_bytes(conn, b"30 127.0.0.1 - : f\n");
    rig.close(conn, CloseReason::Ended);
    let lost = || lost(CloseReason::Ended);
    assert_eq!(results(&mut rig), [lost(), lost()]);
    rig.act(|admin, now| admin.ask(Request::Version, now)).expect("asked");
    rig.pass(secs(1));
    let conn = rig.connect();
    assert_eq!(rig.sent_text(conn), "version\r\n");
}

#[test]
fn a_server_that_cannot_be_had_ends_the_command() {
    let mut rig = Rig::new(Admin::new(config()).expect("valid"));
    rig.act(|admin, now| admin.ask(Request::Version, now)).expect("asked");
    let (conn, _) = rig.connects()[0].clone();
    rig.close(conn, CloseReason::Refused);
    assert_eq!(results(&mut rig), [lost(CloseReason::Refused)]);
}

#[test]
fn a_silent_server_is_left() {
    let (mut rig, conn) = asked(Request::Status);
    rig.act(|admin, now| admin.ask(Request::Version, now)).expect("asked");
    rig.receive_bytes(conn, b"f\t1\t1\t1\n");
    rig.pass(secs(14));
    assert_eq!(results(&mut rig), []);
    rig.pass(secs(1));
    let late = Err(Error::TimedOut { server: address("a"), within: secs(15) });
    assert_eq!(results(&mut rig), [late, lost(CloseReason::Silent)]);
    assert_eq!(rig.disconnects(), [conn]);
    assert_eq!(rig.wait, None, "nothing is due of an idle admin connection");
}

#[test]
fn nonsense_closes_the_connection_and_names_itself() {
    for nonsense in [&b"what?\n"[..], b"f\tx\ty\tz\n", b"OK\nunasked\n"] {
        let (mut rig, conn) = asked(Request::Status);
        rig.receive_bytes(conn, nonsense);
        assert_eq!(results(&mut rig), [lost(CloseReason::Protocol(ProtocolError::BadReply))]);
        assert_eq!(rig.disconnects(), [conn]);
    }
}

#[test]
fn a_reply_over_the_limit_is_cut_off() {
    let mut config = config();
    config.limits.max_packet = 100;
    let mut rig = Rig::new(Admin::new(config).expect("valid"));
    rig.act(|admin, now| admin.ask(Request::Status, now)).expect("asked");
    let conn = rig.connect();
    rig.receive_bytes(conn, &b"function\t1\t2\t3\n".repeat(10));
    let [Err(Error::Lost { reason, .. })] = &results(&mut rig)[..] else { panic!("it was taken") };
    assert!(matches!(reason, CloseReason::Protocol(ProtocolError::LineTooLong(_))));
}

#[test]
fn a_name_that_is_no_word_is_refused() {
    let mut rig = Rig::new(Admin::new(config()).expect("valid"));
    for name in ["", "two words", "line\nend"] {
        let request = Request::DropFunction { function: name.into() };
        let refused = rig.act(|admin, now| admin.ask(request.clone(), now)).expect_err("refused");
        assert!(matches!(refused.reason, Reason::Invalid(ConfigError::NotAWord(_))));
        assert_eq!(refused.value, request);
    }
    assert_eq!(rig.connects(), []);
}

#[test]
fn a_close_ends_what_is_outstanding() {
    let (mut rig, conn) = asked(Request::Version);
    rig.act(|admin, now| admin.close(now));
    assert!(matches!(&rig.events()[..], [Event::Reply { result: Err(Error::Closed), .. }, Event::Closed]));
    assert_eq!(rig.disconnects(), [conn]);
    let refused = rig.act(|admin, now| admin.ask(Request::Version, now)).expect_err("closed");
    assert_eq!(refused.reason, Reason::Closed);
}

#[test]
fn a_command_that_finds_no_connection_ends_within_its_limit() {
    let mut config = config();
    config.timeout = secs(3);
    let mut rig = Rig::new(Admin::new(config).expect("valid"));
    rig.act(|admin, now| admin.ask(Request::Version, now)).expect("asked");
    rig.pass(secs(1));
    rig.act(|admin, now| admin.ask(Request::Pid, now)).expect("asked");
    rig.pass(secs(2));
    let late = || Err(Error::TimedOut { server: address("a"), within: secs(3) });
    assert_eq!(results(&mut rig), [late()]);
    rig.pass(secs(1));
    assert_eq!(results(&mut rig), [late()]);
    let conn = rig.connect();
    assert_eq!(rig.sent_text(conn), "", "nothing is asked for nobody");
}

#[test]
fn it_connects_ahead_of_the_first_command_when_told_to() {
    let mut rig = Rig::new(Admin::new(config()).expect("valid"));
    assert_eq!(rig.connects(), []);
    rig.act(|admin, now| admin.connect(now));
    let (conn, _) = rig.connects()[0].clone();
    rig.close(conn, CloseReason::Refused);
    assert_eq!(rig.events(), [Event::Disconnected { reason: CloseReason::Refused }]);
    assert_eq!(rig.wait, None, "it does not go on by itself");
    rig.act(|admin, now| admin.connect(now));
    assert_eq!(rig.connects(), [], "a server that failed is not tried again at once");
    rig.pass(secs(1));
    rig.connect();
    assert_eq!(rig.events(), [Event::Connected]);
    rig.act(|admin, now| admin.connect(now));
    assert_eq!((rig.events(), rig.connects()), (vec![], vec![]));
}

#[test]
fn a_refusal_is_taken_apart_into_code_and_text() {
    for (line, code, text) in [
        ("ERR UNKNOWN_JOB\r\n", "UNKNOWN_JOB", ""),
        ("ERR function not found\r\n", "", "function not found"),
        ("ERR UNKNOWN_COMMAND Unknown+server+commandshutdown\r\n", "UNKNOWN_COMMAND", "Unknown server commandshutdown"),
        ("ERR unknown_command \r\n", "unknown_command", ""),
    ] {
        let (mut rig, conn) = asked(Request::Shutdown { graceful: false });
        rig.receive_bytes(conn, line.as_bytes());
        let [Err(Error::Refused(error))] = &results(&mut rig)[..] else { panic!("{line:?} is no refusal") };
        assert_eq!((&*error.code, &*error.text), (code, text));
    }
}

#[test]
fn a_command_may_have_a_millisecond_and_no_less() {
    let made = |micros| {
        let mut config = config();
        config.timeout = Duration::from_micros(micros);
        Admin::new(config).map(drop)
    };
    assert_eq!(made(1000), Ok(()));
    assert!(matches!(made(999), Err(ConfigError::BadDuration { .. })));
    assert_eq!(Admin::new(Config::new([1; 32])).map(drop), Err(ConfigError::NoServers));
    assert_eq!(config().timeout, secs(15));
}

#[test]
fn as_many_commands_may_be_outstanding_as_the_limit_says() {
    let mut config = config();
    config.limits.max_jobs = 2;
    let mut rig = Rig::new(Admin::new(config).expect("valid"));
    let ask = |rig: &mut Rig<Admin>| rig.act(|admin, now| admin.ask(Request::Version, now));
    let first = ask(&mut rig).expect("room");
    let second = ask(&mut rig).expect("room");
    assert_ne!(first, second);
    let refused = ask(&mut rig).expect_err("full");
    assert_eq!(refused.reason, Reason::Full { what: "the number of outstanding commands", limit: 2 });
    assert_eq!(rig.machine.outstanding(), 2);
    let conn = rig.connect();
    rig.events();
    rig.receive_bytes(conn, b"OK 1\nOK 2\n");
    let version = |request, text: &'static str| Event::Reply { request, result: Ok(Reply::Version(text.into())) };
    assert_eq!(rig.events(), [version(first, "1"), version(second, "2")]);
    assert_eq!(rig.machine.outstanding(), 0);
    ask(&mut rig).expect("room again");
    ask(&mut rig).expect("room again");
    ask(&mut rig).expect_err("full again");
}

#[test]
fn the_time_of_a_command_begins_when_it_is_asked() {
    let (mut rig, conn) = asked(Request::Version);
    rig.receive_bytes(conn, b"OK 1\n");
    rig.events();
    rig.now = rig.now + secs(100);
    rig.act(|admin, now| admin.ask(Request::Version, now)).expect("asked");
    rig.pass(millis(14_999));
    assert_eq!(results(&mut rig), []);
    rig.pass(millis(1));
    assert_eq!(results(&mut rig).len(), 1);
}

#[test]
fn a_closed_one_connects_no_more() {
    let (mut rig, conn) = asked(Request::Version);
    rig.act(|admin, now| admin.close(now));
    rig.act(|admin, now| admin.close(now));
    rig.act(|admin, now| admin.connect(now));
    rig.pass(secs(100));
    rig.receive_bytes(conn, b"OK 1\n");
    assert_eq!((rig.connects(), rig.wait), (vec![], None));
    assert_eq!(rig.events().len(), 2, "the end of the command, and Closed");
}

#[test]
fn connecting_ahead_begins_at_the_time_it_is_told() {
    let mut rig = Rig::new(Admin::new(config()).expect("valid"));
    rig.now = rig.now + secs(100);
    rig.act(|admin, now| admin.connect(now));
    rig.connects();
    rig.pass(millis(4_999));
    assert_eq!(rig.events(), []);
    rig.pass(millis(1));
    assert_eq!(rig.events(), [Event::Disconnected { reason: CloseReason::ConnectTimeout }]);
}

#[test]
fn once_it_was_connected_ahead_it_is_not_dialled_again_by_itself() {
    let mut rig = Rig::new(Admin::new(config()).expect("valid"));
    rig.act(|admin, now| admin.connect(now));
    let conn = rig.connect();
    rig.close(conn, CloseReason::Ended);
    rig.pass(secs(100));
    assert_eq!((rig.connects(), rig.wait), (vec![], None));
}

#[test]
fn a_reply_makes_the_next_failure_a_first_one() {
    let mut rig = Rig::new(Admin::new(config()).expect("valid"));
    for _ in 0..8 {
        rig.act(|admin, now| admin.connect(now));
        rig.pass(secs(30));
        let (conn, _) = rig.connects()[0].clone();
        rig.close(conn, CloseReason::Refused);
    }
    rig.act(|admin, now| admin.connect(now));
    rig.pass(secs(30));
    let conn = rig.connect();
    rig.act(|admin, now| admin.ask(Request::Version, now)).expect("asked");
    rig.receive_bytes(conn, b"OK 1\n");
    rig.close(conn, CloseReason::Ended);
    rig.act(|admin, now| admin.connect(now));
    rig.pass(millis(100));
    assert_eq!(rig.connects().len(), 1);
}

#[test]
fn what_stands_behind_a_reply_that_breaks_the_protocol_is_thrown_away() {
    let (mut rig, conn) = asked(Request::Status);
    let mut stream = BytesMut::from(&b"what?\nOK 1\n"[..]);
    rig.machine.handle(Input::Data(conn, &mut stream), rig.now);
    assert!(stream.is_empty());
    let mut stream = BytesMut::from(&b"OK 1\n"[..]);
    rig.machine.handle(Input::Data(conn, &mut stream), rig.now);
    rig.run();
    assert_eq!(results(&mut rig), [lost(CloseReason::Protocol(ProtocolError::BadReply))]);
}

#[test]
fn one_that_is_not_polled_is_not_read_and_goes_on_when_it_is() {
    let mut config = config();
    config.limits.max_events = 2;
    let mut rig = Rig::new(Admin::new(config).expect("valid"));
    for _ in 0..4 {
        rig.act(|admin, now| admin.ask(Request::Version, now)).expect("asked");
    }
    let conn = rig.connect();
    rig.events();
    assert!(rig.machine.wants_read(conn));
    let mut stream = BytesMut::from(&b"OK 1\nOK 2\nOK 3\nOK 4\n"[..]);
    rig.machine.handle(Input::Data(conn, &mut stream), rig.now);
    assert_eq!(&stream[..], b"OK 3\nOK 4\n");
    assert!(!rig.machine.wants_read(conn));
    // The driver hands in again what was left when it is told to.
    let mut resumed = 0;
    loop {
        match rig.machine.poll() {
            gearwheel::Output::Resume(_) => {
                resumed += 1;
                rig.machine.handle(Input::Data(conn, &mut stream), rig.now);
            }
            gearwheel::Output::Event(event) => rig.events.push(event),
            gearwheel::Output::Wait(_) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(resumed >= 1 && stream.is_empty());
    assert_eq!(results(&mut rig).len(), 4);
}

#[test]
fn one_that_is_closed_while_it_connects_ahead_connects_no_more() {
    let mut rig = Rig::new(Admin::new(config()).expect("valid"));
    rig.act(|admin, now| admin.connect(now));
    let (conn, _) = rig.connects()[0].clone();
    rig.act(|admin, now| admin.close(now));
    rig.handle(Input::Tick);
    assert_eq!((rig.connects(), rig.disconnects(), rig.wait), (vec![], vec![conn], None));
    assert_eq!(rig.events(), [Event::Closed]);
}
