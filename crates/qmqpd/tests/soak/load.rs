//! What the clients do: good messages of all sizes, bad ones, and half ones.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::account::{Account, Outcome};
use testbed::client::{self, request};
use testbed::random::Random;

/// Longer than anything that the server or its master may need: a client that hears nothing for so long has found a fault.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends one message after the other.
pub(crate) fn run(server: SocketAddr, number: usize, seed: u64, account: &Account, is_over: &AtomicBool) {
    for round in 0.. {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let mut random = Random::new(seed, number * 1_000_000_000 + round);
        let id = format!("soak-{number}-{round}");
        let message = Message::draw(&mut random, &id);
        account.begin(&id, message.recipients, message.content.len());
        let outcome = send(server, &message);
        account.end(&id, outcome, message.is_good);
    }
}

/// One message and how it is sent.
struct Message {
    content: Vec<u8>,
    recipients: usize,
    bytes: Vec<u8>,
    /// So many bytes are sent, all of them or fewer.
    sent: usize,
    /// In pieces of this size.
    piece: usize,
    /// It may be answered with K.
    is_good: bool,
}

impl Message {
    fn draw(random: &mut Random, id: &str) -> Self {
        let kind = random.below(100);
        let (lines, recipients) = match kind {
            0..60 => (random.below(100), 1),
            60..80 => (random.below(4000), 1 + random.below(3)),
            80..85 => (20_000 + random.below(20_000), 1),
            85..90 => (10, 2000),
            _ => (random.below(2000), 1),
        };
        let mut content = format!("Subject: {id}\nFrom: a@sender.example\n\n").into_bytes();
        for _ in 0..lines {
            content.extend_from_slice(b"0123456789abcdef0123456789abcdef\n");
        }
        content.extend_from_slice(format!("the end of {id}\n").as_bytes());
        let addresses: Vec<Vec<u8>> =
            (0..recipients).map(|at| format!("r{at}@rcpt.example").into_bytes()).collect();
        let mut addresses: Vec<&[u8]> = addresses.iter().map(Vec::as_slice).collect();
        let mut sender: &[u8] = b"a@sender.example";
        match kind {
            90..92 => addresses.clear(),
            92..94 => sender = b"list_@host.example-@[]",
            _ => {}
        }
        let bytes = request(&content, sender, &addresses);
        let sent = match kind {
            // The last byte may be missing: the message is whole without it.
            94..98 => random.below(bytes.len() - 1),
            _ => bytes.len(),
        };
        let piece = if kind >= 98 { 1 + random.below(1000) } else { bytes.len() };
        Self { is_good: !(90..98).contains(&kind), content, recipients, bytes, sent, piece }
    }
}

fn send(server: SocketAddr, message: &Message) -> Outcome {
    // The master holds the socket: nobody is ever refused.
    let Ok(mut stream) = TcpStream::connect_timeout(&server, PATIENCE) else { return Outcome::NotConnected };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let whole = message.sent == message.bytes.len();
    for piece in message.bytes[..message.sent].chunks(message.piece.max(1)) {
        if stream.write_all(piece).is_err() {
            break;
        }
    }
    if !whole && stream.shutdown(Shutdown::Both).is_ok() {
        return Outcome::Left;
    }
    let mut received = Vec::new();
    let end = stream.read_to_end(&mut received);
    let Some(reply) = client::reply(&received) else {
        // Killed in the middle: the connection ends without a whole reply.
        let is_late = end.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        return if is_late { Outcome::Late } else { Outcome::Silence };
    };
    let text = client::text(reply);
    if let Some(id) = text.strip_prefix("KOk: queued as ") {
        return Outcome::Queued(id.to_owned());
    }
    match text {
        text if text.starts_with('Z') => Outcome::Temporary(text),
        text => Outcome::Permanent(text),
    }
}
