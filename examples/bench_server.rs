//! A job server to be measured beside others.
//!
//! Told by the environment: `GEARMAN_ADDR` (host:port to listen on), `RUNTIME`. At SIGTERM it prints a line of JSON and ends.

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::process;
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

#[path = "common/usage.rs"]
mod usage;

fn main() -> Result<(), Box<dyn Error>> {
    let address = env::var("GEARMAN_ADDR").unwrap_or_else(|_| "127.0.0.1:4730".to_owned());
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::spawn(move || {
        signals.forever().next();
        // The reader may have gone; this ends all the same.
        let _ =
            writeln!(io::stdout(), "{{\"cpu_us\":{},\"rss_kb\":{}}}", usage::cpu_time().as_micros(), usage::peak_kb());
        process::exit(0);
    });
    match env::var("RUNTIME").as_deref().unwrap_or("mio") {
        #[cfg(feature = "blocking")]
        "blocking" => gearwheel::blocking::Server::bind(&address)?.wait(),
        "mio" => gearwheel::mio::Server::bind(&address)?.run()?,
        #[cfg(feature = "smol")]
        "smol" => async_io::block_on(async {
            gearwheel::smol::Server::bind(&address).await?.run().await;
            Ok::<_, gearwheel::smol::Error>(())
        })?,
        #[cfg(feature = "tokio")]
        "tokio" => tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
            gearwheel::tokio::Server::bind(&address).await?.run().await;
            Ok::<_, gearwheel::tokio::Error>(())
        })?,
        other => return Err(format!("no such runtime here: {other}").into()),
    }
    Ok(())
}
