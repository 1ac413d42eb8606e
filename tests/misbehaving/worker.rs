//! What is done to the worker. It has survived when it then does the job of a good server, and no other.

use crate::judge::{Door, Row};
use crate::peer::*;

/// It does a job in the end.
const ROW: Row = Row {
    name: "",
    program: "worker",
    arguments: "--function f --jobs 1 --reply-timeout 0.6 --probe-after 0.3 --connect-timeout 2 --drain 2",
    door: Door::Open,
    serve: |peer| peer.employ(),
    code: 0,
    stdout: "",
    stderr: "1 jobs answered",
    within: 12_000,
    cpu: 400,
    memory: 48 << 10,
    connections: 0,
    term: 0,
};

/// It fails several times before.
const AGAIN: Row = Row { connections: 5, ..ROW };

const BROKE: &str = "the peer broke the protocol";

/// Does this to the first connection, and is good to the next.
macro_rules! once {
    (|$peer:ident| $what:expr) => {
        |$peer| {
            if $peer.number == 0 {
                $what;
            } else {
                $peer.employ();
            }
        }
    };
}

/// Does this to the first four connections.
macro_rules! four_times {
    (|$peer:ident| $what:expr) => {
        |$peer| {
            if $peer.number < 4 {
                $what;
            } else {
                $peer.employ();
            }
        }
    };
}

/// Does this when it is first asked for a job.
macro_rules! grabbed {
    (|$peer:ident| $what:expr) => {
        once!(|$peer| {
            $peer.until(GRAB_JOB_UNIQ);
            $what;
            $peer.live()
        })
    };
}

/// Plays on one connection only: answers what it is asked, by this, until it says that it is enough; then it is good.
fn play(peer: &mut Peer, mut answer: impl FnMut(&mut Peer, u32, &[u8]) -> bool) {
    while let Some((kind, body)) = peer.next() {
        if !answer(peer, kind, &body) {
            return peer.employ();
        }
    }
}

const ABC: [&[u8]; 4] = [b"H:1", b"f", b"", b"abc"];

