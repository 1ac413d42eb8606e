//! Limits to the byte and times to the millisecond: what is just allowed, and what just not.

use std::time::Duration;

use gearwheel::client::{Client, Config, Event};
use gearwheel::{
    Balance, CloseReason, ConfigError, ConnId, Connecting, Job, Limits, MAX_FUNCTION, MAX_UNIQUE, Outcome, Phase,
    Priority, Reason, Retry,
};

use super::rig::{Rig, millis, packet, secs};
use super::{T, accepted, client, complete, config, connect_all, outcomes, sent, server_of, submit};

#[test]
fn the_defaults_are_those_of_the_docs() {
    let connecting = Connecting::default();
    assert_eq!((connecting.connect_timeout, connecting.reply_timeout), (secs(5), secs(15)));
    assert_eq!(connecting.probe_after, Some(secs(15)));
    assert_eq!((connecting.retry_first, connecting.retry_most), (millis(100), secs(30)));
    assert_eq!((connecting.recover_time, connecting.patience), (secs(30), millis(250)));
    let limits = Limits::default();
    assert_eq!((limits.max_packet, limits.max_outgoing), (128 << 20, 64 << 20));
    assert_eq!((limits.max_jobs, limits.max_events), (1_000_000, 4096));
    assert_eq!((limits.max_unread, limits.max_unread_total), (64 << 20, 1 << 30));
    let config = Config::new([0; 32]);
    assert_eq!((config.deadlines.accept, config.deadlines.total, config.deadlines.idle), (Some(secs(30)), None, None));
    assert!(config.exceptions);
}

#[test]
fn a_duration_under_a_millisecond_is_refused_whichever_it_is() {
    let mut least = Connecting::default();
    (least.connect_timeout, least.reply_timeout, least.probe_after) = (millis(1), millis(1), Some(millis(1)));
    (least.retry_first, least.retry_most, least.patience) = (millis(1), millis(1), millis(1));
    let made = |connecting: Connecting| {
        let mut config = config(&["a"]);
        config.connecting = connecting;
        Client::new(config).map(drop)
    };
    assert_eq!(made(least.clone()), Ok(()));
    let short = Duration::from_micros(999);
    let shortened: [fn(&mut Connecting, Duration); 6] = [
        |connecting, short| connecting.connect_timeout = short,
        |connecting, short| connecting.reply_timeout = short,
        |connecting, short| connecting.probe_after = Some(short),
        |connecting, short| connecting.retry_first = short,
        |connecting, short| connecting.retry_most = short,
        |connecting, short| connecting.patience = short,
    ];
    for shorten in shortened {
        let mut bad = least.clone();
        shorten(&mut bad, short);
        assert!(matches!(made(bad), Err(ConfigError::BadDuration { .. })));
    }
}

/// Whether a job of this many bytes of payload is taken where a packet may have 100 bytes.
fn fits(job: impl Fn(usize) -> Job) -> usize {
    let mut small = config(&["a"]);
    small.limits.max_packet = 100;
    let mut rig = Rig::new(Client::new(small).expect("valid"));
    rig.act(|client, now| client.set_unix_time(secs(1), now));
    (0..=100)
        .rev()
        .find(|&size| rig.act(|client, now| client.submit(job(size), now)).is_ok())
        .expect("an empty one is taken")
}

#[test]
fn a_submission_is_refused_from_the_byte_at_which_its_packet_would_be_too_large() {
    let payload = |size: usize| vec![b'x'; size];
    // Beside the payload: the function, and a NUL behind each argument before it.
    assert_eq!(fits(|size| Job::new("func", payload(size))), 94);
    assert_eq!(fits(|size| Job::new("func", payload(size)).unique("0123456789")), 84);
    assert_eq!(fits(|size| Job::new("func", payload(size)).generated_unique()), 62);
    // A reducer, an empty aggregator, and two NULs.
    assert_eq!(fits(|size| Job::new("func", payload(size)).reducer("reduce")), 86);
    // Room for the longest number and a NUL.
    assert_eq!(fits(|size| Job::new("func", payload(size)).at(secs(7))), 74);
}

