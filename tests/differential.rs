//! The same conversations with gearmand 1.1.20 and with our server, replies compared.
//!
//! Conversations are scripted (`tests/data/conversations.txt`; and each difference that is meant has one that shows it)
//! and random, from a seed: after each step both servers must have said the same on every connection, but for what the
//! table of differences excuses. Ours is driven in memory, gearmand over sockets with an ECHO_REQ on each connection after
//! each step.
//!
//! `GEARWHEEL_SEED` and `GEARWHEEL_CONVERSATIONS` choose the random ones.
#![cfg(feature = "blocking")]

use std::fmt;
use std::path::Path;

use differences::{DIFFERENCES, Difference, Excuse, Proof, closes, is_grab};
use generate::Generator;
use model::Model;
use sides::{Options, Ours, Theirs};
use talk::{Replies, Step, joined, transcript};

#[path = "differential/dice.rs"]
mod dice;
#[path = "differential/differences.rs"]
mod differences;
#[path = "differential/generate.rs"]
mod generate;
#[path = "differential/model.rs"]
mod model;
#[path = "common/peers.rs"]
mod peers;
#[path = "differential/sides.rs"]
mod sides;
#[path = "differential/talk.rs"]
mod talk;

/// A conversation has so many steps at most.
const STEPS: usize = 120;
/// What parts the servers must do so as often again: under load gearmand says now and then what it does not say otherwise.
const TRIES: usize = 3;

#[test]
fn random_conversations_go_alike() {
    let setting = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let first = setting("GEARWHEEL_SEED").unwrap_or(1);
    let count = setting("GEARWHEEL_CONVERSATIONS").unwrap_or(200);
    let (mut steps, mut replies, mut whole, mut faults) = (0, 0, 0, Vec::new());
    for seed in first..first + count {
        let conversation = Conversation::random(seed);
        let Some(compared) = conversation.compare() else { return };
        steps += compared.steps;
        replies += compared.replies;
        whole += usize::from(compared.is_whole);
        // gearmand reads memory that it has freed, and under load says now and then what it does not say again.
        if compared.parted.is_some() && conversation.always_parts() {
            faults.push(format!("seed {seed}, {}", conversation.shortened()));
        }
        if faults.len() >= 10 {
            break;
        }
    }
    assert!(faults.is_empty(), "gearmand and ours part:\n\n{}\n", faults.join("\n\n"));
    println!("{count} conversations, {whole} compared to the end; {steps} steps, {replies} replies compared");
    let count = usize::try_from(count).expect("few");
    assert!(whole > 0 && whole < count, "some come to a difference that parts the servers, some do not: {whole}");
    assert!(steps > count * STEPS / 2, "most of each conversation must be compared: {steps} steps");
    assert!(replies > count * 40, "a conversation must have some substance: {replies} replies");
}

#[test]
fn scripted_conversations_go_alike() {
    let lines: Vec<_> = include_str!("data/conversations.txt").lines().filter(|line| !line.starts_with('#')).collect();
    // Most of the time a gearmand is waited for.
    let parts = lines.chunks(lines.len().div_ceil(8));
    let faults: Vec<_> = std::thread::scope(|scope| {
        let parts: Vec<_> =
            parts.map(|part| scope.spawn(|| part.iter().filter_map(|line| fault(line)).collect())).collect();
        let faults = parts.into_iter().map(|part| part.join().expect("a fault is no panic"));
        faults.collect::<Vec<Vec<_>>>().concat()
    });
    assert!(faults.is_empty(), "gearmand and ours part:\n\n{}\n", faults.join("\n\n"));
}

/// What is wrong with a line of scripted conversations.
fn fault(line: &str) -> Option<String> {
    let (name, script) = line.split_once(": ").expect("a name and a conversation");
    let conversation = Conversation::of(Options::default(), Step::script(script));
    let compared = conversation.compare()?;
    if !compared.is_whole {
        return Some(format!("{name} comes to a difference that the table excuses"));
    }
    // As above: what gearmand does by chance, it does not do always.
    let parts = compared.parted.is_some() && conversation.always_parts();
    parts.then(|| format!("{name}, {conversation}"))
}

