//! Packets as they should be, but not as they should come.

use super::*;

pub(super) const ROWS: &[Row] = &[
    // Replies out of order.
    Row {
        name: "JOB_CREATED twice",
        serve: then!(|peer| {
            peer.send(JOB_CREATED, &[b"H:2"]);
            peer.complete("H:2", "wrong")
        }),
        stderr: BROKE,
        ..BAD
    },
    Row {
        name: "JOB_CREATED before the submission",
        serve: |peer| {
            peer.send(JOB_CREATED, &[b"H:0"]);
            peer.accept("H:1");
            peer.complete("H:1", "cba");
            peer.live();
        },
        ..BAD
    },
    Row {
        name: "STATUS_RES instead of JOB_CREATED",
        serve: instead!(|peer| peer.send(STATUS_RES, &[b"H:1", b"1", b"1", b"0", b"0"])),
        stderr: BROKE,
        ..BAD
    },
    Row {
        name: "ECHO_RES instead of JOB_CREATED",
        serve: instead!(|peer| peer.send(ECHO_RES, &[b"x"])),
        stderr: BROKE,
        ..BAD
    },
    Row {
        name: "OPTION_RES twice",
        serve: instead!(|peer| {
            peer.send(OPTION_RES, &[b"exceptions"]);
            peer.send(JOB_CREATED, &[b"H:1"]);
            peer.complete("H:1", "cba")
        }),
        stderr: BROKE,
        ..BAD
    },
    Row {
        name: "no answer to OPTION_REQ",
        serve: |peer| {
            while let Some((kind, _)) = peer.next() {
                if kind == SUBMIT_JOB {
                    peer.send(JOB_CREATED, &[b"H:1"]);
                    peer.complete("H:1", "cba");
                }
            }
        },
        ..GOOD
    },
    Row {
        name: "the result before JOB_CREATED",
        serve: instead!(|peer| {
            peer.complete("H:1", "early");
            peer.send(JOB_CREATED, &[b"H:1"])
        }),
        stderr: LOST_ACCEPTED,
        ..BAD
    },
    Row {
        name: "NOOP without end",
        serve: then!(|peer| peer.flood(&packet(NOOP, &[]))),
        stderr: LOST_ACCEPTED,
        cpu: 4_000,
        ..BAD
    },
    // Handles.
    Row {
        name: "results for nobody",
        serve: then!(|peer| {
            peer.complete("H:7", "stale");
            peer.send(WORK_DATA, &[b"H:8", b"stale"]);
            peer.complete("", "stale");
            peer.complete("H:1", "cba")
        }),
        ..GOOD
    },
    Row {
        name: "results in another order",
        serve: |peer| {
            peer.accept("H:1");
            peer.accept("H:2");
            peer.complete("H:2", "zyx");
            peer.send(WORK_DATA, &[b"H:1", b"cb"]);
            peer.complete("H:1", "a");
            peer.live();
        },
        ..TWO
    },
    Row {
        name: "one handle for two jobs",
        serve: |peer| {
            peer.accept("H:1");
            peer.accept("H:1");
            peer.complete("H:1", "cba");
            while let Some((kind, _)) = peer.next() {
                if kind == GET_STATUS {
                    peer.send(STATUS_RES, &[b"H:1", b"0", b"0", b"0", b"0"]);
                }
            }
        },
        code: 1,
        stdout: "",
        stderr: BROKE,
        ..TWO
    },
    Row {
        name: "the result twice",
        serve: |peer| {
            peer.accept("H:1");
            peer.complete("H:1", "cba");
            peer.complete("H:1", "stale");
            peer.accept("H:2");
            peer.complete("H:1", "stale");
            peer.complete("H:2", "zyx");
            peer.live();
        },
        ..TWO
    },
    Row {
        name: "a failure, then a result",
        serve: then!(|peer| {
            peer.send(WORK_FAIL, &[b"H:1"]);
            peer.complete("H:1", "stale")
        }),
        stderr: "the job failed",
        ..BAD
    },
    Row {
        name: "a failure whose handle ends in a NUL",
        serve: then!(|peer| peer.send(WORK_FAIL, &[b"H:1\0"])),
        stderr: "the job failed",
        ..BAD
    },
    Row {
        name: "an exception, then a result",
        serve: then!(|peer| {
            peer.send(WORK_EXCEPTION, &[b"H:1", b"boom"]);
            peer.complete("H:1", "stale")
        }),
        stderr: "exception: boom",
        ..BAD
    },
    Row {
        name: "an empty handle",
        serve: instead!(|peer| {
            peer.send(JOB_CREATED, &[b""]);
            peer.complete("", "wrong")
        }),
        stderr: BROKE,
        ..BAD
    },
    Row {
        name: "a huge handle",
        serve: instead!(|peer| peer.send(JOB_CREATED, &[&[b'H'; 1 << 20]])),
        stderr: BROKE,
        ..BAD
    },
    Row {
        name: "a restart, with handles from 1 again",
        arguments: "--timeout 3 --attempts 5 --function f abc",
        serve: |peer| {
            if peer.number > 0 {
                // For the job that the server had before, which had the same handle.
                peer.until(SUBMIT_JOB);
                peer.complete("H:1", "stale");
                peer.send(JOB_CREATED, &[b"H:1"]);
                peer.complete("H:1", "cba");
                peer.live();
            } else {
                peer.accept("H:1");
                peer.send(WORK_DATA, &[b"H:1", b""]);
            }
        },
        ..GOOD
    },
    Row {
        name: "a restart behind a part of the result",
        arguments: "--timeout 3 --attempts 5 --function f abc",
        serve: |peer| {
            peer.accept("H:1");
            peer.send(WORK_DATA, &[b"H:1", b"cb"]);
            if peer.number > 0 {
                peer.complete("H:1", "a");
                peer.live();
            }
        },
        ..GOOD
    },
    // Numbers.
    Row {
        name: "statuses that are no numbers",
        serve: then!(|peer| {
            for number in ["", "x", "-1", "0.5", "1e9", "99999999999999999999999999999", "\u{663}"] {
                peer.send(WORK_STATUS, &[b"H:1", number.as_bytes(), number.as_bytes()]);
            }
            peer.pause(50);
            peer.complete("H:1", "cba")
        }),
        stderr: "progress: ",
        ..GOOD
    },
    // Floods.
    Row {
        name: "parts without end",
        serve: then!(|peer| peer.flood(&packet(WORK_DATA, &[b"H:1", &[1; 8 << 10]]))),
        stderr: "the result is larger than 1000000 bytes",
        cpu: 2_000,
        ..BAD
    },
    Row {
        name: "empty parts without end",
        serve: then!(|peer| peer.flood(&packet(WORK_DATA, &[b"H:1", b""]))),
        cpu: 4_000,
        memory: 160 << 10,
        ..BAD
    },
    Row {
        name: "parts without end for the job that waits",
        arguments: "--timeout 2 --max-result 1000000 --function f abc xyz",
        serve: |peer| {
            peer.accept("H:1");
            peer.accept("H:2");
            peer.flood(&packet(WORK_DATA, &[b"H:2", &[1; 8 << 10]]));
        },
        stdout: "",
        cpu: 4_000,
        memory: 160 << 10,
        ..BAD
    },
    Row {
        name: "statuses without end",
        serve: then!(|peer| peer.flood(&packet(WORK_STATUS, &[b"H:1", b"1", b"2"]))),
        stderr: LOST_RUNNING,
        cpu: 4_000,
        ..BAD
    },
    Row {
        name: "warnings without end",
        serve: then!(|peer| peer.flood(&packet(WORK_WARNING, &[b"H:1", b"beware"]))),
        cpu: 4_000,
        memory: 160 << 10,
        ..BAD
    },
    Row {
        name: "parts of nobody without end",
        serve: then!(|peer| peer.flood(&packet(WORK_DATA, &[b"H:9", &[1; 8 << 10]]))),
        stderr: LOST_ACCEPTED,
        cpu: 4_000,
        ..BAD
    },
    // ERROR.
    Row {
        name: "ERROR instead of OPTION_RES",
        serve: |peer| {
            while let Some((kind, _)) = peer.next() {
                match kind {
                    OPTION_REQ => drop(peer.send(ERROR, &[b"UNKNOWN_OPTION", b"no"])),
                    SUBMIT_JOB => {
                        peer.send(JOB_CREATED, &[b"H:1"]);
                        peer.complete("H:1", "cba");
                    }
                    _ => {}
                }
            }
        },
        ..GOOD
    },
    Row {
        name: "ERROR instead of JOB_CREATED",
        serve: instead!(|peer| {
            peer.send(ERROR, &[b"QUEUE_ERROR", b"Job queue is full"]);
            peer.complete("H:1", "stale")
        }),
        stderr: "the job server says QUEUE_ERROR: Job queue is full",
        ..BAD
    },
    Row {
        name: "an empty ERROR",
        serve: instead!(|peer| peer.send(ERROR, &[b"", b""])),
        stderr: "the job server says",
        ..BAD
    },
    Row {
        name: "a huge ERROR",
        serve: instead!(|peer| peer.send(ERROR, &[&[b'E'; 1 << 20], &[b'T'; 4 << 20]])),
        stderr: "the job server says EEEE",
        ..BAD
    },
    Row {
        name: "ERROR instead of ECHO_RES",
        serve: |peer| {
            peer.accept("H:1");
            while let Some((kind, _)) = peer.next() {
                if kind == ECHO_REQ {
                    peer.send(ERROR, &[b"no", b"echo"]);
                    peer.complete("H:1", "cba");
                }
            }
        },
        ..GOOD
    },
    Row {
        name: "ERROR that answers nothing",
        serve: then!(|peer| {
            peer.send(ERROR, &[b"JOB_NOT_FOUND", b"x"]);
            peer.complete("H:1", "cba")
        }),
        ..GOOD
    },
    Row {
        name: "ERROR without end",
        serve: then!(|peer| peer.flood(&packet(ERROR, &[b"no", b"never"]))),
        stderr: LOST_ACCEPTED,
        cpu: 4_000,
        ..BAD
    },
];
