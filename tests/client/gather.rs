//! Submissions that leave together, where `Config::gather` says so.

use core::time::Duration;

use gearwheel::Instant;

use super::*;

const MICROSECOND: Duration = Duration::from_micros(1);

/// A client with one connection. The jobs on it have numbers, in their order.
struct Flow {
    rig: Rig<Client>,
    conn: ConnId,
    left: usize,
    ended: usize,
}

fn flow(outstanding: usize) -> Flow {
    let mut config = config(&["a"]);
    config.gather = millis(1);
    let mut rig = Rig::new(Client::new(config).expect("valid"));
    (0..outstanding).for_each(|_| _ = submit(&mut rig, job()));
    let conn = rig.connect();
    let mut flow = Flow { rig, conn, left: 0, ended: 0 };
    assert_eq!(flow.leave(), outstanding);
    flow
}

fn job() -> Job {
    Job::new("f", "x")
}

impl Flow {
    /// How many submissions have left since the last call. Their handles come at once.
    fn leave(&mut self) -> usize {
        let sent = self.rig.sent(self.conn).iter().filter(|packet| packet.kind() == T::SUBMIT_JOB).count();
        let handles = (self.left..self.left + sent).map(|number| packet(T::JOB_CREATED, &format!("H:x:{number}")));
        self.rig.receive(self.conn, &handles.collect::<Vec<_>>());
        self.left += sent;
        sent
    }

    /// So many of the oldest jobs end at once, a while behind those before.
    fn end(&mut self, number: usize, behind: Duration) {
        self.rig.pass(behind);
        let ends = (self.ended..self.ended + number).map(|number| packet(T::WORK_COMPLETE, &format!("H:x:{number}|r")));
        self.rig.receive(self.conn, &ends.collect::<Vec<_>>());
        self.ended += number;
    }

    /// The same, and as many are submitted. Says how many leave.
    fn go_on(&mut self, number: usize, behind: Duration) -> usize {
        self.end(number, behind);
        (0..number).for_each(|_| _ = submit(&mut self.rig, job()));
        self.leave()
    }

    /// Jobs end one by one for long enough that the next submission waits.
    fn trickle(mut self) -> Self {
        assert!((0..16).all(|_| self.go_on(1, MICROSECOND) == 1));
        self
    }

    fn waiting(mut self, number: usize) -> Self {
        assert!((0..number).all(|_| self.go_on(1, MICROSECOND) == 0));
        self
    }
}

#[test]
fn submissions_leave_together_where_jobs_end_one_by_one() {
    let mut flow = flow(64).trickle();
    let left = (0..24).map(|_| flow.go_on(1, MICROSECOND)).collect::<Vec<_>>();
    // One waits in eight that its job server has.
    let eight = [&[0; 7][..], &[8]].concat();
    assert_eq!(left, [eight.clone(), eight.clone(), eight].concat());
}

#[test]
fn sixty_four_wait_at_most() {
    let mut flow = flow(2000).trickle().waiting(64);
    assert_eq!(flow.go_on(1, MICROSECOND), 65);
}

#[test]
fn submissions_wait_where_25_jobs_are_outstanding_and_no_fewer() {
    for (jobs, left) in [(25, 0), (24, 1)] {
        assert_eq!(flow(jobs).trickle().go_on(1, MICROSECOND), left, "{jobs} jobs");
    }
}

#[test]
fn large_submissions_do_not_wait() {
    let mut flow = flow(64).trickle();
    flow.end(1, MICROSECOND);
    submit(&mut flow.rig, Job::new("f", vec![0; 64 << 10]));
    assert_eq!(flow.leave(), 1);
}

#[test]
fn a_submission_waits_for_the_time_that_was_set() {
    let mut flow = flow(64).trickle();
    assert_eq!(flow.go_on(1, MICROSECOND), 0);
    assert_eq!(flow.rig.wait, Some(flow.rig.now + millis(1)));
    // Another does not put it off.
    assert_eq!((flow.go_on(1, 999 * MICROSECOND), flow.rig.pass(Duration::ZERO)), (0, 0));
    flow.rig.pass(MICROSECOND);
    assert_eq!(flow.leave(), 2);
    assert!(flow.rig.wait > Some(flow.rig.now + millis(1)));
}

