//! THE table of what our server does otherwise than gearmand 1.1.20, on purpose. `docs/differences.md` is made of it.

use gearwheel::wire::PacketType;

use crate::model::{Job, Line, Model, is_delayed};
use crate::sides::Options;
use crate::talk::{Reply, Step};

/// Something that our server does otherwise, and why.
pub(crate) struct Difference {
    pub(crate) name: &'static str,
    /// What gearmand does.
    pub(crate) there: &'static str,
    /// What ours does.
    pub(crate) here: &'static str,
    /// Why, and who might have depended on gearmand's way.
    pub(crate) why: &'static str,
    pub(crate) excuse: Excuse,
    pub(crate) proof: Proof,
}

/// What is not compared because of a difference.
pub(crate) enum Excuse {
    /// The replies are compared after both have been put through this.
    Alike(fn(&mut Vec<Reply>)),
    /// The replies to such a step.
    Step(fn(&Model, &Step) -> bool),
    /// All from such a step on: the servers are not in the same state any more.
    Rest(fn(&Model, &Step) -> bool),
    /// Random conversations do not come to it.
    Apart,
}

/// A conversation that shows the difference, with what each server says in it.
pub(crate) struct Proof {
    pub(crate) options: Options,
    pub(crate) script: &'static str,
    pub(crate) there: &'static [&'static str],
    pub(crate) here: &'static [&'static str],
}

const PLAIN: Options = Options { round_robin: false, job_retries: None, exceptions: false };

