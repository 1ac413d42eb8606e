//! What only futures can do: be cancelled, be dropped, be polled by any executor.

macro_rules! futures_of {
    ($feature:literal $name:ident $runtime:ident $threads:expr) => {
        #[cfg(feature = $feature)]
        mod $name {
            use std::future::{Future, poll_fn};
            use std::net::SocketAddr;
            use std::pin::pin;
            use std::sync::atomic::{AtomicUsize, Ordering};
            use std::sync::{Arc, Mutex, mpsc};
            use std::task::{Context, Poll, Wake, Waker};
            use std::time::Duration;

            use futures_lite::StreamExt;
            use futures_lite::future::{block_on, or, poll_once, yield_now};
            use gearwheel::$runtime::{Admin, Client, Error, JobError, JobEvent, Server, Stream, Worker};
            use gearwheel::{Job, Outcome, Phase, Reason};

            use crate::peers::PATIENCE;

            /// Runs a future to its end somewhere, now.
            fn spawn(future: impl Future<Output = ()> + Send + 'static) {
                ($threads)(future);
            }

            fn server() -> Server {
                let (bound, server) = mpsc::channel();
                spawn(async move {
                    let server = Server::bind("127.0.0.1:0").await.expect("a port");
                    bound.send(server.clone()).expect("somebody waits");
                    server.run().await;
                });
                server.recv().expect("bound")
            }

            fn client(at: SocketAddr) -> Client {
                Client::builder().server(at).timeout(PATIENCE).build().expect("a client")
            }

            /// Waits for a future, and says how often it was polled.
            async fn polls_of(future: impl Future<Output = ()>) -> usize {
                let (mut future, mut polls) = (pin!(future), 0);
                poll_fn(|cx| {
                    polls += 1;
                    future.as_mut().poll(cx)
                })
                .await;
                polls
            }

            fn is_pending<F: Future>(future: F) -> bool {
                pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_pending()
            }

            #[test]
            fn handles_and_drivers_may_go_anywhere() {
                fn goes<T: Send + 'static>(_: &T) {}
                let client = client(SocketAddr::from(([127, 0, 0, 1], 1)));
                goes(&client);
                goes(&client.run());
                goes(&client.set());
                let worker = Worker::builder().server("127.0.0.1:1").can_do("f").build().expect("a worker");
                goes(&worker);
                goes(&worker.run());
                let borrowing = worker.clone();
                goes(&async move { borrowing.next().await });
                goes(&async move { client.submit(Job::new("f", "")).await.expect("taken").await });
            }

            #[test]
            fn a_job_is_a_stream_of_events_and_a_future_of_its_result() {
                let server = server();
                let worker = Worker::builder()
                    .server(server.local_addr())
                    .function("chatty", |task| async move {
                        task.data("one").await?;
                        yield_now().await;
                        task.progress(1, 2).await?;
                        Ok("done")
                    })
                    .build()
                    .expect("a worker");
                spawn(worker.run());
                let client = client(server.local_addr());
                spawn(client.run());
                block_on(async {
                    let mut job = client.submit(Job::new("chatty", "")).await.expect("taken");
                    let events: Vec<JobEvent> = (&mut job).collect().await;
                    assert!(matches!(
                        events[..],
                        [JobEvent::Created { .. }, JobEvent::Data(_), JobEvent::Progress { .. }, JobEvent::Done(_)]
                    ));
                    assert_eq!(job.next().await, None);
                    assert_eq!((&mut job).await, Ok("done".into()), "the result is still there");
                    assert_eq!(job.outcome().await, Outcome::Complete("done".into()));
                });
                worker.close();
                server.close();
            }

            #[test]
            fn a_cancelled_wait_loses_nothing() {
                let server = server();
                let client = client(server.local_addr());
                spawn(client.run());
                let worker = Worker::builder().server(server.local_addr()).can_do("f").concurrency(8).build();
                let worker = worker.expect("a worker");
                spawn(worker.run());
                block_on(async {
                    for number in 0..50_u32 {
                        let mut job = client.submit(Job::new("f", number.to_string())).await.expect("taken");
                        // Two who wait and go again, maybe when they have been woken.
                        for _ in 0..number % 3 {
                            if let Some(Some(task)) = poll_once(worker.next()).await {
                                task.complete("at once").expect("ours");
                            }
                            let _ = is_pending(job.next_event());
                            let _ = is_pending(job.outcome());
                            let _ = is_pending(client.echo(client.servers()[0].server, "x"));
                            yield_now().await;
                        }
                        let gone =
                            or(async { drop(worker.next().await.map(|task| task.complete("early"))) }, yield_now());
                        gone.await;
                        let answer = async {
                            while let Some(task) = worker.next().await {
                                task.complete("late").expect("ours");
                            }
                            None
                        };
                        let outcome = or(async { Some(job.outcome().await) }, answer).await;
                        assert!(matches!(outcome, Some(Outcome::Complete(_))), "{outcome:?}");
                    }
                });
                worker.close();
                client.close();
                server.close();
            }

            /// Jobs one after another, and the client's bytes, in one task.
            #[test]
            fn a_task_is_polled_for_what_comes_and_for_nothing_else() {
                let server = server();
                let worker = Worker::builder()
                    .server(server.local_addr())
                    .function("echo", |task| async move { Ok(task.payload().clone()) })
                    .build()
                    .expect("a worker");
                spawn(worker.run());
                let client = client(server.local_addr());
                let (done, polls) = mpsc::channel();
                spawn(async move {
                    let jobs = async {
                        for _ in 0..20 {
                            assert_eq!(
                                client.submit(Job::new("echo", "x")).await.expect("taken").await,
                                Ok("x".into())
                            );
                        }
                        let mut set = client.set();
                        for _ in 0..80 {
                            set.submit(Job::new("echo", "x")).await.expect("taken");
                            assert!(set.next().await.is_some());
                        }
                    };
                    done.send(polls_of(or(jobs, client.run())).await).expect("somebody waits");
                });
                // JOB_CREATED and WORK_COMPLETE, each by itself; the rest is to connect.
                let polls = polls.recv_timeout(PATIENCE).expect("all are done");
                assert!(polls <= 2 * 100 + 20, "{polls} polls");
                worker.close();
                server.close();
            }

            #[test]
            fn dropping_the_clients_driver_ends_its_jobs() {
                let server = server();
                let client = client(server.local_addr());
                let _context = crate::kinds::$runtime::context();
                let (mut job, id) = block_on(async {
                    let mut run = pin!(client.run());
                    let work = async {
                        let mut job = client.submit(Job::new("nobody does this", "")).await.expect("taken");
                        assert!(matches!(job.next_event().await, Some(JobEvent::Created { .. })));
                        let id = job.id();
                        (job, id)
                    };
                    let driven = poll_fn(|cx| run.as_mut().poll(cx).map(|()| panic!("it has not closed")));
                    or(work, driven).await
                });
                block_on(async {
                    let cancelled = Outcome::Cancelled { phase: Phase::Accepted };
                    assert_eq!(job.outcome().await, cancelled);
                    let rejected = client.submit(Job::new("f", "")).await.expect_err("nobody runs it");
                    assert_eq!(rejected.reason, Reason::Closed);
                    assert!(matches!(client.status(id).await, Err(Error::Refused(_))));
                    client.run().await;
                });
                server.close();
            }

            #[test]
            fn dropping_the_workers_driver_gives_its_jobs_to_others() {
                let server = server();
                let client = client(server.local_addr());
                spawn(client.run());
                let begun = Arc::new(AtomicUsize::new(0));
                let _context = crate::kinds::$runtime::context();
                let count = begun.clone();
                let never = Worker::builder().server(server.local_addr()).function("f", move |_| {
                    count.fetch_add(1, Ordering::SeqCst);
                    std::future::pending::<Result<Vec<u8>, _>>()
                });
                let never = never.build().expect("a worker");
                block_on(async {
                    let mut job = client.submit(Job::new("f", "")).await.expect("taken");
                    let until_begun = async {
                        while begun.load(Ordering::SeqCst) == 0 {
                            yield_now().await;
                        }
                    };
                    or(until_begun, never.run()).await;
                    assert!(never.next().await.is_none(), "it has closed");
                    let other = Worker::builder()
                        .server(server.local_addr())
                        .function("f", |_| async { Ok("by the other") })
                        .build()
                        .expect("a worker");
                    spawn(other.run());
                    assert_eq!((&mut job).await, Ok("by the other".into()));
                    other.close();
                });
                server.close();
            }

            #[test]
            fn a_drain_whose_driver_is_dropped_says_what_is_left() {
                let server = server();
                let client = client(server.local_addr());
                spawn(client.run());
                let worker = Worker::builder().server(server.local_addr()).can_do("f").build().expect("a worker");
                let _context = crate::kinds::$runtime::context();
                block_on(async {
                    let job = client.submit(Job::new("f", "")).await.expect("taken");
                    let mut run = Box::pin(worker.run());
                    let task = or(worker.next(), async {
                        run.as_mut().await;
                        None
                    });
                    let task = task.await.expect("a job");
                    let mut drain = pin!(worker.drain(PATIENCE));
                    assert!(is_pending(drain.as_mut()));
                    drop(run);
                    assert!(matches!(drain.await, Err(Error::Unfinished { jobs: 1 })));
                    drop((task, job));
                });
                client.close();
                server.close();
            }

            #[test]
            fn handlers_run_together_and_a_panic_is_one_jobs_own() {
                let server = server();
                let client = client(server.local_addr());
                spawn(client.run());
                for elsewhere in [false, true] {
                    let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
                    let (count, seen) = (inside.clone(), most.clone());
                    let mut builder = Worker::builder()
                        .server(server.local_addr())
                        .concurrency(4)
                        .function("meet", move |_| {
                            let (count, seen) = (count.clone(), seen.clone());
                            async move {
                                let now = count.fetch_add(1, Ordering::SeqCst) + 1;
                                seen.fetch_max(now, Ordering::SeqCst);
                                while seen.load(Ordering::SeqCst) < 4 {
                                    yield_now().await;
                                }
                                count.fetch_sub(1, Ordering::SeqCst);
                                Ok("met")
                            }
                        })
                        .function("early", |_| -> std::future::Ready<Result<Vec<u8>, _>> { panic!("at once") })
                        .function("late", |task| async move {
                            yield_now().await;
                            if task.payload().is_empty() {
                                panic!("later");
                            }
                            Ok("")
                        });
                    if elsewhere {
                        builder = builder.spawn_with(spawn);
                    }
                    let worker = builder.build().expect("a worker");
                    spawn(worker.run());
                    let mut set = client.set();
                    for _ in 0..20 {
                        set.try_submit(Job::new("meet", "")).expect("taken");
                    }
                    let results: Vec<_> = block_on(set.collect());
                    assert_eq!(results.len(), 20);
                    assert!(results.iter().all(|(_, outcome)| *outcome == Outcome::Complete("met".into())));
                    assert_eq!(most.load(Ordering::SeqCst), 4, "never more than the concurrency");
                    let run = |function: &'static str| {
                        block_on(async { client.submit(Job::new(function, "")).await.expect("taken").await })
                    };
                    assert_eq!(run("early"), Err(JobError::Exception("at once".into())));
                    assert_eq!(run("late"), Err(JobError::Exception("later".into())));
                    assert_eq!(run("meet"), Ok("met".into()), "it goes on");
                    block_on(worker.drain(PATIENCE)).expect("drained");
                }
                client.close();
                server.close();
            }

            #[test]
            fn each_end_is_taken_once_whoever_asks_for_it() {
                let (server, worker) = (server(), Worker::builder());
                let client = client(server.local_addr());
                let worker = worker.server(server.local_addr()).concurrency(50);
                let worker = worker.function("f", |_| async move { Ok("") }).build().expect("a worker");
                spawn(worker.run());
                spawn(client.run());
                for events in [false, true] {
                    let mut set = if events { client.set_with_events() } else { client.set() };
                    let mut jobs: Vec<_> = (0..50).map(|_| set.try_submit(Job::new("f", "")).expect("taken")).collect();
                    block_on(async {
                        while set.outstanding() > 0 {
                            yield_now().await;
                        }
                        let mut ended = vec![set.next().await.expect("an end").0];
                        while ended.len() < 40 {
                            if let (job, JobEvent::Done(_)) = set.next_event().await.expect("there are more") {
                                ended.push(job);
                            }
                            ended.push(set.next().await.expect("there are more").0);
                        }
                        // What has been taken out of the mailbox by now is not what comes last.
                        let late = set.try_submit(Job::new("f", "")).expect("taken");
                        while let Some((job, _)) = set.next().await {
                            ended.push(job);
                        }
                        assert!(set.next_event().await.is_none());
                        assert_eq!(ended.pop(), Some(late));
                        ended.sort_unstable();
                        jobs.sort_unstable();
                        assert_eq!(ended, jobs);
                    });
                }
                worker.close();
                client.close();
                server.close();
            }

            #[test]
            fn jobs_given_up_make_room_for_others_and_end_all_the_same() {
                // What is done in a row may be seen to at once.
                let client = client(SocketAddr::from(([127, 0, 0, 1], 1)));
                let mut set = client.set();
                let mut jobs: Vec<_> = (0..10)
                    .map(|_| {
                        let job = set.try_submit(Job::new("f", "")).expect("taken");
                        set.abandon(job);
                        job
                    })
                    .collect();
                let mut ended = Vec::new();
                block_on(async {
                    assert!(poll_once(pin!(client.run())).await.is_none());
                    while let Some(Some((job, outcome))) = poll_once(set.next()).await {
                        assert_eq!(outcome, Outcome::Cancelled { phase: Phase::Parked });
                        ended.push(job);
                    }
                });
                assert_eq!(set.outstanding(), 0);
                ended.sort_unstable();
                jobs.sort_unstable();
                assert_eq!(ended, jobs);
            }

            #[test]
            fn submit_waits_for_room_and_try_submit_does_not() {
                let server = server();
                let client = Client::builder()
                    .server(server.local_addr())
                    .configure(|config| config.limits.max_jobs = 2)
                    .build()
                    .expect("a client");
                spawn(client.run());
                block_on(async {
                    let first = client.submit(Job::new("f", "1")).await.expect("taken");
                    let second = client.try_submit(Job::new("f", "2")).expect("taken");
                    let rejected = client.try_submit(Job::new("f", "3")).expect_err("full");
                    assert!(matches!(rejected.reason, Reason::Full { limit: 2, .. }));
                    let mut third = pin!(client.submit(rejected.value));
                    assert!(is_pending(third.as_mut()));
                    drop(first);
                    let third = third.await.expect("there is room");
                    let worker = Worker::builder()
                        .server(server.local_addr())
                        .function("f", |task| async move { Ok(task.payload().clone()) })
                        .build()
                        .expect("a worker");
                    spawn(worker.run());
                    assert_eq!((second.await, third.await), (Ok("2".into()), Ok("3".into())));
                    worker.close();
                });
                client.close();
                server.close();
            }

            #[test]
            fn whoever_waits_for_room_keeps_nobody_awake() {
                let never = |_| std::future::pending::<std::io::Result<Stream>>();
                let client = Client::builder().server("there").connect_with(never);
                let client = client.configure(|config| config.limits.max_jobs = 1).build().expect("a client");
                let (done, polls) = mpsc::channel();
                spawn(async move {
                    let jobs = async {
                        let first = Job::new("f", "").timeout(Duration::from_millis(100));
                        let first = client.submit(first).await.expect("taken");
                        let second = client.submit(Job::new("f", "")).await.expect("there is room");
                        drop((first, second));
                    };
                    done.send(polls_of(or(jobs, client.run())).await).expect("somebody waits");
                });
                let polls = polls.recv_timeout(PATIENCE).expect("there is room when time is up");
                assert!(polls <= 20, "{polls} polls");
            }

            #[test]
            fn nothing_is_kept_of_who_waits_for_room_no_more() {
                let client = Client::builder().server("127.0.0.1:1").configure(|config| config.limits.max_jobs = 1);
                let client = client.build().expect("a client");
                let _first = client.try_submit(Job::new("f", "")).expect("taken");
                let mut set = client.set();
                let task = Arc::new(Idle);
                for _ in 0..3 {
                    let waker = Waker::from(task.clone());
                    let mut cx = Context::from_waker(&waker);
                    assert!(pin!(client.submit(Job::new("f", ""))).poll(&mut cx).is_pending());
                    assert!(pin!(set.submit(Job::new("f", ""))).poll(&mut cx).is_pending());
                }
                assert_eq!(Arc::strong_count(&task), 1);
            }

            struct Idle;

            impl Wake for Idle {
                fn wake(self: Arc<Self>) {}
            }

            /// A task that nothing but its waker keeps, and a job or a command of its own.
            struct Kept<T>(#[allow(dead_code, reason = "it is dropped")] Mutex<T>);

            impl<T: Send> Wake for Kept<T> {
                fn wake(self: Arc<Self>) {}
            }

            #[test]
            fn a_task_that_goes_with_its_waker_takes_its_jobs_along() {
                let (done, all) = mpsc::channel();
                spawn(async move {
                    let client = client(SocketAddr::from(([127, 0, 0, 1], 1)));
                    let submit = || client.try_submit(Job::new("f", "")).expect("taken");
                    let poll_by_task = |future: &mut (dyn Future<Output = ()> + Unpin)| {
                        let task = Waker::from(Arc::new(Kept(Mutex::new(submit()))));
                        pin!(future).poll(&mut Context::from_waker(&task)).is_pending()
                    };
                    let mut job = submit();
                    assert!(poll_by_task(&mut Box::pin(async { drop(job.outcome().await) })));
                    assert!(is_pending(job.outcome()));
                    assert!(poll_by_task(&mut Box::pin(async { drop(job.outcome().await) })));
                    drop(job);
                    let mut set = client.set();
                    set.try_submit(Job::new("f", "")).expect("taken");
                    assert!(poll_by_task(&mut Box::pin(async { drop(set.next().await) })));
                    drop(set);
                    let mut run = Box::pin(client.run());
                    assert!(poll_by_task(&mut run) && is_pending(run.as_mut()));
                    done.send(()).expect("somebody waits");
                });
                all.recv_timeout(PATIENCE).expect("nothing is locked when a waker is dropped");
            }

            #[test]
            fn a_task_that_goes_with_its_waker_takes_its_commands_along() {
                let (done, all) = mpsc::channel();
                spawn(async move {
                    let admin = Admin::builder().server("127.0.0.1:1").build().expect("a handle");
                    let ask = || {
                        let admin = admin.clone();
                        let mut request = Box::pin(async move { drop(admin.version().await) });
                        assert!(is_pending(request.as_mut()));
                        request
                    };
                    let mut request = ask();
                    for _ in 0..2 {
                        let task = Waker::from(Arc::new(Kept(Mutex::new(ask()))));
                        assert!(request.as_mut().poll(&mut Context::from_waker(&task)).is_pending());
                    }
                    drop(request);
                    done.send(()).expect("somebody waits");
                });
                all.recv_timeout(PATIENCE).expect("nothing is locked when a waker is dropped");
            }

            #[test]
            fn a_second_run_waits_for_the_end() {
                let server = server();
                let client = client(server.local_addr());
                spawn(client.run());
                let mut second = pin!(client.run());
                assert!(is_pending(second.as_mut()));
                client.close();
                block_on(second);
                server.close();
                block_on(server.run());
            }

            #[test]
            fn the_last_handle_takes_the_driver_with_it() {
                let server = server();
                let (ended, end) = mpsc::channel();
                let client = client(server.local_addr());
                let run = client.run();
                spawn(async move {
                    run.await;
                    ended.send(()).expect("somebody waits");
                });
                let worker = Worker::builder().server(server.local_addr()).can_do("last words").build();
                let worker = worker.expect("a worker");
                spawn(worker.run());
                let job = block_on(client.submit(Job::new("last words", "x"))).expect("taken");
                assert!(end.recv_timeout(Duration::from_millis(20)).is_err());
                drop(client);
                drop(block_on(worker.next()));
                drop(job);
                end.recv_timeout(PATIENCE).expect("it ends");
                worker.close();
                server.close();
            }

            /// They would pile up, and what a task frees at once goes back to the system, to be asked for again.
            #[test]
            fn large_results_are_handed_out_before_more_are_read() {
                const SIZE: usize = 300 << 10;
                const JOBS: usize = 12;
                let (near, far) = crate::pipe::pair();
                let mut near = Some(gearwheel::$runtime::Stream::object(near));
                let connect = move |_| std::future::ready(near.take().ok_or(std::io::ErrorKind::NotFound.into()));
                let builder = Client::builder().server("inside").exceptions(false).connect_with(connect);
                let client = builder.build().expect("a client");
                let _context = crate::kinds::$runtime::context();
                let mut run = pin!(client.run());
                let mut set = client.set();
                for _ in 0..JOBS {
                    set.try_submit(Job::new("f", "")).expect("taken");
                }
                for _ in 0..10 {
                    assert!(is_pending(run.as_mut()));
                }
                let payload = vec![b'x'; SIZE];
                for job in 0..JOBS {
                    let handle = format!("H:{job:02}");
                    far.fill(&packet(8, &[handle.as_bytes()]));
                    far.fill(&packet(13, &[handle.as_bytes(), b"\0", &payload]));
                }
                for _ in 0..JOBS {
                    let before = far.under_way();
                    let mut polls = 0;
                    let outcome = loop {
                        if let Some(Some((_, outcome))) = block_on(poll_once(set.next())) {
                            break outcome;
                        }
                        assert!(is_pending(run.as_mut()));
                        polls += 1;
                        assert!(before - far.under_way() <= 2 * SIZE, "much was read before one was taken");
                        assert!(polls < 10, "all of it is there");
                    };
                    assert_eq!(outcome, Outcome::Complete(payload.clone().into()));
                }
            }

            fn packet(kind: u8, body: &[&[u8]]) -> Vec<u8> {
                let body = body.concat();
                let size = u32::try_from(body.len()).expect("small");
                [b"\0RES\0\0\0".as_slice(), &[kind], &size.to_be_bytes(), &body].concat()
            }

            #[test]
            fn a_poll_too_many_does_no_harm() {
                let server = server();
                let client = client(server.local_addr());
                let _context = crate::kinds::$runtime::context();
                let mut run = pin!(client.run());
                let mut job = block_on(client.submit(Job::new("f", "").background())).expect("taken");
                for _ in 0..1000 {
                    assert_eq!(run.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending);
                }
                let outcome = block_on(or(async { Some(job.outcome().await) }, async {
                    run.await;
                    None
                }));
                assert!(matches!(outcome, Some(Outcome::Queued { .. })), "{outcome:?}");
                server.close();
            }
        }
    };
}