#[test]
fn those_that_a_late_tick_keeps_waiting_leave_with_the_next() {
    let mut flow = flow(64).trickle().waiting(3);
    flow.rig.now = flow.rig.now + millis(1);
    submit(&mut flow.rig, job());
    assert_eq!(flow.leave(), 4);
}

#[test]
fn no_submission_waits_where_several_jobs_end_at_once() {
    let mut flow = flow(64).trickle();
    assert_eq!(flow.go_on(2, MICROSECOND), 0);
    assert_eq!(flow.go_on(3, MICROSECOND), 5);
    assert!((0..16).all(|_| flow.go_on(1, MICROSECOND) == 1));
}

#[test]
fn no_submission_waits_where_jobs_end_seldom() {
    let mut flow = flow(64);
    assert!((0..40).all(|_| flow.go_on(1, millis(1)) == 1));
    flow.rig.pass(millis(1));
    let mut flow = flow.trickle();
    flow.end(1, MICROSECOND);
    flow.rig.pass(millis(1));
    submit(&mut flow.rig, job());
    assert_eq!(flow.leave(), 1);
}

#[test]
fn no_submission_waits_unless_that_is_configured() {
    let (mut rig, conn, _) = sent(job());
    (0..63).for_each(|_| _ = submit(&mut rig, job()));
    rig.sent(conn);
    let mut flow = Flow { rig, conn, left: 64, ended: 0 };
    let handles = (0..64).map(|number| packet(T::JOB_CREATED, &format!("H:x:{number}"))).collect::<Vec<_>>();
    flow.rig.receive(conn, &handles);
    assert!((0..40).all(|_| flow.go_on(1, MICROSECOND) == 1));
}

#[test]
fn whatever_else_is_sent_takes_them_along() {
    let mut beside = flow(64).trickle().waiting(3);
    submit(&mut beside.rig, job().background());
    assert_eq!(beside.leave(), 3);

    let mut asks = flow(64).trickle().waiting(3);
    let server = asks.rig.machine.servers().next().expect("one").server;
    asks.rig.act(|client, now| client.echo(server, "x".into(), now)).expect("asked");
    assert_eq!(asks.leave(), 3);

    let mut flushed = flow(64).trickle().waiting(3);
    flushed.rig.act(|client, _| client.flush());
    assert_eq!(flushed.leave(), 3);
    assert!(flushed.rig.wait > Some(flushed.rig.now + millis(1)));
}

#[test]
fn those_that_wait_when_the_connection_is_lost_are_submitted_anew() {
    let mut flow = flow(64).trickle().waiting(3);
    flow.rig.close(flow.conn, CloseReason::Reset);
    assert_eq!(
        outcomes(&mut flow.rig).iter().filter(|(_, outcome)| matches!(outcome, Outcome::Lost { .. })).count(),
        61
    );
    flow.rig.pass(secs(1));
    flow.conn = flow.rig.connect();
    assert_eq!(flow.leave(), 3);
}

#[test]
fn those_that_wait_end_as_cancelled_when_the_client_is_closed() {
    let mut flow = flow(64).trickle().waiting(3);
    outcomes(&mut flow.rig);
    flow.rig.act(|client, now| client.close(now));
    assert_eq!(outcomes(&mut flow.rig).len(), 64);
    assert_eq!(flow.rig.wait, None);
}

#[test]
fn whatever_happens_no_submission_waits_for_longer_than_was_set() {
    let (mut flow, mut seed, mut waited) = (flow(60), 1_u64, 0);
    let mut roll = |sides: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % sides
    };
    let mut submitted = Vec::from([flow.rig.now; 60]);
    for _ in 0..20_000 {
        let behind = if roll(200) == 0 { millis(roll(4)) } else { MICROSECOND * roll(120) as u32 };
        let ending = if roll(60) == 0 { 3 + roll(9) as usize } else { 1 + roll(2) as usize };
        flow.end(ending.min(flow.left - flow.ended), behind);
        flow.leave();
        let waits = |at: &Instant| flow.rig.now < *at + millis(1);
        assert!(submitted[flow.left..].iter().all(waits));
        for _ in 0..roll(3) + u64::from(submitted.len() - flow.ended < 40) {
            submit(&mut flow.rig, job());
            submitted.push(flow.rig.now);
        }
        flow.leave();
        waited += usize::from(flow.left < submitted.len());
    }
    assert!(waited > 1000, "{waited}");
}
