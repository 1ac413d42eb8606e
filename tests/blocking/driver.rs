//! Who reads, who writes and who waits: callers and threads of the blocking driver in each other's way.

use super::*;

#[test]
fn a_time_out_is_told_in_time_while_the_caller_reads() {
    let server = server();
    let client = client(server.address());
    let time = |_| {
        let started = Instant::now();
        // Long enough to read by itself, several times.
        let mut job =
            client.submit(Job::new("nobody does this", "").timeout(Duration::from_millis(300))).expect("taken");
        job.accepted().expect("taken by the server");
        assert!(matches!(job.wait(), Err(JobError::TimedOut { phase: Phase::Accepted, .. })));
        started.elapsed()
    };
    // What a busy machine does now and then it does not do each time.
    let mut times: Vec<_> = (0..5).map(time).collect();
    times.sort();
    assert!(times[0] >= Duration::from_millis(300) && times[2] < Duration::from_millis(600), "{times:?}");
}

#[test]
fn a_time_out_is_told_in_time_though_signals_interrupt_each_read() {
    let server = server();
    let client = Client::builder()
        .server(server.address())
        .connect_with(|at| {
            let stream = TcpStream::connect(at.to_string())?;
            stream.set_read_timeout(Some(Duration::from_millis(20)))?;
            Ok(Stream::object(Signalled(stream)))
        })
        .build()
        .expect("a client");
    let started = Instant::now();
    let job = client.submit(Job::new("nobody does this", "").timeout(Duration::from_millis(300))).expect("taken");
    assert!(matches!(job.wait(), Err(JobError::TimedOut { phase: Phase::Accepted, .. })));
    let took = started.elapsed();
    assert!(took < PATIENCE / 2, "{took:?}");
}

#[test]
fn a_caller_who_has_something_due_at_once_reads_on_after_it() {
    let server = server();
    let _worker = worker(server.address(), 1);
    let probes = |config: &mut client::Config| config.connecting.probe_after = Some(Duration::from_millis(20));
    let client =
        Client::builder().server(server.address()).timeout(PATIENCE).configure(probes).build().expect("a client");
    // One after another, so that some jobs are waited for in the last millisecond before each probe.
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(300) {
        let submitted = Instant::now();
        assert_eq!(client.submit(Job::new("echo", "x")).expect("taken").wait().expect("an answer"), "x");
        let took = submitted.elapsed();
        assert!(took < PATIENCE / 2, "{took:?}");
    }
}

#[test]
fn a_time_out_is_told_while_much_comes_that_nobody_wants() {
    // JOB_CREATED for each submission, and WORK_DATA of the first job without end in between.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it has one");
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut from = stream.try_clone().expect("a second name");
        let (tell, submissions) = mpsc::channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(1..) = from.read(&mut bytes)
                && tell.send(()).is_ok()
            {}
        });
        let packet = |kind: u8, body: &[u8]| {
            let length = u8::try_from(body.len()).expect("a short one");
            [b"\0RES\0\0\0", &[kind][..], b"\0\0\0", &[length], body].concat()
        };
        let flood = packet(28, b"H:1\0part").repeat(500);
        submissions.recv().expect("a job");
        let mut bytes = packet(8, b"H:1");
        let mut job = 1;
        loop {
            bytes.extend(&flood);
            if stream.write_all(&bytes).is_err() {
                return;
            }
            bytes.clear();
            for () in submissions.try_iter() {
                job += 1;
                bytes.extend(packet(8, format!("H:{job}").as_bytes()));
            }
        }
    });
    let client = client(address);
    for _ in 0..20 {
        let started = Instant::now();
        let job = client.submit(Job::new("f", "").timeout(Duration::from_millis(20))).expect("taken");
        let outcome = job.outcome();
        assert!(matches!(outcome, Outcome::TimedOut { .. }), "{outcome:?}");
        let took = started.elapsed();
        assert!(took < PATIENCE / 4, "{took:?}");
    }
    drop(client);
    server.join().expect("it has not panicked");
}

