//! The client of the gearman crate.

use futures::{StreamExt, future::join_all};
use gearman::client::{Client, ClientBuilder, JobEvent, Priority, SubmitOptions};

async fn connect(server: &str) -> Client {
    ClientBuilder::new().servers([server]).with_exceptions(true).connect().await.expect("the server listens")
}

/// All events of a job.
async fn events(client: &Client, function: &str, unique: Option<&str>, payload: &[u8], options: SubmitOptions) -> Vec<JobEvent> {
    let job = client.submit(function, unique, payload.to_vec(), options).await.expect("the job is taken");
    job.events.expect("a foreground job").collect().await
}

async fn reversed(client: &Client, payload: &[u8], options: SubmitOptions) -> &'static str {
    let expected: Vec<u8> = payload.iter().rev().copied().collect();
    match events(client, "reverse", None, payload, options).await.last() {
        Some(JobEvent::Complete(result)) if *result == expected => "ok",
        _ => "wrong",
    }
}

fn words(events: &[JobEvent]) -> String {
    let words = events.iter().map(|event| match event {
        JobEvent::Status { numerator, denominator } => format!("status {numerator}/{denominator}"),
        JobEvent::Data(part) => format!("data {}", part.escape_ascii()),
        JobEvent::Warning(warning) => format!("warning {}", warning.escape_ascii()),
        JobEvent::Complete(result) => format!("complete {}", result.escape_ascii()),
        JobEvent::Fail => "failed".into(),
        JobEvent::Exception(thrown) => format!("exception {}", thrown.escape_ascii()),
    });
    words.collect::<Vec<_>>().join(", ")
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let server = format!("127.0.0.1:{}", std::env::args().nth(1).expect("a port"));
    let client = connect(&server).await;
    let foreground = SubmitOptions::foreground;
    println!("binary: {}", reversed(&client, &(0..=255).collect::<Vec<u8>>(), foreground()).await);
    println!("empty: {}", reversed(&client, b"", foreground()).await);
    println!("high: {}", reversed(&client, b"high", foreground().with_priority(Priority::High)).await);
    println!("low: {}", reversed(&client, b"low", foreground().with_priority(Priority::Low)).await);

    let parked = client.submit_bg("parked", &b"x"[..]).await.expect("the job is taken");
    let status = client.get_status(&parked).await.expect("a status");
    println!("background: {}", if status.known { "known" } else { "unknown" });

    let unique = format!("rust-{}", std::process::id());
    let counts = [(); 2].map(|()| events(&client, "count", Some(&unique), b"", foreground()));
    let counts: Vec<_> = join_all(counts).await.iter().map(|events| words(events)).collect();
    let is_same = counts[0] == counts[1] && counts[0].starts_with("complete");
    println!("unique: {}", if is_same { "same".into() } else { counts.join(" and ") });

    for function in ["talk", "fail"] {
        println!("{function}: {}", words(&events(&client, function, None, b"", foreground()).await));
    }

    let payloads: Vec<_> = (0..20).map(|number| format!("job {number}")).collect();
    let results = join_all(payloads.iter().map(|payload| reversed(&client, payload.as_bytes(), foreground()))).await;
    println!("many: {}", results.iter().filter(|result| **result == "ok").count());
    println!("throw: {}", words(&events(&client, "throw", None, b"", foreground()).await));
}
