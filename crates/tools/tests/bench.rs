//! qmqp-bench as two programs that talk to each other, and its source against a server that plays a part.

// A failed set-up is a failed test; helpers outside of #[test] functions are not recognised as tests by the lint.
#![cfg(test)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_qmqp-bench");

/// A running sink; it ends when dropped.
struct Sink {
    child: Child,
    address: String,
    _stderr: BufReader<ChildStderr>,
}

impl Sink {
    fn start(arguments: &[&str]) -> Self {
        Self::listen("127.0.0.1:0", arguments)
    }

    fn listen(address: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(PROGRAM)
            .args(["sink", address, "--quiet", "--json", "--seed", "7"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("qmqp-bench: listening on ").expect(&line).to_owned();
        Self { child, address, _stderr: stderr }
    }

    /// Interrupts it; what it says it has had.
    fn stop(mut self) -> Value {
        let _ = kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGINT);
        let mut text = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert!(self.child.wait().unwrap().success());
        serde_json::from_str(&text).unwrap()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn source(address: &str, arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(["source", address, "--quiet"]).args(arguments).output().unwrap()
}

/// Runs a source, whose exit status must be this one, and returns its JSON.
fn measure(address: &str, status: i32, arguments: &[&str]) -> Value {
    let output = source(address, &[arguments, &["--json", "-"]].concat());
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_message_arrives_with_its_size_and_recipients() {
    let sink = Sink::start(&[]);
    let load = ["-s", "7", "-m", "500", "-l", "3000", "-r", "3", "--threads", "2"];
    let report = measure(&sink.address, 0, &load);
    assert_eq!(report["messages"]["accepted"], 500);
    assert!(report["messages_per_second"].as_f64().unwrap() > 0.0);
    let accepted = report["accepted_per_interval"].as_array().unwrap();
    assert_eq!(accepted.iter().map(|count| count.as_u64().unwrap()).sum::<u64>(), 500);
    let times = &report["service_milliseconds"];
    assert!(times["p50"].as_f64() <= times["p99"].as_f64() && times["p99"].as_f64() <= times["max"].as_f64());
    let had = sink.stop();
    assert_eq!(had["messages"], 500);
    assert_eq!(had["recipients"], 1500);
    assert_eq!(had["content_bytes"], 1_500_000);
}

#[test]
fn large_and_unique_messages_arrive_whole() {
    let sink = Sink::start(&["--threads", "2"]);
    let load = ["-s", "3", "-m", "9", "-l", "3000000", "-r", "20000", "--unique"];
    assert_eq!(measure(&sink.address, 0, &load)["messages"]["accepted"], 9);
    let had = sink.stop();
    assert_eq!(had["content_bytes"], 27_000_000);
    assert_eq!(had["recipients"], 180_000);
}

#[test]
fn a_mix_of_replies_and_early_closes_is_counted_on_both_sides() {
    let sink = Sink::start(&["--replies", "K=6,Z=3,D=1", "--close-early", "20"]);
    let report = measure(&sink.address, 1, &["-s", "10", "-m", "300"]);
    let had = sink.stop();
    let messages = &report["messages"];
    for (sent, taken) in [
        ("accepted", "accepted"),
        ("temporary", "temporary"),
        ("permanent", "permanent"),
        ("lost", "closed_early"),
    ] {
        assert_eq!(messages[sent], had[taken], "{sent}: {report} {had}");
        assert!(messages[sent].as_u64().unwrap() > 0, "{sent}: {report}");
    }
    assert_eq!(had["connections"], 300);
}

#[test]
fn a_rate_is_kept_and_lateness_counts_from_the_schedule() {
    let sink = Sink::start(&["--delay", "100"]);
    // One session can do ten messages a second; forty are due.
    let report = measure(&sink.address, 1, &["-s", "1", "--rate", "40", "-d", "0.5"]);
    let unsent = report["messages"]["unsent"].as_u64().unwrap();
    let accepted = report["messages"]["accepted"].as_u64().unwrap();
    assert!(accepted <= 6, "{report}");
    assert_eq!(accepted + unsent, 20, "{report}");
    let (service, latency) = (&report["service_milliseconds"], &report["latency_milliseconds"]);
    assert!(service["p50"].as_f64().unwrap() >= 99.0, "{report}");
    // The last one was due long before a session was free.
    assert!(latency["max"].as_f64().unwrap() > service["max"].as_f64().unwrap(), "{report}");
    // With sessions enough nothing is late.
    let report = measure(&sink.address, 0, &["-s", "20", "--rate", "40", "-m", "20"]);
    assert_eq!(report["messages"]["accepted"], 20);
    assert!(report["seconds"].as_f64().unwrap() >= 0.475, "{report}");
}

#[test]
fn idle_connections_are_held_and_their_end_is_noticed() {
    let sink = Sink::start(&[]);
    let report = measure(&sink.address, 0, &["-s", "2", "-m", "20", "--idle", "50"]);
    assert_eq!(report["idle_connections_closed"], 0);
    assert_eq!(sink.stop()["connections"], 70);
    let impatient = Sink::start(&["--timeout", "1"]);
    let report = measure(&impatient.address, 1, &["-s", "0", "-d", "3", "--idle", "5"]);
    assert_eq!(report["idle_connections_closed"], 5);
}

#[test]
fn the_results_can_be_had_in_every_form() {
    let sink = Sink::start(&[]);
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (json, csv, svg) = (path("json"), path("csv"), path("svg"));
    let output =
        source(&sink.address, &["-s", "2", "-m", "50", "--json", &json, "--csv", &csv, "--svg", &svg]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("50 messages accepted"), "{text}");
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&read(&json)).unwrap()["messages"]["accepted"], 50);
    assert!(read(&csv).starts_with("second,accepted,"));
    assert!(read(&svg).starts_with("<svg") && read(&svg).contains("messages/s"));
    let nowhere = source(&sink.address, &["--json", "/nonexistent/file"]);
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(String::from_utf8(nowhere.stderr).unwrap().contains("cannot write /nonexistent/file"));
}

#[test]
fn a_server_that_is_not_there_or_silent_or_garbled_is_named() {
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    assert_eq!(measure(&deaf, 1, &["-m", "2"])["messages"]["no_connection"], 2);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        let (mut garbled, _) = listener.accept().unwrap();
        garbled.read_exact(&mut [0; 100]).unwrap();
        garbled.write_all(b"HTTP/1.1 400 Bad Request\r\n").unwrap();
        let (mut silent, _) = listener.accept().unwrap();
        // Until the client leaves.
        std::io::copy(&mut silent, &mut std::io::sink()).ok();
    });
    let report = measure(&address, 1, &["-m", "2", "--timeout", "1"]);
    assert_eq!(report["messages"]["garbled"], 1);
    assert_eq!(report["messages"]["timed_out"], 1);
    server.join().unwrap();
}

