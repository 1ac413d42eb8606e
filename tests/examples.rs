//! The examples as a user runs them: what they print, how they end, what they say of mistakes.
#![cfg(feature = "blocking")]

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use peers::{Ended, Gearmand, PATIENCE, Process, free_port, run, signal, status, wait_for_workers, wait_until};
use programs::{RUNTIMES, example};

#[cfg(feature = "tls")]
#[allow(dead_code, clippy::allow_attributes, reason = "tests/tls.rs uses the rest")]
#[path = "tls/certs.rs"]
mod certs;
#[allow(unused_macros, unused_imports, clippy::allow_attributes, reason = "the examples use the rest")]
#[path = "../examples/common/mod.rs"]
mod common;
#[path = "common/peers.rs"]
mod peers;
#[path = "common/programs.rs"]
mod programs;
#[path = "../examples/common/settings.rs"]
mod settings;

/// Runs an example to its end, with `arguments` parted by blanks.
#[track_caller]
fn ended(name: &str, arguments: &str) -> Ended {
    run(example(name).args(arguments.split_whitespace()), b"")
}

/// The example `server`, on a free port.
struct Server {
    process: Process,
    address: SocketAddr,
}

impl Server {
    fn start(arguments: &str) -> Self {
        let mut command = example("server");
        command.args(arguments.split_whitespace());
        if !arguments.contains("--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let mut process = Process(spawn(&mut command));
        let mut line = String::new();
        let stdout = process.0.stdout.as_mut().expect("it is a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("it says where it listens");
        let address = line.trim_end().strip_prefix("listening on ").and_then(|address| address.parse().ok());
        Self { process, address: address.unwrap_or_else(|| panic!("it said {line:?}")) }
    }

    /// SIGTERM, and what it said until its end.
    fn stop(mut self) -> (bool, String) {
        signal(&self.process.0, "TERM");
        let status = self.process.ended();
        (status.success(), errors(&mut self.process.0))
    }
}

/// The example `worker` for `reverse` on `server`, once the server knows it.
fn worker(server: SocketAddr, arguments: &str) -> Process {
    let mut command = example("worker");
    command.args(["--server", &server.to_string(), "--function", "reverse"]).args(arguments.split_whitespace());
    let worker = Process(spawn(&mut command));
    wait_for_workers(server, "reverse", 1);
    worker
}

fn spawn(command: &mut Command) -> Child {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    child.expect("it starts")
}

/// All that a process that has ended has said on stderr.
fn errors(child: &mut Child) -> String {
    let mut said = String::new();
    child.stderr.as_mut().expect("it is a pipe").read_to_string(&mut said).expect("it is text");
    said
}

#[track_caller]
fn assert_reverses(ended: &Ended) {
    assert!(ended.status.success(), "{ended:?}");
    let said = ended.text();
    let expected = ["data: !dlr", "progress: 1/3", "data: ow o", "progress: 2/3", "data: lleh", "progress: 3/3"];
    assert!(said.ends_with(&(expected.join("\n") + "\nresult: !dlrow olleh\n")), "{said}");
}

#[test]
fn reverse_needs_nothing_else() {
    assert_reverses(&ended("reverse", ""));
    assert!(ended("reverse", "abc").text().ends_with("\nresult: cba\n"));
}

#[test]
fn reverse_uses_the_servers_that_it_is_told() {
    let server = Server::start("");
    assert_reverses(&ended("reverse", &format!("--server {}", server.address)));
    let in_environment = run(example("reverse").env("GEARMAN_SERVERS", server.address.to_string()), b"");
    assert_reverses(&in_environment);
    assert!(in_environment.text().starts_with(&format!("job server: {}\n", server.address)));
    let Some(gearmand) = Gearmand::start() else { return };
    assert_reverses(&ended("reverse", &format!("--server {}", gearmand.address())));
}

#[test]
fn client_prints_each_result_on_a_line_in_order() {
    let server = Server::start("");
    let _worker = worker(server.address, "--concurrency 4");
    let client = format!("--server {} --function reverse", server.address);
    let done = ended("client", &format!("{client} --priority low --count 2 abc 123"));
    assert!(done.status.success(), "{done:?}");
    assert_eq!(done.text(), "cba\ncba\n321\n321\n");
    let many = ended("client", &format!("{client} --count 3000 --timeout 20 ab"));
    assert_eq!(many.text(), "ba\n".repeat(3_000));
    let piped = run(example("client").args(client.split(' ')).arg("-"), b"a\0b");
    assert_eq!(piped.stdout, b"b\0a\n");
}

#[test]
fn client_says_why_a_job_has_no_result() {
    let server = Server::start("");
    let client = format!("--server {} --timeout 0.3", server.address);
    let late = ended("client", &format!("{client} --function nobody x"));
    assert_eq!((late.status.code(), late.text()), (Some(1), String::new()));
    assert_eq!(late.errors(), "the job timed out before any worker was heard of\n");
    let nobody = format!("127.0.0.1:{}", free_port());
    let nowhere = ended("client", &format!("--server {nobody} --timeout 0.3 --function f x"));
    assert_eq!(nowhere.status.code(), Some(1));
    let why = format!("the last that failed is {nobody}: connection refused: nothing listens there");
    assert_eq!(nowhere.errors(), format!("the job timed out before any job server could be had; {why}\n"));
    let empty = run(example("client").args(client.split(' ')).args(["--function", "", "x"]), b"");
    assert_eq!((empty.status.code(), empty.errors()), (Some(1), "the function name is empty\n".into()));
    let unique = "u".repeat(64);
    let long = ended("client", &format!("{client} --function f --unique {unique} x"));
    assert_eq!(long.errors(), "the unique has 64 bytes; the limit is 63\n");
}

#[test]
fn what_is_wrong_with_the_arguments_is_said_with_the_usage() {
    for (name, arguments, says) in [
        ("client", "--function f x", "--server <HOST:PORT>"),
        ("client", "--server a/b --function f x", "\"a/b\" is no address of a job server"),
        ("client", "--server h --function f --timeout soon x", "\"soon\" is no number of seconds"),
        ("client", "--server h --function f", "<PAYLOAD>"),
        ("worker", "--server h", "--function <NAME>"),
        ("worker", "--server h --function f --jobs 0", "0 is not in 1.."),
        ("reverse", "--runtime none", "possible values: blocking"),
        ("custom_loop", "", "--server <HOST:PORT>"),
    ] {
        let wrong = ended(name, arguments);
        assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
        assert!(wrong.errors().contains(says), "{name} {arguments}: {}", wrong.errors());
    }
    let twice = ended("worker", "--server h --server h --function f");
    assert_eq!((twice.status.code(), twice.errors()), (Some(1), "the job server h:4730 is given twice\n".into()));
}

#[test]
fn every_example_prints_its_usage() {
    for (name, option) in [
        ("reverse", "--server <HOST:PORT>"),
        ("server", "--listen <HOST:PORT>"),
        ("worker", "--function <NAME>"),
        ("client", "--priority <PRIORITY>"),
        ("custom_loop", "--server <HOST:PORT>"),
    ] {
        let help = ended(name, "--help");
        assert!(help.status.success() && help.text().contains(option), "{name}: {}", help.text());
    }
}

#[test]
fn worker_stops_after_so_many_jobs_and_takes_no_more() {
    let server = Server::start("");
    let client = format!("--server {} --function reverse", server.address);
    let queued = ended("client", &format!("{client} --background --count 5 x"));
    assert_eq!(queued.text().lines().count(), 5);
    let mut worker = Process(spawn(example("worker").args(client.split(' ')).args(["--jobs", "3", "--drain", "5"])));
    assert!(worker.ended().success());
    assert!(errors(&mut worker.0).ends_with("3 jobs answered\n"));
    assert_eq!(status(server.address, "reverse").total, 2);
}

#[test]
fn sigterm_drains_the_worker_and_stops_the_server() {
    let server = Server::start("--verbose");
    let mut worker = worker(server.address, "--id the-worker");
    let workers = peers::admin(server.address, "workers");
    assert!(workers.iter().any(|line| line.ends_with("the-worker : reverse")), "{workers:?}");
    let client = format!("--server {} --function reverse --timeout 10 --count 500 abc", server.address);
    let client = spawn(example("client").args(client.split(' ')));
    signal(&worker.0, "TERM");
    assert!(worker.ended().success());
    assert!(errors(&mut worker.0).contains("draining"));
    wait_for_workers(server.address, "reverse", 0);
    // Whatever the first one left is done by the next.
    let mut next = self::worker(server.address, "");
    let results = client.wait_with_output().expect("it ends");
    assert!(results.status.success());
    assert_eq!(results.stdout, b"cba\n".repeat(500));
    signal(&server.process.0, "HUP");
    let (success, said) = server.stop();
    assert!(success && said.contains("Counters") && said.contains("stopping"), "{said}");
    signal(&next.0, "INT");
    assert!(next.ended().success());
}

#[test]
fn background_jobs_outlive_a_graceful_stop_in_the_state_file() {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("state-{}", std::process::id()));
    let _ = std::fs::remove_file(&file);
    let state = format!("--state {}", file.display());
    let server = Server::start(&state);
    let client = format!("--server {} --function reverse --background", server.address);
    let handles = ended("client", &format!("{client} --priority high abc \u{e9}t\u{e9}"));
    assert_eq!(handles.text().lines().count(), 2);
    let (success, said) = server.stop();
    assert!(success && said.contains("2 jobs kept"), "{said}");

    let server = Server::start(&state);
    assert!(!file.exists(), "a later start would run them again");
    assert_eq!(peers::admin(server.address, "prioritystatus"), ["reverse\t2\t0\t0\t0"]);
    let mut worker = Process(spawn(example("worker").args([
        "--server",
        &server.address.to_string(),
        "--function",
        "reverse",
        "--jobs",
        "2",
    ])));
    assert!(worker.ended().success());
    let (success, said) = server.stop();
    assert!(success && said.contains("0 jobs kept"), "{said}");
    std::fs::write(&file, "{\"function\":1}\n").expect("a file");
    let broken = ended("server", &format!("{state} --listen 127.0.0.1:0"));
    assert_eq!(broken.status.code(), Some(1));
    assert!(broken.errors().contains("line 1 of"), "{broken:?}");
    let _ = std::fs::remove_file(&file);
}

#[test]
fn where_the_state_cannot_be_kept_is_said_at_the_start_and_what_is_lost_at_the_end() {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("gone-{}", std::process::id()));
    let arguments = format!("--state {} --listen 127.0.0.1:0", directory.join("jobs").display());
    let nowhere = ended("server", &arguments);
    let cannot = format!("cannot write {}.partial: ", directory.join("jobs").display());
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(nowhere.errors().ends_with('\n') && nowhere.errors().contains(&cannot), "{nowhere:?}");

