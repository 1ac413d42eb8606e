//! Whether the lists and counts agree.

use alloc::collections::BTreeMap;

use super::Queue;
use crate::server::jobs::State;
use crate::server::table::NONE;

impl Queue {
    /// Panics where the lists and counts do not agree.
    pub(in crate::server) fn audit(&self) {
        self.jobs.audit();
        let mut waiters = 0;
        let mut totals = BTreeMap::<u32, [u32; 5]>::new();
        for (index, job) in self.jobs.table.iter() {
            waiters += self.waiting_for(index).count();
            assert_eq!(self.waiting_for(index).count(), job.waiting as usize);
            assert_eq!(job.worker != NONE, job.state == State::Running);
            assert!(job.waiting > 0 || job.background || job.state == State::Running, "nobody wants {job:?}");
            let total = totals.entry(job.function).or_default();
            total[3] += 1;
            total[if job.state == State::Running { 4 } else { job.priority as usize }] += 1;
        }
        assert_eq!(waiters, self.waiters.len());
        let (mut workers, mut idle) = (0, 0);
        for (index, function) in self.functions.iter() {
            let [high, normal, low, total, running] = totals.get(&index).copied().unwrap_or_default();
            assert_eq!(function.queued, [high, normal, low]);
            assert_eq!((function.total, function.running), (total, running));
            assert_eq!(function.is_idle, function.total == 0 && function.workers == 0);
            workers += function.workers as usize;
            idle += usize::from(function.is_idle);
            for priority in 0..3 {
                for job in function.queues[priority].iter(&self.jobs.table, |job| &job.link) {
                    assert_eq!(self.jobs.table[job].state, State::Queued);
                }
                for ability in function.dormant[priority].iter(&self.abilities, |ability| &ability.dormant[priority]) {
                    assert!(!self.abilities[ability].ready[priority]);
                    assert!(function.queues[priority].is_empty(), "one who does not know of a job");
                }
            }
        }
        assert_eq!(idle, self.idle.iter(&self.functions, |function| &function.idle).count());
        assert_eq!((workers, self.names.len()), (self.abilities.len(), self.functions.len()));
        let parties = &self.parties;
        assert_eq!(workers, parties.iter().map(|party| party.ability_count as usize).sum::<usize>());
        assert_eq!(self.running, parties.iter().map(|party| party.running_count).sum::<u32>());
        assert_eq!(self.timers.jobs(), self.jobs.table.iter().filter(|(_, job)| job.timed).count());
        assert!(self.woken.is_empty());
        let ready = parties.iter().flat_map(|party| &party.ready).map(BTreeMap::len).sum::<usize>();
        assert_eq!(ready, self.abilities.iter().map(|(_, a)| a.ready.iter().filter(|&&is| is).count()).sum::<usize>());
    }
}
