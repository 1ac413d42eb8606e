//! A unit test of one's own functions, without a socket, a thread or a wait: client, worker and job server in memory.
//!
//! No runtime feature is needed: `cargo run --example in_memory --no-default-features`.

use std::error::Error;
use std::time::Duration;

use gearwheel::client::Event;
use gearwheel::memory::{Failure, InMemory};
use gearwheel::{Job, Outcome};

fn main() -> Result<(), Box<dyn Error>> {
    let mut gearman = InMemory::new();

    // What is to be tested: a function that reports progress, fails on empty input and throws on what is no text.
    gearman.function("words", |task| {
        let payload = task.payload().clone();
        let text = std::str::from_utf8(&payload)?;
        if text.is_empty() {
            return Err(Failure::Fail);
        }
        let words = text.split_whitespace().count();
        task.progress(words as u64, words as u64);
        Ok(words.to_string().into())
    })?;

    // One call runs a job through the whole system, byte for byte as over a network.
    assert_eq!(gearman.run(Job::new("words", "three little words"))?, Outcome::Complete("3".into()));
    assert_eq!(gearman.run(Job::new("words", ""))?, Outcome::Failed);
    assert!(matches!(gearman.run(Job::new("words", vec![0xff]))?, Outcome::Exception(_)));

    // Event by event, where that matters.
    gearman.submit(Job::new("words", "a b"))?;
    while let Some(event) = gearman.next() {
        match event {
            Event::Progress { numerator, denominator, .. } => println!("progress {numerator}/{denominator}"),
            Event::Done { outcome, .. } => println!("done: {outcome:?}"),
            other => println!("{other:?}"),
        }
    }

    // Time passes when you say so, or when nothing else can happen: this hour takes no time.
    let nobody = Job::new("nobody does this", "").timeout(Duration::from_secs(3600));
    println!("after an hour: {:?}", gearman.run(nobody)?);
    println!("virtual time passed: {:?}", gearman.now());
    Ok(())
}