    std::fs::create_dir(&directory).expect("a directory");
    let server = Server::start(&arguments);
    assert!(ended("client", &format!("--server {} --function f --background x", server.address)).status.success());
    std::fs::remove_dir(&directory).expect("it is empty");
    let (success, said) = server.stop();
    assert!(!success && said.contains("1 jobs are lost: cannot write"), "{said}");
}

#[test]
fn a_second_signal_stops_the_server_at_once_and_keeps_the_background_job_that_ran() {
    use std::io::Write;
    use std::net::TcpStream;
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("twice-{}", std::process::id()));
    for runtime in RUNTIMES {
        let mut server = Server::start(&format!("--runtime {runtime} --drain 600 --state {}", file.display()));
        let client = format!("--server {} --function f --background x", server.address);
        assert!(ended("client", &client).status.success());
        let mut holds = TcpStream::connect(server.address).expect("it listens");
        holds.write_all(b"\0REQ\0\0\0\x01\0\0\0\x01f\0REQ\0\0\0\x09\0\0\0\0").expect("CAN_DO and GRAB_JOB");
        let mut header = [0; 12];
        holds.read_exact(&mut header).expect("JOB_ASSIGN");
        assert_eq!(header[7], 11, "{header:?}");
        signal(&server.process.0, "TERM");
        let address = server.address;
        wait_until("it stops listening", PATIENCE, || TcpStream::connect(address).is_err());
        signal(&server.process.0, "INT");
        assert_eq!(server.process.ended().code(), Some(1), "{runtime}");
        assert_eq!(std::fs::read_to_string(&file).expect("the job").lines().count(), 1, "{runtime}");
        std::fs::remove_file(&file).expect("it is there");
    }
}

