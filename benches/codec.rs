//! What a packet costs: instructions under callgrind, and allocations.
//!
//! `cargo bench --bench codec` prints a table; `-- --check` fails when a figure is over its target. Instructions do not
//! depend on the machine's load, so two commits can be compared anywhere. Where valgrind is missing only allocations are
//! counted. The figure of a packet is the difference of two runs of different length, so that starting costs nothing.
//!
//! The decoder is fed in pieces of 64 KiB, as from a socket, and every argument is touched; the copy of those pieces is
//! told apart. The encoder is the outbox of
//! a connection, emptied at each 64 KiB as by a socket.

extern crate alloc;

use std::env;
use std::hint::black_box;
use std::process::ExitCode;

use bytes::{Bytes, BytesMut};
use gearwheel::wire::{self, Magic, Packet, PacketType};

#[path = "../src/outbox.rs"]
#[allow(dead_code, unreachable_pub, unused_imports, clippy::allow_attributes, reason = "the bench needs some of it")]
mod outbox;

mod common;

use common::{has_valgrind, instructions};
use outbox::{Outbox, Outgoing};

const PIECE: usize = 64 << 10;
const SHORT: usize = 4;
const LONG: usize = 12;

struct Case {
    name: &'static str,
    run: fn(&Sample, usize) -> usize,
    kind: PacketType,
    payload: usize,
    most_instructions: u64,
}

/// The copy off the socket alone, which the decoder's figures do not count: callgrind counts it a byte at a time.
const FEED: Case = Case { name: "feed", run: feed, kind: PacketType::SUBMIT_JOB, payload: 16, most_instructions: 0 };

