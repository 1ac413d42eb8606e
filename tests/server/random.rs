//! Garbage and random conversations: nothing panics, the tables agree after every step, and nothing is left behind.

use bytes::BytesMut;
use gearwheel::{CloseReason, ConnId, Input, Machine, Output};
use proptest::prelude::*;

use crate::net::{Net, config, kind, millis, raw};

#[derive(Clone, Debug)]
enum Step {
    Connect,
    Close(usize),
    Packet(usize, u32, String),
    Text(usize, &'static str),
    Garbage(usize, Vec<u8>),
    Deaf(usize, bool),
    Pass(u64),
}

/// Arguments of a packet, of names and handles so few that they meet.
fn body() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("f".to_owned()),
        Just("g".to_owned()),
        Just("h".to_owned()),
        Just("u".to_owned()),
        Just("-".to_owned()),
        Just(String::new()),
        Just("exceptions".to_owned()),
        Just("1800000003".to_owned()),
        Just("2000".to_owned()),
        (1..40_u32).prop_map(|number| format!("H:lap:{number}")),
    ];
    prop::collection::vec(word, 0..6).prop_map(|words| words.join("\0"))
}

/// A packet with the arguments that its type has, so that most are understood.
fn fitting() -> impl Strategy<Value = (u32, String)> {
    let function = prop_oneof![Just("f"), Just("g"), Just("h")];
    let unique = prop_oneof![Just(""), Just("u"), Just("v"), Just("-")];
    let handle = (1..40_u32).prop_map(|number| format!("H:lap:{number}"));
    prop_oneof![
        4 => (prop::sample::select(vec![7_u32, 18, 21, 32, 33, 34]), function.clone(), unique.clone(), 0..3_u8)
            .prop_map(|(kind, f, u, p)| (kind, format!("{f}\0{u}\0{p}"))),
        1 => (function.clone(), unique.clone(), 0..5_u32)
            .prop_map(|(f, u, s)| (36, format!("{f}\0{u}\0{}\0x", 1_800_000_000 + s))),
        1 => (37..39_u32, function.clone(), unique).prop_map(|(kind, f, u)| (kind, format!("{f}\0{u}\0r\0a\0x"))),
        6 => prop::sample::select(vec![9_u32, 30, 39, 4]).prop_map(|kind| (kind, String::new())),
        3 => (1..3_u32, function.clone()).prop_map(|(kind, f)| (kind, f.to_owned())),
        1 => function.prop_map(|f| (23, format!("{f}\x001500"))),
        1 => Just((3, String::new())),
        4 => (prop::sample::select(vec![13_u32, 25, 28, 29]), handle.clone()).prop_map(|(kind, h)| (kind, format!("{h}\0r"))),
        1 => handle.clone().prop_map(|h| (14, h)),
        1 => handle.prop_map(|h| (12, format!("{h}\x001\x002"))),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let texts = vec![
        "status\n",
        "workers\n",
        "show jobs\n",
        "show unique jobs\r\n",
        "prioritystatus\n",
        "cancel job H:lap:1\n",
        "cancel job H:lap:5\n",
        "maxqueue f 2\n",
        "maxqueue f\n",
        "drop function g\n",
        "create function new\n",
        "x",
        "\n",
    ];
    prop_oneof![
        2 => Just(Step::Connect),
        1 => (0..8_usize).prop_map(Step::Close),
        30 => (0..8_usize, fitting()).prop_map(|(peer, (kind, body))| Step::Packet(peer, kind, body)),
        6 => (0..8_usize, 0..46_u32, body()).prop_map(|(peer, kind, body)| Step::Packet(peer, kind, body)),
        3 => (0..8_usize, prop::sample::select(texts)).prop_map(|(peer, text)| Step::Text(peer, text)),
        1 => (0..8_usize, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(peer, bytes)| Step::Garbage(peer, bytes)),
        1 => (0..8_usize, any::<bool>()).prop_map(|(peer, deaf)| Step::Deaf(peer, deaf)),
        2 => (0..4_000_u64).prop_map(Step::Pass),
    ]
}

fn play(net: &mut Net, steps: Vec<Step>) {
    let mut conns: Vec<ConnId> = (0..3).map(|_| net.connect()).collect();
    for step in steps {
        let at = |index: usize| conns.get(index % conns.len().max(1)).copied();
        match step {
            Step::Connect if conns.len() < 8 => conns.push(net.connect()),
            Step::Connect => {}
            Step::Close(peer) => {
                if let Some(conn) = at(peer) {
                    net.close(conn);
                    conns.retain(|other| *other != conn);
                }
            }
            Step::Packet(peer, number, body) => {
                if let Some(conn) = at(peer) {
                    net.send_bytes(conn, &raw(kind(number).number(), body.as_bytes()));
                }
            }
            Step::Text(peer, text) => {
                if let Some(conn) = at(peer) {
                    net.send_bytes(conn, text.as_bytes());
                }
            }
            Step::Garbage(peer, bytes) => {
                if let Some(conn) = at(peer) {
                    net.send_bytes(conn, &bytes);
                }
            }
            Step::Deaf(peer, deaf) => {
                if let Some(conn) = at(peer) {
                    if deaf {
                        net.deaf.insert(conn);
                    } else if net.deaf.remove(&conn) {
                        net.write(conn, usize::MAX);
                        net.run();
                    }
                }
            }
            Step::Pass(time) => {
                net.pass(millis(time));
            }
        }
        let gone = std::mem::take(&mut net.disconnected);
        conns.retain(|conn| !gone.contains(conn));
        never_asleep_beside_work(net);
    }
    conns.into_iter().for_each(|conn| net.close(conn));
}

/// What the audit in each step checks of lists and counts, this checks of sleepers: none sleeps while a job waits for it.
fn never_asleep_beside_work(net: &Net) {
    assert_eq!(net.server.sleepers_beside_work(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_conversations_leave_nothing_behind(patience in 0..3_u64, steps in prop::collection::vec(step(), 0..150)) {
        let mut config = config();
        (config.patience, config.gather_results) = (millis(patience), patience > 0);
        let mut net = Net::with(config);
        play(&mut net, steps);
        // Background jobs are left. When they are given up, nothing is.
        let handles: Vec<_> = net.server.queued().filter_map(|job| job.handle).collect();
        let admin = net.connect();
        for handle in handles {
            prop_assert_eq!(net.text(admin, &format!("cancel job {handle}\n")), "OK\r\n");
        }
        net.close(admin);
        prop_assert!(net.is_empty(), "{:?} {:?}", net.server.counters(), net.wait);
        prop_assert_eq!(net.server.counters().connections, 0);
    }

    #[test]
    fn and_so_with_every_limit_at_its_least(patience in 0..3_u64, steps in prop::collection::vec(step(), 0..150)) {
        let mut config = config();
        (config.patience, config.gather_results) = (millis(patience), patience > 0);
        config.worker_wakeup = 1;
        config.job_retries = Some(1);
        config.max_jobs = 5;
        config.max_functions = 2;
        config.max_abilities = 4;
        config.max_job_bytes = 60;
        config.limits.max_outgoing = 100;
        config.limits.max_events = 1;
        config.silent_worker = Some(millis(3_000));
        config.idle = Some(millis(9_000));
        let mut net = Net::with(config);
        play(&mut net, steps);
        let counters = net.server.counters();
        prop_assert!(counters.jobs <= 5 && counters.functions <= 2 && counters.job_bytes <= 60);
        prop_assert_eq!((counters.connections, counters.abilities, counters.waiting, counters.running), (0, 0, 0, 0));
    }

    #[test]
    fn random_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..400), magic in any::<bool>()) {
        let mut net = Net::new();
        let conn = net.connect();
        if magic {
            net.send_bytes(conn, b"\0REQ\0\0\0");
        }
        net.send_bytes(conn, &bytes);
        let good = net.connect();
        prop_assert_eq!(net.ask(good, &["ECHO_REQ x"]), ["ECHO_RES x"]);
    }

    #[test]
    fn the_order_in_which_outputs_are_polled_changes_nothing(steps in prop::collection::vec(fitting(), 1..60), pause in 1..5_usize) {
        let bytes: Vec<u8> = steps.iter().flat_map(|(kind, body)| raw(*kind, body.as_bytes())).collect();
        let run = |max_events| {
            let mut config = config();
            config.limits.max_events = max_events;
            let mut net = Net::with(config);
            let conn = net.connect();
            net.send_bytes(conn, &bytes);
            net.take(conn)
        };
        prop_assert_eq!(run(pause), run(4_096));
    }
}

/// A driver that never polls and never writes cannot make the server hold more than its limits.
#[test]
fn an_unpolled_server_stops_taking_packets() {
    let mut config = config();
    config.limits.max_events = 10;
    let mut net = Net::with(config);
    let conns: Vec<ConnId> = (0..20).map(|_| net.connect()).collect();
    let mut taken = 0;
    for conn in &conns {
        let bytes = raw(16, b"x").repeat(100);
        let mut stream = BytesMut::from(&bytes[..]);
        net.server.handle(Input::Data(*conn, &mut stream), net.now);
        taken += usize::from(stream.is_empty());
    }
    assert!(taken <= 10, "{taken}");
    let mut resumed = 0;
    loop {
        match net.server.poll() {
            Output::Resume(_) => resumed += 1,
            Output::Wait(_) => break,
            _ => {}
        }
    }
    assert_eq!(resumed, conns.len() - taken);
    net.server.handle(Input::Closed(conns[0], CloseReason::Ended), net.now);
}
