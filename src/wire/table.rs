//! THE packet table: one row a packet type, and nothing else.
//!
//! A row says: what it means, its number, its name on the wire, its name in Rust, who may send it, its arguments in order;
//! what stands behind `;` is opaque and may hold NULs. The macro in `packets.rs` makes the types of it.

packets! {
    /// This worker can run `function`.
    1 CAN_DO CanDo [Worker] { function }
    /// This worker no longer runs `function`. A job server requeues a job of it that the worker is running.
    2 CANT_DO CantDo [Worker] { function }
    /// This worker runs no function any more.
    3 RESET_ABILITIES ResetAbilities [Worker] {}
    /// This worker sleeps until NOOP.
    4 PRE_SLEEP PreSleep [Worker] {}
    /// Never used.
    5 UNUSED Unused [] {}
    /// There may be a job for this sleeping worker.
    6 NOOP Noop [Server] {}
    /// Run a job; its results come back on this connection.
    7 SUBMIT_JOB SubmitJob [Client] { function, unique; payload }
    /// The job is queued under `handle`: the reply to every form of submission.
    8 JOB_CREATED JobCreated [Server] { handle }
    /// Give this worker a job.
    9 GRAB_JOB GrabJob [Worker] {}
    /// There is none: a reply to GRAB_JOB and its kin.
    10 NO_JOB NoJob [Server] {}
    /// Run this job: a reply to GRAB_JOB.
    11 JOB_ASSIGN JobAssign [Server] { handle, function; payload }
    /// How far the job is, as a fraction of decimal numbers.
    12 WORK_STATUS WorkStatus [Worker Server] { handle, numerator, denominator }
    /// The job is done and this is its result.
    13 WORK_COMPLETE WorkComplete [Worker Server] { handle; payload }
    /// The job failed.
    14 WORK_FAIL WorkFail [Worker Server] { handle }
    /// How is the job with this handle?
    15 GET_STATUS GetStatus [Client] { handle }
    /// Send `payload` back.
    16 ECHO_REQ EchoReq [Client Worker] {; payload }
    /// What ECHO_REQ sent.
    17 ECHO_RES EchoRes [Server] {; payload }
    /// Run a job in the background: no result comes back.
    18 SUBMIT_JOB_BG SubmitJobBg [Client] { function, unique; payload }
    /// A request was refused. It names none: it stands where the reply would, or is unsolicited after WORK_*.
    19 ERROR Error [Server] { code, text }
    /// What GET_STATUS asked.
    20 STATUS_RES StatusRes [Server] { handle, known, running, numerator, denominator }
    /// SUBMIT_JOB with high priority.
    21 SUBMIT_JOB_HIGH SubmitJobHigh [Client] { function, unique; payload }
    /// The name under which the admin command `workers` lists this connection.
    22 SET_CLIENT_ID SetClientId [Worker] { id }
    /// CAN_DO with a time limit a job, in milliseconds on gearmand.
    23 CAN_DO_TIMEOUT CanDoTimeout [Worker] { function, timeout }
    /// Reserved for a worker that runs every function; job servers refuse it.
    24 ALL_YOURS AllYours [Worker] {}
    /// The job threw an exception, which is `payload`.
    25 WORK_EXCEPTION WorkException [Worker Server] { handle; payload }
    /// Set an option of this connection; there is one: `exceptions`.
    26 OPTION_REQ OptionReq [Client] { option }
    /// The option is set.
    27 OPTION_RES OptionRes [Server] { option }
    /// A part of the result.
    28 WORK_DATA WorkData [Worker Server] { handle; payload }
    /// A warning.
    29 WORK_WARNING WorkWarning [Worker Server] { handle; payload }
    /// GRAB_JOB whose reply also names the unique.
    30 GRAB_JOB_UNIQ GrabJobUniq [Worker] {}
    /// Run this job: a reply to GRAB_JOB_UNIQ.
    31 JOB_ASSIGN_UNIQ JobAssignUniq [Server] { handle, function, unique; payload }
    /// SUBMIT_JOB_BG with high priority.
    32 SUBMIT_JOB_HIGH_BG SubmitJobHighBg [Client] { function, unique; payload }
    /// SUBMIT_JOB with low priority.
    33 SUBMIT_JOB_LOW SubmitJobLow [Client] { function, unique; payload }
    /// SUBMIT_JOB_BG with low priority.
    34 SUBMIT_JOB_LOW_BG SubmitJobLowBg [Client] { function, unique; payload }
    /// Run a background job at times given as by cron. Job servers refuse it.
    35 SUBMIT_JOB_SCHED SubmitJobSched [Client] { function, unique, minute, hour, day_of_month, month, day_of_week; payload }
    /// Run a background job not before a time, in seconds since 1970.
    36 SUBMIT_JOB_EPOCH SubmitJobEpoch [Client] { function, unique, epoch; payload }
    /// Run a map/reduce job. (PROTOCOL leaves `aggregator` out; gearmand waits for ever without it.)
    37 SUBMIT_REDUCE_JOB SubmitReduceJob [Client] { function, unique, reducer, aggregator; payload }
    /// SUBMIT_REDUCE_JOB in the background.
    38 SUBMIT_REDUCE_JOB_BACKGROUND SubmitReduceJobBackground [Client] { function, unique, reducer, aggregator; payload }
    /// GRAB_JOB whose reply also names the unique and the reducer.
    39 GRAB_JOB_ALL GrabJobAll [Worker] {}
    /// Run this map/reduce job: a reply to GRAB_JOB_ALL.
    40 JOB_ASSIGN_ALL JobAssignAll [Server] { handle, function, unique, reducer; payload }
    /// How is the job with this unique?
    41 GET_STATUS_UNIQUE GetStatusUnique [Client] { unique }
    /// What GET_STATUS_UNIQUE asked; `clients` waits for the job.
    42 STATUS_RES_UNIQUE StatusResUnique [Server] { unique, known, running, numerator, denominator, clients }
}
