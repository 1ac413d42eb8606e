//! Bytes that are changed, added or lost on their way.

use proptest::prelude::*;

use super::*;

/// What goes wrong with bytes on their way.
#[derive(Clone, Debug)]
enum Harm {
    Flip { at: usize, by: u8 },
    Insert { at: usize, bytes: Vec<u8> },
    Cut { at: usize, length: usize },
}

fn harms() -> impl Strategy<Value = Vec<Harm>> {
    let harm = prop_oneof![
        4 => (0..6000usize, 1..=255u8).prop_map(|(at, by)| Harm::Flip { at, by }),
        2 => (0..6000usize, prop::collection::vec(any::<u8>(), 1..80)).prop_map(|(at, bytes)| Harm::Insert { at, bytes }),
        1 => (0..6000usize, 1..600usize).prop_map(|(at, length)| Harm::Cut { at, length }),
    ];
    prop::collection::vec(harm, 0..3)
}

/// The bytes of one direction, which has harms at places counted from its beginning.
struct Way {
    harms: Vec<Harm>,
    passed: usize,
}

impl Way {
    fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for byte in bytes {
            let mut byte = Some(*byte);
            for harm in &self.harms {
                match harm {
                    Harm::Flip { at, by } if *at == self.passed => byte = byte.map(|byte| byte ^ by),
                    Harm::Insert { at, bytes } if *at == self.passed => out.extend_from_slice(bytes),
                    Harm::Cut { at, length } if (*at..at + length).contains(&self.passed) => byte = None,
                    _ => {}
                }
            }
            out.extend(byte);
            self.passed += 1;
        }
        out
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_nothing_panics_and_no_job_is_lost_in_silence(
        there in harms(),
        back in harms(),
        size in prop_oneof![Just(usize::MAX), 1..200usize],
        payload in 0..3000usize,
    ) {
        let mut line = Line::new();
        let harmless = there.is_empty() && back.is_empty();
        let job = submit(&mut line.client, Job::new("f", vec![5; payload]).background().retry(Retry::Never));
        let (mut there, mut back) = (Way { harms: there, passed: 0 }, Way { harms: back, passed: 0 });
        loop {
            let (out, home) = (line.client.sent_bytes(line.ours), line.server.sent_bytes(line.theirs));
            if out.is_empty() && home.is_empty() {
                break;
            }
            there.pass(&out).chunks(size).for_each(|piece| line.server.receive_bytes(line.theirs, piece));
            back.pass(&home).chunks(size).for_each(|piece| line.client.receive_bytes(line.ours, piece));
        }
        if harmless {
            let ended = outcomes(&mut line.client);
            prop_assert!(matches!(&ended[..], [(ended, Outcome::Queued { .. })] if *ended == job), "{:?}", ended);
        } else {
            // Whatever came, time ends it.
            line.client.pass(Duration::from_secs(300));
            line.server.pass(Duration::from_secs(300));
            let ended = outcomes(&mut line.client);
            prop_assert_eq!(ended.len(), 1, "{:?}", ended);
        }
    }

    #[test]
    fn noise_at_either_end_is_an_end(noise in prop::collection::vec(any::<u8>(), 1..400), open in any::<bool>()) {
        let mut line = if open { Line::open() } else { Line::new() };
        line.server.receive_bytes(line.theirs, &noise);
        line.client.receive_bytes(line.ours, &noise);
        line.server.pass(Duration::from_secs(20));
        line.client.pass(Duration::from_secs(20));
        prop_assert!(open || line.server.machine.counters().connections == 0);
    }
}