/// As after `| head -1`: neither a panic, nor a thread that dies of one, nor a job lost.
#[test]
fn nobody_need_listen_to_what_the_programs_say() {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("unheard-{}", std::process::id()));
    for runtime in RUNTIMES {
        let mut server = Server::start(&format!("--runtime {runtime} --verbose --state {}", file.display()));
        drop((server.process.0.stdout.take(), server.process.0.stderr.take()));
        let mut worker = worker(server.address, &format!("--runtime {runtime}"));
        drop((worker.0.stdout.take(), worker.0.stderr.take()));
        let client = format!("--runtime {runtime} --server {} --function", server.address);
        assert_eq!(ended("client", &format!("{client} reverse abc")).text(), "cba\n");
        assert!(ended("client", &format!("{client} later --background x")).status.success());
        signal(&server.process.0, "HUP");
        signal(&worker.0, "TERM");
        assert!(worker.ended().success(), "{runtime}");
        signal(&server.process.0, "TERM");
        assert!(server.process.ended().success(), "{runtime}");
        assert_eq!(std::fs::read_to_string(&file).expect("the job").lines().count(), 1, "{runtime}");
        std::fs::remove_file(&file).expect("it is there");
    }
    let server = Server::start("");
    let address = server.address.to_string();
    let free = format!("127.0.0.1:{}", free_port());
    let benches = [("bench_worker", &address), ("bench_server", &free)];
    // The server is only built with mio.
    for (name, address) in &benches[..1 + usize::from(cfg!(feature = "mio"))] {
        let mut process = Process(spawn(example(name).envs([("GEARMAN_ADDR", address.as_str()), ("FUNC", "bench")])));
        drop(process.0.stdout.take());
        match *name {
            "bench_worker" => wait_for_workers(server.address, "bench", 1),
            _ => wait_until("it listens", PATIENCE, || std::net::TcpStream::connect(address).is_ok()),
        }
        signal(&process.0, "TERM");
        assert!(process.ended().success(), "{name}");
    }
    for name in ["reverse", "client"] {
        let mut command = example(name);
        if name == "client" {
            command.args(["--server", &address, "--function", "f", "--background"]);
        }
        let mut process = Process(spawn(command.arg("x")));
        drop(process.0.stdout.take());
        process.ended();
        let said = errors(&mut process.0);
        assert!(!said.contains("panicked"), "{name}: {said}");
    }
}