#[test]
fn each_difference_is_as_the_table_says() {
    let mut wrong = Vec::new();
    for difference in DIFFERENCES {
        let Some(mut said) = difference.proof.said() else { return };
        for _ in 0..TRIES {
            // As above: what gearmand does by chance, it does not do always.
            if !said.is_as(&difference.proof) {
                said = difference.proof.said().expect("it is installed");
            }
        }
        if !said.is_as(&difference.proof) {
            wrong.push(format!("{}:\nthere: &{:#?},\nhere: &{:#?},", difference.name, said.there, said.here));
        }
    }
    assert!(wrong.is_empty(), "not as the table says:\n{}", wrong.join("\n"));
}

/// What two servers said to the same script.
struct Said {
    there: Vec<String>,
    here: Vec<String>,
}

impl Said {
    fn is_as(&self, proof: &Proof) -> bool {
        fits(&self.there, proof.there) && fits(&self.here, proof.here) && self.there != self.here
    }
}

impl Proof {
    /// `None`: gearmand is not installed.
    fn said(&self) -> Option<Said> {
        let mut theirs = Theirs::start(self.options, true)?;
        let mut ours = Ours::start(self.options);
        let mut said = Said { there: Vec::new(), here: Vec::new() };
        for group in Step::script(self.script) {
            said.there.extend(transcript(&theirs.steps(&group)));
            group.iter().for_each(|step| said.here.extend(transcript(&ours.step(step))));
        }
        Some(said)
    }
}

/// Whether what was said is as expected, where `…` stands for anything.
fn fits(said: &[String], expected: &[&str]) -> bool {
    said.len() == expected.len() && said.iter().zip(expected).all(|(said, expected)| is_like(said, expected))
}

fn is_like(said: &str, pattern: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('…') else { return said == pattern };
    let ends = |said: &str| said.char_indices().any(|(at, _)| is_like(&said[at..], rest)) || rest.is_empty();
    said.strip_prefix(start).is_some_and(ends)
}

#[test]
fn the_page_for_users_says_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/differences.md");
    let page = std::fs::read_to_string(path).expect("the page is there");
    let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| ")).skip(2).collect();
    let table: Vec<_> = DIFFERENCES.iter().map(row).collect();
    assert_eq!(rows, table, "docs/differences.md must have these rows:\n{}", table.join("\n"));
}

fn row(difference: &Difference) -> String {
    let Difference { name, there, here, why, .. } = difference;
    format!("| {name} | {there} | {here} | {why} |")
}

/// What is said, in groups that go out in one write, and what our server answered to each.
struct Conversation {
    options: Options,
    groups: Vec<Vec<Step>>,
    /// For each group: what our server said, or `None` where it is not compared.
    ours: Vec<Option<Replies>>,
    /// From this group on nothing is compared.
    end: usize,
}

/// How far a conversation was compared, and what came of it.
struct Compared {
    steps: usize,
    replies: usize,
    is_whole: bool,
    /// The last group, and what gearmand and ours said to it, where that is not alike.
    parted: Option<(Replies, Replies)>,
}

impl Conversation {
    /// Makes one up, with our server as the partner: what is said next depends on what it has answered.
    fn random(seed: u64) -> Self {
        let (mut generator, options) = Generator::new(seed);
        let (mut server, mut model, mut groups, mut said) = (Ours::start(options), Model::default(), Vec::new(), 0);
        while said < STEPS {
            let (mut group, mut conn) = (Vec::<Step>::new(), None);
            for _ in 0..generator.group() {
                let Some(step) = generator.step(&model, conn) else { break };
                said += 1;
                // A write ends with a grab or several: gearmand sends garbage for a job that ends before its assignment is out.
                if group.last().is_some_and(is_grab) && !is_grab(&step) {
                    break;
                }
                // It keeps clear of what would part the servers until it is near its end. What closes the connection
                // stands alone: what else came in that write would not be read.
                let is_late = said > STEPS * 3 / 4;
                if excuse(&model, &step).1 && !is_late || closes(&step) && !group.is_empty() {
                    continue;
                }
                conn = step.conn();
                let came = server.step(&step);
                model.follow(&step, &came);
                group.push(step);
                if conn.is_some_and(|conn| model.line(conn).is_closed) {
                    break;
                }
            }
            groups.push(group);
        }
        groups.retain(|group| !group.is_empty());
        Self::of(options, groups)
    }

