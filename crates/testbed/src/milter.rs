//! A mail filter that does what a case tells it, and writes down every packet that it hears. It speaks the milter
//! protocol with code of its own: nothing here is shared with the server under test.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::wait;

/// What the filter sends.
#[derive(Clone, Debug)]
pub enum Answer {
    /// These packets, in this order: command and data.
    Packets(Vec<(u8, Vec<u8>)>),
    /// These bytes, packets or not.
    Bytes(Vec<u8>),
    /// Nothing; the connection is closed.
    Close,
    /// Nothing; the connection stays open until the server gives up.
    Hang,
}

/// What the filter says to a message.
#[derive(Clone, Debug)]
pub struct Script {
    /// Version, actions and protocol steps of its answer to the offer; and what follows them.
    pub options: (u32, u32, u32, Vec<u8>),
    /// Sent instead of that answer.
    pub negotiation: Option<Answer>,
    /// Answers to commands: the command, how often it is to pass first, the answer. Otherwise `c`.
    pub answers: Vec<(u8, usize, Answer)>,
}

impl Default for Script {
    fn default() -> Self {
        Self { options: (6, 0x1ff, 0, Vec::new()), negotiation: None, answers: Vec::new() }
    }
}

/// A packet of an edit that is made of NUL-terminated texts behind some bytes.
pub fn packet(command: u8, prefix: &[u8], texts: &[&str]) -> (u8, Vec<u8>) {
    let mut data = prefix.to_vec();
    for text in texts {
        data.extend_from_slice(text.as_bytes());
        data.push(0);
    }
    (command, data)
}

impl Script {
    /// A filter that lets everything pass.
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers the first of these commands with one packet.
    pub fn on(self, command: u8, reply: u8, data: impl AsRef<[u8]>) -> Self {
        self.answer(command, 0, Answer::Packets(vec![(reply, data.as_ref().to_vec())]))
    }

    /// Answers the command that comes after `after` others of its kind.
    pub fn answer(mut self, command: u8, after: usize, answer: Answer) -> Self {
        self.answers.push((command, after, answer));
        self
    }

    /// At the end of the message sends these packets, and then `c`.
    pub fn edits(self, mut packets: Vec<(u8, Vec<u8>)>) -> Self {
        packets.push((b'c', Vec::new()));
        self.answer(b'E', 0, Answer::Packets(packets))
    }

    /// Asks for these protocol options.
    pub fn steps(mut self, protocol: u32) -> Self {
        self.options.2 = protocol;
        self
    }
}

/// A filter that listens, with the script of the case at hand.
#[derive(Debug, Clone)]
pub struct Filter {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<Mutex<FilterRecord>>,
}

#[derive(Debug, Default)]
struct FilterRecord {
    script: Script,
    heard: Vec<String>,
    open: usize,
}

impl Filter {
    /// Listens on a port of its own, for as long as the process lives.
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let filter = Self { address: listener.local_addr().unwrap(), state: Arc::default() };
        let state = Arc::clone(&filter.state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                stream.set_read_timeout(Some(wait::PATIENCE)).unwrap();
                let script = {
                    let mut state = lock(&state);
                    state.open += 1;
                    state.script.clone()
                };
                let state = Arc::clone(&state);
                std::thread::spawn(move || {
                    let mut hear = |line: String| lock(&state).heard.push(line);
                    serve(stream, &script, &mut hear);
                    lock(&state).open -= 1;
                });
            }
        });
        filter
    }

    /// The next message is treated so.
    pub fn set(&self, script: Script) {
        let mut state = lock(&self.state);
        state.script = script;
        state.heard.clear();
    }

    /// What it heard since then, once no client is connected any more.
    pub fn take(&self) -> Vec<String> {
        wait::until("the servers leave the filter", || (lock(&self.state).open == 0).then_some(()));
        std::mem::take(&mut lock(&self.state).heard)
    }
}

fn lock(state: &Mutex<FilterRecord>) -> std::sync::MutexGuard<'_, FilterRecord> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the server waits for an answer, given what the filter has asked for.
fn is_answered(command: u8, protocol: u32) -> bool {
    let silent = match command {
        b'L' => 7,
        b'C' => 12,
        b'H' => 13,
        b'M' => 14,
        b'R' => 15,
        b'T' => 16,
        b'U' => 17,
        b'N' => 18,
        b'B' => 19,
        b'E' => return true,
        _ => return false,
    };
    protocol & (1 << silent) == 0
}

/// One connection, from the offer to its end.
fn serve(mut stream: TcpStream, script: &Script, hear: &mut dyn FnMut(String)) {
    let mut seen = std::collections::HashMap::<u8, usize>::new();
    while let Some((command, data)) = read_packet(&mut stream) {
        hear(shown(command, &data));
        let answer = match command {
            b'Q' => return,
            b'O' => script.negotiation.clone().unwrap_or_else(|| {
                let (version, actions, protocol, rest) = &script.options;
                let mut data = [version, actions, protocol].map(|number| number.to_be_bytes()).concat();
                data.extend_from_slice(rest);
                Answer::Packets(vec![(b'O', data)])
            }),
            _ if is_answered(command, script.options.2) => {
                let nth = seen.entry(command).or_default();
                let found = script.answers.iter().find(|(of, after, _)| *of == command && after == nth);
                *nth += 1;
                found.map_or_else(|| Answer::Packets(vec![(b'c', vec![])]), |(_, _, answer)| answer.clone())
            }
            _ => continue,
        };
        let bytes = match answer {
            Answer::Packets(packets) => packets.iter().flat_map(|(c, data)| encoded(*c, data)).collect(),
            Answer::Bytes(bytes) => bytes,
            Answer::Close => return,
            Answer::Hang => {
                stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
                let _ = stream.read(&mut [0; 16]);
                return;
            }
        };
        if stream.write_all(&bytes).is_err() {
            return;
        }
    }
}

fn encoded(command: u8, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len() + 1).unwrap();
    [&length.to_be_bytes(), [command].as_slice(), data].concat()
}

fn read_packet(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut packet = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut packet).ok()?;
    Some((packet[0], packet[1..].to_vec()))
}

/// A packet as a line; the middle of a large one by its checksum.
fn shown(command: u8, data: &[u8]) -> String {
    let command = char::from(command);
    if data.len() <= 2000 {
        return format!("{command} {}", data.escape_ascii());
    }
    let sum = data.iter().fold(0_u64, |sum, &byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let (front, back) = (data[..100].escape_ascii(), data[data.len() - 100..].escape_ascii());
    format!("{command} {} bytes, sum {sum:x}: {front} … {back}", data.len())
}