#[test]
fn a_worker_comes_back_to_a_server_that_was_killed() {
    let mut server = Server::start("");
    let _worker = worker(server.address, "");
    let address = server.address;
    server.process.0.kill().expect("it runs");
    server.process.ended();
    let _server = Server::start(&format!("--listen {address}"));
    wait_for_workers(address, "reverse", 1);
    let result = ended("client", &format!("--server {address} --function reverse --timeout 10 abc"));
    assert_eq!(result.text(), "cba\n");
}

/// Server, worker, client and admin over TLS, with certificates on both sides.
#[cfg(feature = "tls")]
#[test]
fn the_examples_speak_tls_where_they_are_told() {
    let (leaf, mine) = (certs::OURS.sign(&["jobs.example.org"]), certs::OURS.sign(&["me"]));
    let ca = certs::file("ca.pem", &certs::OURS.pem);
    let server = Server::start(&format!(
        "--tls-cert {} --tls-key {} --tls-client-ca {ca}",
        certs::file("server.pem", &leaf.certificate),
        certs::file("server.key", &leaf.key),
    ));
    let at = server.address;
    let (mine_at, key_at) = (certs::file("me.pem", &mine.certificate), certs::file("me.key", &mine.key));
    let tls =
        format!("--server {at} --tls-ca {ca} --tls-name jobs.example.org --tls-cert {mine_at} --tls-key {key_at}");
    let mut command = example("worker");
    let _worker = Process(spawn(command.args(["--function", "reverse"]).args(tls.split(' '))));
    let asked = ended("client", &format!("{tls} --function reverse --timeout 20 hello"));
    assert_eq!((asked.text().as_str(), asked.errors().as_str()), ("olleh\n", ""));
    let asked = ended("admin", &format!("{tls} version"));
    assert!(asked.status.success(), "{}", asked.errors());
    let refused = ended("admin", &format!("--server {at} --tls-ca {ca} version"));
    assert!(!refused.status.success() && refused.errors().contains("it is for another name"), "{}", refused.errors());
    let missing = ended("client", &format!("--server {at} --tls-ca /no/such.pem --function reverse x"));
    assert!(missing.errors().starts_with("cannot read /no/such.pem: "), "{}", missing.errors());
}

