//! The client machine against job servers that the test plays packet by packet.

#[path = "client/gather.rs"]
mod gather;
#[path = "client/jobs.rs"]
mod jobs;
#[path = "client/limits.rs"]
mod limits;
#[path = "client/losses.rs"]
mod losses;
#[path = "client/oversized.rs"]
mod oversized;
#[path = "common/rig.rs"]
mod rig;
#[path = "client/servers.rs"]
mod servers;

use bytes::Bytes;
use gearwheel::client::{Client, Config, Event, RequestError};
use gearwheel::wire::{Packet, PacketType as T};
use gearwheel::{
    CloseReason, ConfigError, ConnId, Handle, Job, JobId, Outcome, Phase, Priority, ProtocolError, Reason, Retry,
    Unique,
};
use rig::{Rig, address, millis, packet, secs};

fn config(servers: &[&str]) -> Config {
    let mut config = Config::new([7; 32]);
    config.servers = servers.iter().map(|server| address(server)).collect();
    config.exceptions = false;
    config
}

fn client(servers: &[&str]) -> Rig<Client> {
    Rig::new(Client::new(config(servers)).expect("valid"))
}

fn submit(rig: &mut Rig<Client>, job: Job) -> JobId {
    rig.act(|client, now| client.submit(job, now)).expect("accepted")
}

/// A client with one connection, and a job that has been sent on it.
fn sent(job: Job) -> (Rig<Client>, ConnId, JobId) {
    let mut rig = client(&["a"]);
    let id = submit(&mut rig, job);
    let conn = rig.connect();
    rig.sent(conn);
    rig.events();
    (rig, conn, id)
}

fn accepted(job: Job) -> (Rig<Client>, ConnId, JobId) {
    let (mut rig, conn, id) = sent(job);
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:1")]);
    rig.events();
    (rig, conn, id)
}

fn outcomes(rig: &mut Rig<Client>) -> Vec<(JobId, Outcome)> {
    let done = |event| if let Event::Done { job, outcome } = event { Some((job, outcome)) } else { None };
    rig.events().into_iter().filter_map(done).collect()
}

fn complete(text: &'static str) -> Outcome {
    Outcome::Complete(Bytes::from_static(text.as_bytes()))
}

fn connect_all(rig: &mut Rig<Client>) -> Vec<ConnId> {
    let conns: Vec<_> = rig.connects().into_iter().map(|(conn, _)| conn).collect();
    for &conn in &conns {
        rig.handle(gearwheel::Input::Connected(conn));
    }
    conns
}

fn server_of(rig: &Rig<Client>, text: &str) -> gearwheel::ServerId {
    rig.machine.servers().find(|server| server.address == address(text)).expect("there").server
}
