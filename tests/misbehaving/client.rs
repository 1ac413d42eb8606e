//! What is done to the client.

use crate::judge::{Door, Row};
use crate::peer::*;

/// One job that ends badly within a second.
const BAD: Row = Row {
    name: "",
    program: "client",
    arguments: "--timeout 2.5 --reply-timeout 1.2 --probe-after 0.3 --connect-timeout 2 --max-result 1000000 --function f abc",
    door: Door::Open,
    serve: |peer| peer.live(),
    code: 1,
    stdout: "",
    stderr: "",
    within: 10_000,
    cpu: 400,
    memory: 48 << 10,
    connections: 0,
    term: 0,
};

/// One job that ends well.
const GOOD: Row = Row { code: 0, stdout: "cba\n", ..BAD };

/// Two jobs that end well.
const TWO: Row = Row {
    arguments: "--timeout 2.5 --reply-timeout 1.2 --probe-after 0.3 --function f abc xyz",
    stdout: "cba\nzyx\n",
    ..GOOD
};

/// A job that may be tried again and again.
const AGAIN: Row = Row {
    arguments: "--timeout 2 --attempts 100 --reply-timeout 1.2 --probe-after 0.3 --function f abc",
    connections: 4,
    ..BAD
};

const NO_SERVER: &str = "the job timed out before any job server could be had";
const LOST_SENT: &str = "before its job server said that it has it";
const LOST_ACCEPTED: &str = "before any worker was heard of";
const LOST_RUNNING: &str = "while it ran";
const BROKE: &str = "the peer broke the protocol";
const SILENT: &str = "the peer is silent";

/// Accepts a job as H:1, does this, and lives on.
macro_rules! then {
    (|$peer:ident| $what:expr) => {
        |$peer| {
            $peer.accept("H:1");
            $what;
            $peer.live();
        }
    };
}

/// Says this instead of JOB_CREATED, and lives on.
macro_rules! instead {
    (|$peer:ident| $what:expr) => {
        |$peer| {
            $peer.until(SUBMIT_JOB);
            $what;
            $peer.live();
        }
    };
}

#[path = "client/replies.rs"]
mod replies;

pub(crate) fn rows() -> Vec<Row> {
    [ROWS, replies::ROWS].concat()
}

