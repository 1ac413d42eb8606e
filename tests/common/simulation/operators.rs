//! The operators of a run, who ask the job servers by the text protocol, and what must hold of the replies.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use gearwheel::admin::{Admin, Config, Error, Event, RequestId};
use gearwheel::wire::admin::{Reply, Request};

use super::super::net::{Dice, Driver, HostId};
use super::servers::ServerSlot;
use super::{FUNCTIONS, World};

pub(super) struct OperatorSlot {
    pub(super) host: HostId,
    /// The job server that it asks. The toy does not know the text protocol.
    pub(super) server: Option<usize>,
    pub(super) incarnation: u32,
    pub(super) driver: Option<Driver<Admin>>,
    pub(super) asked: BTreeMap<RequestId, Request>,
    /// The most time that a command may take.
    pub(super) timeout: Duration,
}

impl OperatorSlot {
    pub(super) fn new(host: HostId, servers: &[ServerSlot], dice: &mut Dice) -> Self {
        let ours: Vec<_> = (0..servers.len()).filter(|&place| servers[place].habits.is_none()).collect();
        let server = ours.get(dice.below(ours.len())).copied();
        Self { host, server, incarnation: 0, driver: None, asked: BTreeMap::new(), timeout: Duration::ZERO }
    }
}

impl World {
    pub(super) fn start_operator(&mut self, place: usize) {
        let slot = &self.operators[place];
        let Some(server) = slot.server.filter(|_| slot.driver.is_none()) else { return };
        let mut config = Config::new(self.dice.seed());
        config.connecting = self.connecting();
        config.server = Some(self.servers[server].address.clone());
        config.timeout = Duration::from_millis(self.dice.range(1000, 30_000));
        if self.dice.chance(300) {
            config.limits.max_events = self.dice.below(8) + 1;
            config.limits.max_jobs = self.dice.below(8) + 1;
        }
        let slot = &mut self.operators[place];
        if slot.incarnation > 0 {
            self.net.restart(slot.host);
        }
        slot.timeout = config.timeout;
        slot.driver = Some(Driver::new(&mut self.net, slot.host, Admin::new(config).expect("a good configuration")));
        self.look_at_operator(place);
    }

    pub(super) fn ask_server(&mut self, place: usize, dice: &mut Dice) {
        let Some(server) = self.operators[place].server else { return };
        let request = self.command(server, dice);
        let slot = &mut self.operators[place];
        let Some(driver) = &mut slot.driver else { return };
        match driver.act(&mut self.net, |admin, now| admin.ask(request.clone(), now)) {
            Ok(id) => {
                let old = slot.asked.insert(id, request);
                assert!(old.is_none(), "{id:?} is used again");
            }
            Err(rejected) => assert_eq!(rejected.value, request, "what is refused comes back as it was"),
        }
        self.look_at_operator(place);
    }

    fn command(&mut self, server: usize, dice: &mut Dice) -> Request {
        let function = Bytes::from_static(FUNCTIONS[dice.below(FUNCTIONS.len())].as_bytes());
        match dice.below(14) {
            0 => Request::Version,
            1 => Request::Pid,
            2 => Request::Verbose,
            3 | 4 => Request::Status,
            5 => Request::PriorityStatus,
            6 | 7 => Request::Workers,
            8 => Request::ShowJobs,
            9 => Request::ShowUniqueJobs,
            10 => Request::CreateFunction { function: Bytes::from(format!("of{}", dice.below(3))) },
            11 => Request::DropFunction { function: Bytes::from(format!("of{}", dice.below(3))) },
            12 if dice.chance(100) => {
                self.servers[server].picky = true;
                let limits = [0; 3].map(|_: u32| dice.skewed(100) as u32);
                Request::MaxQueue { function, limits }
            }
            _ => self.cancel_some(dice),
        }
    }

    /// Cancels a job whose handle a client has been told. It may have ended, or be with another server.
    fn cancel_some(&mut self, dice: &mut Dice) -> Request {
        let known: Vec<_> = self.records.iter().filter_map(|record| record.handle.clone()).collect();
        let Some(handle) = known.get(dice.below(known.len())).cloned() else {
            return Request::CancelJob { handle: Bytes::from_static(b"H:nobody:1") };
        };
        for record in self.records.iter_mut().filter(|record| record.handle.as_ref() == Some(&handle)) {
            record.may_fail = true;
            // Those that join it later, and those who have not been told that they did, end with it.
            self.shared_may_fail |= record.shared;
        }
        Request::CancelJob { handle }
    }

