//! What a machine holds has a bound, whatever a peer sends.

use super::servers::*;
use super::*;

/// Everything that a machine has to say now.
pub(super) fn outputs<M: Machine>(machine: &mut M) -> Vec<Output<M::Event>> {
    let mut outputs = Vec::new();
    loop {
        match machine.poll() {
            Output::Wait(_) => return outputs,
            output => outputs.push(output),
        }
    }
}

/// A client with one connection, on which it has one job with the handle `H:1`.
pub(super) fn busy_client(limits: Limits) -> (Client, ConnId) {
    let mut config = client::Config::new(SEED);
    config.servers = vec!["a".parse().expect("an address")];
    config.limits = limits;
    let mut client = Client::new(config).expect("a good configuration");
    client.submit(Job::new("f", "p"), Instant::EPOCH).expect("there is room");
    let conn = match outputs(&mut client).first() {
        Some(Output::Connect { conn, .. }) => *conn,
        other => panic!("{other:?}"),
    };
    client.handle(Input::Connected(conn), Instant::EPOCH);
    let mut stream = BytesMut::from(&packet(PacketType::OPTION_RES, &[b"exceptions"])[..]);
    stream.extend_from_slice(&packet(PacketType::JOB_CREATED, &[b"H:1"]));
    client.handle(Input::Data(conn, &mut stream), Instant::EPOCH);
    drop(outputs(&mut client));
    (client, conn)
}

pub(super) fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

#[test]
fn a_client_that_is_not_polled_stops_reading() {
    let (mut client, conn) = busy_client(limits(|limits| limits.max_events = 10));
    let mut stream = BytesMut::from(&packet(PacketType::WORK_DATA, &[b"H:1", b"part"]).repeat(1000)[..]);
    let whole = stream.len();
    client.handle(Input::Data(conn, &mut stream), Instant::EPOCH);
    assert!(!client.wants_read(conn));
    assert!(stream.len() > whole * 9 / 10, "what is not read stays with the driver");
    let said = outputs(&mut client);
    assert!(said.len() <= 12, "{} outputs with a limit of 10", said.len());
    assert!(matches!(said.last(), Some(Output::Resume(_))));
    assert!(client.wants_read(conn));
}

#[test]
fn what_a_job_server_sends_to_nobody_leaves_no_trace_in_a_client() {
    let (mut client, conn) = busy_client(Limits::default());
    let nobodys = packet(PacketType::WORK_DATA, &[b"H:2", &[b'x'; 500]]);
    let mut stream = BytesMut::with_capacity(1 << 16);
    let mut send = |client: &mut Client, times: usize| {
        for _ in 0..times {
            stream.extend_from_slice(&nobodys);
            client.handle(Input::Data(conn, &mut stream), Instant::EPOCH);
            drop(outputs(client));
        }
    };
    send(&mut client, 100);
    let memory = allocation_counter::measure(|| send(&mut client, 20_000));
    assert!(memory.bytes_max < 1 << 18, "{} bytes for 10 MB of packets for nobody", memory.bytes_max);
    assert!(memory.bytes_current.abs() < 1 << 17, "{} bytes stay", memory.bytes_current);
}

#[test]
fn an_announced_packet_claims_no_more_than_a_few_times_what_has_come_of_it() {
    let (mut client, conn) = busy_client(Limits::default());
    let mut stream = BytesMut::new();
    let memory = allocation_counter::measure(|| {
        stream.extend_from_slice(b"\0RES\0\0\0\x1c\x08\0\0\0");
        for _ in 0..1000 {
            stream.extend_from_slice(&[b'x'; 1000]);
            client.handle(Input::Data(conn, &mut stream), Instant::EPOCH);
        }
    });
    assert_eq!(stream.len(), HEADER + 1_000_000, "128 MiB are announced, and not all are there");
    assert!(memory.bytes_max < 8_000_000, "{} bytes for 1 MB", memory.bytes_max);
}