const ROWS: &[Row] = &[
    // Connecting.
    Row { name: "nothing listens", door: Door::Shut, stderr: "connection refused: nothing listens there", ..BAD },
    Row {
        name: "nothing listens yet",
        door: Door::ShutFor(400),
        serve: then!(|peer| peer.complete("H:1", "cba")),
        ..GOOD
    },
    Row { name: "no answer to a connection", door: Door::Crowded, stderr: NO_SERVER, ..BAD },
    Row { name: "accepts slowly", door: Door::Slow(300), serve: then!(|peer| peer.complete("H:1", "cba")), ..GOOD },
    Row { name: "closes at once", serve: |_| (), ..AGAIN },
    Row { name: "resets at once", serve: |peer| peer.reset(), ..AGAIN },
    Row { name: "closes at once, and the job may not be tried again", serve: |_| (), ..BAD },
    Row {
        name: "closes its half at once",
        serve: |peer| {
            peer.half_close();
            peer.live();
        },
        ..BAD
    },
    // Resets and closes within the conversation.
    Row {
        name: "resets before the submission",
        serve: |peer| {
            peer.swallow(22);
            peer.reset();
        },
        ..BAD
    },
    Row {
        name: "resets within the submission",
        serve: |peer| {
            peer.swallow(30);
            peer.reset();
        },
        ..BAD
    },
    Row {
        name: "resets after the submission",
        serve: |peer| {
            peer.until(SUBMIT_JOB);
            peer.reset();
        },
        stderr: LOST_SENT,
        ..BAD
    },
    Row {
        name: "closes after the submission",
        serve: |peer| {
            peer.until(SUBMIT_JOB);
        },
        stderr: LOST_SENT,
        ..BAD
    },
    Row {
        name: "closes at every submission",
        serve: |peer| {
            peer.until(SUBMIT_JOB);
        },
        ..AGAIN
    },
    Row {
        name: "resets within JOB_CREATED's header",
        serve: |peer| {
            peer.until(SUBMIT_JOB);
            peer.raw(b"\0RES\0\0");
            peer.reset();
        },
        stderr: LOST_SENT,
        ..BAD
    },
    Row {
        name: "closes within JOB_CREATED's handle",
        serve: |peer| {
            peer.until(SUBMIT_JOB);
            peer.raw(&packet(JOB_CREATED, &[b"H:1"])[..13]);
        },
        stderr: LOST_SENT,
        ..BAD
    },
    Row {
        name: "resets after JOB_CREATED",
        serve: |peer| {
            peer.accept("H:1");
            peer.pause(50);
            peer.reset();
        },
        stderr: LOST_ACCEPTED,
        ..BAD
    },
    Row {
        name: "closes after JOB_CREATED, every time",
        serve: |peer| {
            peer.accept("H:1");
        },
        ..AGAIN
    },
    Row {
        name: "closes its half after JOB_CREATED",
        serve: |peer| {
            peer.accept("H:1");
            peer.half_close();
            peer.live();
        },
        stderr: LOST_ACCEPTED,
        ..BAD
    },
    Row {
        name: "closes behind a part of the result",
        serve: |peer| {
            peer.accept("H:1");
            peer.send(WORK_DATA, &[b"H:1", b"cb"]);
        },
        stderr: LOST_RUNNING,
        ..BAD
    },
    Row {
        name: "closes within the result",
        serve: |peer| {
            peer.accept("H:1");
            peer.raw(&packet(WORK_COMPLETE, &[b"H:1", b"cba"])[..18]);
        },
        stderr: LOST_ACCEPTED,
        ..BAD
    },
    // Silence.
    Row { name: "says nothing", serve: |peer| peer.fall_silent(), stderr: SILENT, ..BAD },
    Row { name: "says nothing and reads nothing", serve: |peer| peer.sit(), stderr: SILENT, ..BAD },
    Row { name: "says nothing to the submission, and lives", serve: |peer| peer.live(), stderr: SILENT, ..BAD },
    Row {
        name: "falls silent within JOB_CREATED",
        serve: |peer| {
            peer.until(SUBMIT_JOB);
            peer.raw(b"\0RES");
            peer.fall_silent();
        },
        stderr: SILENT,
        ..BAD
    },
    Row {
        name: "falls silent after JOB_CREATED",
        serve: |peer| {
            peer.accept("H:1");
            peer.fall_silent();
        },
        stderr: SILENT,
        ..BAD
    },
    Row {
        name: "falls silent within the result",
        serve: |peer| {
            peer.accept("H:1");
            peer.raw(&packet(WORK_COMPLETE, &[b"H:1", b"cba"])[..18]);
            peer.fall_silent();
        },
        stderr: SILENT,
        ..BAD
    },
    Row { name: "never comes to the end of a job", serve: then!(|peer| peer.pause(0)), stderr: LOST_ACCEPTED, ..BAD },
    Row {
        name: "is silent to a job in the background",
        arguments: "--background --reply-timeout 1.2 --probe-after 0.3 --function f abc",
        serve: |peer| peer.fall_silent(),
        stderr: SILENT,
        ..BAD
    },
    Row {
        name: "reads nothing of much",
        arguments: "--timeout 2.5 --reply-timeout 1.2 --count 3000 --function f 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
        serve: |peer| peer.sit(),
        ..BAD
    },
    Row {
        name: "dribbles a result for ever",
        serve: then!(|peer| {
            peer.raw(&header(WORK_DATA, 1_000_000));
            peer.dribble(&[b'H'; 1000])
        }),
        stderr: LOST_ACCEPTED,
        ..BAD
    },
    Row {
        name: "dribbles, and is quick enough",
        serve: |peer| {
            peer.until(SUBMIT_JOB);
            peer.dribble(&packet(JOB_CREATED, &[b"H:1"]));
            peer.dribble(&packet(WORK_DATA, &[b"H:1", b"cb"]));
            peer.dribble(&packet(WORK_COMPLETE, &[b"H:1", b"a"]));
            peer.live();
        },
        ..GOOD
    },
    Row {
        name: "answers no probe",
        serve: |peer| {
            peer.accept("H:1");
            while let Some((kind, _)) = peer.next() {
                if kind == ECHO_REQ {
                    peer.send(WORK_STATUS, &[b"H:9", b"1", b"2"]);
                }
            }
        },
        stderr: SILENT,
        ..BAD
    },
    Row {
        name: "answers probes with something else",
        serve: |peer| {
            peer.accept("H:1");
            while let Some((kind, _)) = peer.next() {
                if kind == ECHO_REQ {
                    peer.send(ECHO_RES, &[b"not what was sent"]);
                }
                if peer.number == 0 && kind == ECHO_REQ {
                    peer.complete("H:1", "cba");
                }
            }
        },
        ..GOOD
    },
    // What is no packet, and packets that are not to be.
    Row {
        name: "garbage",
        serve: instead!(|peer| peer.raw(b"\x13\x37\xde\xad\xbe\xef garbage and more garbage")),
        stderr: BROKE,
        ..BAD
    },
    Row {
        name: "garbage before anything was asked",
        serve: |peer| {
            peer.raw(&[0x5a; 4096]);
            peer.live();
        },
        stderr: BROKE,
        ..BAD
    },
    Row { name: "zeros", serve: instead!(|peer| peer.raw(&[0; 64])), stderr: BROKE, ..BAD },
    Row { name: "ones", serve: instead!(|peer| peer.raw(&[0xff; 64])), stderr: BROKE, ..BAD },
    Row { name: "endless garbage", serve: |peer| peer.flood(&[0x5a; 4096]), ..AGAIN },
    Row {
        name: "HTTP",
        serve: instead!(|peer| peer.raw(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")),
        stderr: BROKE,
        ..BAD
    },
    Row {
        name: "the text protocol in between",
        serve: then!(|peer| {
            peer.raw(b"ERR unknown_command Unknown+server+command\r\n");
            peer.complete("H:1", "cba")
        }),
        stderr: BROKE,
        ..BAD
    },
    Row {
        name: "a wrong magic",
        serve: instead!(|peer| peer.raw(&with_magic(b"\0XYZ", JOB_CREATED, &[b"H:1"]))),
        stderr: BROKE,
        ..BAD
    },
    Row {
        name: "a magic in wrong letters",
        serve: instead!(|peer| peer.raw(&with_magic(b"\0res", JOB_CREATED, &[b"H:1"]))),
        stderr: BROKE,
        ..BAD
    },
    Row {
        name: "the request's magic",
        serve: instead!(|peer| {
            peer.raw(&with_magic(b"\0REQ", JOB_CREATED, &[b"H:1"]));
            peer.raw(&with_magic(b"\0REQ", WORK_COMPLETE, &[b"H:1", b"cba"]))
        }),
        ..GOOD
    },
    Row { name: "type 0", serve: instead!(|peer| peer.send(0, &[])), stderr: BROKE, ..BAD },
    Row { name: "type 43", serve: instead!(|peer| peer.send(43, &[b"H:1"])), stderr: BROKE, ..BAD },
    Row { name: "the largest type", serve: instead!(|peer| peer.send(u32::MAX, &[b"H:1"])), stderr: BROKE, ..BAD },
    Row {
        name: "a length over the limit",
        serve: instead!(|peer| peer.raw(&header(JOB_CREATED, u32::MAX))),
        stderr: BROKE,
        ..BAD
    },
    Row {
        name: "a great length, and nothing behind it",
        serve: then!(|peer| {
            peer.raw(&header(WORK_COMPLETE, 100 << 20));
            peer.fall_silent()
        }),
        stderr: SILENT,
        ..BAD
    },
    Row {
        name: "a result without its arguments",
        serve: then!(|peer| peer.raw(&header(WORK_COMPLETE, 0))),
        stderr: BROKE,
        ..BAD
    },
    Row {
        name: "a status with too few arguments",
        serve: then!(|peer| peer.send(WORK_STATUS, &[b"H:1", b"1"])),
        stderr: BROKE,
        ..BAD
    },
    Row {
        name: "a packet for workers",
        serve: then!(|peer| peer.send(JOB_ASSIGN, &[b"H:1", b"f", b"abc"])),
        stderr: BROKE,
        ..BAD
    },
    Row {
        name: "a packet for servers",
        serve: then!(|peer| peer.send(SUBMIT_JOB, &[b"f", b"", b"abc"])),
        stderr: BROKE,
        ..BAD
    },
];