#[test]
fn big_payloads_cross_without_deadlock() {
    let server = server();
    let worker = worker(server.address(), 2);
    let client = client(server.address());
    let payload: Vec<u8> = (0..8_u32 << 20).map(|at| at.to_le_bytes()[1]).collect();
    let mut set = client.set();
    for _ in 0..6 {
        set.submit(Job::new("echo", payload.clone())).expect("taken");
    }
    for (_, outcome) in &mut set {
        let Outcome::Complete(result) = outcome else { panic!("{outcome:?}") };
        assert!(result == payload);
    }
    drop(worker);
}

/// A peer that writes 8 MiB before it reads a byte of the 8 MiB that are written to it.
#[test]
fn full_sockets_both_ways_do_not_deadlock() {
    const SIZE: usize = 8 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = client(listener.local_addr().expect("bound"));
    let job = client.submit(Job::new("echo", vec![1; SIZE]).timeout(PATIENCE)).expect("taken");
    let (mut socket, _) = listener.accept().expect("the client");
    let peer = thread::spawn(move || {
        // OPTION_RES, then JOB_CREATED, then WORK_DATA: nothing of what the client writes is read before all is written.
        let handle = b"H:t:1";
        let packet = |kind: u8, body: &[&[u8]]| {
            let body = body.join(&0);
            let size = u32::try_from(body.len()).expect("small").to_be_bytes();
            [&b"\0RES\0\0\0"[..], &[kind], &size, &body].concat()
        };
        let data = packet(28, &[handle, &vec![2; SIZE]]);
        let all = [packet(27, &[b"exceptions"]), packet(8, &[handle]), data, packet(13, &[handle, b"ok"])].concat();
        socket.write_all(&all).expect("the client reads though it cannot write");
        let mut taken = 0;
        let mut buffer = vec![0; 1 << 20];
        while taken < SIZE {
            match socket.read(&mut buffer).expect("the rest") {
                0 => break,
                count => taken += count,
            }
        }
        (socket, taken)
    });
    let mut job = job;
    let mut came = 0;
    let result = loop {
        match job.next_event().expect("not ended") {
            JobEvent::Data(data) => came += data.len(),
            JobEvent::Done(outcome) => break outcome,
            _ => {}
        }
    };
    let (_socket, taken) = peer.join().expect("no panic");
    assert_eq!((came, result), (SIZE, Outcome::Complete("ok".into())));
    assert!(taken >= SIZE, "{taken}");
}

/// A client that does not read the 20 MiB it is sent: its worker's connection, on which they came, must still be served.
#[test]
fn a_slow_reader_holds_up_nobody_else() {
    const SIZE: usize = 20 << 20;
    let server = server();
    let worker = Worker::builder()
        .server(server.address())
        .function("big", |_| Ok(vec![7; SIZE]))
        .function("echo", |task| Ok(task.payload().clone()))
        .spawn()
        .expect("a worker");
    let mut slow = TcpStream::connect(server.address()).expect("it listens");
    slow.write_all(b"\0REQ\0\0\0\x07\0\0\0\x05big\0\0").expect("room for a small job");
    let client = client(server.address());
    wait_until("the big job is done", PATIENCE, || server.server.as_ref().is_some_and(|s| s.counters().completed == 1));
    for _ in 0..20 {
        let started = Instant::now();
        assert_eq!(client.submit(Job::new("echo", "x")).expect("taken").wait(), Ok("x".into()));
        assert!(started.elapsed() < PATIENCE / 4);
    }
    // In the end it gets all of it.
    let mut header = [0; 12];
    for kind in [8, 13] {
        slow.read_exact(&mut header).expect("a packet");
        assert_eq!(header[..8], [0, b'R', b'E', b'S', 0, 0, 0, kind]);
        let size = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
        let mut body = vec![0; size.try_into().expect("32 bits")];
        slow.read_exact(&mut body).expect("its body");
        assert!(kind == 8 || body.ends_with(&[7; 1000]) && body.len() > SIZE);
    }
    drop(worker);
}