const CASES: &[Case] = &[
    Case { name: "decode-submit-16", run: decode, kind: PacketType::SUBMIT_JOB, payload: 16, most_instructions: 200 },
    Case {
        name: "decode-submit-1024",
        run: decode,
        kind: PacketType::SUBMIT_JOB,
        payload: 1024,
        most_instructions: 240,
    },
    Case {
        name: "decode-complete-16",
        run: decode,
        kind: PacketType::WORK_COMPLETE,
        payload: 16,
        most_instructions: 160,
    },
    Case {
        name: "decode-complete-1024",
        run: decode,
        kind: PacketType::WORK_COMPLETE,
        payload: 1024,
        most_instructions: 200,
    },
    Case { name: "encode-submit-16", run: encode, kind: PacketType::SUBMIT_JOB, payload: 16, most_instructions: 142 },
    Case {
        name: "encode-submit-1024",
        run: encode,
        kind: PacketType::SUBMIT_JOB,
        payload: 1024,
        most_instructions: 259,
    },
    Case {
        name: "encode-complete-16",
        run: encode,
        kind: PacketType::WORK_COMPLETE,
        payload: 16,
        most_instructions: 117,
    },
    Case {
        name: "encode-complete-1024",
        run: encode,
        kind: PacketType::WORK_COMPLETE,
        payload: 1024,
        most_instructions: 234,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [run, name, what, rounds] = arguments.as_slice()
        && run == "--run"
        && let Some(case) = CASES.iter().find(|case| case.name == name)
    {
        let run = if what == FEED.name { FEED.run } else { case.run };
        black_box(run(&Sample::new(case), rounds.parse().unwrap_or(SHORT)));
        return ExitCode::SUCCESS;
    }
    let measured = arguments.iter().any(|argument| argument == "--bench");
    let check = arguments.iter().any(|argument| argument == "--check");
    let valgrind = measured && has_valgrind();
    let mut over = false;
    for case in CASES {
        over |= report(case, valgrind);
    }
    if over && (check || !measured) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Prints a line of the table; says whether a figure is over its target.
fn report(case: &Case, valgrind: bool) -> bool {
    let sample = Sample::new(case);
    let allocations = |rounds| {
        let mut packets = 0;
        let counted = allocation_counter::measure(|| packets = (case.run)(&sample, rounds));
        (counted.count_total, packets)
    };
    let (short, few) = allocations(SHORT);
    let (long, many) = allocations(LONG);
    assert_eq!(few * LONG, many * SHORT, "{} lost packets", case.name);
    let grown = long.saturating_sub(short);
    let mut over = grown > 0;
    let mut line = format!("{:<22} {grown} allocations in {} packets", case.name, many - few);
    if valgrind {
        let packets = u64::try_from(many - few).unwrap_or(u64::MAX);
        let run = |what: &str, rounds: usize| instructions(&["--run", case.name, what, &rounds.to_string()]);
        let each = |what: &str| (run(what, LONG) - run(what, SHORT)) / packets;
        let copy = if case.name.starts_with("decode") { each(FEED.name) } else { 0 };
        let own = each(case.name).saturating_sub(copy);
        line += &format!(", {own} instructions a packet (target {})", case.most_instructions);
        if copy > 0 {
            line += &format!(" and {copy} for the copy off the socket");
        }
        over |= own > case.most_instructions;
    }
    println!("{line}{}", if over { "  OVER" } else { "" });
    over
}

/// About 1 MiB of one kind of packet, and its arguments.
struct Sample {
    kind: PacketType,
    stream: Vec<u8>,
    packets: usize,
    name: &'static [u8],
    unique: [u8; 32],
    payload: Bytes,
}

impl Sample {
    fn new(case: &Case) -> Self {
        let name: &[u8] = if case.kind == PacketType::SUBMIT_JOB { b"bench" } else { b"H:localhost:000007" };
        let payload = Bytes::from(vec![b'x'; case.payload]);
        let mut sample = Self { kind: case.kind, stream: Vec::new(), packets: 0, name, unique: [b'7'; 32], payload };
        let mut outbox = Outbox::default();
        while outbox.waiting() < 1 << 20 {
            sample.put(&mut outbox);
            sample.packets += 1;
        }
        sample.stream = Outgoing::new(Some(&mut outbox)).chunks().collect::<Vec<_>>().concat();
        sample
    }

    fn put(&self, outbox: &mut Outbox) {
        let _ = if self.kind == PacketType::SUBMIT_JOB {
            outbox.packet(Magic::Request, self.kind, &[self.name, &self.unique], Some(&self.payload))
        } else {
            outbox.packet(Magic::Response, self.kind, &[self.name], Some(&self.payload))
        };
    }
}

fn decode(sample: &Sample, rounds: usize) -> usize {
    let mut buffer = BytesMut::with_capacity(2 * PIECE);
    let mut packets = 0;
    for _ in 0..rounds {
        for piece in sample.stream.chunks(PIECE) {
            buffer.extend_from_slice(piece);
            while let Some(frame) = wire::split(&mut buffer, 1 << 20).expect("packets") {
                match Packet::decode(frame.kind, frame.body).expect("packets that the table knows") {
                    Packet::SubmitJob(job) => {
                        black_box((job.function(), job.unique(), job.payload()));
                    }
                    Packet::WorkComplete(work) => {
                        black_box((work.handle(), work.payload()));
                    }
                    other => panic!("{other:?}"),
                }
                packets += 1;
            }
        }
    }
    packets
}

fn feed(sample: &Sample, rounds: usize) -> usize {
    let mut buffer = BytesMut::with_capacity(2 * PIECE);
    for _ in 0..rounds {
        for piece in sample.stream.chunks(PIECE) {
            buffer.extend_from_slice(piece);
            black_box(&buffer);
            buffer.clear();
        }
    }
    rounds * sample.packets
}

fn encode(sample: &Sample, rounds: usize) -> usize {
    let mut outbox = Outbox::default();
    for _ in 0..rounds {
        for _ in 0..sample.packets {
            sample.put(black_box(&mut outbox));
            if outbox.waiting() >= PIECE {
                let mut outgoing = Outgoing::new(Some(&mut outbox));
                outgoing.chunks().for_each(|chunk| {
                    black_box(chunk);
                });
                outgoing.advance(usize::MAX);
            }
        }
    }
    rounds * sample.packets
}