    pub(super) fn close_operator(&mut self, place: usize) {
        let slot = &mut self.operators[place];
        let Some(driver) = &mut slot.driver else { return };
        driver.act(&mut self.net, Admin::close);
        let closed = matches!(driver.events.back(), Some(Event::Closed));
        assert!(closed, "an operator does not close at once");
        self.look_at_operator(place);
    }

    /// Takes the events of an operator, and sees that each reply is of its command and from its server.
    pub(super) fn look_at_operator(&mut self, place: usize) {
        let mut closed = false;
        while let Some(event) = self.operators[place].driver.as_mut().and_then(|driver| driver.events.pop_front()) {
            assert!(!closed, "{event:?} behind Closed");
            match event {
                Event::Reply { request, result } => {
                    let slot = &mut self.operators[place];
                    let command = slot.asked.remove(&request);
                    let command = command.unwrap_or_else(|| panic!("{request:?} is answered twice or never asked"));
                    let server = slot.server.expect("it has asked");
                    match &result {
                        Ok(reply) => self.judge_reply(server, &command, reply),
                        Err(Error::Refused(error)) => judge_refusal(&command, &error.to_string()),
                        Err(Error::Lost { server: address, .. } | Error::TimedOut { server: address, .. }) => {
                            assert_eq!(*address, self.servers[server].address, "of another server");
                        }
                        Err(_) => {}
                    }
                    let name = if result.is_ok() { "command answered" } else { "command without answer" };
                    *self.outcomes.entry(name).or_default() += 1;
                }
                Event::Closed => closed = true,
                _ => {}
            }
        }
        if closed {
            self.bury_operator(place);
        }
    }

    fn bury_operator(&mut self, place: usize) {
        let slot = &mut self.operators[place];
        assert!(slot.asked.is_empty(), "Closed before {:?} are answered", slot.asked);
        let Some(driver) = slot.driver.take() else { return };
        assert_eq!(driver.machine.outstanding(), 0, "a closed operator has commands outstanding");
        assert_eq!(driver.connections(), 0, "a closed operator has connections");
        assert_eq!(driver.wait(), None, "a closed operator waits for something");
        (self.inputs, self.outputs) = (self.inputs + driver.inputs, self.outputs + driver.outputs);
        slot.incarnation += 1;
        self.net.exit(slot.host);
    }

    fn judge_reply(&self, server: usize, command: &Request, reply: &Reply) {
        // Of a worker that lost power each connection stays until its server finds out.
        let most = self.net.connects;
        match (command, reply) {
            (Request::Version, Reply::Version(text)) => assert_eq!(*text, format!("server{server}")),
            (Request::Pid, Reply::Pid(number)) => assert_eq!(*number, server as u64 + 1),
            (Request::Status, Reply::Status(rows)) => {
                for row in rows {
                    let known = FUNCTIONS.iter().any(|name| row.function == *name) || row.function.starts_with(b"of");
                    assert!(known || row.function == "sum", "a function that nobody has named: {row:?}");
                    assert!(row.running <= row.total && row.workers <= most, "{row:?}");
                }
            }
            (Request::ShowJobs, Reply::Jobs(rows)) => {
                for row in rows {
                    assert!(row.handle.starts_with(format!("H:s{server}.").as_bytes()), "{row:?} of another server");
                }
            }
            (Request::Workers, Reply::Workers(rows)) => {
                assert!(!rows.is_empty(), "whoever asks is connected");
                assert!(rows.iter().all(|row| row.functions.len() <= FUNCTIONS.len()), "{rows:?}");
            }
            (Request::Verbose, Reply::Verbose(_))
            | (Request::PriorityStatus, Reply::PriorityStatus(_))
            | (Request::ShowUniqueJobs, Reply::UniqueJobs(_)) => {}
            (
                Request::CancelJob { .. }
                | Request::CreateFunction { .. }
                | Request::DropFunction { .. }
                | Request::MaxQueue { .. },
                Reply::Done,
            ) => {}
            _ => panic!("{command:?} is answered with {reply:?}"),
        }
    }

    /// All operators go; what they have asked ends.
    pub(super) fn close_operators(&mut self) {
        (0..self.operators.len()).for_each(|place| self.close_operator(place));
    }
}

fn judge_refusal(command: &Request, error: &str) {
    let refusable = matches!(command, Request::CancelJob { .. } | Request::DropFunction { .. });
    assert!(refusable, "{command:?} is refused: {error}");
}
