//! The queues of Gearman job servers, live.

mod model;
mod view;

use std::io;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use gearwheel::Address;
use gearwheel::blocking::{Admin, Error};
use model::{Model, Sample};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// How long a key waits for its effect at most.
const FRAME: Duration = Duration::from_millis(100);

/// Watches the queues of Gearman job servers.
#[derive(Parser)]
struct Arguments {
    /// A job server; give it once for each. Without a port it is 4730.
    #[arg(long = "server", value_name = "HOST:PORT", env = "GEARMAN_SERVERS", value_delimiter = ',', required = true)]
    servers: Vec<Address>,
    /// Look again after so many seconds.
    #[arg(long, value_name = "SECS", value_parser = seconds, default_value = "1")]
    every: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.filter(|every| *every >= FRAME).ok_or_else(|| format!("{text:?} is no number of seconds from 0.1 on"))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match watch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn watch(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let (sender, samples) = sync_channel(64);
    for (server, address) in arguments.servers.iter().enumerate() {
        let admin = admin(address, arguments.every)?;
        let (sender, every) = (sender.clone(), arguments.every);
        thread::Builder::new().name("sample".into()).spawn(move || sample(server, &admin, every, &sender))?;
    }
    let model = Model::new(arguments.servers.iter().map(Address::to_string), Instant::now());
    // Restores the terminal whatever happens, also at a panic.
    let terminal = ratatui::try_init()?;
    let result = show(terminal, model, &samples, arguments.every);
    ratatui::restore();
    Ok(result?)
}

fn admin(server: &Address, every: Duration) -> Result<Admin, Error> {
    let admin = Admin::builder().server(server).timeout(every.max(Duration::from_secs(5)));
    // A server that comes back is seen soon.
    admin.configure(|config| config.connecting.retry_most = Duration::from_secs(1)).build()
}

/// Asks a server again and again, until nobody wants to know.
#[expect(clippy::disallowed_methods, reason = "samples are taken at even intervals")]
fn sample(server: usize, admin: &Admin, every: Duration, samples: &SyncSender<Sample>) {
    let mut version = None;
    loop {
        let began = Instant::now();
        let status = admin.status();
        if status.is_err() {
            version = None;
        } else if version.is_none() {
            version = admin.version().ok();
        }
        let result = status.map_err(|error| error.to_string());
        if samples.send(Sample { server, at: Instant::now(), version: version.clone(), result }).is_err() {
            return;
        }
        thread::sleep(every.saturating_sub(began.elapsed()));
    }
}

fn show(
    mut terminal: DefaultTerminal,
    mut model: Model,
    samples: &Receiver<Sample>,
    every: Duration,
) -> io::Result<()> {
    let mut next_tick = Instant::now();
    loop {
        samples.try_iter().for_each(|sample| model.observe(sample));
        let now = Instant::now();
        if now >= next_tick {
            model.tick(now);
            next_tick = now + every;
        }
        terminal.draw(|frame| view::draw(frame, &model))?;
        if !event::poll(FRAME.min(next_tick.saturating_duration_since(Instant::now())))? {
            continue;
        }
        if let Event::Key(key) = event::read()?
            && key.kind == KeyEventKind::Press
            && !press(key, &mut model)
        {
            return Ok(());
        }
    }
}

/// Does what a key says. False: to leave.
fn press(key: KeyEvent, model: &mut Model) -> bool {
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char('s') | KeyCode::Right => model.sort_by_next(),
        KeyCode::Char('r') => model.reverse(),
        KeyCode::Char('i') => model.show_idle = !model.show_idle,
        KeyCode::Char(' ') => model.paused = !model.paused,
        KeyCode::Down | KeyCode::Char('j') => model.scroll(1),
        KeyCode::Up | KeyCode::Char('k') => model.scroll(-1),
        KeyCode::PageDown => model.scroll(10),
        KeyCode::PageUp => model.scroll(-10),
        KeyCode::Home => model.scroll(isize::MIN),
        _ => {}
    }
    true
}