#[test]
fn a_name_may_be_as_long_as_a_job_server_takes_and_no_longer() {
    let mut rig = client(&["a"]);
    let mut taken = |job: Job| rig.act(|client, now| client.submit(job, now)).is_ok();
    assert!(taken(Job::new(vec![b'f'; MAX_FUNCTION], "")));
    assert!(!taken(Job::new(vec![b'f'; MAX_FUNCTION + 1], "")));
    assert!(taken(Job::new("f", "").unique(vec![b'u'; MAX_UNIQUE])));
    assert!(!taken(Job::new("f", "").unique(vec![b'u'; MAX_UNIQUE + 1])));
    assert!(taken(Job::new("f", "").reducer(vec![b'r'; MAX_UNIQUE])));
    assert!(!taken(Job::new("f", "").reducer(vec![b'r'; MAX_UNIQUE + 1])));
}

#[test]
fn a_namespace_counts_as_a_part_of_the_name_and_of_the_packet() {
    let mut spaced = config(&["a"]);
    spaced.namespace = Some("ns.".into());
    spaced.limits.max_packet = 1000;
    let mut rig = Rig::new(Client::new(spaced).expect("valid"));
    let mut taken = |job: Job| rig.act(|client, now| client.submit(job, now)).is_ok();
    assert!(taken(Job::new(vec![b'f'; MAX_FUNCTION - 3], "")));
    assert!(!taken(Job::new(vec![b'f'; MAX_FUNCTION - 2], "")));
    assert!(taken(Job::new("f", vec![b'x'; 994])));
    assert!(!taken(Job::new("f", vec![b'x'; 995])));
}

#[test]
fn jobs_that_the_protocol_has_no_packet_for_are_refused() {
    let mut rig = client(&["a"]);
    let mut refused = |job: Job| {
        let rejected = rig.act(|client, now| client.submit(job, now)).expect_err("there is no such packet");
        assert!(matches!(rejected.reason, Reason::Invalid(ConfigError::NoSuchJob(_))), "{:?}", rejected.reason);
    };
    refused(Job::new("f", "").at(secs(1)).priority(Priority::Low));
    refused(Job::new("f", "").at(secs(1)).reducer("sum"));
    refused(Job::new("f", "").reducer("sum").priority(Priority::High));
}

#[test]
fn a_client_id_is_one_word() {
    for (id, good) in [("c", true), ("", false), ("two words", false), ("a\0b", false), ("a\tb", false)] {
        let mut named = config(&["a"]);
        named.client_id = Some(id.into());
        assert_eq!(Client::new(named).is_ok(), good, "{id:?}");
    }
}

#[test]
fn an_echo_may_fill_a_packet() {
    let mut small = config(&["a"]);
    small.limits.max_packet = 10;
    let mut rig = Rig::new(Client::new(small).expect("valid"));
    let server = server_of(&rig, "a");
    rig.act(|client, now| client.echo(server, vec![b'e'; 10].into(), now)).expect("it fits");
    let rejected = rig.act(|client, now| client.echo(server, vec![b'e'; 11].into(), now)).expect_err("too long");
    assert_eq!(rejected.value.len(), 11);
}

#[test]
fn a_full_connection_is_passed_over_where_it_may_be() {
    let mut narrow = config(&["a", "b", "c"]);
    (narrow.limits.max_outgoing, narrow.balance) = (100, Balance::RoundRobin);
    let mut rig = Rig::new(Client::new(narrow).expect("valid"));
    for _ in 0..3 {
        submit(&mut rig, Job::new("f", "x"));
        connect_all(&mut rig);
    }
    rig.writable = false;
    // Two of them are full by one job, the third is not.
    for size in [200, 200] {
        submit(&mut rig, Job::new("f", vec![b'x'; size]));
    }
    let small = Job::new("f", "x");
    let taken = (0..100).take_while(|_| rig.act(|client, now| client.submit(small.clone(), now)).is_ok()).count();
    assert!((5..10).contains(&taken), "{taken} jobs of 16 bytes into 100");
}