    fn of(options: Options, groups: Vec<Vec<Step>>) -> Self {
        let (mut server, mut model) = (Ours::start(options), Model::default());
        let mut this = Self { options, groups, ours: Vec::new(), end: usize::MAX };
        for (index, group) in this.groups.iter().enumerate() {
            let (mut replies, mut is_compared) = (Replies::new(), true);
            for step in group {
                let (step_is_excused, rest_is_excused) = excuse(&model, step);
                is_compared &= !step_is_excused;
                if rest_is_excused {
                    this.end = this.end.min(index);
                }
                let came = server.step(step);
                model.follow(step, &came);
                for (conn, came) in came {
                    replies.entry(conn).or_default().extend(came);
                }
            }
            this.ours.push(is_compared.then_some(replies));
        }
        this
    }

    /// `None`: gearmand is not installed.
    fn compare(&self) -> Option<Compared> {
        let mut theirs = Theirs::start(self.options, false)?;
        let mut compared = Compared { steps: 0, replies: 0, is_whole: self.end >= self.groups.len(), parted: None };
        for (group, ours) in self.groups.iter().zip(&self.ours).take(self.end) {
            let there = theirs.steps(group);
            let Some(here) = ours else { continue };
            let (there, here) = (alike(there), alike(here.clone()));
            compared.steps += group.len();
            compared.replies += here.values().map(Vec::len).sum::<usize>();
            if there != here {
                compared.parted = Some((there, here));
                break;
            }
        }
        Some(compared)
    }

    /// Whether what parts the servers does so each time.
    fn always_parts(&self) -> bool {
        (0..TRIES).all(|_| self.compare().is_some_and(|again| again.parted.is_some()))
    }

    /// The shortest that can be had by leaving out steps of one that parts the servers.
    fn shortened(mut self) -> Self {
        let mut length = self.groups.len();
        while length > 0 {
            let mut at = self.groups.len();
            while at > 0 {
                at = at.saturating_sub(length);
                let mut groups = self.groups.clone();
                groups.drain(at..groups.len().min(at + length));
                let shorter = Self::of(self.options, groups);
                if shorter.compare().is_some_and(|compared| compared.parted.is_some()) {
                    self = shorter;
                }
            }
            length /= 2;
        }
        self
    }
}

impl fmt::Display for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.groups.iter().map(|group| group.iter().map(Step::to_string).collect::<Vec<_>>().join("; "));
        write!(f, "{:?}:\n  {}", self.options, lines.collect::<Vec<_>>().join("\n  "))?;
        if let Some(Compared { parted: Some((there, here)), .. }) = self.compare() {
            let [there, here] = [there, here].map(|replies| transcript(&replies).join("\n  "));
            write!(f, "\ngearmand said\n  {there}\nours said\n  {here}")?;
        }
        Ok(())
    }
}

/// Whether the replies to `step`, and whether all from it on, are excused.
fn excuse(model: &Model, step: &Step) -> (bool, bool) {
    let holds = |excuse: &Excuse| match excuse {
        Excuse::Step(provokes) => (provokes(model, step), false),
        Excuse::Rest(provokes) => (false, provokes(model, step)),
        Excuse::Alike(_) | Excuse::Apart => (false, false),
    };
    DIFFERENCES.iter().map(|difference| holds(&difference.excuse)).fold((false, false), |a, b| (a.0 | b.0, a.1 | b.1))
}

/// The replies without what is excused.
fn alike(mut replies: Replies) -> Replies {
    for replies in replies.values_mut() {
        *replies = joined(std::mem::take(replies));
        for difference in DIFFERENCES {
            if let Excuse::Alike(make) = difference.excuse {
                make(replies);
            }
        }
    }
    replies
}
