//! What is known of the servers: the last samples, and how the queues have been.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use gearwheel::wire::admin::FunctionStatus;

/// Samples that are kept of each queue.
const HISTORY: usize = 240;
/// Over how long rates are taken.
const RATE_OVER: Duration = Duration::from_secs(5);

/// What a server said when it was asked.
pub(crate) struct Sample {
    pub(crate) server: usize,
    pub(crate) at: Instant,
    pub(crate) version: Option<String>,
    pub(crate) result: Result<Vec<FunctionStatus>, String>,
}

/// A job server.
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) version: Option<String>,
    /// Why it cannot be asked.
    pub(crate) trouble: Option<String>,
    /// Whether it has been heard of, well or ill.
    pub(crate) known: bool,
    functions: BTreeMap<String, Counts>,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    queued: u64,
    running: u64,
    workers: u64,
}

#[derive(Default)]
struct Past {
    queued: VecDeque<(Instant, u64)>,
}

/// A function, over all servers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) function: String,
    pub(crate) queued: u64,
    pub(crate) running: u64,
    pub(crate) workers: u64,
    /// How many jobs a second the queue grows by; below zero, it shrinks.
    pub(crate) rate: f64,
    /// How long the queue was, newest last.
    pub(crate) history: Vec<u64>,
}

impl Row {
    /// When the queue is empty if it goes on so.
    pub(crate) fn empty_in(&self) -> Option<Duration> {
        let left = self.queued as f64 / -self.rate;
        if self.queued > 0 && self.rate < 0.0 { Duration::try_from_secs_f64(left).ok() } else { None }
    }

    /// Jobs wait, and nobody can run them.
    pub(crate) fn is_stuck(&self) -> bool {
        self.queued > 0 && self.workers == 0
    }
}

/// By what the functions are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Queued,
    Running,
    Workers,
    Rate,
    Name,
}

/// All that is shown.
pub(crate) struct Model {
    pub(crate) servers: Vec<Server>,
    past: BTreeMap<String, Past>,
    pub(crate) sort: Sort,
    pub(crate) reversed: bool,
    pub(crate) show_idle: bool,
    pub(crate) paused: bool,
    pub(crate) since: Instant,
    now: Instant,
    offset: usize,
}

impl Model {
    pub(crate) fn new(servers: impl Iterator<Item = String>, now: Instant) -> Self {
        let server = |name| Server { name, version: None, trouble: None, known: false, functions: BTreeMap::new() };
        Self {
            servers: servers.map(server).collect(),
            past: BTreeMap::new(),
            sort: Sort::Queued,
            reversed: false,
            show_idle: true,
            paused: false,
            since: now,
            now,
            offset: 0,
        }
    }

    /// Takes note of what a server said.
    pub(crate) fn observe(&mut self, sample: Sample) {
        let Some(server) = self.servers.get_mut(sample.server).filter(|_| !self.paused) else { return };
        self.now = self.now.max(sample.at);
        server.known = true;
        server.version = sample.version;
        server.functions.clear();
        match sample.result {
            Ok(rows) => {
                server.trouble = None;
                server.functions.extend(rows.into_iter().map(|row| {
                    let queued = row.total.saturating_sub(row.running);
                    (printable(&row.function), Counts { queued, running: row.running, workers: row.workers })
                }));
            }
            Err(trouble) => server.trouble = Some(trouble),
        }
    }

    /// Notes how long the queues are now. To be called at even intervals.
    pub(crate) fn tick(&mut self, now: Instant) {
        if self.paused || self.servers.iter().all(|server| !server.known) {
            return;
        }
        self.now = self.now.max(now);
        let sums = self.sums();
        self.past.retain(|function, _| sums.contains_key(function));
        for (function, counts) in sums {
            let past = self.past.entry(function).or_default();
            if past.queued.len() == HISTORY {
                past.queued.pop_front();
            }
            past.queued.push_back((now, counts.queued));
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    pub(crate) fn sort_by_next(&mut self) {
        self.reversed = false;
        self.sort = match self.sort {
            Sort::Queued => Sort::Running,
            Sort::Running => Sort::Workers,
            Sort::Workers => Sort::Rate,
            Sort::Rate => Sort::Name,
            Sort::Name => Sort::Queued,
        };
    }

    pub(crate) fn reverse(&mut self) {
        self.reversed = !self.reversed;
    }

    pub(crate) fn scroll(&mut self, by: isize) {
        self.offset = self.offset.saturating_add_signed(by).min(self.past.len().saturating_sub(1));
    }

    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// The functions, in order.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let row = |(function, counts): (String, Counts)| {
            let past = self.past.get(&function);
            let history = past.map(|past| past.queued.iter().map(|(_, queued)| *queued).collect()).unwrap_or_default();
            let rate = past.map_or(0.0, rate);
            let Counts { queued, running, workers } = counts;
            Row { function, queued, running, workers, rate, history }
        };
        let mut rows: Vec<_> = self.sums().into_iter().map(row).collect();
        rows.retain(|row| self.show_idle || row.queued + row.running > 0);
        rows.sort_by(|a, b| {
            let order = self.compare(a, b);
            if self.reversed { order.reverse() } else { order }
        });
        rows
    }

