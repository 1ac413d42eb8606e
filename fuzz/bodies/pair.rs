//! A script for clients, workers and job servers on the virtual network: whatever is done and goes wrong, the rules of the
//! simulation hold.

use super::cursor::Cursor;
use super::net::{Fault, MILLISECOND, Trace};
use super::simulation::{Script, Step, run as simulate};

pub fn run(data: &[u8]) {
    let script = script(data);
    if let Err(cause) = simulate(&script, Trace::Off) {
        panic!("{cause}\n{script:?}");
    }
}

/// The script that an input stands for.
pub fn script(data: &[u8]) -> Script {
    let mut data = Cursor(data);
    let seed = u64::from(data.byte());
    let (servers, clients, workers) = (data.byte() % 2 + 1, data.byte() % 2 + 1, data.byte() % 2 + 1);
    let (servers, clients, workers) = (usize::from(servers), usize::from(clients), usize::from(workers));
    let operators = usize::from(clients + servers > 2);
    let chances = Fault::ALL.map(|_| u64::from(data.byte() % 64)).to_vec();
    let mut at = 0;
    let mut steps = Vec::new();
    while !data.is_empty() && steps.len() < 40 {
        at += u64::from(data.byte()) * 4 * MILLISECOND;
        let (what, who) = (data.byte(), usize::from(data.byte()));
        let (client, worker, server) = (who % clients, who % workers, who % servers);
        let dice = u64::from(data.byte());
        steps.push((
            at,
            match what % 16 {
                0..=4 => Step::Submit { client, dice },
                5 => Step::Burst { client, count: usize::from(data.byte() % 16), dice },
                6 => Step::Abandon { client, dice },
                7 => Step::Ask { client, dice },
                8 => Step::CloseClient { client },
                9 if dice & 1 > 0 => Step::ChangeServers { client, dice },
                9 => Step::ChangeServersOfWorker { worker, dice },
                10 => Step::Drain { worker },
                11 => Step::ChangeFunctions { worker, dice },
                12 => Step::CrashServer { server, power_loss: dice & 1 > 0, down: dice * 20 * MILLISECOND },
                13 => Step::CrashWorker { worker, power_loss: dice & 1 > 0 },
                14 if dice & 1 > 0 => Step::CrashClient { client },
                14 => Step::CloseWorker { worker },
                15 if dice & 1 > 0 => Step::RestartServer { server, down: dice * 20 * MILLISECOND },
                15 if operators > 0 && dice & 2 > 0 => Step::Command { operator: 0, dice },
                _ => Step::Stall { host: who % (servers + clients + workers), nanos: dice * 100 * MILLISECOND },
            },
        ));
    }
    Script { seed, servers, clients, workers, operators, chances, storm: at + MILLISECOND, steps }
}
