//! How a connection ends, in order or not: what is said of it, and what was taken by then.

use super::*;

#[test]
fn garbage_in_the_middle_ends_the_connection_behind_what_came_before() {
    let mut line = Line::open();
    submit(&mut line.client, Job::new("f", "x").background());
    let good = line.client.sent_bytes(line.ours);
    let bad = [&good[..], &[23, 3, 3, 0, 32], &[7; 32]].concat();
    line.server.receive_bytes(line.theirs, &bad);
    assert_eq!(line.server.machine.counters().jobs, 1, "what came whole counts");
    says(&why_lost(&mut line.server), "breaks the protocol");
    line.carry(usize::MAX);
    says(&line.why_client_lost(), "the server refuses");
}

#[test]
fn an_alert_that_nobody_reads_does_not_keep_the_connection() {
    let mut line = Line::open();
    line.server.writable = false;
    line.server.receive_bytes(line.theirs, &[23, 3, 3, 0, 32].repeat(8));
    assert!(line.server.disconnects().is_empty(), "the alert waits");
    line.server.receive_bytes(line.theirs, b"whatever");
    line.server.pass(millis(999));
    assert!(line.server.disconnects().is_empty(), "it may still be read");
    line.server.pass(millis(1));
    assert_eq!(line.server.disconnects(), [line.theirs]);
    says(&why_lost(&mut line.server), "breaks the protocol");
}

/// Polls until the machine hangs up; what it has to say behind that.
fn last_word<M: Machine>(machine: &mut M) -> Vec<u8> {
    let conn = loop {
        match machine.poll() {
            gearwheel::Output::Disconnect(conn) => break conn,
            gearwheel::Output::Wait(_) => panic!("it does not hang up"),
            _ => {}
        }
    };
    let bytes: Vec<u8> = machine.outgoing(conn).chunks().flatten().copied().collect();
    let _ = machine.poll();
    assert!(machine.outgoing(conn).is_empty(), "it is to be had until the next poll");
    bytes
}

#[test]
fn a_handshake_in_crumbs_is_not_kept() {
    let mut server = server_rig(server_tls());
    let conn = accept(&mut server);
    // A ClientHello of 64 KiB, a byte a record: all its records would be kept until it is whole.
    server.receive_bytes(conn, &[22, 3, 1, 0, 4, 1, 0, 0xff, 0xff]);
    let crumbs = [22, 3, 1, 0, 1, 0].repeat(4000);
    let mut pieces = 0;
    while server.disconnects().is_empty() {
        server.receive_bytes(conn, &crumbs);
        pieces += 1;
    }
    assert_eq!(pieces, 6, "of 24,000 bytes each");
    says(&why_lost(&mut server), "a handshake message of the client does not come to an end");
    assert_eq!(server.sent_bytes(conn).first(), None);
}

#[test]
fn an_orderly_end_is_said_and_heard() {
    // The client closes: its driver finds close_notify behind the Disconnect.
    let mut line = Line::open();
    line.client.act(|client, now| client.close(now));
    assert_eq!(line.client.disconnects(), [line.ours]);
    let mut line = Line::open();
    line.client.machine.close(line.client.now);
    let goodbye = last_word(&mut line.client.machine);
    assert!((20..64).contains(&goodbye.len()), "{}", goodbye.len());
    // The server answers with its own.
    let mut stream = BytesMut::from(&goodbye[..]);
    line.server.machine.handle(Input::Data(line.theirs, &mut stream), line.server.now);
    assert!((20..64).contains(&last_word(&mut line.server.machine).len()));
    assert_eq!(line.server.machine.counters().connections, 0);
    // And an end without it is an end.
    let mut line = Line::open();
    line.server.close(line.theirs, CloseReason::Ended);
    assert_eq!(why_lost(&mut line.server), CloseReason::Ended);
}

/// A line whose client has submitted a job and closed its side; all of that is still to be read.
fn parted() -> (Line, Vec<u8>) {
    let mut line = Line::open();
    submit(&mut line.client, Job::new("f", "x").background());
    let mut bytes = line.client.sent_bytes(line.ours).to_vec();
    line.client.machine.close(line.client.now);
    bytes.extend_from_slice(&last_word(&mut line.client.machine));
    (line, bytes)
}

#[test]
fn a_client_that_parts_is_answered_first() {
    let (mut line, bytes) = parted();
    line.server.receive_bytes(line.theirs, &bytes);
    assert_eq!(records(&line.server.sent_bytes(line.theirs)).len(), 1, "JOB_CREATED");
    assert_eq!(line.server.disconnects(), [line.theirs]);
    assert_eq!(why_lost(&mut line.server), CloseReason::Ended);
    // One that does not take it keeps nobody waiting.
    let (mut line, bytes) = parted();
    line.server.writable = false;
    line.server.receive_bytes(line.theirs, &bytes);
    line.server.pass(millis(999));
    assert_eq!(line.server.disconnects(), []);
    line.server.pass(millis(1));
    assert_eq!(line.server.disconnects(), [line.theirs]);
    assert_eq!(why_lost(&mut line.server), CloseReason::Ended);
}