    fn compare(&self, a: &Row, b: &Row) -> Ordering {
        let most = |value: fn(&Row) -> u64| value(b).cmp(&value(a));
        let order = match self.sort {
            Sort::Queued => most(|row| row.queued),
            Sort::Running => most(|row| row.running),
            Sort::Workers => most(|row| row.workers),
            Sort::Rate => b.rate.total_cmp(&a.rate),
            Sort::Name => Ordering::Equal,
        };
        order.then_with(|| a.function.cmp(&b.function))
    }

    fn sums(&self) -> BTreeMap<String, Counts> {
        let mut sums = BTreeMap::<String, Counts>::new();
        for (function, counts) in self.servers.iter().flat_map(|server| &server.functions) {
            let sum = sums.entry(function.clone()).or_default();
            sum.queued += counts.queued;
            sum.running += counts.running;
            sum.workers += counts.workers;
        }
        sums
    }
}

fn rate(past: &Past) -> f64 {
    let Some(&(now, queued)) = past.queued.back() else { return 0.0 };
    let lately = past.queued.iter().find(|(at, _)| now.duration_since(*at) <= RATE_OVER);
    let Some(&(then, before)) = lately.filter(|(at, _)| *at < now) else { return 0.0 };
    (queued as f64 - before as f64) / now.duration_since(then).as_secs_f64()
}

/// A name that somebody else chose, as one word for a terminal.
fn printable(name: &[u8]) -> String {
    String::from_utf8_lossy(name).replace(char::is_control, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(server: usize, at: Instant, rows: &[(&str, u64, u64, u64)]) -> Sample {
        let row = |&(name, total, running, workers): &(&str, u64, u64, u64)| {
            FunctionStatus::new(name.as_bytes().to_vec().into(), total, running, workers)
        };
        Sample { server, at, version: None, result: Ok(rows.iter().map(row).collect()) }
    }

    fn names(model: &Model) -> Vec<String> {
        model.rows().into_iter().map(|row| row.function).collect()
    }

    #[test]
    fn servers_are_summed_up_and_one_that_fails_counts_no_more() {
        let start = Instant::now();
        let mut model = Model::new(["a".into(), "b".into()].into_iter(), start);
        model.observe(sample(0, start, &[("f", 5, 2, 1)]));
        model.observe(sample(1, start, &[("f", 10, 0, 3), ("g", 0, 0, 0)]));
        let rows = model.rows();
        assert_eq!((rows[0].queued, rows[0].running, rows[0].workers), (13, 2, 4));
        model.observe(Sample { server: 1, at: start, version: None, result: Err("gone".into()) });
        assert_eq!((model.rows().len(), model.rows()[0].queued), (1, 3));
    }

    #[test]
    fn a_queue_that_shrinks_says_when_it_is_empty() {
        let start = Instant::now();
        let mut model = Model::new(["a".into()].into_iter(), start);
        for second in 0..=10 {
            let now = start + Duration::from_secs(second);
            model.observe(sample(0, now, &[("f", 100 - 5 * second, 0, 1)]));
            model.tick(now);
        }
        let row = &model.rows()[0];
        assert_eq!((row.queued, row.rate), (50, -5.0));
        assert_eq!(row.empty_in(), Some(Duration::from_secs(10)));
        assert_eq!(row.history.len(), 11);
    }

    #[test]
    fn the_longest_queue_comes_first_until_another_order_is_asked_for() {
        let start = Instant::now();
        let mut model = Model::new(["a".into()].into_iter(), start);
        model.observe(sample(0, start, &[("idle", 0, 0, 9), ("long", 7, 0, 0), ("busy", 3, 3, 3)]));
        assert_eq!(names(&model), ["long", "busy", "idle"]);
        model.sort_by_next();
        assert_eq!(names(&model), ["busy", "idle", "long"]);
        model.reverse();
        assert_eq!(names(&model), ["long", "idle", "busy"]);
        model.show_idle = false;
        assert_eq!(names(&model), ["long", "busy"]);
        assert!(model.rows()[0].is_stuck());
    }

    #[test]
    fn a_paused_picture_stays() {
        let start = Instant::now();
        let mut model = Model::new(["a".into()].into_iter(), start);
        model.observe(sample(0, start, &[("f", 1, 0, 0)]));
        model.paused = true;
        model.observe(sample(0, start, &[("f", 9, 0, 0)]));
        model.tick(start);
        assert_eq!((model.rows()[0].queued, model.rows()[0].history.len()), (1, 0));
    }

    #[test]
    fn a_name_cannot_move_the_cursor() {
        assert_eq!(printable(b"a\x1b[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }
}
