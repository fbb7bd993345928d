//! A server that follows a script, and an agent that delivers to it.

use std::fs::File;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::fixtures::{queue_file, request};
use crate::network::{Agent, Names, Password, Passwords, Protocol, Settings};
use crate::request::{Finished, RecipientOutcome, Request};

/// No test waits longer for what must come.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// A server on a port of its own. It serves one connection for each script, and gives back what it was sent.
pub(super) struct Server {
    pub(super) port: u16,
    task: JoinHandle<Vec<String>>,
}

impl Server {
    /// A script is lines: `S:` says the rest, `C:` expects a line that begins with the rest, `D` takes a content, `Q` waits
    /// for QUIT or the end. Behind the last line the connection is closed.
    pub(super) async fn new(scripts: &[&str]) -> Self {
        Self::at("127.0.0.1", 0, scripts).await
    }

    /// The same at an address and a port.
    pub(super) async fn at(address: &str, port: u16, scripts: &[&str]) -> Self {
        let listener = TcpListener::bind((address, port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let scripts: Vec<String> = scripts.iter().map(|&script| script.to_owned()).collect();
        let task = tokio::spawn(async move {
            let mut heard = Vec::new();
            for script in scripts {
                let (stream, _) = listener.accept().await.unwrap();
                follow(&script, stream, &mut heard).await;
            }
            heard
        });
        Self { port, task }
    }

    /// What the client said, when all scripts are over.
    pub(super) async fn heard(self) -> Vec<String> {
        tokio::time::timeout(PATIENCE, self.task).await.expect("the server's script is over").unwrap()
    }

    pub(super) fn nexthop(&self) -> String {
        format!("[127.0.0.1]:{}", self.port)
    }
}

async fn follow(script: &str, stream: TcpStream, heard: &mut Vec<String>) {
    let mut stream = BufReader::new(stream);
    for step in script.lines().map(str::trim).filter(|step| !step.is_empty()) {
        if let Some(text) = step.strip_prefix("S:") {
            let _client_may_be_gone = stream.write_all(format!("{text}\r\n").as_bytes()).await;
        } else if let Some(prefix) = step.strip_prefix("C:") {
            let line = line(&mut stream).await;
            assert!(line.starts_with(prefix), "{line:?} instead of {prefix:?}");
            heard.push(line);
        } else if step == "D" {
            loop {
                let line = line(&mut stream).await;
                if line == "." {
                    break;
                }
                assert_ne!(line, "<end>");
                heard.push(format!("| {line}"));
            }
        } else if step == "Q" {
            let line = line(&mut stream).await;
            assert!(line == "QUIT" || line == "<end>", "{line:?}");
        } else {
            panic!("{step:?} is no step");
        }
    }
}

async fn line(stream: &mut BufReader<TcpStream>) -> String {
    let mut line = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_until(b'\n', &mut line));
    match read.await.expect("the client says something") {
        Ok(1..) => String::from_utf8_lossy(&line).trim_end().to_owned(),
        _ => "<end>".to_owned(),
    }
}

/// Everything that comes until the end.
pub(super) async fn all_of(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _reset_is_an_end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.unwrap();
    bytes
}

/// An agent and what it logs.
pub(super) struct World {
    pub(super) agent: Agent,
    lines: Arc<Mutex<Vec<String>>>,
}

/// How a delivery ended.
#[derive(Debug)]
pub(super) struct Result {
    pub(super) outcomes: Vec<RecipientOutcome>,
    pub(super) finished: Finished,
    pub(super) log: Vec<String>,
}

pub(super) fn settings(protocol: Protocol) -> Settings {
    Settings::new(protocol, "client.example")
}

impl World {
    pub(super) fn new(settings: Settings) -> Self {
        Self::with_names(settings, Names::new(None, 1).unwrap())
    }

    pub(super) fn with_names(settings: Settings, names: Names) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&lines);
        let passwords: Passwords = Arc::new(|key: &str| match key {
            "127.0.0.1" => Ok(Password::parse("me:secret")),
            _ => Ok(None),
        });
        let take = move |notice: &postfix::notice::Notice| log.lock().unwrap().push(notice.text.clone());
        Self { agent: Agent::new(settings, names, Arc::new(take), Some(passwords)), lines }
    }

    pub(super) async fn deliver(&self, nexthop: &str, recipients: &[&str]) -> Result {
        let lines = ["Subject: x", "", ".dot", "text"];
        self.deliver_this(&to(nexthop, recipients), &queue_file(&lines)).await
    }

    pub(super) async fn deliver_this(&self, request: &Request, file: &File) -> Result {
        let mut outcomes = Vec::new();
        let mut report = |outcome| outcomes.push(outcome);
        let delivery = self.agent.deliver(request, file, &mut report);
        let finished = tokio::time::timeout(PATIENCE, delivery).await.expect("the delivery ends");
        outcomes.sort_by_key(|outcome| outcome.index);
        let log = std::mem::take(&mut *self.lines.lock().unwrap());
        Result { outcomes, finished, log }
    }
}

pub(super) fn to(nexthop: &str, recipients: &[&str]) -> Request {
    let mut request = request(recipients);
    request.nexthop = nexthop.to_owned();
    request
}

impl Result {
    /// Each recipient's outcome in one line, with `H` for the host and its port.
    pub(super) fn words(&self) -> Vec<String> {
        let line = |outcome: &RecipientOutcome| {
            let outcome = &outcome.outcome;
            format!("{} {} {}", outcome.word, outcome.status, outcome.reason)
                .replace("127.0.0.1[127.0.0.1]", "H")
        };
        self.outcomes.iter().map(line).collect()
    }

    pub(super) fn is_blamed(&self) -> bool {
        self.finished.blame.is_some()
    }
}