#[test]
fn a_client_refuses_what_is_beyond_its_limits_and_gives_it_back() {
    let (mut client, _) = busy_client(limits(|limits| (limits.max_outgoing, limits.max_jobs) = (10_000, 50)));
    let job = Job::new("f", vec![b'p'; 3000]);
    let taken = (0..100).filter(|_| client.submit(job.clone(), Instant::EPOCH).is_ok()).count();
    assert!((3..6).contains(&taken), "{taken} jobs of 3 KB into 10 KB");
    let (mut client, _) = busy_client(limits(|limits| limits.max_jobs = 50));
    let taken = (0..100).filter(|_| client.submit(Job::new("f", ""), Instant::EPOCH).is_ok()).count();
    assert_eq!(taken, 49, "one is there already");
    let rejected = client.submit(job.clone(), Instant::EPOCH).expect_err("it is full");
    assert_eq!(rejected.value, job);
}

/// A job server with two connections.
pub(super) fn two_guests(change: impl FnOnce(&mut server::Config)) -> (Server, ConnId, ConnId) {
    let mut server = new_server(change);
    let mut knock = || server.accept(Peer::new("10.0.0.1", true), Instant::EPOCH).expect("it is open");
    let (first, second) = (knock(), knock());
    drop(outputs(&mut server));
    (server, first, second)
}

#[test]
fn a_guest_that_never_reads_costs_a_job_server_no_more_than_the_limit() {
    let most = 100_000;
    let (mut server, guest, _) = two_guests(|config| config.limits.max_outgoing = most);
    let echo = request(15, 255).repeat(20);
    let mut stream = BytesMut::new();
    let memory = allocation_counter::measure(|| {
        for _ in 0..300 {
            if server.wants_read(guest) {
                stream.extend_from_slice(&echo);
                server.handle(Input::Data(guest, &mut stream), Instant::EPOCH);
                drop(outputs(&mut server));
            }
        }
    });
    let waiting = server.outgoing(guest).len();
    assert!(waiting > most / 2 && waiting <= most + echo.len(), "{waiting} bytes wait with a limit of {most}");
    assert!(memory.bytes_max < 1_000_000, "{} bytes", memory.bytes_max);
}

#[test]
fn jobs_that_nobody_runs_fill_a_job_server_to_its_limit_and_no_further() {
    let (mut server, guest, _) = two_guests(|config| (config.max_jobs, config.max_job_bytes) = (1000, 100_000));
    // With variety 193 they have no unique, and so are never joined.
    let submit = [request(12, 193), request(12, 249)].concat().repeat(5);
    let mut stream = BytesMut::new();
    for _ in 0..200 {
        stream.extend_from_slice(&submit);
        server.handle(Input::Data(guest, &mut stream), Instant::EPOCH);
        drop(outputs(&mut server));
        let waiting = server.outgoing(guest).len();
        server.outgoing(guest).advance(waiting);
    }
    let counters = server.counters();
    assert!(counters.jobs <= 1000 && counters.job_bytes <= 100_000, "{counters:?}");
    assert!(counters.errors > 1000, "{counters:?}");
}

#[test]
fn half_packets_of_many_guests_are_bounded_together() {
    let mut server = new_server(|config| config.max_partial = 100_000);
    let mut closed = 0;
    let mut streams = Vec::new();
    for _ in 0..100 {
        let guest = server.accept(Peer::new("10.0.0.1", true), Instant::EPOCH).expect("it is open");
        let mut stream = BytesMut::from(&b"\0REQ\0\0\0\x07\0\x10\0\0"[..]);
        stream.resize(5000, b'x');
        server.handle(Input::Data(guest, &mut stream), Instant::EPOCH);
        closed += outputs(&mut server).iter().filter(|output| matches!(output, Output::Disconnect(_))).count();
        streams.push(stream);
    }
    assert!((75..=85).contains(&closed), "{closed} of 100 guests with 5 KB each are closed at a limit of 100 KB");
}
