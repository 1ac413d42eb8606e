//! A program with a mio loop of its own that becomes a Gearman worker beside what it does already.
//!
//! The program: a counter of words behind a TCP port. It answers each line of text with the number of its words. Then it is
//! to do the same for a job server, as the function `words`, without a second thread. What that takes is marked from (1)
//! to (7); all else was there before.
//!
//! Usage: `embed_mio [LISTEN [JOB_SERVER]]`, by default `127.0.0.1:7000 127.0.0.1:4730`. The job server is an IP address
//! and a port: an embedded driver looks up no names, unless it is given a resolver.

use std::collections::HashMap;
use std::env;
use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::process;

use gearwheel::mio::Driver;
use gearwheel::worker::{Config, Event, Worker};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

/// The program's own sockets: the listener, then one for each of its connections.
const LISTENER: Token = Token(0);
const FIRST: usize = 1;
/// (1) Tokens for the driver that the program never uses itself: one for each job server is enough.
const GEARMAN: std::ops::Range<usize> = usize::MAX - 16..usize::MAX;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let listen: SocketAddr = arguments.next().as_deref().unwrap_or("127.0.0.1:7000").parse()?;
    let job_server = arguments.next().unwrap_or_else(|| "127.0.0.1:4730".to_owned());

    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(256);
    let mut program = Program::listen(&poll, listen)?;

    // (2) A worker is a value: it has no socket, no thread and no clock. Its seed keeps many workers from coming back to a
    //     restarted job server at the same moment, so that it should differ from process to process.
    let mut seed = [0; 32];
    seed[..4].copy_from_slice(&process::id().to_ne_bytes());
    let mut config = Config::new(seed);
    config.servers.push(job_server.parse()?);
    config.concurrency = 4;
    let mut worker = Worker::new(config)?;

    // (3) The driver has the sockets. It registers them with the program's poll, under the tokens that it was given.
    let mut driver = Driver::new(poll.registry(), GEARMAN)?;

    // (4) Every call that may start a deadline is told the time: the driver knows it. Nothing happens here but that the
    //     worker notes what it wants.
    worker.register("words", None, driver.now())?;

    loop {
        // (5) Whatever was done to the worker, and whatever came from the poll, is acted upon here: sockets are read, time
        //     passes, events come out, and when there are no more, all that there is to write is written at once.
        //     A job can be answered now, or later, from anywhere in the program: it is a `TaskId`, not a borrow.
        while let Some(event) = driver.next_event(&mut worker) {
            match event {
                Event::Assigned(job) => {
                    let result = count_words(&job.payload).to_string();
                    // It fails only where the job is no longer ours, and then there is nobody to tell.
                    let _ = worker.complete(job.task, result.into(), driver.now());
                }
                Event::Connected { address, .. } => eprintln!("connected to {address}"),
                Event::Disconnected { address, reason, .. } => eprintln!("disconnected from {address}: {reason}"),
                _ => {}
            }
        }

        // (6) The program waits no longer than the worker can. (Had it timers of its own, the shorter time would count.)
        if let Err(error) = poll.poll(&mut events, driver.next_timeout())
            && error.kind() != ErrorKind::Interrupted
        {
            return Err(error.into());
        }

        for event in &events {
            // (7) The driver is offered each event, and says whether it was its own. It only notes it: no work is done here.
            if !driver.handle_event(event) {
                program.handle(&poll, event.token())?;
            }
        }
    }
}

fn count_words(text: &[u8]) -> usize {
    text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).count()
}

/// What the program was before.
struct Program {
    listener: TcpListener,
    connections: HashMap<Token, (TcpStream, Vec<u8>)>,
    next: usize,
}

impl Program {
    fn listen(poll: &Poll, at: SocketAddr) -> std::io::Result<Self> {
        let mut listener = TcpListener::bind(at)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        println!("listening on {}", listener.local_addr()?);
        Ok(Self { listener, connections: HashMap::new(), next: FIRST })
    }

    fn handle(&mut self, poll: &Poll, token: Token) -> std::io::Result<()> {
        if token == LISTENER {
            while let Ok((mut stream, _)) = self.listener.accept() {
                let token = Token(self.next);
                self.next += 1;
                poll.registry().register(&mut stream, token, Interest::READABLE)?;
                self.connections.insert(token, (stream, Vec::new()));
            }
        } else if let Some((stream, line)) = self.connections.get_mut(&token)
            && !answer_lines(stream, line)
        {
            self.connections.remove(&token);
        }
        Ok(())
    }
}

/// Reads what has come and answers every whole line. False: the connection is over.
fn answer_lines(stream: &mut TcpStream, held: &mut Vec<u8>) -> bool {
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return false,
            Ok(count) => held.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
    while let Some(end) = held.iter().position(|byte| *byte == b'\n') {
        let line: Vec<u8> = held.drain(..=end).collect();
        // A peer that does not read its short answers is not worth a queue.
        if stream.write_all(format!("{}\n", count_words(&line)).as_bytes()).is_err() {
            return false;
        }
    }
    true
}
