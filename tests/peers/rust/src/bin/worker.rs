//! The worker of the gearman crate. It sends time limits in seconds, where job servers take milliseconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use gearman::worker::{GrabMode, WorkError, WorkerBuilder, WorkerJob};

async fn talk(job: WorkerJob) -> Result<Bytes, WorkError> {
    let told = async {
        job.reporter.report_status(1, 2).await?;
        job.reporter.send_data("part").await?;
        job.reporter.warn("careful").await
    };
    told.await.map_err(|_| WorkError::Fail)?;
    Ok("done".into())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let server = format!("127.0.0.1:{}", std::env::args().nth(1).expect("a port"));
    let runs = Arc::new(AtomicU32::new(0));
    let count = move |_: WorkerJob| {
        let runs = runs.clone();
        async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(Bytes::from((runs.fetch_add(1, Ordering::SeqCst) + 1).to_string()))
        }
    };
    let _worker = WorkerBuilder::new()
        .servers([server])
        .concurrency(1)
        .grab_mode(GrabMode::All)
        .register("reverse", |job: WorkerJob| async move { Ok(job.payload.iter().rev().copied().collect()) })
        .register("talk", talk)
        .register("fail", |_: WorkerJob| async { Err(WorkError::Fail) })
        .register("throw", |_: WorkerJob| async { Err(WorkError::Exception("thrown".into())) })
        .register("count", count)
        .register_with_timeout("limited", |_: WorkerJob| async { Ok("in time".into()) }, Duration::from_secs(60))
        .run();
    std::future::pending::<()>().await;
}