/// Beside TCP. Whoever kills it leaves a file that the next start removes.
#[cfg(unix)]
#[test]
fn a_server_on_a_unix_socket_is_killed_and_starts_again() {
    let path = std::env::temp_dir().join(format!("gearwheel-example-{}.sock", std::process::id()));
    let at = format!("unix:{}", path.display());
    let listen = format!("--listen 127.0.0.1:0 --listen {at}");
    let mut killed = Server::start(&listen);
    let twice = ended("server", &format!("--listen {at}"));
    assert_eq!(twice.status.code(), Some(1));
    assert!(twice.errors().starts_with(&at), "{twice:?}");
    assert!(twice.errors().contains("somebody listens there already"), "{twice:?}");
    killed.process.0.kill().expect("it runs");
    killed.process.ended();
    assert!(path.exists());

    let server = Server::start(&listen);
    let _worker = worker(server.address, "");
    let result = ended("client", &format!("--server {at} --function reverse --timeout 10 abc"));
    assert_eq!(result.text(), "cba\n", "{result:?}");
    let rows = ended("admin", &format!("--server {at} workers"));
    assert!(rows.text().contains("unix") && rows.text().contains("127.0.0.1"), "{rows:?}");
    assert!(server.stop().0);
    assert!(!path.exists());
    let nobody = ended("admin", &format!("--server {at} status"));
    assert_eq!(nobody.errors(), format!("no connection to {at}: connection refused: nothing listens there\n"));
}

#[test]
fn custom_loop_gets_its_result_over_a_socket_of_its_own() {
    let server = Server::start("");
    let at = format!("--server {} --timeout", server.address);
    {
        let _worker = worker(server.address, "");
        let done = ended("custom_loop", &format!("{at} 10 abc"));
        assert!(done.status.success(), "{done:?}");
        assert_eq!(done.text(), "cba\n");
        let large = "abc".repeat(30_000);
        let done = ended("custom_loop", &format!("{at} 10 {large}"));
        assert_eq!(done.text(), "cba".repeat(30_000) + "\n");
    }
    let late = ended("custom_loop", &format!("{at} 1 --function nobody abc"));
    assert_eq!(late.status.code(), Some(1));
    assert_eq!(late.errors(), "the job timed out before any worker was heard of\n");
}

