//! Latencies as plain numbers, on virtual time.

#[path = "common/rig.rs"]
mod rig;

use std::time::Duration;

use bytes::BytesMut;
use gearwheel::server::{self, Server};
use gearwheel::wire::{Magic, Packet, PacketType as T};
use gearwheel::worker::{self, Worker};
use gearwheel::{ConnId, Histogram, Input, Instant, Job, Machine, Peer, Retry, client};
use rig::{Rig, address, millis, packet, secs};

/// How many there are, and how long all took.
fn sum(histogram: &Histogram) -> (u64, Duration) {
    (histogram.count(), histogram.sum())
}

#[test]
fn a_client_counts_from_submit_to_job_created_and_to_the_end() {
    let mut config = client::Config::new([7; 32]);
    config.servers = vec![address("a")];
    config.exceptions = false;
    let mut rig = Rig::new(client::Client::new(config).expect("valid"));
    rig.act(|client, now| client.submit(Job::new("f", ""), now)).expect("accepted");
    rig.pass(millis(10));
    let conn = rig.connect();
    rig.pass(millis(20));
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:1")]);
    rig.pass(millis(300));
    rig.receive(conn, &[packet(T::WORK_FAIL, "H:x:1")]);
    let latencies = rig.machine.latencies();
    assert_eq!(sum(&latencies.accept), (1, millis(30)));
    assert_eq!(sum(&latencies.total), (1, millis(330)));
}

#[test]
fn a_further_attempt_counts_from_the_first_submit() {
    let mut config = client::Config::new([7; 32]);
    config.servers = vec![address("a")];
    config.retry = Retry::Idempotent { attempts: 3 };
    let mut rig = Rig::new(client::Client::new(config).expect("valid"));
    rig.act(|client, now| client.submit(Job::new("f", ""), now)).expect("accepted");
    let conn = rig.connect();
    rig.pass(secs(1));
    rig.close(conn, gearwheel::CloseReason::Reset);
    rig.pass(secs(1));
    let conn = rig.connect();
    rig.receive(conn, &[packet(T::OPTION_RES, "exceptions"), packet(T::JOB_CREATED, "H:x:1")]);
    rig.receive(conn, &[packet(T::WORK_COMPLETE, "H:x:1|")]);
    let latencies = rig.machine.latencies();
    assert_eq!((sum(&latencies.accept), sum(&latencies.total)), ((1, secs(2)), (1, secs(2))));
}

#[test]
fn a_worker_counts_from_handing_out_to_the_answer() {
    let mut config = worker::Config::new([3; 32]);
    config.servers = vec![address("a")];
    config.prefetch = 1;
    let mut rig = Rig::new(Worker::new(config).expect("valid"));
    rig.act(|worker, now| worker.register("f", None, now)).expect("registered");
    let conn = rig.connect();
    let mut tasks = Vec::new();
    for number in 1..=2 {
        rig.receive(conn, &[packet(T::JOB_ASSIGN_UNIQ, &format!("H:x:{number}|f||"))]);
    }
    for _ in 0..2 {
        let taken = |event| if let worker::Event::Assigned(job) = event { Some(job.task) } else { None };
        tasks.extend(rig.events().into_iter().filter_map(taken));
        rig.pass(millis(40));
        let task = tasks.pop().expect("one at a time");
        rig.act(|worker, now| worker.complete(task, "".into(), now)).expect("sent");
    }
    // The second one has waited here while the first one ran.
    assert_eq!(sum(&rig.machine.latencies().run), (2, millis(80)));
}

/// A server and the time, with what a test needs of a driver.
struct Serving(Server, Instant);

impl Serving {
    fn connect(&mut self) -> ConnId {
        let conn = self.0.accept(Peer::new("127.0.0.1", true), self.1).expect("accepted");
        self.run();
        conn
    }

    fn receive(&mut self, conn: ConnId, packets: &[Packet]) {
        let mut stream = BytesMut::new();
        packets.iter().for_each(|packet| packet.encode(Magic::Request, &mut stream));
        self.0.handle(Input::Data(conn, &mut stream), self.1);
        self.run();
    }

    fn pass(&mut self, time: Duration) {
        self.1 = self.1 + time;
        self.0.handle(Input::Tick, self.1);
        self.run();
    }

    fn run(&mut self) {
        while !matches!(self.0.poll(), gearwheel::Output::Wait(_)) {}
    }
}

#[test]
fn a_server_counts_waiting_and_running_with_and_without_a_time_limit() {
    let now = Instant::from_epoch(secs(50));
    let server = Server::new(server::Config::new([1; 32]), now, secs(1_000)).expect("valid");
    let mut serving = Serving(server, now);
    let (client, worker) = (serving.connect(), serving.connect());
    serving.receive(worker, &[packet(T::CAN_DO, "f"), packet(T::CAN_DO_TIMEOUT, "limited|5000")]);
    for (number, function) in ["f", "limited"].into_iter().enumerate() {
        serving.receive(client, &[packet(T::SUBMIT_JOB, &format!("{function}||"))]);
        serving.pass(millis(100));
        serving.receive(worker, &[packet(T::GRAB_JOB, "")]);
        serving.pass(millis(900));
        serving.receive(worker, &[packet(T::WORK_COMPLETE, &format!("H:gearwheel:{}|", number + 1))]);
    }
    let latencies = serving.0.latencies();
    assert_eq!(sum(&latencies.wait), (2, millis(200)));
    assert_eq!(sum(&latencies.run), (2, millis(1_800)));
}

#[test]
fn a_job_that_is_requeued_waits_anew_and_its_lost_run_does_not_count() {
    let now = Instant::from_epoch(secs(50));
    let server = Server::new(server::Config::new([1; 32]), now, secs(1_000)).expect("valid");
    let mut serving = Serving(server, now);
    let (client, first, second) = (serving.connect(), serving.connect(), serving.connect());
    serving.receive(client, &[packet(T::SUBMIT_JOB_BG, "f||"), packet(T::SUBMIT_JOB_EPOCH, "f||1060|")]);
    serving.receive(first, &[packet(T::CAN_DO, "f"), packet(T::GRAB_JOB, "")]);
    serving.pass(secs(7));
    serving.0.handle(Input::Closed(first, gearwheel::CloseReason::Reset), serving.1);
    serving.pass(secs(2));
    serving.receive(second, &[packet(T::CAN_DO, "f"), packet(T::GRAB_JOB, "")]);
    serving.pass(secs(1));
    serving.receive(second, &[packet(T::WORK_FAIL, "H:gearwheel:1")]);
    assert_eq!(sum(&serving.0.latencies().wait), (2, secs(2)));
    assert_eq!(sum(&serving.0.latencies().run), (1, secs(1)));
    // A delayed job waits from the time that it is due.
    serving.pass(secs(50));
    serving.pass(secs(3));
    serving.receive(second, &[packet(T::GRAB_JOB, "")]);
    assert_eq!(sum(&serving.0.latencies().wait), (3, secs(5)));
}
