//! What happens in a run, and how a failing one is made short.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::super::net::{Dice, Fault, HostId, SECOND, Trace};
use super::World;

/// What happens in a run, all of it.
#[derive(Clone, Debug)]
pub struct Script {
    pub seed: u64,
    pub servers: usize,
    pub clients: usize,
    pub workers: usize,
    pub operators: usize,
    /// Thousandths, in the order of [`Fault::ALL`].
    pub chances: Vec<u64>,
    pub storm: u64,
    pub steps: Vec<(u64, Step)>,
}

/// What a user or the weather does.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Submit {
        client: usize,
        dice: u64,
    },
    Burst {
        client: usize,
        count: usize,
        dice: u64,
    },
    Abandon {
        client: usize,
        dice: u64,
    },
    Ask {
        client: usize,
        dice: u64,
    },
    CloseClient {
        client: usize,
    },
    ChangeServers {
        client: usize,
        dice: u64,
    },
    ChangeServersOfWorker {
        worker: usize,
        dice: u64,
    },
    Drain {
        worker: usize,
    },
    CloseWorker {
        worker: usize,
    },
    ChangeFunctions {
        worker: usize,
        dice: u64,
    },
    CrashServer {
        server: usize,
        power_loss: bool,
        down: u64,
    },
    CrashClient {
        client: usize,
    },
    CrashWorker {
        worker: usize,
        power_loss: bool,
    },
    Stall {
        host: HostId,
        nanos: u64,
    },
    /// An operator gives a job server a command.
    Command {
        operator: usize,
        dice: u64,
    },
    CloseOperator {
        operator: usize,
    },
    /// A job server ends in order, and comes back with the background jobs that it held.
    RestartServer {
        server: usize,
        down: u64,
    },
}

impl Script {
    /// The script of a seed.
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x5eed);
        let (servers, clients, workers) = (dice.below(3) + 1, dice.below(3) + 1, dice.below(3) + 1);
        let stormy = dice.range(0, 3);
        let mut chances: Vec<u64> = Fault::ALL.map(|_| dice.skewed(80 * stormy)).to_vec();
        if stormy == 0 {
            chances = vec![0; Fault::ALL.len()];
        }
        chances[Fault::Spurious as usize] = dice.range(0, 50);
        let storm = dice.range(1, 90) * SECOND;
        let count = dice.skewed(120) + 5;
        let mut steps: Vec<_> = (0..count)
            .map(|_| (dice.range(0, storm), Self::step(&mut dice, stormy, servers, clients, workers)))
            .collect();
        // Drawn last, so that what was there before operators were stays as it was.
        let operators = dice.below(3);
        let count = if operators > 0 { dice.skewed(60) } else { 0 };
        steps.extend((0..count).map(|_| {
            let (at, operator, die) = (dice.range(0, storm), dice.below(operators), dice.next());
            let step =
                if dice.chance(30) { Step::CloseOperator { operator } } else { Step::Command { operator, dice: die } };
            (at, step)
        }));
        if dice.chance(300) {
            let (at, server) = (dice.range(0, storm), dice.below(servers));
            steps.push((at, Step::RestartServer { server, down: dice.skewed(10 * SECOND) }));
        }
        steps.sort_by_key(|(at, _)| *at);
        Self { seed, servers, clients, workers, operators, chances, storm, steps }
    }

    fn step(dice: &mut Dice, stormy: u64, servers: usize, clients: usize, workers: usize) -> Step {
        let (client, worker, server) = (dice.below(clients), dice.below(workers), dice.below(servers));
        let die = dice.next();
        match dice.range(0, if stormy == 0 { 849 } else { 999 }) {
            0..600 => Step::Submit { client, dice: die },
            600..650 => Step::Burst { client, count: dice.skewed(200) as usize + 2, dice: die },
            650..700 => Step::Abandon { client, dice: die },
            700..750 => Step::Ask { client, dice: die },
            750..770 => Step::ChangeServers { client, dice: die },
            770..780 => Step::ChangeServersOfWorker { worker, dice: die },
            780..820 => Step::ChangeFunctions { worker, dice: die },
            820..830 => Step::CloseClient { client },
            830..840 => Step::Drain { worker },
            840..850 => Step::CloseWorker { worker },
            850..900 => Step::CrashServer { server, power_loss: dice.chance(300), down: dice.skewed(20 * SECOND) },
            900..920 => Step::CrashClient { client },
            920..960 => Step::CrashWorker { worker, power_loss: dice.chance(300) },
            _ => Step::Stall { host: dice.below(servers + clients + workers), nanos: dice.skewed(40 * SECOND) },
        }
    }
}

/// What a run has to show.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub virtual_nanos: u64,
    pub outcomes: BTreeMap<&'static str, u64>,
    pub faults: [u64; Fault::ALL.len()],
    pub inputs: u64,
    pub outputs: u64,
    pub connects: u64,
    pub carried: u64,
    pub trace: String,
    /// A hash of the trace; of several runs, of theirs in order.
    pub digest: u64,
}

impl Report {
    pub fn add(&mut self, other: &Self) {
        self.virtual_nanos += other.virtual_nanos;
        for (outcome, count) in &other.outcomes {
            *self.outcomes.entry(outcome).or_default() += count;
        }
        self.faults.iter_mut().zip(other.faults).for_each(|(sum, count)| *sum += count);
        self.inputs += other.inputs;
        self.outputs += other.outputs;
        self.connects += other.connects;
        self.carried += other.carried;
        self.digest = self.digest.rotate_left(5).wrapping_mul(0x100_0000_01b3) ^ other.digest;
    }
}

/// Runs a script; what was wrong, if anything.
pub fn run(script: &Script, trace: Trace) -> Result<Report, String> {
    let mut report = Report::default();
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(script.clone(), trace);
        let result = catch_unwind(AssertUnwindSafe(|| world.run()));
        report.trace = world.net.trace().into();
        match result {
            Ok(()) => world.report(&mut report),
            Err(cause) => std::panic::resume_unwind(cause),
        }
    }));
    match result {
        Ok(()) => Ok(report),
        Err(cause) => {
            let text = cause.downcast_ref::<String>().cloned();
            let text = text.or_else(|| cause.downcast_ref::<&str>().map(|text| (*text).into()));
            let text = text.unwrap_or_else(|| "a panic".into());
            Err(if trace == Trace::Whole { format!("{}{text}", report.trace) } else { text })
        }
    }
}

/// A shorter script that fails, too.
pub fn shrink(mut script: Script) -> Script {
    let fails = |script: &Script| run(script, Trace::Off).is_err();
    let mut size = script.steps.len();
    while size > 0 {
        let mut at = 0;
        while at < script.steps.len() {
            let mut shorter = script.clone();
            shorter.steps.drain(at..(at + size).min(script.steps.len()));
            if fails(&shorter) { script = shorter } else { at += size }
        }
        size /= 2;
    }
    for fault in 0..script.chances.len() {
        let mut milder = script.clone();
        milder.chances[fault] = 0;
        if fails(&milder) {
            script = milder;
        }
    }
    script
}