pub(crate) const ROWS: &[Row] = &[
    Row { name: "nothing out of the ordinary", ..ROW },
    // Connecting.
    Row { name: "nothing listens yet", door: Door::ShutFor(400), ..ROW },
    Row { name: "accepts slowly", door: Door::Slow(300), ..ROW },
    Row { name: "closes at once", serve: four_times!(|peer| peer.pause(0)), ..AGAIN },
    Row { name: "resets at once", serve: four_times!(|peer| peer.reset()), ..AGAIN },
    Row {
        name: "closes its half",
        serve: four_times!(|peer| {
            peer.half_close();
            peer.live()
        }),
        ..AGAIN
    },
    // Breaking off.
    Row { name: "closes within CAN_DO", serve: four_times!(|peer| peer.swallow(5)), ..AGAIN },
    Row {
        name: "closes at every grab",
        serve: four_times!(|peer| {
            peer.until(GRAB_JOB_UNIQ);
        }),
        ..AGAIN
    },
    Row {
        name: "says that there is no job, and closes",
        serve: four_times!(|peer| {
            peer.until(GRAB_JOB_UNIQ);
            peer.send(NO_JOB, &[]);
            peer.pause(20)
        }),
        ..AGAIN
    },
    Row {
        name: "says that there is no job, and resets",
        serve: four_times!(|peer| {
            peer.until(GRAB_JOB_UNIQ);
            peer.send(NO_JOB, &[]);
            peer.pause(20);
            peer.reset()
        }),
        ..AGAIN
    },
    Row {
        name: "closes within JOB_ASSIGN's header",
        serve: once!(|peer| {
            peer.until(GRAB_JOB_UNIQ);
            peer.raw(b"\0RES\0\0\0")
        }),
        ..ROW
    },
    Row {
        name: "closes within the job",
        serve: once!(|peer| {
            peer.until(GRAB_JOB_UNIQ);
            peer.raw(&packet(JOB_ASSIGN_UNIQ, &ABC)[..20])
        }),
        ..ROW
    },
    Row {
        name: "resets within the job",
        serve: once!(|peer| {
            peer.until(GRAB_JOB_UNIQ);
            peer.raw(&packet(JOB_ASSIGN_UNIQ, &ABC)[..20]);
            peer.reset()
        }),
        ..ROW
    },
    // Silence.
    Row { name: "says nothing", serve: once!(|peer| peer.fall_silent()), stderr: "the peer is silent", ..ROW },
    Row {
        name: "says nothing and reads nothing",
        serve: once!(|peer| peer.sit()),
        stderr: "the peer is silent",
        ..ROW
    },
    Row {
        name: "falls silent within the job",
        serve: once!(|peer| {
            peer.until(GRAB_JOB_UNIQ);
            peer.raw(&packet(JOB_ASSIGN_UNIQ, &ABC)[..20]);
            peer.fall_silent()
        }),
        stderr: "the peer is silent",
        ..ROW
    },
    Row {
        name: "falls silent when the worker sleeps",
        serve: once!(|peer| {
            peer.until(PRE_SLEEP);
            peer.fall_silent()
        }),
        stderr: "the peer is silent",
        ..ROW
    },
    Row {
        name: "dribbles for ever",
        serve: once!(|peer| {
            peer.until(GRAB_JOB_UNIQ);
            peer.raw(&header(JOB_ASSIGN_UNIQ, 1_000_000));
            peer.dribble(&[b'H'; 1000])
        }),
        stderr: "the peer is silent",
        ..ROW
    },
    Row {
        name: "dribbles, and is quick enough",
        serve: |peer| {
            peer.until(GRAB_JOB_UNIQ);
            peer.dribble(&packet(JOB_ASSIGN_UNIQ, &ABC));
            peer.until(WORK_COMPLETE);
            peer.live();
        },
        ..ROW
    },
    Row {
        name: "loses the wake-up",
        arguments: "--function f --jobs 1 --reply-timeout 0.6 --probe-after 0.2 --drain 2",
        serve: |peer| {
            // The sleeper is probed by nobody; it probes, and must not be taken for dead.
            peer.until(PRE_SLEEP);
            peer.until(ECHO_REQ);
            peer.send(ECHO_RES, &[]);
            peer.send(NOOP, &[]);
            peer.employ();
        },
        ..ROW
    },
    Row {
        name: "answers probes with something else",
        serve: |peer| {
            peer.until(PRE_SLEEP);
            peer.until(ECHO_REQ);
            peer.send(ECHO_RES, &[b"not what was sent"]);
            peer.send(NOOP, &[]);
            peer.employ();
        },
        ..ROW
    },
    // What is no packet, and packets that are not to be.
    Row {
        name: "garbage",
        serve: four_times!(|peer| {
            peer.raw(b"\x13\x37\xde\xad\xbe\xef and more garbage");
            peer.live()
        }),
        stderr: BROKE,
        connections: 5,
        ..ROW
    },
    Row {
        name: "zeros",
        serve: once!(|peer| {
            peer.raw(&[0; 64]);
            peer.live()
        }),
        stderr: BROKE,
        ..ROW
    },
    Row {
        name: "endless garbage",
        serve: four_times!(|peer| peer.flood(&[0x5a; 4096])),
        stderr: BROKE,
        connections: 5,
        ..ROW
    },
    Row {
        name: "HTTP",
        serve: once!(|peer| {
            peer.raw(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            peer.live()
        }),
        stderr: BROKE,
        ..ROW
    },
    Row {
        name: "the text protocol in between",
        serve: grabbed!(|peer| peer.raw(b"ERR unknown_command Unknown+server+command\r\n")),
        stderr: BROKE,
        ..ROW
    },
    Row {
        name: "a wrong magic",
        serve: grabbed!(|peer| peer.raw(&with_magic(b"\0XYZ", NO_JOB, &[]))),
        stderr: BROKE,
        ..ROW
    },
    Row {
        name: "the request's magic",
        serve: |peer| {
            peer.until(GRAB_JOB_UNIQ);
            peer.raw(&with_magic(b"\0REQ", JOB_ASSIGN_UNIQ, &ABC));
            peer.until(WORK_COMPLETE);
            peer.live();
        },
        ..ROW
    },
    Row { name: "the largest type", serve: grabbed!(|peer| peer.send(u32::MAX, &[])), stderr: BROKE, ..ROW },
    Row {
        name: "a length over the limit",
        serve: grabbed!(|peer| peer.raw(&[&header(JOB_ASSIGN_UNIQ, u32::MAX)[..], &[b'x'; 1100]].concat())),
        stderr: BROKE,
        ..ROW
    },
    Row {
        name: "a great length, and nothing behind it",
        serve: once!(|peer| {
            peer.until(GRAB_JOB_UNIQ);
            peer.raw(&header(JOB_ASSIGN_UNIQ, 100 << 20));
            peer.fall_silent()
        }),
        stderr: "the peer is silent",
        ..ROW
    },
    Row {
        name: "a packet for clients",
        serve: grabbed!(|peer| peer.send(JOB_CREATED, &[b"H:1"])),
        stderr: BROKE,
        ..ROW
    },
    Row { name: "a result", serve: grabbed!(|peer| peer.send(WORK_COMPLETE, &[b"H:1", b"x"])), stderr: BROKE, ..ROW },
    // Jobs.
    Row {
        name: "a job that nobody asked for",
        serve: once!(|peer| {
            peer.until(PRE_SLEEP);
            peer.send(JOB_ASSIGN_UNIQ, &ABC);
            peer.live()
        }),
        stderr: BROKE,
        ..ROW
    },
    Row {
        name: "a job before anything was said",
        serve: once!(|peer| {
            peer.send(NO_JOB, &[]);
            peer.send(JOB_ASSIGN_UNIQ, &ABC);
            peer.live()
        }),
        ..ROW
    },
    Row {
        name: "two jobs for one grab",
        arguments: "--function f --jobs 2 --reply-timeout 0.6 --probe-after 0.3 --drain 2",
        stderr: "jobs answered",
        serve: grabbed!(|peer| peer.raw(
            &[packet(JOB_ASSIGN_UNIQ, &ABC), packet(JOB_ASSIGN_UNIQ, &ABC), packet(JOB_ASSIGN_UNIQ, &ABC)].concat()
        )),
        ..ROW
    },
    Row {
        name: "a job of a function that was never offered",
        serve: grabbed!(|peer| peer.send(JOB_ASSIGN_UNIQ, &[b"H:1", b"g", b"", b"abc"])),
        stderr: BROKE,
        ..ROW
    },
    Row {
        name: "a job without its arguments",
        serve: grabbed!(|peer| peer.send(JOB_ASSIGN_UNIQ, &[b"H:1"])),
        stderr: BROKE,
        ..ROW
    },
    Row {
        name: "an empty handle",
        serve: grabbed!(|peer| peer.send(JOB_ASSIGN_UNIQ, &[b"", b"f", b"", b"abc"])),
        stderr: BROKE,
        ..ROW
    },
    Row {
        name: "a huge handle",
        serve: grabbed!(|peer| peer.send(JOB_ASSIGN_UNIQ, &[&[b'H'; 1 << 20], b"f", b"", b"abc"])),
        stderr: BROKE,
        ..ROW
    },
    Row {
        name: "JOB_ASSIGN where JOB_ASSIGN_UNIQ is due",
        serve: |peer| {
            peer.until(GRAB_JOB_UNIQ);
            peer.send(JOB_ASSIGN, &[b"H:1", b"f", b"abc"]);
            peer.until(WORK_COMPLETE);
            peer.live();
        },
        ..ROW
    },
    Row {
        name: "JOB_ASSIGN_ALL where JOB_ASSIGN_UNIQ is due",
        serve: |peer| {
            peer.until(GRAB_JOB_UNIQ);
            peer.send(JOB_ASSIGN_ALL, &[b"H:1", b"f", b"u", b"", b"abc"]);
            peer.until(WORK_COMPLETE);
            peer.live();
        },
        ..ROW
    },
    Row {
        name: "takes each job back by closing",
        arguments: "--function f --jobs 3 --reply-timeout 0.6 --probe-after 0.3 --drain 2",
        stderr: "jobs answered",
        serve: |peer| {
            if peer.number < 2 {
                peer.until(GRAB_JOB_UNIQ);
                peer.send(JOB_ASSIGN_UNIQ, &ABC);
                peer.reset();
            } else {
                // What it sends now must be of jobs of this connection.
                peer.employ();
            }
        },
        ..ROW
    },
    Row {
        name: "one handle again and again",
        arguments: "--function f --jobs 20 --concurrency 4 --drain 2",
        stderr: "jobs answered",
        serve: |peer| {
            play(peer, |peer, kind, _| {
                if kind == GRAB_JOB_UNIQ {
                    peer.send(JOB_ASSIGN_UNIQ, &ABC);
                }
                if kind == ECHO_REQ {
                    peer.send(ECHO_RES, &[]);
                }
                true
            })
        },
        ..ROW
    },
    // ERROR.
    Row {
        name: "ERROR instead of a job",
        serve: once!(|peer| {
            let mut refused = 0;
            play(peer, |peer, kind, _| {
                refused += 1;
                match kind {
                    GRAB_JOB_UNIQ | GRAB_JOB => drop(peer.send(ERROR, &[b"server_error", b"no"])),
                    _ => refused -= 1,
                }
                refused < 2
            });
        }),
        ..ROW
    },
    Row {
        name: "ERROR instead of every reply",
        serve: once!(|peer| {
            let mut refused = 0;
            play(peer, |peer, kind, _| {
                if matches!(kind, GRAB_JOB_UNIQ | GRAB_JOB | ECHO_REQ) {
                    refused += 1;
                    peer.send(ERROR, &[b"server_error", b"no"]);
                }
                if refused == 5 {
                    peer.reset();
                }
                refused < 5
            });
        }),
        ..ROW
    },
    Row {
        name: "ERROR without end",
        serve: |peer| {
            let many = packet(ERROR, &[b"JOB_NOT_FOUND", b"no"]).repeat(20_000);
            peer.until(PRE_SLEEP);
            peer.raw(&many);
            peer.send(NOOP, &[]);
            peer.employ();
        },
        cpu: 2_000,
        ..ROW
    },
    Row {
        name: "a huge ERROR",
        serve: |peer| {
            peer.send(ERROR, &[b"JOB_NOT_FOUND", &[b'T'; 4 << 20]]);
            peer.employ();
        },
        ..ROW
    },
    // Floods.
    Row {
        name: "20,000 wake-ups at once",
        serve: |peer| {
            peer.until(PRE_SLEEP);
            peer.raw(&packet(NOOP, &[]).repeat(20_000));
            let mut grabs = 0;
            let sleeps = |peer: &mut Peer, kind: u32, _: &[u8]| {
                if kind == GRAB_JOB_UNIQ {
                    grabs += 1;
                    peer.send(NO_JOB, &[]);
                }
                if kind == ECHO_REQ {
                    peer.send(ECHO_RES, &[]);
                }
                kind != ECHO_REQ
            };
            play(peer, sleeps);
            if grabs > 100 {
                peer.complaint = Some(format!("it answered 20,000 wake-ups with {grabs} grabs"));
            }
        },
        cpu: 1_000,
        ..ROW
    },
    Row {
        name: "wakes a sleeper for nothing, again and again",
        arguments: "--function f --jobs 1 --reply-timeout 0.6 --probe-after 5 --drain 2",
        serve: |peer| {
            let (mut grabs, begun) = (0, std::time::Instant::now());
            play(peer, |peer, kind, _| {
                match kind {
                    GRAB_JOB_UNIQ => {
                        grabs += 1;
                        peer.send(NO_JOB, &[]);
                    }
                    PRE_SLEEP => drop(peer.send(NOOP, &[])),
                    _ => {}
                }
                begun.elapsed().as_millis() < 1_000
            });
            if grabs > 200 {
                peer.complaint = Some(format!("it asked {grabs} times in a second"));
            }
        },
        cpu: 500,
        ..ROW
    },
    Row {
        name: "NO_JOB without end",
        serve: four_times!(|peer| {
            peer.until(GRAB_JOB_UNIQ);
            peer.flood(&packet(NO_JOB, &[]))
        }),
        stderr: BROKE,
        connections: 5,
        ..ROW
    },
    Row {
        name: "jobs without end, and reads no result",
        arguments: "--function f --jobs 1000000 --reply-timeout 0.6 --probe-after 0.3 --drain 2",
        stderr: "disconnected",
        serve: once!(|peer| {
            peer.until(GRAB_JOB_UNIQ);
            let job = packet(JOB_ASSIGN_UNIQ, &[b"H:1", b"f", b"", &[1; 512 << 10]]);
            while peer.raw(&job) {
                crate::peers::nap();
            }
        }),
        cpu: 8_000,
        memory: 160 << 10,
        term: 2_500,
        ..ROW
    },
    Row {
        name: "jobs without end",
        arguments: "--function f --jobs 1000000 --reply-timeout 0.6 --probe-after 0.3 --drain 2",
        stderr: "draining",
        serve: |peer| {
            play(peer, |peer, kind, _| {
                if kind == GRAB_JOB_UNIQ {
                    peer.send(JOB_ASSIGN_UNIQ, &ABC);
                }
                if kind == ECHO_REQ {
                    peer.send(ECHO_RES, &[]);
                }
                true
            })
        },
        cpu: 4_000,
        term: 500,
        ..ROW
    },
];