#[test]
fn the_admin_command_shutdown_is_obeyed_only_where_it_is_allowed() {
    let deaf = Server::start("");
    assert!(peers::admin(deaf.address, "shutdown")[0].starts_with("ERR UNKNOWN_COMMAND"));
    let mut willing = Server::start("--allow-shutdown");
    assert_eq!(peers::admin(willing.address, "shutdown"), ["OK"]);
    assert!(willing.process.ended().success());
    wait_until("nothing listens there", PATIENCE, || std::net::TcpStream::connect(willing.address).is_err());
    assert!(deaf.stop().0);
}

#[test]
fn bench_client_and_worker_print_a_line_of_json() {
    let server = Server::start("");
    let address = server.address.to_string();
    let environment = [("GEARMAN_ADDR", &*address), ("FUNC", "bench"), ("SECS", "5"), ("N", "200"), ("DEPTH", "8")];
    let mut worker = Process(spawn(example("bench_worker").envs(environment)));
    wait_for_workers(server.address, "bench", 1);
    let done = run(example("bench_client").envs(environment), b"");
    let line: serde_json::Value = serde_json::from_slice(&done.stdout).expect("a line of JSON");
    assert_eq!(line["jobs"], 200, "{line}");
    assert!(line["p50_us"].as_f64() > Some(0.0), "{line}");
    signal(&worker.0, "TERM");
    worker.ended();
    let mut said = String::new();
    worker.0.stdout.as_mut().expect("it is a pipe").read_to_string(&mut said).expect("it is text");
    let line: serde_json::Value = serde_json::from_str(&said).expect("a line of JSON");
    assert_eq!(line["jobs"], 200, "{line}");
    assert!(Duration::from_secs(60) > Duration::from_micros(line["cpu_us"].as_f64().unwrap_or(f64::MAX) as u64));
}

#[test]
fn every_runtime_does_the_same() {
    for runtime in RUNTIMES {
        let runtime = format!("--runtime {runtime}");
        assert_reverses(&ended("reverse", &runtime));
        let server = Server::start(&runtime);
        let mut worker = worker(server.address, &format!("{runtime} --concurrency 2"));
        let client = format!("{runtime} --server {} --function reverse", server.address);
        assert_eq!(ended("client", &format!("{client} --count 2 abc 123")).text(), "cba\ncba\n321\n321\n");
        signal(&worker.0, "TERM");
        assert!(worker.ended().success());
        let said = errors(&mut worker.0);
        assert!(said.ends_with("draining\n4 jobs answered\n"), "{runtime}: {said}");
        let late = ended("client", &format!("{client} --timeout 0.2 x"));
        assert_eq!((late.status.code(), late.text()), (Some(1), String::new()), "{runtime}");
        let (in_time, said) = server.stop();
        assert!(in_time && said.contains("stopping\n"), "{runtime}: {said}");
    }
}

#[test]
fn a_worker_of_any_runtime_stops_after_so_many_jobs() {
    for runtime in RUNTIMES {
        let server = Server::start("");
        let mut worker = worker(server.address, &format!("--runtime {runtime} --jobs 3"));
        let client = format!("--server {} --function reverse --timeout 20", server.address);
        assert!(ended("client", &format!("{client} --count 3 ab")).status.success());
        assert!(worker.ended().success());
        assert!(errors(&mut worker.0).ends_with("3 jobs answered\n"), "{runtime}");
    }
}