pub(crate) const DIFFERENCES: &[Difference] = &[
    Difference {
        name: "Type 0xffffffff",
        there: "The process crashes.",
        here: "The connection is closed, as for any unknown type.",
        why: "Nobody depends on a crash.",
        excuse: Excuse::Apart,
        proof: Proof {
            options: PLAIN,
            script: "a 4294967295; b GRAB_JOB",
            there: &["a (closed)", "b (…"],
            here: &["a (closed)", "b NO_JOB"],
        },
    },
    Difference {
        name: "Too few arguments",
        there: "No reply: the next packet is taken for the missing arguments, then the connection is closed.",
        here: "ERROR `INVALID_ARGUMENTS` at once, and the connection goes on.",
        why: "A faulty client learns what is wrong. The three-argument SUBMIT_REDUCE_JOB of PROTOCOL is such a packet.",
        excuse: Excuse::Apart,
        proof: Proof {
            options: PLAIN,
            script: "a SUBMIT_JOB f|u; a GRAB_JOB; b SUBMIT_REDUCE_JOB f|u|r|x; c WORK_COMPLETE H:t:1",
            there: &["a (closed)", "b (closed)", "c (closed)"],
            here: &[
                "a ERROR INVALID_ARGUMENTS|An incomplete set of arguments was sent; SUBMIT_JOB takes function, unique, payload",
                "a NO_JOB",
                "b ERROR INVALID_ARGUMENTS|An incomplete set of arguments was sent; SUBMIT_REDUCE_JOB takes function, unique, reducer, aggregator, payload",
                "c ERROR INVALID_ARGUMENTS|An incomplete set of arguments was sent; WORK_COMPLETE takes handle, payload",
            ],
        },
    },
    Difference {
        name: "WORK_COMPLETE and its kin without payload and NUL",
        there: "As above: the job does not end, and its worker is cut off.",
        here: "From the worker of the job, the payload is empty.",
        why: "Perl's worker leaves the NUL out where a result is empty or `0`.",
        excuse: Excuse::Apart,
        proof: Proof {
            options: PLAIN,
            script: "a SUBMIT_JOB f|u|x; b CAN_DO f; b GRAB_JOB; b WORK_DATA H:t:1; b WORK_COMPLETE H:t:1",
            there: &["a JOB_CREATED H:t:1", "b JOB_ASSIGN H:t:1|f|x", "b (closed)"],
            here: &["a JOB_CREATED H:t:1", "b JOB_ASSIGN H:t:1|f|x", "a WORK_DATA H:t:1|", "a WORK_COMPLETE H:t:1|"],
        },
    },
    Difference {
        name: "Abandoned foreground job",
        there: "Stays until a worker looks, is counted all the while, and swallows new submissions of its unique: they get \
                JOB_CREATED and never a result.",
        here: "Is dropped with its last client.",
        why: "A client that retries with the same unique after a lost connection would wait for ever.",
        excuse: Excuse::Rest(|model, step| {
            let closed = |job: &Job| {
                let is_queued = job.worker.is_none() || job.worker == step.conn();
                closes(step) && is_queued && waits_alone(&job.waiters, step)
            };
            // It ran when its client left, and is queued again by CANT_DO or with the end of its worker, or is joined.
            let given_back = |job: &Job| takes(step, job) || closes(step) && job.worker == step.conn();
            let joined =
                |job: &Job| submits(step) && job.function == step.argument(0) && job.unique == step.argument(1);
            let left = |job: &Job| job.waiters.is_empty() && (given_back(job) || joined(job));
            model.jobs.values().any(|job| !job.is_background && (closed(job) || left(job)))
        }),
        proof: Proof {
            options: PLAIN,
            script: "a SUBMIT_JOB f|u|x; a close; b SUBMIT_JOB f|u|y; c CAN_DO f; c GRAB_JOB",
            there: &["a JOB_CREATED H:t:1", "b JOB_CREATED H:t:1", "c NO_JOB"],
            here: &["a JOB_CREATED H:t:1", "b JOB_CREATED H:t:2", "c JOB_ASSIGN H:t:2|f|y"],
        },
    },
    Difference {
        name: "Background job with an attached client",
        there: "Is thrown away when the client that joined it leaves while it is queued.",
        here: "Stays: somebody was promised that it would run.",
        why: "A background job must not depend on who else asks for it.",
        excuse: Excuse::Rest(|model, step| {
            closes(step) && model.jobs.values().any(|job| job.is_background && waits_alone(&job.waiters, step))
        }),
        proof: Proof {
            options: PLAIN,
            script: "a SUBMIT_JOB_BG f|u|x; b SUBMIT_JOB f|u|y; b close; c CAN_DO f; c GRAB_JOB",
            there: &["a JOB_CREATED H:t:1", "b JOB_CREATED H:t:1", "c NO_JOB"],
            here: &["a JOB_CREATED H:t:1", "b JOB_CREATED H:t:1", "c JOB_ASSIGN H:t:1|f|x"],
        },
    },
    Difference {
        name: "Background submission of a foreground job",
        there: "`show jobs` goes on calling it a foreground job, and it is dropped with its last client.",
        here: "It is a background job from then on.",
        why: "For the same reason.",
        excuse: Excuse::Step(|model, step| {
            let is_list =
                matches!(step, Step::Text { line, .. } if line.to_ascii_lowercase().starts_with(b"show jobs"));
            let is_changed = |job: &Job| job.is_background && job.began_in_foreground;
            is_list && (model.has_unseen_jobs || model.jobs.values().any(is_changed))
        }),
        proof: Proof {
            options: PLAIN,
            script: "a SUBMIT_JOB f|u|x; b SUBMIT_JOB_BG f|u|y; b text show jobs",
            there: &["a JOB_CREATED H:t:1", "b JOB_CREATED H:t:1", "b H:t:1\\t0\\t0\\t0\\n.\\n"],
            here: &["a JOB_CREATED H:t:1", "b JOB_CREATED H:t:1", "b H:t:1\\t0\\t0\\t1\\n.\\n"],
        },
    },
    Difference {
        name: "NOOP, then PRE_SLEEP without a grab",
        there: "That worker is not woken again until it grabs.",
        here: "NOOP again while a job waits.",
        why: "Wake-ups are not lost.",
        excuse: Excuse::Rest(|model, step| step.kind() == Some(PacketType::PRE_SLEEP) && woken(model, step)),
        proof: Proof {
            options: PLAIN,
            script: "a CAN_DO f; a PRE_SLEEP; b SUBMIT_JOB_BG f||x; c CAN_DO f; c GRAB_JOB; a PRE_SLEEP; \
                     b SUBMIT_JOB_BG f||y",
            there: &["a NOOP", "b JOB_CREATED H:t:1", "c JOB_ASSIGN H:t:1|f|x", "b JOB_CREATED H:t:2"],
            here: &["a NOOP", "b JOB_CREATED H:t:1", "c JOB_ASSIGN H:t:1|f|x", "a NOOP", "b JOB_CREATED H:t:2"],
        },
    },
    Difference {
        name: "CAN_DO while asleep",
        there: "Does not wake the worker, though a job of the function waits.",
        here: "NOOP.",
        why: "The job would wait until another one came.",
        excuse: Excuse::Rest(|model, step| {
            let is_registration = matches!(step.kind(), Some(PacketType::CAN_DO | PacketType::CAN_DO_TIMEOUT));
            is_registration && asleep(model, step) && model.is_queued(step.argument(0))
        }),
        proof: Proof {
            options: PLAIN,
            script: "b SUBMIT_JOB_BG f||x; a PRE_SLEEP; a CAN_DO f",
            there: &["b JOB_CREATED H:t:1"],
            here: &["b JOB_CREATED H:t:1", "a NOOP"],
        },
    },
    Difference {
        name: "Several jobs taken from one worker at once",
        there: "Go back into the queue the newest first.",
        here: "The oldest first.",
        why: "First in, first out.",
        excuse: Excuse::Rest(|model, step| {
            let leaves = |job: &Job| closes(step) && job.worker == step.conn();
            model.jobs.values().filter(|job| takes(step, job) || leaves(job)).count() > 1
        }),
        proof: Proof {
            options: PLAIN,
            script: "a SUBMIT_JOB_BG f||x; a SUBMIT_JOB_BG f||y; b CAN_DO f; b GRAB_JOB; b GRAB_JOB; b close; \
                     c CAN_DO f; c GRAB_JOB",
            there: &[
                "a JOB_CREATED H:t:1",
                "a JOB_CREATED H:t:2",
                "b JOB_ASSIGN H:t:1|f|x",
                "b JOB_ASSIGN H:t:2|f|y",
                "c JOB_ASSIGN H:t:2|f|y",
            ],
            here: &[
                "a JOB_CREATED H:t:1",
                "a JOB_CREATED H:t:2",
                "b JOB_ASSIGN H:t:1|f|x",
                "b JOB_ASSIGN H:t:2|f|y",
                "c JOB_ASSIGN H:t:1|f|x",
            ],
        },
    },
    Difference {
        name: "CANT_DO of the job in hand while asleep",
        there: "The job is queued again, and the worker that gave it back gets the NOOP for it.",
        here: "It gets none: it does not take such jobs any more.",
        why: "A wake-up for nothing.",
        excuse: Excuse::Rest(|model, step| asleep(model, step) && model.jobs.values().any(|job| takes(step, job))),
        proof: Proof {
            options: PLAIN,
            script: "a SUBMIT_JOB_BG f||x; b CAN_DO f; b GRAB_JOB; b PRE_SLEEP; b CANT_DO f",
            there: &["a JOB_CREATED H:t:1", "b JOB_ASSIGN H:t:1|f|x", "b NOOP"],
            here: &["a JOB_CREATED H:t:1", "b JOB_ASSIGN H:t:1|f|x"],
        },
    },
    Difference {
        name: "A NUL behind the function of CAN_DO",
        there: "Makes it another function, listed under the same name: the worker gets no jobs.",
        here: "Is not part of the name, as in CAN_DO_TIMEOUT.",
        why: "A worker that sends C strings with their ends gets jobs.",
        excuse: Excuse::Apart,
        proof: Proof {
            options: PLAIN,
            script: "a CAN_DO f\0; b SUBMIT_JOB_BG f||x; b text status; a GRAB_JOB",
            there: &["b JOB_CREATED H:t:1", "b f\\t0\\t0\\t1\\nf\\t1\\t0\\t0\\n.\\n", "a NO_JOB"],
            here: &["b JOB_CREATED H:t:1", "b f\\t1\\t0\\t1\\n.\\n", "a JOB_ASSIGN H:t:1|f|x"],
        },
    },
    Difference {
        name: "CAN_DO twice",
        there: "The worker is counted and listed twice, in `status` and `workers`.",
        here: "Once; the time limit of the last one holds.",
        why: "A count of workers is one. Only a program that reads `status` could tell.",
        excuse: Excuse::Rest(|model, step| {
            let is_registration = matches!(step.kind(), Some(PacketType::CAN_DO | PacketType::CAN_DO_TIMEOUT));
            is_registration && step.conn().is_some_and(|conn| has_ability(model, conn, step.argument(0)))
        }),
        proof: Proof {
            options: PLAIN,
            script: "a CAN_DO f; a CAN_DO f; b text status",
            there: &["b f\\t0\\t0\\t2\\n.\\n"],
            here: &["b f\\t0\\t0\\t1\\n.\\n"],
        },
    },
    Difference {
        name: "Order of functions",
        there: "A worker of several functions gets all jobs of the one it registered last, of whatever priority, then those \
                of the one before; with `--round-robin`, its functions take turns.",
        here: "High priority before normal before low over all its functions, which take turns within a priority: as in \
               gearmand 2.",
        why: "A job of high priority is not kept waiting by another function's low ones.",
        excuse: Excuse::Apart,
        proof: Proof {
            options: PLAIN,
            script: "a CAN_DO f; a CAN_DO g; b SUBMIT_JOB_HIGH_BG f||high; b SUBMIT_JOB_LOW_BG g||low; a GRAB_JOB; \
                     a GRAB_JOB",
            there: &[
                "b JOB_CREATED H:t:1",
                "b JOB_CREATED H:t:2",
                "a JOB_ASSIGN H:t:2|g|low",
                "a JOB_ASSIGN H:t:1|f|high",
            ],
            here: &[
                "b JOB_CREATED H:t:1",
                "b JOB_CREATED H:t:2",
                "a JOB_ASSIGN H:t:1|f|high",
                "a JOB_ASSIGN H:t:2|g|low",
            ],
        },
    },
    Difference {
        name: "`cancel job` of a running job",
        there: "The client gets WORK_FAIL, and later the worker's WORK_COMPLETE, too.",
        here: "WORK_FAIL and nothing after it; what the worker says of the job is for nobody.",
        why: "A job ends once.",
        excuse: Excuse::Rest(cancels),
        proof: Proof {
            options: PLAIN,
            script: "a SUBMIT_JOB f|u|x; b CAN_DO f; b GRAB_JOB; c text cancel job H:t:1; b WORK_COMPLETE H:t:1|done; \
                     b WORK_COMPLETE H:t:1|again",
            there: &[
                "a JOB_CREATED H:t:1",
                "b JOB_ASSIGN H:t:1|f|x",
                "a WORK_FAIL H:t:1",
                "c OK\\r\\n",
                "a WORK_COMPLETE H:t:1|done",
                "b ERROR JOB_NOT_FOUND|Job given in work result not found",
            ],
            here: &[
                "a JOB_CREATED H:t:1",
                "b JOB_ASSIGN H:t:1|f|x",
                "a WORK_FAIL H:t:1",
                "c OK\\r\\n",
                "b ERROR JOB_NOT_FOUND|Job given in work result not found",
            ],
        },
    },
    Difference {
        name: "`cancel job` of a queued job",
        there: "It stays known, listed and counted until a worker looks.",
        here: "It is gone at once.",
        why: "What is cancelled takes no room in a bounded queue.",
        excuse: Excuse::Rest(cancels),
        proof: Proof {
            options: PLAIN,
            script: "a SUBMIT_JOB f|u|x; b text cancel job H:t:1; b GET_STATUS H:t:1; b text status",
            there: &[
                "a JOB_CREATED H:t:1",
                "a WORK_FAIL H:t:1",
                "b OK\\r\\n",
                "b STATUS_RES H:t:1|1|0|0|0",
                "b f\\t1\\t0\\t0\\n.\\n",
            ],
            here: &[
                "a JOB_CREATED H:t:1",
                "a WORK_FAIL H:t:1",
                "b OK\\r\\n",
                "b STATUS_RES H:t:1|0|0|0|0",
                "b f\\t0\\t0\\t0\\n.\\n",
            ],
        },
    },
    Difference {
        name: "`drop function` with queued jobs",
        there: "OK; the jobs stay known, and no worker ever gets them.",
        here: "Refused, as with running ones.",
        why: "No job is lost in silence.",
        excuse: Excuse::Rest(|model, step| {
            let Step::Text { line, .. } = step else { return false };
            let line = String::from_utf8_lossy(line).into_owned();
            let function = line.trim_end().strip_prefix("drop function ");
            function.is_some_and(|function| model.is_queued(function.as_bytes()))
        }),
        proof: Proof {
            options: PLAIN,
            script: "a SUBMIT_JOB f||x; b text drop function f; b CAN_DO f; b GRAB_JOB; b GET_STATUS H:t:1",
            there: &["a JOB_CREATED H:t:1", "b OK\\r\\n", "b NO_JOB", "b STATUS_RES H:t:1|1|0|0|0"],
            here: &[
                "a JOB_CREATED H:t:1",
                "b ERR there are still connected workers or executing clients\\r\\n",
                "b JOB_ASSIGN H:t:1|f|x",
                "b STATUS_RES H:t:1|1|1|0|0",
            ],
        },
    },
    Difference {
        name: "`drop function` with letters of the other case",
        there: "Drops the function all the same.",
        here: "`ERR function not found`.",
        why: "Everywhere else names that differ in case are two functions, there, too.",
        excuse: Excuse::Apart,
        proof: Proof {
            options: PLAIN,
            script: "a text create function Resize; a text drop function resize; a text status",
            there: &["a OK\\r\\n", "a OK\\r\\n", "a .\\n"],
            here: &["a OK\\r\\n", "a ERR function not found\\r\\n", "a Resize\\t0\\t0\\t0\\n.\\n"],
        },
    },
    Difference {
        name: "NOOP for one's own submission",
        there: "Comes before its JOB_CREATED.",
        here: "Comes after it.",
        why: "A connection that is both client and worker must live with both orders.",
        excuse: Excuse::Alike(|replies| {
            for at in 1..replies.len() {
                let kinds = [at - 1, at].map(|at| replies[at].kind());
                if kinds == [Some(PacketType::NOOP), Some(PacketType::JOB_CREATED)] {
                    replies.swap(at - 1, at);
                }
            }
        }),
        proof: Proof {
            options: PLAIN,
            script: "a CAN_DO f; a PRE_SLEEP; a SUBMIT_JOB f||x",
            there: &["a NOOP", "a JOB_CREATED H:t:1"],
            here: &["a JOB_CREATED H:t:1", "a NOOP"],
        },
    },
    Difference {
        name: "A NUL behind the handle of WORK_FAIL",
        there: "Is there for an exception when the client has not set the option `exceptions`, and when the worker sent one.",
        here: "Is not there.",
        why: "Clients that compare handles, libgearman's among them, never see the end of such a job.",
        excuse: Excuse::Alike(|replies| {
            for reply in replies {
                if let Reply::Packet(PacketType::WORK_FAIL, handle) = reply
                    && handle.last() == Some(&0)
                {
                    handle.truncate(handle.len() - 1);
                }
            }
        }),
        proof: Proof {
            options: PLAIN,
            script: "a SUBMIT_JOB f||x; b CAN_DO f; b GRAB_JOB; b WORK_EXCEPTION H:t:1|oh",
            there: &["a JOB_CREATED H:t:1", "b JOB_ASSIGN H:t:1|f|x", "a WORK_FAIL H:t:1\\x00"],
            here: &["a JOB_CREATED H:t:1", "b JOB_ASSIGN H:t:1|f|x", "a WORK_FAIL H:t:1"],
        },
    },
    Difference {
        name: "Unique of 64 bytes",
        there: "Accepted, cut to 63, and the worker's payload begins with a NUL that is none of it.",
        here: "Kept whole.",
        why: "Payloads arrive as they were sent.",
        excuse: Excuse::Apart,
        proof: Proof {
            options: PLAIN,
            script: "a SUBMIT_JOB f|{64}|x; b CAN_DO f; b GRAB_JOB_UNIQ",
            there: &["a JOB_CREATED H:t:1", "b JOB_ASSIGN_UNIQ H:t:1|f|{63}|\\x00x"],
            here: &["a JOB_CREATED H:t:1", "b JOB_ASSIGN_UNIQ H:t:1|f|{64}|x"],
        },
    },
    Difference {
        name: "64 bytes in GET_STATUS or GET_STATUS_UNIQUE",
        there: "No reply; the connection is closed with the next packet.",
        here: "STATUS_RES of an unknown job.",
        why: "Every request is answered.",
        excuse: Excuse::Apart,
        proof: Proof {
            options: PLAIN,
            script: "a GET_STATUS {64}; b GET_STATUS_UNIQUE {64}",
            there: &["a (closed)", "b (closed)"],
            here: &["a STATUS_RES {64}|0|0|0|0", "b STATUS_RES_UNIQUE {64}|0|0|0|0|0"],
        },
    },
    Difference {
        name: "`create function` ended by LF alone",
        there: "The last letter is cut off.",
        here: "It is not.",
        why: "LF and CRLF are alike for every other command.",
        excuse: Excuse::Apart,
        proof: Proof {
            options: PLAIN,
            script: "a lf create function abcd; a text status",
            there: &["a OK\\r\\n", "a abc\\t0\\t0\\t0\\n.\\n"],
            here: &["a OK\\r\\n", "a abcd\\t0\\t0\\t0\\n.\\n"],
        },
    },
    Difference {
        name: "`workers`",
        there: "The first column is the file descriptor of the connection; functions are listed as their turns come.",
        here: "A number of the connection, since the core knows no files; the function registered last comes first.",
        why: "The number names a connection among those listed, as there.",
        excuse: Excuse::Alike(|replies| {
            for text in texts(replies) {
                let lines = String::from_utf8_lossy(text).into_owned();
                let lines = lines.split_inclusive('\n').map(|line| match line.split_once(" 127.0.0.1 ") {
                    Some((_, rest)) => {
                        let (id, functions) = rest.trim_end_matches('\n').split_once(" :").unwrap_or((rest, ""));
                        let mut functions: Vec<_> = functions.split(' ').collect();
                        functions.sort_unstable();
                        format!("# 127.0.0.1 {id} :{}\n", functions.join(" "))
                    }
                    None => line.into(),
                });
                *text = lines.collect::<String>().into();
            }
        }),
        proof: Proof {
            options: PLAIN,
            script: "a CAN_DO f; b text workers",
            there: &["b … 127.0.0.1 - :\\n… 127.0.0.1 - : f\\n.\\n"],
            here: &["b 1 127.0.0.1 - :\\n0 127.0.0.1 - : f\\n.\\n"],
        },
    },
    Difference {
        name: "A line end in the name of a function, a unique or a worker's id",
        there: "Is one in `status` and its kin, too.",
        here: "Is a `?` there.",
        why: "What a peer calls itself cannot forge a line of a list.",
        excuse: Excuse::Apart,
        proof: Proof {
            options: PLAIN,
            script: "a CAN_DO f\ng; b text status",
            there: &["b f\\ng\\t0\\t0\\t1\\n.\\n"],
            here: &["b f?g\\t0\\t0\\t1\\n.\\n"],
        },
    },
    Difference {
        name: "Order of lists",
        there: "`status`, `show jobs` and others list as their tables lie.",
        here: "Jobs by number; functions as they were first named.",
        why: "No order is promised.",
        excuse: Excuse::Alike(|replies| {
            for text in texts(replies) {
                let mut lines: Vec<&[u8]> = text.split_inclusive(|&byte| byte == b'\n').collect();
                lines.sort_unstable();
                *text = lines.concat();
            }
        }),
        proof: Proof {
            options: PLAIN,
            script: "a SUBMIT_JOB f|u1|x; a SUBMIT_JOB f|u2|y; a text show jobs; a text status",
            there: &[
                "a JOB_CREATED H:t:1",
                "a JOB_CREATED H:t:2",
                "a H:t:2\\t0\\t0\\t0\\nH:t:1\\t0\\t0\\t0\\n.\\n",
                "a f\\t2\\t0\\t0\\n.\\n",
            ],
            here: &[
                "a JOB_CREATED H:t:1",
                "a JOB_CREATED H:t:2",
                "a H:t:1\\t0\\t0\\t0\\nH:t:2\\t0\\t0\\t0\\n.\\n",
                "a f\\t2\\t0\\t0\\n.\\n",
            ],
        },
    },
    Difference {
        name: "The timer of CAN_DO_TIMEOUT",
        there: "One a connection: it fires on a job that has ended, which breaks `status`, and only one of several jobs is \
                timed.",
        here: "One a job, which ends with it.",
        why: "A worker that runs several jobs has each of them timed.",
        excuse: Excuse::Apart,
        proof: Proof {
            options: PLAIN,
            script: "a CAN_DO_TIMEOUT f|1000; b SUBMIT_JOB_BG f||x; a GRAB_JOB; a WORK_COMPLETE H:t:1|done; a wait 1300; \
                     b text status",
            there: &["b JOB_CREATED H:t:1", "a JOB_ASSIGN H:t:1|f|x", "b f\\t0\\t4294967295\\t1\\n.\\n"],
            here: &["b JOB_CREATED H:t:1", "a JOB_ASSIGN H:t:1|f|x", "b f\\t0\\t0\\t1\\n.\\n"],
        },
    },
    Difference {
        name: "WORK_COMPLETE in one write with its GRAB_JOB",
        there: "The payload of the assignment is garbage: the job is freed before it is sent.",
        here: "It is the payload.",
        why: "Only a worker that guesses handles does so.",
        excuse: Excuse::Apart,
        proof: Proof {
            options: PLAIN,
            script: "b SUBMIT_JOB_BG f||payload; a CAN_DO f; a GRAB_JOB & a WORK_COMPLETE H:t:1|x",
            there: &["b JOB_CREATED H:t:1", "a JOB_ASSIGN H:t:1|f|…"],
            here: &["b JOB_CREATED H:t:1", "a JOB_ASSIGN H:t:1|f|payload"],
        },
    },
    Difference {
        name: "WORK_STATUS with a denominator of 12 digits or more",
        there: "The worker's connection is closed.",
        here: "Forwarded as it is, like any other.",
        why: "A worker that counts bytes is not cut off, nor its job run again.",
        excuse: Excuse::Apart,
        proof: Proof {
            options: PLAIN,
            script: "a SUBMIT_JOB f||x; b CAN_DO f; b GRAB_JOB; b WORK_STATUS H:t:1|1|99999999999; \
                     b WORK_STATUS H:t:1|1|999999999999",
            there: &[
                "a JOB_CREATED H:t:1",
                "b JOB_ASSIGN H:t:1|f|x",
                "a WORK_STATUS H:t:1|1|99999999999",
                "b (closed)",
            ],
            here: &[
                "a JOB_CREATED H:t:1",
                "b JOB_ASSIGN H:t:1|f|x",
                "a WORK_STATUS H:t:1|1|99999999999",
                "a WORK_STATUS H:t:1|1|999999999999",
            ],
        },
    },
    Difference {
        name: "SUBMIT_JOB_EPOCH that is not due",
        there: "Keeps back jobs of low priority of the same function, and with `--round-robin` those of other functions.",
        here: "Keeps nothing back.",
        why: "The job is not there yet.",
        excuse: Excuse::Rest(|model, step| {
            let abilities = step.conn().map(|conn| model.line(conn).abilities).unwrap_or_default();
            let waits = |job: &Job| job.is_delayed && abilities.contains(&job.function);
            is_grab(step) && abilities.len() > 1 && model.jobs.values().any(waits)
        }),
        proof: Proof {
            options: PLAIN,
            script: "a SUBMIT_JOB_EPOCH f||4000000000|later; a SUBMIT_JOB_LOW_BG f||now; b CAN_DO f; b GRAB_JOB",
            there: &["a JOB_CREATED H:t:1", "a JOB_CREATED H:t:2", "b NO_JOB"],
            here: &["a JOB_CREATED H:t:1", "a JOB_CREATED H:t:2", "b JOB_ASSIGN H:t:2|f|now"],
        },
    },
    Difference {
        name: "Unique of 65 bytes in SUBMIT_REDUCE_JOB",
        there: "Accepted and cut: the length of the reducer is looked at instead.",
        here: "ERROR `ARGUMENT_TOO_LARGE`, as for other jobs.",
        why: "A cut unique joins jobs that have nothing to do with each other.",
        excuse: Excuse::Apart,
        proof: Proof {
            options: PLAIN,
            script: "a SUBMIT_REDUCE_JOB f|{65}|r||x; b CAN_DO f; b GRAB_JOB_ALL",
            there: &["a JOB_CREATED H:t:1", "b JOB_ASSIGN_ALL H:t:1|f|{63}|r|r\\x00x"],
            here: &["a ERROR ARGUMENT_TOO_LARGE|Unique value too large", "b NO_JOB"],
        },
    },
    Difference {
        name: "SUBMIT_JOB_EPOCH with a time of more than 64 bits",
        there: "No reply, and no job; the connection is closed with the next packet.",
        here: "JOB_CREATED: the job is due at the end of time, or at once where the time is negative.",
        why: "Every request is answered.",
        excuse: Excuse::Apart,
        proof: Proof {
            options: PLAIN,
            script: "a SUBMIT_JOB_EPOCH f||99999999999999999999|x; b GET_STATUS H:t:1; b text status",
            there: &["a (closed)", "b STATUS_RES H:t:1|0|0|0|0", "b .\\n"],
            here: &["a JOB_CREATED H:t:1", "b STATUS_RES H:t:1|1|0|0|0", "b f\\t1\\t0\\t0\\n.\\n"],
        },
    },
    Difference {
        name: "SUBMIT_JOB_EPOCH that falls due",
        there: "Wakes sleeping workers when it is submitted, and nobody when it is due: they find it at their next grab.",
        here: "NOOP when it is due, as in gearmand 2.",
        why: "The job runs at its time.",
        excuse: Excuse::Rest(|model, step| {
            let hears = |line: &Line| line.is_asleep && line.abilities.iter().any(|able| able == step.argument(0));
            is_delayed(step) && model.conns.values().any(hears)
        }),
        proof: Proof {
            options: PLAIN,
            script: "a CAN_DO f; a PRE_SLEEP; b SUBMIT_JOB_EPOCH f||{+1}|x; a wait 2000; a GRAB_JOB",
            there: &["a NOOP", "b JOB_CREATED H:t:1", "a JOB_ASSIGN H:t:1|f|x"],
            here: &["b JOB_CREATED H:t:1", "a NOOP", "a JOB_ASSIGN H:t:1|f|x"],
        },
    },
];

