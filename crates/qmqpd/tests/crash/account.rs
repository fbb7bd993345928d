//! Who was told what, and what is there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use testbed::client::{self, netstring};
use testbed::queue::files_below;
use testbed::queue_file::QueueFile;

/// A message that was sent.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    /// The queue ID in the reply, and the moment of the reply as the caller counts it; `None` without a `K`.
    pub(crate) accepted: Option<(String, usize)>,
}

/// All messages, by the number in their subject.
#[derive(Debug, Default)]
pub(crate) struct Account {
    sent: Mutex<BTreeMap<usize, Sent>>,
    next: AtomicUsize,
    accepted: AtomicUsize,
}

/// The content of message number `n`. Some are laid out in memory, some stream to the disk.
fn content(n: usize) -> Vec<u8> {
    let lines = if n.is_multiple_of(23) { 6_000 } else { 20 + n % 60 };
    let mut text =
        format!("Subject: {n}\nFrom: a@sender.example\nDate: x\nMessage-Id: <{n}@x>\nTo: b\n\n").into_bytes();
    for line in 0..lines {
        text.extend(format!("{n} {line} abcdefghij\n").bytes());
    }
    text
}

impl Account {
    /// How many were accepted until now.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Sends messages, from so many threads, until `is_over` or until a connection is refused. `moment` is asked as soon as a
    /// reply is read.
    pub(crate) fn load(
        self: &Arc<Self>,
        server: SocketAddr,
        threads: usize,
        is_over: impl Fn() -> bool + Sync,
        moment: impl Fn() -> usize + Sync,
    ) {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while !is_over() {
                        let n = self.next.fetch_add(1, Ordering::SeqCst);
                        self.lock().insert(n, Sent { accepted: None });
                        let Some(reply) = send(server, &content(n)) else { continue };
                        let now = moment();
                        let Some(id) = reply.strip_prefix("KOk: queued as ") else { continue };
                        self.lock().insert(n, Sent { accepted: Some((id.to_owned(), now)) });
                        self.accepted.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<usize, Sent>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compares with a queue directory: every message accepted before `moment` is in `incoming`, whole, under its ID; what
    /// else is there and ready was sent. `ready_are_whole`: even files that nobody was told of have all their bytes. Returns how
    /// many were owed.
    pub(crate) fn check(&self, queue: &Path, moment: usize, ready_are_whole: bool) -> Result<usize, String> {
        use std::os::unix::fs::PermissionsExt;
        let sent = self.lock();
        let mut there = BTreeMap::new();
        for path in files_below(&queue.join("incoming")) {
            let mode = std::fs::metadata(&path).map_err(|error| error.to_string())?.permissions().mode();
            if mode & 0o100 == 0 {
                continue;
            }
            let id = path.file_name().unwrap().to_string_lossy().into_owned();
            there.insert(id, QueueFile::read(&path).and_then(|file| number_of(&file)));
        }
        let mut owed = 0;
        for (n, message) in sent.iter() {
            let Some((id, accepted)) = &message.accepted else { continue };
            if *accepted > moment {
                continue;
            }
            owed += 1;
            match there.get(id) {
                Some(Ok(found)) if found == n => {}
                Some(found) => return Err(format!("message {n}, K as {id}, is there as {found:?}")),
                None => return Err(format!("message {n}, K as {id}, is lost")),
            }
        }
        for (id, found) in &there {
            match found {
                Ok(n) if sent.contains_key(n) => {}
                Ok(n) => return Err(format!("{id} holds message {n}, which nobody sent")),
                Err(error) if ready_are_whole => return Err(format!("{id} is ready, but {error}")),
                Err(_) => {}
            }
        }
        Ok(owed)
    }
}

/// The reply; `None` when the connection broke.
fn send(server: SocketAddr, content: &[u8]) -> Option<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(server).ok()?;
    stream.set_read_timeout(Some(testbed::wait::PATIENCE)).ok()?;
    let parts = [netstring(content), netstring(b"a@sender.example"), netstring(b"b@rcpt.example")].concat();
    stream.write_all(&netstring(&parts)).ok()?;
    let mut received = Vec::new();
    stream.read_to_end(&mut received).ok()?;
    client::reply(&received).map(client::text)
}

/// Which message a queue file holds, if it holds all of it.
fn number_of(file: &QueueFile) -> Result<usize, String> {
    let lines: Vec<&[u8]> = file.content.iter().map(|record| record.data.as_slice()).collect();
    let subject = lines.iter().find_map(|line| line.strip_prefix(b"Subject: "));
    let subject = subject.and_then(|text| std::str::from_utf8(text).ok()).and_then(|text| text.parse().ok());
    let n: usize = subject.ok_or_else(|| "it has no subject of ours".to_owned())?;
    let text: Vec<u8> = lines.join(&b'\n');
    let body_at =
        |text: &[u8]| text.windows(2).position(|pair| pair == b"\n\n").map(|at| text[at..].to_vec());
    let expected = content(n);
    let expected = body_at(expected.strip_suffix(b"\n").unwrap());
    if body_at(&text) == expected { Ok(n) } else { Err(format!("message {n} is not whole")) }
}