#[test]
#[cfg(feature = "mio")]
fn a_program_with_a_loop_of_its_own_becomes_a_worker() {
    use std::io::Write;
    use std::net::TcpStream;
    let server = Server::start("");
    let mut program = Process(spawn(example("embed_mio").args(["127.0.0.1:0", &server.address.to_string()])));
    let mut line = String::new();
    BufReader::new(program.0.stdout.as_mut().expect("it is a pipe")).read_line(&mut line).expect("it listens");
    let address: SocketAddr = line.trim_end().rsplit(' ').next().and_then(|at| at.parse().ok()).expect("an address");
    let mut socket = TcpStream::connect(address).expect("it listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("above zero");
    let mut ask = |text: &str| {
        socket.write_all(text.as_bytes()).expect("it reads");
        let mut answer = String::new();
        BufReader::new(&socket).read_line(&mut answer).expect("it answers");
        answer
    };
    assert_eq!(ask("what it did before\n"), "4\n");
    wait_for_workers(server.address, "words", 1);
    let words = ended("client", &format!("--server {} --function words --timeout 20 one --count 50", server.address));
    assert_eq!(words.text(), "1\n".repeat(50));
    assert_eq!(ask("and still does\n"), "3\n");
}

#[test]
fn admin_prints_tables_and_says_what_is_refused() {
    let server = Server::start("");
    let admin = |arguments: &str| ended("admin", &format!("--server {} {arguments}", server.address));
    assert!(admin("create reverse").status.success());
    let queued = ended("client", &format!("--server {} --function reverse --background --unique u x", server.address));
    let handle = queued.text().trim_end().to_owned();
    let status = ["FUNCTION  QUEUED  RUNNING  WORKERS", "reverse        1        0        0", ""].join("\n");
    assert_eq!(admin("status").text(), status);
    assert!(admin("unique-jobs").text().contains("u\n") && admin("jobs").text().contains(&handle));
    assert!(admin("version").text().starts_with(|first: char| first.is_ascii_digit()));
    assert!(admin("maxqueue reverse 1").status.success() && admin("maxqueue reverse 3 2 1").status.success());
    let refused = admin("drop reverse");
    assert!(!refused.status.success());
    let said = "the job server says there are still connected workers or executing clients\n";
    assert_eq!(refused.errors(), said);
    assert!(admin(&format!("cancel {handle}")).status.success() && admin("drop reverse").status.success());
    let nobody = ended("admin", "--server 127.0.0.1:1 status");
    assert_eq!(nobody.errors(), "no connection to 127.0.0.1:1: connection refused: nothing listens there\n");
}

/// The settings that the example `server` makes of `arguments`.
fn config(arguments: &str) -> gearwheel::server::Config {
    #[derive(clap::Parser)]
    struct Arguments {
        #[command(flatten)]
        settings: settings::Settings,
    }
    let words = ["server"].into_iter().chain(arguments.split_whitespace());
    let Arguments { settings } = clap::Parser::try_parse_from(words).expect("they are arguments");
    let mut config = gearwheel::server::Config::new([7; 32]);
    settings.apply(&mut config);
    config
}

#[test]
fn the_server_has_an_option_for_each_setting() {
    let shown = |config| format!("{config:#?}").lines().map(str::to_owned).collect::<Vec<_>>();
    let defaults = shown(config(""));
    assert_eq!(defaults, shown(gearwheel::server::Config::new([7; 32])), "nothing given changes nothing");
    // These are the program's own to say, but for two of the limits.
    let fixed = ["seed", "limits", "version", "verbose", "process_id"];
    let names = defaults.iter().filter_map(|line| line.strip_prefix("    ")?.split_once(": ")).map(|(name, _)| name);
    let names: Vec<_> = names.filter(|name| !name.starts_with(' ') && !fixed.contains(name)).collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names.into_iter().chain(["max_packet", "max_outgoing"]) {
        let value = match name {
            "exceptions" | "allow_shutdown" => "",
            "gather_results" => "true",
            _ => "1234",
        };
        let now = shown(config(&format!("--{} {value}", name.replace('_', "-"))));
        let gone: Vec<_> = defaults.iter().filter(|line| !now.contains(line)).collect();
        assert!(matches!(gone[..], [line] if line.trim_start().starts_with(&format!("{name}: "))), "{name}: {gone:?}");
    }
}