/// Whether it asks for a job.
pub(crate) fn is_grab(step: &Step) -> bool {
    matches!(step.kind(), Some(PacketType::GRAB_JOB | PacketType::GRAB_JOB_UNIQ | PacketType::GRAB_JOB_ALL))
}

/// Whether the connection ends with this step.
pub(crate) fn closes(step: &Step) -> bool {
    matches!(step, Step::Close { .. }) || step.kind().is_some_and(|kind| kind.info().is_none())
}

/// Whether it submits a job.
fn submits(step: &Step) -> bool {
    let arguments = step.kind().and_then(PacketType::info).map(|info| info.arguments).unwrap_or_default();
    arguments.starts_with(&["function", "unique"])
}

/// Whether CANT_DO or RESET_ABILITIES takes a running job from its worker.
fn takes(step: &Step, job: &Job) -> bool {
    let takes = match step.kind() {
        Some(PacketType::CANT_DO) => job.function == step.argument(0),
        Some(PacketType::RESET_ABILITIES) => true,
        _ => false,
    };
    takes && job.worker == step.conn()
}

fn texts(replies: &mut [Reply]) -> impl Iterator<Item = &mut Vec<u8>> {
    replies.iter_mut().filter_map(|reply| match reply {
        Reply::Text(text) => Some(text),
        _ => None,
    })
}

/// Whether nobody but the connection of `step` waits.
fn waits_alone(waiters: &[usize], step: &Step) -> bool {
    !waiters.is_empty() && waiters.iter().all(|&waiter| Some(waiter) == step.conn())
}

fn woken(model: &Model, step: &Step) -> bool {
    step.conn().is_some_and(|conn| model.line(conn).is_woken)
}

fn asleep(model: &Model, step: &Step) -> bool {
    step.conn().is_some_and(|conn| model.line(conn).is_asleep)
}

fn has_ability(model: &Model, conn: usize, function: &[u8]) -> bool {
    model.line(conn).abilities.iter().any(|known| known == function)
}

fn cancels(model: &Model, step: &Step) -> bool {
    match step {
        Step::Text { line, .. } => String::from_utf8_lossy(line)
            .trim_end()
            .strip_prefix("cancel job ")
            .is_some_and(|handle| model.jobs.contains_key(handle.as_bytes())),
        _ => false,
    }
}