#[test]
fn a_job_for_which_there_is_no_room_has_another_server_dialled() {
    let mut narrow = config(&["a", "b"]);
    (narrow.limits.max_outgoing, narrow.balance) = (24, Balance::RoundRobin);
    let mut rig = Rig::new(Client::new(narrow).expect("valid"));
    rig.writable = false;
    submit(&mut rig, Job::new("f", vec![b'x'; 100]));
    rig.connect();
    rig.act(|client, now| client.submit(Job::new("f", "x"), now)).expect_err("the bytes wait");
    rig.connect();
    submit(&mut rig, Job::new("f", "x"));
    let outstanding: Vec<_> = rig.machine.servers().map(|server| server.outstanding).collect();
    assert_eq!(outstanding, [1, 1]);
}

/// A client whose connection takes nothing, with 16 bytes to be written on it.
fn full_at_24_bytes() -> (Rig<Client>, ConnId) {
    let mut narrow = config(&["a"]);
    narrow.limits.max_outgoing = 24;
    let mut rig = Rig::new(Client::new(narrow).expect("valid"));
    rig.writable = false;
    submit(&mut rig, Job::new("f", "x"));
    let conn = rig.connect();
    (rig, conn)
}

#[test]
fn a_connection_takes_jobs_until_its_bytes_reach_the_limit() {
    let (mut rig, conn) = full_at_24_bytes();
    // The first has 12 + 1 + 1 + 1 + 1 bytes, so that a second one is taken and a third is not.
    submit(&mut rig, Job::new("f", "x"));
    let rejected = rig.act(|client, now| client.submit(Job::new("f", "x"), now)).expect_err("32 bytes wait");
    assert_eq!(rejected.reason, Reason::Full { what: "the bytes queued for a connection", limit: 24 });
    assert_eq!(rig.write(conn, 8), 8);
    rig.act(|client, now| client.submit(Job::new("f", "x"), now)).expect_err("24 bytes wait");
    assert_eq!(rig.write(conn, 1), 1);
    submit(&mut rig, Job::new("f", "x"));
}

#[test]
fn one_job_may_be_larger_than_all_that_may_wait_and_what_is_given_up_still_waits() {
    let (mut rig, conn) = full_at_24_bytes();
    let job = submit(&mut rig, Job::new("f", vec![b'x'; 1000]));
    rig.write(conn, 16);
    rig.act(|client, now| client.abandon(job, now));
    rig.events();
    let rejected = rig.act(|client, now| client.submit(Job::new("f", ""), now)).expect_err("1015 bytes wait");
    assert!(matches!(rejected.reason, Reason::Full { limit: 24, .. }));
    rig.write(conn, 1015 - 23);
    submit(&mut rig, Job::new("f", vec![b'x'; 1000]));
}

#[test]
fn numbers_of_job_servers_are_read_as_far_as_they_are_numbers() {
    let (mut rig, conn, job) = accepted(Job::new("f", "x"));
    for (text, number) in [("12", 12), ("0.75", 0), ("7x", 7), ("x", 0), ("", 0), ("99999999999999999999", u64::MAX)] {
        rig.receive(conn, &[packet(T::WORK_STATUS, &format!("H:x:1|{text}|100"))]);
        let progress = gearwheel::client::Event::Progress { job, numerator: number, denominator: 100 };
        assert_eq!(rig.events(), [progress], "{text}");
    }
}

/// How long after a loss a machine dials again, for each of so many losses in a row.
fn gaps(rig: &mut Rig<Client>, count: usize) -> Vec<Duration> {
    (0..count)
        .map(|_| {
            let connects = rig.connects();
            let [(conn, _)] = connects[..] else { panic!("not one attempt: {connects:?}") };
            rig.close(conn, CloseReason::Refused);
            let lost = rig.now;
            while rig.connects.is_empty() {
                let at = rig.wait.expect("it goes on trying");
                rig.pass(at.saturating_since(rig.now));
            }
            rig.now.saturating_since(lost)
        })
        .collect()
}