#[test]
fn an_interrupted_run_says_what_it_has() {
    let sink = Sink::start(&["--delay", "20"]);
    let child = Command::new(PROGRAM)
        .args(["source", &sink.address, "--quiet", "-s", "2", "-d", "600", "--json", "-"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The run has begun when the sink has heard of it; it blocks the signal before its first connection.
    let process = Pid::from_raw(i32::try_from(child.id()).unwrap());
    loop {
        let blocked = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let mask = blocked.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap().trim().to_owned();
        if u64::from_str_radix(&mask, 16).unwrap() & 2 != 0 {
            break;
        }
        thread::yield_now();
    }
    kill(process, Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["seconds"].as_f64().unwrap() < 60.0);
}

#[test]
fn a_socket_in_the_file_system_will_do() {
    let directory = tempfile::tempdir().unwrap();
    let address = format!("unix:{}", directory.path().join("qmqp").display());
    let sink = Sink::listen(&address, &["-m", "10"]);
    assert_eq!(sink.address, address);
    assert_eq!(measure(&address, 0, &["-s", "2", "-m", "10"])["messages"]["accepted"], 10);
    // It has had its messages.
    assert_eq!(sink.stop()["accepted"], 10);
}

#[test]
fn what_makes_no_load_is_refused() {
    for (arguments, words) in [
        (&["-s", "0"][..], "nothing to do"),
        (&["-l", "10"], "too short for its header"),
        (&["-l", "2000000000"], "2000000000"),
        (&["--rate", "0"], "write 0.001"),
        (&["-d", "0"], "above 0"),
        (&["-s", "50000", "-l", "1000000", "--unique"], "bytes of memory: use fewer sessions"),
    ] {
        let output = source("127.0.0.1:9", arguments);
        assert_eq!(output.status.code(), Some(64), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
}