/// A thread in the user's function cannot be ended: it is waited for, or each attempt would leave another.
#[test]
fn a_set_that_drops_what_fills_it_reads_on_at_once() {
    let server = server();
    let client = Client::builder()
        .server(server.address())
        .timeout(PATIENCE)
        .configure(|config| {
            // A part is too much, and the connection stands still until it has been taken.
            (config.limits.max_unread, config.unread) = (1, client::Unread::Pause);
        })
        .build()
        .expect("a client");
    let _worker = worker(server.address(), 1);
    let mut set = client.set_with_events();
    set.submit(Job::new("chatty", "x")).expect("taken");
    let begun = Instant::now();
    let (_, outcome) = set.next().expect("it ends");
    assert_eq!(outcome, Outcome::Complete("done".into()));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn attempts_to_connect_that_hang_are_bounded() {
    let (asked, attempts) = mpsc::channel();
    let hangs = Arc::new(Barrier::new(9));
    let barrier = hangs.clone();
    let (told, reasons) = mpsc::channel();
    let client = Client::builder()
        .server("there")
        .connect_timeout(Duration::from_millis(10))
        .configure(|config| config.connecting.retry_most = Duration::from_millis(10))
        .connect_with(move |address| -> std::io::Result<TcpStream> {
            asked.send(address).expect("somebody counts");
            barrier.wait();
            Err(std::io::Error::other("too late"))
        })
        .on_event(move |event| {
            if let client::Event::Disconnected { reason, .. } = event {
                let _ = told.send(reason.to_string());
            }
        })
        .build()
        .expect("a client");
    let job = client.submit(Job::new("f", "")).expect("taken");
    let refusal = "earlier attempts to connect have not come to an end";
    let failed = std::iter::from_fn(|| reasons.recv_timeout(PATIENCE).ok()).take_while(|reason| reason != refusal);
    // A thread that has not begun to connect by its deadline does not count yet.
    assert!(failed.count() >= 8, "each by its deadline");
    assert_eq!(attempts.try_iter().count(), 8);
    hangs.wait();
    attempts.recv_timeout(PATIENCE).expect("there is room for attempts again");
    client.close();
    assert!(job.wait().is_err());
}

#[test]
fn the_listener_of_a_worker_hears_at_once_what_comes_of_a_result() {
    let (servers, (told, heard)) = ([server(), server()], mpsc::channel());
    let (begun, begins) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel::<()>();
    let goes_on = Mutex::new(goes_on);
    let worker = Worker::builder()
        .servers(servers.iter().map(House::address))
        .function("f", move |_| {
            begun.send(()).expect("somebody waits");
            goes_on.lock().expect("no panic").recv().expect("it is told");
            Ok("")
        })
        .on_event(move |event| {
            if let worker::Event::Unregistered { function } = event {
                let _ = told.send(function);
            }
        })
        .spawn()
        .expect("a worker");
    let is_up = |server: worker::JobServer| server.state == LinkState::Up;
    wait_until("both are connected", PATIENCE, || worker.worker().servers().into_iter().all(is_up));
    let job = client(servers[0].address()).submit(Job::new("f", "")).expect("taken");
    begins.recv_timeout(PATIENCE).expect("the job has begun");
    worker.worker().unregister(b"f").expect("it is offered");
    go_on.send(()).expect("it waits");
    assert_eq!(job.wait(), Ok("".into()));
    // Not only when something else is next due.
    assert_eq!(heard.recv_timeout(PATIENCE / 4).as_deref(), Ok(&b"f"[..]));
}

#[test]
fn who_waits_for_one_job_server_is_not_forgotten_when_another_is_added() {
    for _ in 0..3 {
        let (first, second) = (server(), server());
        let worker = worker(first.address(), 2);
        let client = client(first.address());
        let echo = || client.submit(Job::new("echo", "x")).expect("taken").wait();
        // One thread of the worker reads now, and the other waits for its turn.
        assert_eq!(echo(), Ok("x".into()));
        worker.worker().add_server(second.address()).expect("another");
        let asked = Instant::now();
        assert_eq!(echo(), Ok("x".into()));
        assert!(asked.elapsed() < PATIENCE / 4, "only when something else was due: {:?}", asked.elapsed());
    }
}

/// TCP that stops writers, as long as it is told to, or breaks when it is read.
struct Valve {
    stream: TcpStream,
    state: Arc<ValveState>,
}

#[derive(Default)]
struct ValveState {
    /// The next write waits.
    closes: AtomicBool,
    /// A write waits until this is false.
    closed: AtomicBool,
    /// Reads fail from now on, first for a reason and then as at an end.
    breaks: AtomicBool,
    broken_reads: AtomicUsize,
}

/// A stream to which a signal always comes before its timeout has passed.
struct Signalled(TcpStream);

impl Duplex for Signalled {
    fn read(&self, into: &mut [u8]) -> std::io::Result<usize> {
        (&self.0).read(into).map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => std::io::ErrorKind::Interrupted.into(),
            _ => error,
        })
    }

    fn write(&self, bytes: &[u8]) -> std::io::Result<usize> {
        (&self.0).write(bytes)
    }

    fn set_read_timeout(&self, _: Option<Duration>) -> std::io::Result<()> {
        Ok(())
    }

    fn set_write_timeout(&self, within: Option<Duration>) -> std::io::Result<()> {
        self.0.set_write_timeout(within)
    }

    fn shutdown(&self) {
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}

