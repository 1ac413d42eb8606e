//! Gearwheel in a loop of your own: no runtime, no thread, a page of code.
//!
//! ```sh
//! cargo run --example server -- --listen 127.0.0.1:4730 &
//! cargo run --example worker -- --server 127.0.0.1:4730 --function reverse &
//! cargo run --example custom_loop --no-default-features -- --server 127.0.0.1:4730 --function reverse "hello world!"
//! ```
//!
//! The client here is a machine: it has no socket and no clock. The loop below owns both. It does what the machine asks
//! ([`Output`]) and tells it what happened ([`Input`]). The worker and the server are machines too and take the same loop;
//! a server gets its connections by `Machine::accept` on top. For real use, sockets do not block and one poller watches
//! them all: `runtimes/mio` is that page.

use std::error::Error;
use std::fs::File;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use bytes::BytesMut;
use clap::Parser;
use gearwheel::client::{Client, Config, Event};
use gearwheel::{Address, CloseReason, ConnId, Input, Instant, Job, Machine, Outcome, Output};

/// Submits one job from an event loop written by hand.
#[derive(Parser)]
struct Arguments {
    /// The job server.
    #[arg(long, value_name = "HOST:PORT", env = "GEARMAN_SERVERS")]
    server: Address,
    /// The function to run.
    #[arg(long, default_value = "reverse")]
    function: String,
    /// Give the job up after so many seconds.
    #[arg(long, value_name = "SECS", default_value_t = 30)]
    timeout: u64,
    /// What to run it on.
    payload: String,
}

/// One connection: the machine knows it by `id` only.
struct Connection {
    id: ConnId,
    socket: TcpStream,
    /// What came and what the machine has left of it: the head of a packet that is not whole yet.
    received: BytesMut,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments = Arguments::parse();

    // The machine wants randomness only as a seed, so that a test can give it the same one twice.
    let mut seed = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut seed)?;
    let mut config = Config::new(seed);
    config.servers.push(arguments.server);
    let mut client = Client::new(config)?;

    // The machine knows no clock: time is how long ago this was.
    let start = std::time::Instant::now();
    let now = || Instant::from_epoch(start.elapsed());

    // Any call is legal at any time, long before there is a connection: it only queues.
    let timeout = Duration::from_secs(arguments.timeout);
    client.submit(Job::new(arguments.function, arguments.payload).timeout(timeout), now())?;

    let mut connection: Option<Connection> = None;
    loop {
        // First half of a turn: do what the machine asks, until it asks for nothing but to be left alone.
        let wake_at = loop {
            match client.poll() {
                // Resolving a name, trying its addresses: the loop's business. Success and failure are both input.
                Output::Connect { conn, server, within } => match connect(&server, within) {
                    Ok(socket) => {
                        connection = Some(Connection { id: conn, socket, received: BytesMut::new() });
                        client.handle(Input::Connected(conn), now());
                    }
                    Err(reason) => client.handle(Input::Closed(conn, reason), now()),
                },
                // The bytes stay in the machine until it is told how many the socket has taken.
                Output::Transmit(conn) => {
                    if let Some(connection) = connection.as_ref().filter(|connection| connection.id == conn)
                        && let Err(error) = write(&mut client, connection)
                    {
                        client.handle(Input::Closed(conn, reason(&error)), now());
                    }
                }
                // The machine had enough for a while (`wants_read`): what it left is handed in again.
                Output::Resume(conn) => {
                    if let Some(connection) = connection.as_mut().filter(|connection| connection.id == conn) {
                        client.handle(Input::Data(conn, &mut connection.received), now());
                    }
                }
                // A socket closes when it is dropped.
                Output::Disconnect(conn) => {
                    connection.take_if(|connection| connection.id == conn);
                }
                Output::Event(event) => {
                    if let Some(code) = show(event)? {
                        return Ok(code);
                    }
                }
                Output::Wait(wake_at) => break wake_at,
            }
        };

        // Second half: wait for bytes or for the time, whichever is first, and tell the machine.
        let patience = wake_at.map(|at| at.saturating_since(now()).max(Duration::from_millis(1)));
        match &mut connection {
            Some(connection) if client.wants_read(connection.id) => {
                let mut scratch = [0; 64 << 10];
                connection.socket.set_read_timeout(patience)?;
                match connection.socket.read(&mut scratch) {
                    Ok(0) => client.handle(Input::Closed(connection.id, CloseReason::Ended), now()),
                    Ok(length) => {
                        connection.received.extend_from_slice(&scratch[..length]);
                        client.handle(Input::Data(connection.id, &mut connection.received), now());
                    }
                    Err(error) if is_timeout(&error) => client.handle(Input::Tick, now()),
                    Err(error) => client.handle(Input::Closed(connection.id, reason(&error)), now()),
                }
            }
            // No connection: the machine waits to try again. (It always does: the job has a timeout.)
            _ => {
                std::thread::park_timeout(patience.unwrap_or(Duration::from_secs(1)));
                client.handle(Input::Tick, now());
            }
        }
    }
}

/// Prints what an event says; the exit code when the job has ended.
fn show(event: Event) -> Result<Option<ExitCode>, Box<dyn Error>> {
    match event {
        Event::Disconnected { reason, .. } => eprintln!("{reason}"),
        Event::Data { payload, .. } => std::io::stdout().write_all(&payload)?,
        Event::Progress { numerator, denominator, .. } => eprintln!("{numerator}/{denominator}"),
        Event::Warning { payload, .. } => eprintln!("warning: {}", payload.escape_ascii()),
        Event::Done { outcome: Outcome::Complete(result), .. } => {
            std::io::stdout().write_all(&[&result[..], b"\n"].concat())?;
            return Ok(Some(ExitCode::SUCCESS));
        }
        Event::Done { outcome, .. } => {
            eprintln!("{outcome}");
            return Ok(Some(ExitCode::FAILURE));
        }
        _ => {}
    }
    Ok(None)
}

/// Tries each address of `server`, all of them within the time that the machine allows.
fn connect(server: &Address, within: Duration) -> Result<TcpStream, CloseReason> {
    let addresses = (server.host(), server.port()).to_socket_addrs().map_err(|_| CloseReason::Unresolved)?;
    let mut last = CloseReason::Unresolved;
    let deadline = std::time::Instant::now() + within;
    for address in addresses {
        let left = deadline.saturating_duration_since(std::time::Instant::now()).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&address, left) {
            // Small packets are to leave at once.
            Ok(socket) => return socket.set_nodelay(true).map(|()| socket).map_err(|error| reason(&error)),
            Err(error) => last = reason(&error),
        }
    }
    Err(last)
}

/// Writes all that the machine has for `connection`.
fn write(client: &mut Client, connection: &Connection) -> std::io::Result<()> {
    loop {
        let mut outgoing = client.outgoing(connection.id);
        if outgoing.is_empty() {
            return Ok(());
        }
        // Headers and small packets are one chunk; a large payload is the very bytes that were submitted.
        let chunks: Vec<_> = outgoing.chunks().take(64).map(IoSlice::new).collect();
        let taken = (&connection.socket).write_vectored(&chunks)?;
        outgoing.advance(taken);
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// An error of a socket in the machine's words.
fn reason(error: &std::io::Error) -> CloseReason {
    match error.kind() {
        ErrorKind::ConnectionRefused => CloseReason::Refused,
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => CloseReason::Reset,
        ErrorKind::TimedOut | ErrorKind::WouldBlock => CloseReason::ConnectTimeout,
        _ => CloseReason::Failed(error.to_string().into()),
    }
}