#[test]
fn a_client_that_parts_gets_a_long_answer_whole() {
    let mut line = Line::open();
    let payload = Bytes::from(vec![b'x'; 500_000]);
    let first = line.client.act(|client, _| client.servers().next().expect("one").server);
    let _ = line.client.act(|client, now| client.echo(first, payload, now)).expect("taken");
    let mut bytes = line.client.sent_bytes(line.ours).to_vec();
    line.client.machine.close(line.client.now);
    bytes.extend_from_slice(&last_word(&mut line.client.machine));
    line.server.receive_bytes(line.theirs, &bytes);
    assert!(line.server.sent_bytes(line.theirs).len() > 500_000);
    assert_eq!(line.server.disconnects(), [line.theirs]);
}

#[test]
fn a_server_that_parts_is_asked_nothing_more() {
    let mut line = Line::open();
    line.server.machine.close(line.server.now);
    let goodbye = last_word(&mut line.server.machine);
    line.client.writable = false;
    let job = submit(&mut line.client, Job::new("f", "x"));
    line.client.machine.handle(Input::Data(line.ours, &mut BytesMut::from(&goodbye[..])), line.client.now);
    assert_eq!(records(&last_word(&mut line.client.machine)).len(), 1, "close_notify");
    assert_eq!(line.client.machine.phase(job), Some(Phase::Parked));
}

/// Has the client break off its connection.
fn break_off(client: &mut ClientRig) {
    let (server, now) = (client.machine.servers().next().expect("one").server, client.now);
    client.machine.remove_server(server, false, now).expect("it is there");
}

#[test]
fn there_is_no_goodbye_behind_bytes_that_were_not_taken() {
    let mut line = Line::open();
    line.client.writable = false;
    submit(&mut line.client, Job::new("f", "x"));
    assert!(!line.client.machine.outgoing(line.ours).is_empty());
    break_off(&mut line.client);
    assert!(last_word(&mut line.client.machine).is_empty());
    // Those that TLS itself has to say, too: here the tickets behind the handshake.
    let mut line = Line::new();
    line.server.receive_bytes(line.theirs, &line.client.sent_bytes(line.ours));
    line.client.receive_bytes(line.ours, &line.server.sent_bytes(line.theirs));
    line.server.writable = false;
    let bytes = line.client.sent_bytes(line.ours);
    let question = *records(&bytes).last().expect("some");
    line.server.receive_bytes(line.theirs, &bytes[..bytes.len() - question]);
    line.server.machine.close(line.server.now);
    assert!(last_word(&mut line.server.machine).is_empty());
}

#[test]
fn what_stands_before_a_goodbye_is_read_first_however_long_that_takes() {
    let mut limits = Limits::default();
    limits.max_events = 1;
    let server = Rig::new(Secured::server(plain_server(limits), server_tls()));
    let mut line = Line::of(client_rig(client_tls()), server);
    line.carry(usize::MAX);
    for _ in 0..5 {
        submit(&mut line.client, Job::new("f", "x").background());
    }
    let mut bytes = BytesMut::from(&line.client.sent_bytes(line.ours)[..]);
    line.client.machine.close(line.client.now);
    bytes.extend_from_slice(&last_word(&mut line.client.machine));
    let (theirs, now) = (line.theirs, line.server.now);
    line.server.machine.handle(Input::Data(theirs, &mut bytes), now);
    assert!(!line.server.machine.wants_read(theirs), "it has enough for now");
    // The rig hands in what is left of the stream with each Resume.
    line.server.receive_bytes(theirs, &bytes);
    assert_eq!(line.server.machine.counters().jobs, 5);
    assert_eq!(line.server.disconnects(), [theirs]);
    assert_eq!(why_lost(&mut line.server), CloseReason::Ended);
}

#[test]
fn an_end_that_is_due_twice_is_said_once() {
    let mut line = Line::open();
    line.server.writable = false;
    line.server.receive_bytes(line.theirs, &[23, 3, 3, 0, 32].repeat(8));
    // The alert is taken just when the time for it is over.
    let alert = line.server.machine.outgoing(line.theirs).len();
    line.server.machine.outgoing(line.theirs).advance(alert);
    line.server.now = line.server.now + secs(1);
    line.server.handle(Input::Tick);
    assert_eq!(line.server.disconnects(), [line.theirs]);
    says(&why_lost(&mut line.server), "breaks the protocol");
    assert!(line.server.events().is_empty());
}

#[test]
fn nothing_is_said_of_a_connection_that_is_gone() {
    let mut line = Line::open();
    let (theirs, now) = (line.theirs, line.server.now);
    let mut garbage = BytesMut::from(&[23, 3, 3, 0, 32].repeat(8)[..]);
    line.server.machine.handle(Input::Data(theirs, &mut garbage), now);
    line.server.machine.handle(Input::Closed(theirs, CloseReason::Reset), now);
    loop {
        match line.server.machine.poll() {
            gearwheel::Output::Wait(at) => break assert_eq!(at, None),
            gearwheel::Output::Event(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_has_just_been_taken_is_not_sent_again_however_the_connection_ends() {
    let mut line = Line::open();
    line.client.writable = false;
    let job = submit(&mut line.client, Job::new("f", "x"));
    let length = line.client.machine.outgoing(line.ours).len();
    line.client.machine.outgoing(line.ours).advance(length);
    break_off(&mut line.client);
    line.client.run();
    let ended = outcomes(&mut line.client);
    assert!(matches!(&ended[..], [(ended, Outcome::Lost { phase: Phase::Sent, .. })] if *ended == job), "{ended:?}");
}