#[test]
fn the_gaps_between_attempts_double_up_to_the_longest_and_are_half_random() {
    let mut patient = config(&["a"]);
    patient.deadlines.accept = None;
    patient.connecting.retry_first = millis(100);
    patient.connecting.retry_most = millis(1000);
    let mut rig = Rig::new(Client::new(patient).expect("valid"));
    submit(&mut rig, Job::new("f", "x"));
    let gaps = gaps(&mut rig, 40);
    for (gap, most) in gaps.iter().zip([100, 200, 400, 800].into_iter().chain(std::iter::repeat(1000))) {
        assert!((millis(most / 2)..=millis(most)).contains(gap), "{gap:?} of {most} ms");
    }
    assert!(gaps[4..].iter().any(|gap| *gap != gaps[4]), "they are not all the same");
    // Once it has worked for as long, the next failure is a first one.
    let conn = rig.connect();
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:1"), packet(T::WORK_COMPLETE, "H:x:1|y")]);
    rig.pass(millis(1000));
    submit(&mut rig, Job::new("f", "x"));
    rig.close(conn, CloseReason::Reset);
    submit(&mut rig, Job::new("f", "x"));
    let lost = rig.now;
    rig.pass(millis(100));
    assert_eq!(rig.connects().len(), 1, "dialled within 100 ms of {lost:?}");
}

#[test]
fn a_lost_job_waits_for_its_next_attempt_twice_as_long_each_time() {
    let mut eager = config(&["a"]);
    eager.connecting.retry_first = millis(100);
    eager.connecting.retry_most = secs(2);
    eager.connecting.recover_time = secs(0);
    let mut rig = Rig::new(Client::new(eager).expect("valid"));
    let job = submit(&mut rig, Job::new("f", "x").retry(Retry::Idempotent { attempts: 8 }));
    for most in [100, 200, 400, 800, 1600, 2000, 2000] {
        let conn = rig.connect();
        rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:1")]);
        assert_eq!(rig.machine.phase(job), Some(Phase::Accepted));
        rig.close(conn, CloseReason::Reset);
        assert_eq!(rig.machine.phase(job), Some(Phase::Parked));
        // A second job has the connection made again at once; the first joins it no sooner than half its wait.
        rig.pass(millis(most / 2 - 1));
        let early = rig.connects().len();
        rig.pass(millis(most / 2 + 101));
        let late = rig.connects.len();
        assert!(early == 0 && late == 1, "{early} and {late} attempts around {most} ms");
    }
    let conn = rig.connect();
    rig.close(conn, CloseReason::Reset);
    let ends = outcomes(&mut rig);
    assert!(matches!(&ends[..], [(_, Outcome::Lost { attempts: 8, .. })]), "{ends:?}");
}

#[test]
fn deadlines_that_come_out_of_order_are_kept_each_in_its_time() {
    let mut rig = client(&["a"]);
    let times = [7_u64, 3, 9, 1, 5, 8, 2, 6, 4, 3];
    let begun = rig.now;
    let mut jobs: Vec<_> =
        times.iter().map(|&time| (time, submit(&mut rig, Job::new("f", "x").timeout(secs(time))))).collect();
    // Every third ends before its time, so that its timer is for nobody.
    for &(_, job) in jobs.iter().step_by(3) {
        rig.act(|client, now| client.abandon(job, now));
    }
    let mut kept: Vec<_> = jobs.drain(..).enumerate().filter(|(place, _)| place % 3 > 0).map(|(_, job)| job).collect();
    kept.sort_by_key(|(time, _)| *time);
    rig.events();
    let mut ended = Vec::new();
    for tenth in 1..=100 {
        rig.pass(millis(100));
        for (job, outcome) in outcomes(&mut rig) {
            assert!(matches!(outcome, Outcome::TimedOut { phase: Phase::Parked, .. }), "{outcome:?}");
            assert_eq!(rig.now.saturating_since(begun), millis(tenth * 100));
            ended.push((tenth / 10, job));
        }
    }
    let mut wanted = kept.clone();
    wanted.sort_unstable();
    ended.sort_unstable();
    assert_eq!(ended, wanted);
    assert!(rig.machine.is_empty());
}

