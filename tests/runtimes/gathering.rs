//! Submissions that wait for others, where nothing comes that would take them along.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use gearwheel::{Job, client};

use crate::kinds::Kind;
use crate::peers::PATIENCE;
use crate::scenarios::packet;
use crate::unread::{played, request};

const OUTSTANDING: usize = 64;
/// So many jobs end one by one: the first ones are not known for a trickle, and three of the other submissions wait at last.
const ENDING: usize = 16 + 8 + 3;

pub(crate) fn submissions_that_wait_leave_in_time<K: Kind>() {
    let (_client, _jobs, all_came) = trickle::<K>(|config| config.gather = Duration::from_millis(100));
    // Long before the client looks whether the job server still lives.
    all_came.recv_timeout(Duration::from_secs(5)).expect("all submissions");
}

pub(crate) fn submissions_that_wait_leave_with_the_last_handle<K: Kind>() {
    let (client, jobs, all_came) = trickle::<K>(|config| config.gather = Duration::from_secs(7));
    drop((jobs, client));
    all_came.recv_timeout(PATIENCE).expect("all submissions");
}

/// A client that submits another job for each that has ended, its jobs, and what says that the job server has got all.
fn trickle<K: Kind>(configure: fn(&mut client::Config)) -> (K::Client, VecDeque<K::Pending>, Receiver<()>) {
    let (go_on, ended) = mpsc::channel();
    let (tell, all_came) = mpsc::channel();
    let at = played(OUTSTANDING, move |mut stream| {
        for number in 1..=ENDING {
            let end = packet(b"\0RES", 13, &[format!("H:{number}").as_bytes(), b"done"]);
            stream.write_all(&end).expect("it reads");
            ended.recv().expect("it goes on");
        }
        for _ in 0..ENDING {
            while request(&mut stream) != 7 {}
        }
        tell.send(()).expect("somebody waits");
    });
    let client = K::client(&at.to_string(), configure);
    let submit = || K::submit(&client, Job::new("f", "")).expect("taken");
    let mut jobs = (0..OUTSTANDING).map(|_| submit()).collect::<VecDeque<_>>();
    for _ in 0..ENDING {
        assert_eq!(jobs.pop_front().map(K::wait), Some(Ok("done".into())));
        jobs.push_back(submit());
        go_on.send(()).expect("the job server plays on");
    }
    (client, jobs, all_came)
}