futures_of!("smol" smol smol |future| drop(std::thread::spawn(|| async_io::block_on(future))));
futures_of!("tokio" tokio tokio |future| drop(crate::kinds::tokio::THREADS.spawn(future)));

#[cfg(feature = "tokio")]
#[test]
fn outside_of_tokio_nothing_panics() {
    use futures_lite::future::block_on;
    use gearwheel::tokio::{Client, Error, Server};
    assert!(matches!(block_on(Server::bind("127.0.0.1:0")), Err(Error::Io { .. })));
    drop(Client::builder().server("127.0.0.1:1").build().expect("a client"));
}

/// An executor of another kind, and `run` alone inside a runtime.
#[cfg(feature = "tokio")]
#[test]
fn who_waits_outside_of_tokio_is_served_by_a_run_inside() {
    use std::future::{Future, poll_fn};
    use std::pin::pin;
    use std::sync::mpsc;
    use std::time::Duration;

    use futures_lite::future::{block_on, or};
    use gearwheel::Job;
    use gearwheel::tokio::{Client, Server};

    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("bound");
    let (told, server) = mpsc::channel();
    drop(crate::kinds::tokio::THREADS.spawn(async move {
        // The first connection is lost: the next is made when its time has come.
        drop(listener.accept());
        let server = Server::builder().listen_on(listener).build().await.expect("a server");
        told.send(server.clone()).expect("somebody waits");
        server.run().await;
    }));
    let client = Client::builder().server(at).timeout(Duration::from_secs(10)).build().expect("a client");
    let mut run = pin!(client.run());
    let run = poll_fn(|cx| {
        let _inside = crate::kinds::tokio::THREADS.enter();
        run.as_mut().poll(cx)
    });
    let queued = async {
        drop(client.submit(Job::new("f", "").background()).await.expect("taken").await);
        client.submit(Job::new("f", "").background()).await.expect("taken").await
    };
    let queued = block_on(or(async { Some(queued.await) }, async {
        run.await;
        None
    }));
    assert_eq!(queued, Some(Ok("".into())));
    server.recv().expect("built").close();
}