#[test]
fn the_time_to_be_accepted_begins_anew_when_a_job_was_accepted_and_lost() {
    let (mut rig, conn, job) = {
        let (mut rig, conn, job) =
            sent(Job::new("f", "x").retry(Retry::Idempotent { attempts: 5 }).accept_timeout(secs(10)));
        rig.pass(secs(9));
        rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:1")]);
        rig.events();
        (rig, conn, job)
    };
    rig.pass(secs(10));
    rig.close(conn, CloseReason::Reset);
    rig.connects();
    rig.pass(millis(9_900));
    assert_eq!(outcomes(&mut rig), [], "it is not 10 s since it was lost");
    rig.pass(millis(100));
    let ends = outcomes(&mut rig);
    assert!(matches!(&ends[..], [(id, Outcome::TimedOut { .. })] if *id == job), "{ends:?}");
}

#[test]
fn the_idle_time_begins_when_the_job_is_accepted_and_with_each_sign_of_life() {
    let (mut rig, conn, job) = sent(Job::new("f", "x").idle_timeout(secs(10)));
    rig.pass(secs(9));
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:1")]);
    rig.pass(secs(9));
    rig.receive(conn, &[packet(T::WORK_DATA, "H:x:1|d")]);
    rig.pass(millis(9_999));
    assert_eq!(outcomes(&mut rig), []);
    rig.pass(millis(1));
    let ends = outcomes(&mut rig);
    assert!(matches!(&ends[..], [(id, Outcome::TimedOut { phase: Phase::Running, .. })] if *id == job), "{ends:?}");
    rig.receive(conn, &[packet(T::WORK_COMPLETE, "H:x:1|late")]);
    assert_eq!(rig.machine.counters().late, 1);
    let next = submit(&mut rig, Job::new("f", "y"));
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:2"), packet(T::WORK_COMPLETE, "H:x:2|z")]);
    assert_eq!(outcomes(&mut rig), [(next, complete("z"))]);
}

#[test]
fn a_large_upload_that_was_taken_at_once_may_be_on_its_way_still() {
    for (size, patient) in [(200 << 10, false), (300 << 10, true)] {
        let mut rig = client(&["a"]);
        rig.writable = false;
        submit(&mut rig, Job::new("f", vec![b'x'; size]));
        let conn = rig.connect();
        rig.pass(secs(14));
        rig.write(conn, usize::MAX);
        rig.pass(secs(1));
        assert_eq!(rig.disconnects().is_empty(), patient, "{size} bytes");
        rig.pass(secs(15));
        assert_eq!(rig.disconnects().len(), usize::from(patient), "it has had its time");
    }
}

#[test]
fn limits_refuse_and_give_back() {
    let mut small = config(&["a"]);
    small.limits.max_jobs = 2;
    small.limits.max_packet = 100;
    let mut rig = Rig::new(Client::new(small).expect("valid"));
    submit(&mut rig, Job::new("f", "1"));
    let too_large = rig.act(|client, now| client.submit(Job::new("f", vec![0; 98]), now)).expect_err("too large");
    assert_eq!(too_large.reason, Reason::Invalid(ConfigError::TooLong { what: "payload", length: 98, limit: 97 }));
    submit(&mut rig, Job::new("f", vec![0; 97]));
    let full = rig.act(|client, now| client.submit(Job::new("f", "3"), now)).expect_err("full");
    assert!(matches!(full.reason, Reason::Full { limit: 2, .. }));
    assert_eq!(full.value, Job::new("f", "3"));
}