impl Duplex for Valve {
    fn read(&self, into: &mut [u8]) -> std::io::Result<usize> {
        let came = (&self.stream).read(into);
        match self.state.breaks.load(Ordering::SeqCst) {
            false => came,
            true if self.state.broken_reads.fetch_add(1, Ordering::SeqCst) == 0 => {
                Err(std::io::ErrorKind::ConnectionReset.into())
            }
            true => Ok(0),
        }
    }

    fn write(&self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.state.closes.swap(false, Ordering::SeqCst) {
            self.state.closed.store(true, Ordering::SeqCst);
            wait_until("the valve is open", PATIENCE, || !self.state.closed.load(Ordering::SeqCst));
        }
        (&self.stream).write(bytes)
    }

    fn set_read_timeout(&self, within: Option<Duration>) -> std::io::Result<()> {
        self.stream.set_read_timeout(within)
    }

    fn set_write_timeout(&self, within: Option<Duration>) -> std::io::Result<()> {
        self.stream.set_write_timeout(within)
    }

    fn shutdown(&self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

impl ValveState {
    fn client(self: &Arc<Self>, servers: &[House]) -> Client {
        let state = self.clone();
        Client::builder()
            .servers(servers.iter().map(House::address))
            .balance(Balance::RoundRobin)
            .timeout(PATIENCE)
            .connect_with(move |at| {
                let stream = TcpStream::connect(at.to_string())?;
                Ok(Stream::object(Valve { stream, state: state.clone() }))
            })
            .build()
            .expect("a client")
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }
}

#[test]
fn why_a_connection_broke_is_told_though_somebody_was_writing() {
    let (servers, state) = ([server()], Arc::new(ValveState::default()));
    let client = state.client(&servers);
    // There is no worker: it waits.
    let mut first = client.submit(Job::new("f", "").retry(Retry::Never)).expect("taken");
    first.accepted().expect("the server has it");
    state.closes.store(true, Ordering::SeqCst);
    let other = client.clone();
    let writer = thread::spawn(move || other.submit(Job::new("f", "").retry(Retry::Never)).map(|job| job.outcome()));
    wait_until("somebody writes", PATIENCE, || state.is_closed());
    state.breaks.store(true, Ordering::SeqCst);
    drop(servers);
    wait_until("it is read", PATIENCE, || state.broken_reads.load(Ordering::SeqCst) > 0);
    // Nobody shall read again, so that there is nothing to wait for but time.
    thread::park_timeout(Duration::from_millis(50));
    state.closed.store(false, Ordering::SeqCst);
    let lost = |outcome: &Outcome| matches!(outcome, Outcome::Lost { reason: CloseReason::Reset, .. });
    let outcomes = [first.outcome(), writer.join().expect("no panic").expect("taken")];
    assert!(outcomes.iter().all(lost), "{outcomes:?}");
    assert_eq!(state.broken_reads.load(Ordering::SeqCst), 1);
}

#[test]
fn what_was_put_off_and_then_written_by_another_stops_nobody() {
    let (servers, state) = ([server(), server()], Arc::new(ValveState::default()));
    let _workers = servers.each_ref().map(|server| worker(server.address(), 1));
    let client = state.client(&servers);
    let mut set = client.set();
    for round in 0..5 {
        // While outcomes wait to be taken, what the set submits is put off.
        set.submit(Job::new("echo", "")).expect("taken");
        wait_until("an outcome waits", PATIENCE, || set.outstanding() == 0);
        state.closes.store(true, Ordering::SeqCst);
        let other = client.clone();
        let writer = thread::spawn(move || other.submit(Job::new("echo", "")).map(|job| job.wait()));
        wait_until("somebody writes", PATIENCE, || state.is_closed());
        for _ in 0..4 {
            set.submit(Job::new("echo", "")).expect("taken");
        }
        state.closed.store(false, Ordering::SeqCst);
        let freed = Instant::now();
        assert_eq!(writer.join().expect("no panic").expect("taken"), Ok("".into()));
        // What was put off would be due for the clock's thread before the next look.
        wait_until("all have ended", PATIENCE, || set.outstanding() == 0);
        assert!(freed.elapsed() < PATIENCE / 4, "round {round}: {:?}", freed.elapsed());
        while set.next_timeout(Duration::ZERO).is_some() {}
    }
}

#[test]
fn whoever_runs_a_job_leaves_another_to_read() {
    let server = server();
    let (began, begun) = mpsc::channel();
    let together = Arc::new(Barrier::new(4));
    let meet = move |_: &mut gearwheel::blocking::Task| {
        began.send(())?;
        together.wait();
        Ok("met")
    };
    let worker = Worker::builder().server(server.address()).concurrency(4).function("meet", meet);
    let worker = worker.function("echo", |task| Ok(task.payload().clone())).spawn().expect("a worker");
    let client = client(server.address());
    for _ in 0..50 {
        let mut set = client.set();
        for _ in 0..4 {
            // Whoever took the quick one is back, or not yet, when the next comes.
            set.submit(Job::new("echo", "")).expect("taken");
            set.submit(Job::new("meet", "")).expect("taken");
            begun.recv_timeout(PATIENCE).expect("begun while the others run");
        }
        assert_eq!(set.filter(|(_, outcome)| matches!(outcome, Outcome::Complete(_))).count(), 8);
    }
    drop(worker);
}

#[test]
fn whoever_waits_no_longer_is_not_woken_in_place_of_another() {
    let server = server();
    let client = client(server.address());
    let worker = Worker::builder().server(server.address()).function("f", |_| Ok("")).build().expect("a worker");
    for round in 0..20 {
        thread::scope(|scope| {
            let brief = scope.spawn(|| worker.next_timeout(Duration::from_micros(64_050 + 50 * round)).is_none());
            let waits = || worker.next_timeout(PATIENCE).is_some_and(|task| task.complete("").is_ok());
            let lasting = [(); 2].map(|()| scope.spawn(waits));
            assert!(brief.join().expect("it has not panicked"), "nothing has been submitted");
            for _ in &lasting {
                let job = client.submit(Job::new("f", "")).expect("taken");
                let Ok(result) = job.wait_timeout(PATIENCE / 4) else { panic!("nobody took it") };
                assert_eq!(result.expect("done"), "");
            }
            assert!(lasting.into_iter().all(|waits| waits.join().expect("it has not panicked")));
        });
    }
}

#[test]
fn whoever_waits_for_less_than_a_millisecond_again_and_again_gets_what_has_come() {
    let server = server();
    let _echo = worker(server.address(), 1);
    let client = client(server.address());
    let worker = Worker::builder().server(server.address()).function("f", |_| Ok("")).build().expect("a worker");
    for micros in [300, 900] {
        let brief = Duration::from_micros(micros);
        let until = Instant::now() + PATIENCE;
        let mut job = client.submit(Job::new("echo", "x")).expect("taken");
        while let Err(again) = job.wait_timeout(brief) {
            assert!(Instant::now() < until, "{micros} us");
            job = again;
        }
        let job = client.submit(Job::new("f", "")).expect("taken");
        let task = core::iter::repeat_with(|| worker.next_timeout(brief))
            .take_while(|_| Instant::now() < until)
            .flatten()
            .next();
        task.expect("a job").complete("").expect("it is ours");
        job.wait().expect("done");
    }
}

#[test]
fn a_listener_may_wait_for_a_job_as_long_as_it_takes() {
    let server = server();
    // Longer than a caller reads a quiet connection by himself.
    let slow = |_: &mut gearwheel::blocking::Task| {
        thread::park_timeout(Duration::from_millis(1500));
        Ok("done")
    };
    let worker = Worker::builder().server(server.address()).function("slow", slow).spawn().expect("a worker");
    let own = Arc::new(Mutex::new(None::<Client>));
    let (tell, told) = mpsc::channel();
    let his = own.clone();
    let listener = move |event| {
        if let client::Event::Connected { .. } = event {
            let client = his.lock().expect("no panic").clone().expect("it was there before the first job");
            let _ = tell.send(client.submit(Job::new("slow", "")).expect("taken").wait());
        }
    };
    let client =
        Client::builder().server(server.address()).timeout(PATIENCE).on_event(listener).build().expect("a client");
    *own.lock().expect("no panic") = Some(client.clone());
    assert_eq!(client.submit(Job::new("slow", "")).expect("taken").wait().expect("done"), "done");
    assert_eq!(told.recv_timeout(PATIENCE).expect("the listener goes on").expect("done"), "done");
    *own.lock().expect("no panic") = None;
    drop(worker);
}

#[test]
fn whatever_a_listener_waits_for_nothing_else_waits_for_it() {
    // An attempt to connect that hangs is given up by the clock, on whose thread nobody may wait.
    let connect = |_| {
        thread::park_timeout(PATIENCE);
        Err::<Stream, _>(std::io::ErrorKind::TimedOut.into())
    };
    let own = Arc::new(Mutex::new(None::<Client>));
    let (tell, told) = mpsc::channel();
    let his = own.clone();
    let listener = move |event| {
        let client = his.lock().expect("no panic").clone();
        if let (client::Event::Disconnected { .. }, Some(client)) = (event, client) {
            let job = client.submit(Job::new("f", "").timeout(Duration::from_millis(20))).expect("taken");
            let _ = tell.send(job.outcome());
        }
    };
    let client = Client::builder().server("there").connect_timeout(Duration::from_millis(20)).connect_with(connect);
    let client = client.on_event(listener).build().expect("a client");
    *own.lock().expect("no panic") = Some(client.clone());
    let job = client.submit(Job::new("f", "").timeout(Duration::from_millis(40))).expect("taken");
    let outcome = told.recv_timeout(PATIENCE).expect("its time is up");
    assert!(matches!(outcome, Outcome::TimedOut { .. }), "{outcome:?}");
    let error = job.wait_timeout(PATIENCE).expect("its time is up").expect_err("there is nobody");
    assert!(matches!(error, JobError::TimedOut { .. }), "{error:?}");
    *own.lock().expect("no panic") = None;
}

#[test]
fn a_handler_may_drop_its_worker_whichever_thread_runs_it() {
    let server = server();
    let slot = Arc::new(Mutex::new(None::<Running>));
    let (tell, told) = mpsc::channel();
    let his = slot.clone();
    let all = Barrier::new(4);
    let handler = move |_: &mut gearwheel::blocking::Task| {
        all.wait();
        let worker = his.lock().expect("no panic").take();
        drop(worker);
        let _ = tell.send(());
        Ok("")
    };
    let worker = Worker::builder().server(server.address()).concurrency(4).function("f", handler);
    let worker = worker.spawn().expect("a worker");
    *slot.lock().expect("no panic") = Some(worker);
    let client = client(server.address());
    let jobs: Vec<_> = (0..4).map(|_| client.submit(Job::new("f", "")).expect("taken")).collect();
    for _ in &jobs {
        told.recv_timeout(PATIENCE).expect("nobody waits for himself");
    }
}

#[test]
fn when_a_client_has_been_dropped_its_listener_has_heard_all_and_is_gone() {
    struct Told(Arc<AtomicUsize>);

    impl Drop for Told {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    for _ in 0..50 {
        let count = Arc::new(AtomicUsize::new(0));
        let told = Told(count.clone());
        let client = Client::builder().server("127.0.0.1:1").on_event(move |event| {
            told.0.fetch_add(usize::from(matches!(event, client::Event::Closed)), Ordering::Relaxed);
        });
        drop(client.build().expect("a client"));
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }
}

/// A job server that reads nothing behind the first job until it may.
fn reads_later() -> (SocketAddr, mpsc::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it has one");
    let (may, go) = mpsc::channel::<()>();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let _ = go.recv();
        std::io::copy(&mut stream, &mut std::io::sink())
    });
    (address, may)
}

#[test]
fn room_on_one_connection_is_found_whoever_waits_for_another() {
    const LIMIT: usize = 1 << 20;
    let servers = [(); 2].map(|()| reads_later());
    let client = Client::builder().servers(servers.iter().map(|(address, _)| *address));
    let client = client.exceptions(false).balance(Balance::ByUnique).configure(|config| {
        (config.limits.max_outgoing, config.connecting.probe_after) = (LIMIT, None);
    });
    let client = client.build().expect("a client");
    let outstanding = || client.servers().iter().map(|server| server.outstanding).collect::<Vec<_>>();
    let mut held = Vec::new();
    let mut uniques = [None, None];
    for number in 0..1_000 {
        let unique = number.to_string();
        let before = outstanding();
        held.push(client.submit(Job::new("f", "").unique(unique.clone())).expect("taken"));
        wait_until("it is sent", PATIENCE, || outstanding() != before);
        let server = outstanding().iter().zip(&before).position(|(now, before)| now > before);
        uniques[server.expect("one of them")] = Some(unique);
        if uniques.iter().all(Option::is_some) {
            break;
        }
    }
    let [stuck, later] = uniques.map(|unique| unique.expect("one for each"));
    for unique in [&stuck, &later] {
        held.push(client.submit(Job::new("f", vec![7; 64 * LIMIT]).unique(unique.clone())).expect("taken"));
        assert!(client.try_submit(Job::new("f", "").unique(unique.clone())).is_err());
    }
    let (tell, told) = mpsc::channel();
    for unique in std::iter::repeat_n(&stuck, 40).chain([&later]) {
        let (client, tell, job) = (client.clone(), tell.clone(), Job::new("f", "").unique(unique.clone()));
        thread::spawn(move || tell.send(client.submit(job).is_ok()));
    }
    servers[1].1.send(()).expect("it waits");
    assert_eq!(told.recv_timeout(PATIENCE), Ok(true), "its connection has room");
    client.close();
    let rejected = std::iter::from_fn(|| told.recv_timeout(PATIENCE).ok()).take(40).filter(|taken| !taken).count();
    assert_eq!(rejected, 40, "who waits when the client is closed hears of it");
}
