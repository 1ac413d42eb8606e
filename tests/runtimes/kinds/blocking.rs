//! The blocking runtime in the words of the scenarios.

use super::*;
use crate::pipe;
use gearwheel::blocking::{Admin, Client, Pending, Running, Server, Stream, Threads, Worker};

use std::sync::atomic::Ordering::Relaxed;

pub(crate) enum Blocking {}

pub(crate) struct Either {
    worker: Worker,
    /// Absent where the tests take the jobs.
    _running: Option<Running>,
}

impl Kind for Blocking {
    type Server = Server;
    type Stream = Stream;
    type Client = Client;
    type Pending = Pending;
    type Worker = Arc<Either>;
    type Waits = Threads;

    fn server(at: impl ToString, configure: fn(&mut Config)) -> Server {
        secured!(server Server::builder()).configure(configure).listen_on(listening(at)).build().expect("a server")
    }

    fn address(server: &Server) -> SocketAddr {
        server.local_addr()
    }

    fn addresses(server: &Server) -> Vec<Address> {
        server.addresses().to_vec()
    }

    fn server_on(doors: Vec<any::Listening>, configure: fn(&mut Config)) -> Server {
        let builder = secured!(server Server::builder());
        let builder = doors.into_iter().fold(builder, |builder, door| builder.listen_on(door));
        builder.configure(configure).build().expect("a server")
    }

    fn serve(server: &Server, stream: Stream, peer: Peer<'_>) -> Result<(), Rejected<Stream>> {
        server.serve(stream, peer)
    }

    fn objects() -> (Stream, Stream) {
        let (a, b) = pipe::pair();
        (Stream::object(a), Stream::object(b))
    }

    fn grenade() -> Stream {
        Stream::object(pipe::Grenade)
    }

    fn client_by(connect: Connect<Self>, within: Duration, heard: Sender<client::Event>) -> Client {
        let builder = secured!(client Client::builder()).server("there").connect_with(connect).connect_timeout(within);
        let builder = builder.configure(|config| impatient(&mut config.connecting));
        builder.on_event(move |event| drop(heard.send(event))).build().expect("a client")
    }

    fn client_that_waits(within: Duration, done: Arc<AtomicBool>, heard: Sender<client::Event>) -> Client {
        let connect: Connect<Self> = Box::new(move |_| {
            while !done.load(Relaxed) {
                std::thread::park_timeout(Duration::from_millis(10));
            }
            Err(io::ErrorKind::Other.into())
        });
        Self::client_by(connect, within, heard)
    }

    fn client_heard(at: impl ToString, heard: Sender<client::Event>) -> Client {
        let builder = Client::builder().server(at.to_string());
        builder.on_event(move |event| drop(heard.send(event))).build().expect("a client")
    }

    fn worker_by(connect: Connect<Self>, concurrency: usize) -> Arc<Either> {
        let builder = secured!(worker Worker::builder()).server("there").connect_with(connect).concurrency(concurrency);
        let builder = FUNCTIONS.iter().fold(builder, |builder, name| builder.function(*name, |task| run(task)));
        let running = builder.spawn().expect("a worker");
        Arc::new(Either { worker: running.worker().clone(), _running: Some(running) })
    }

    fn workers(at: impl ToString, connect: Option<Connect<Self>>) -> Vec<WorkerStatus> {
        let builder = secured!(admin Admin::builder()).server(at.to_string());
        let builder = match connect {
            Some(connect) => builder.connect_with(connect),
            None => builder,
        };
        builder.connect().expect("it listens").workers().expect("an answer")
    }

    fn counters(server: &Server) -> Counters {
        server.counters()
    }

    fn queued(server: &Server) -> Vec<QueuedJob> {
        server.queued()
    }

    fn drain_server(server: &Server, within: Duration) -> Result<(), Error> {
        server.drain(within)
    }

    fn client(at: &str, configure: fn(&mut client::Config)) -> Client {
        secured!(client Client::builder())
            .server(at)
            .configure(|config| impatient(&mut config.connecting))
            .configure(configure)
            .build()
            .expect("a client")
    }

    fn submit(client: &Client, job: Job) -> Result<Pending, Rejected<Job>> {
        client.submit(job)
    }

    fn try_submit(client: &Client, job: Job) -> Result<Pending, Rejected<Job>> {
        client.try_submit(job)
    }

    fn id(job: &Pending) -> JobId {
        job.id()
    }

    fn wait(job: Pending) -> Result<Bytes, JobError> {
        job.wait()
    }

    fn next_event(job: &mut Pending) -> Option<JobEvent> {
        job.next_event()
    }

    fn run_all(client: &Client, jobs: Vec<Job>, within: Duration) -> Vec<(JobId, Outcome)> {
        let mut set = client.set().within(within);
        for job in jobs {
            set.submit(job).expect("taken");
        }
        set.collect()
    }

    fn status(client: &Client, job: JobId) -> Result<Status, Error> {
        client.status(job)
    }

    fn echo(client: &Client, server: ServerId, payload: Bytes) -> Result<Bytes, Error> {
        client.echo(server, payload)
    }

    fn first_server(client: &Client) -> ServerId {
        client.servers()[0].server
    }

    fn add_server(client: &Client, at: SocketAddr) {
        client.add_server(at).expect("it is new");
    }

    fn remove_server(client: &Client, server: ServerId) {
        client.remove_server(server, true).expect("it is there");
    }

    fn close(client: &Client) {
        client.close();
    }

    fn worker(at: impl ToString, concurrency: usize) -> Arc<Either> {
        let builder = secured!(worker Worker::builder()).server(at.to_string()).concurrency(concurrency);
        let builder = builder.configure(|config| impatient(&mut config.connecting));
        let builder = FUNCTIONS.iter().fold(builder, |builder, name| builder.function(*name, |task| run(task)));
        let running = builder.spawn().expect("a worker");
        Arc::new(Either { worker: running.worker().clone(), _running: Some(running) })
    }

    fn taker(at: impl ToString, function: &'static str, configure: fn(&mut worker::Config)) -> Arc<Either> {
        let worker = secured!(worker Worker::builder())
            .server(at.to_string())
            .can_do(function)
            .configure(configure)
            .build()
            .expect("a worker");
        Arc::new(Either { worker, _running: None })
    }

    fn next(worker: &Arc<Either>) -> Option<Task<Threads>> {
        worker.worker.next()
    }

    fn data(task: &Task<Threads>, part: Bytes) -> Result<(), Rejected<Bytes>> {
        task.data(part)
    }

    fn drain(worker: &Arc<Either>, within: Duration) -> Result<(), Error> {
        worker.worker.drain(within)
    }
}