#[test]
fn a_connection_with_too_much_to_write_takes_no_more() {
    let mut small = config(&["a"]);
    small.limits.max_outgoing = 1000;
    let mut rig = Rig::new(Client::new(small).expect("valid"));
    submit(&mut rig, Job::new("f", "1"));
    let conn = rig.connect();
    rig.writable = false;
    submit(&mut rig, Job::new("f", vec![0; 5000]));
    let full = rig.act(|client, now| client.submit(Job::new("f", "3"), now)).expect_err("full");
    assert!(matches!(full.reason, Reason::Full { limit: 1000, .. }));
    rig.write(conn, usize::MAX);
    submit(&mut rig, Job::new("f", "3"));
}

#[test]
fn a_client_that_is_not_polled_stops_reading_and_goes_on_when_it_is() {
    let mut few = config(&["a"]);
    few.limits.max_events = 4;
    let mut rig = Rig::new(Client::new(few).expect("valid"));
    let job = submit(&mut rig, Job::new("f", "x"));
    let conn = rig.connect();
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:1")]);
    rig.events();
    let parts: Vec<_> = (0..50).map(|part| packet(T::WORK_DATA, &format!("H:x:1|{part}"))).collect();
    let mut bytes = bytes::BytesMut::new();
    for part in &parts {
        part.encode(gearwheel::wire::Magic::Response, &mut bytes);
    }
    use gearwheel::Machine;
    rig.machine.handle(gearwheel::Input::Data(conn, &mut bytes), rig.now);
    assert!(!rig.machine.wants_read(conn) && !bytes.is_empty());
    rig.receive_bytes(conn, &bytes);
    let got: Vec<_> = rig.events();
    let wanted: Vec<_> = (0..50).map(|part| Event::Data { job, payload: part.to_string().into() }).collect();
    assert_eq!(got, wanted);
    assert!(rig.machine.wants_read(conn));
}

#[test]
fn a_start_beyond_all_times_is_the_last_that_gearmand_answers() {
    let mut rig = client(&["a"]);
    rig.act(|client, now| client.set_unix_time(secs(1_000_000), now));
    submit(&mut rig, Job::new("f", "x").after(Duration::MAX));
    submit(&mut rig, Job::new("f", "x").at(Duration::MAX));
    let conn = rig.connect();
    let last = packet(T::SUBMIT_JOB_EPOCH, "f||9223372036854775807|x");
    assert_eq!(rig.sent(conn), [last.clone(), last]);
}

#[test]
fn a_namespace_is_a_name() {
    for (namespace, good) in [("ns.", true), ("", true), ("a\0b", false), (&*"n".repeat(MAX_FUNCTION + 1), false)] {
        let mut spaced = config(&["a"]);
        spaced.namespace = Some(namespace.into());
        assert_eq!(Client::new(spaced).is_ok(), good, "{namespace:?}");
    }
}

#[test]
fn a_client_that_could_never_read_or_send_is_refused() {
    let zeros: [(_, fn(&mut Config)); 3] = [
        ("limits.max_events", |config| config.limits.max_events = 0),
        ("limits.max_outgoing", |config| config.limits.max_outgoing = 0),
        ("limits.max_jobs", |config| config.limits.max_jobs = 0),
    ];
    for (what, change) in zeros {
        let mut mute = config(&["a"]);
        change(&mut mute);
        assert_eq!(Client::new(mute).err(), Some(ConfigError::Zero(what)));
    }
    // One that may keep a single output reads all there is, too.
    let mut least = config(&["a"]);
    least.limits.max_events = 1;
    let mut rig = Rig::new(Client::new(least).expect("valid"));
    submit(&mut rig, Job::new("f", "x"));
    let conn = rig.connect();
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:1"), packet(T::WORK_COMPLETE, "H:x:1|y")]);
    assert_eq!(outcomes(&mut rig).len(), 1);
}
