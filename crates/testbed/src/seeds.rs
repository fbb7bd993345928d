//! The cases of the differential suite as files, for the fuzzer to begin with.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use cleanup::{Message, NoTables, Options, fixtures};
use postfix::queue_file::classic;

use crate::case::Case;
use crate::client::Step;

/// Where the seeds go, when they are asked for instead of the comparison.
pub fn wanted() -> Option<std::path::PathBuf> {
    std::env::var_os("QMQPD_SEEDS").map(Into::into)
}

/// The longest seed in bytes: what is longer teaches a fuzzer nothing but patience.
const SEED_BYTES_MAX: usize = 1500;

/// Writes what each case sends and with which settings, below `directory`, a folder for each target of `fuzz/`.
pub fn write(directory: &Path, cases: &[Case]) {
    let mut written = BTreeSet::new();
    let mut add = |target: &str, name: &str, bytes: &[u8]| {
        if bytes.is_empty()
            || bytes.len() > SEED_BYTES_MAX
            || !written.insert((target.to_owned(), bytes.to_vec()))
        {
            return;
        }
        let folder = directory.join(target);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name.replace("::", ".").replace('/', "-")), bytes).unwrap();
    };
    for case in cases {
        add("main_cf", &case.name, case.main_cf.join("\n").as_bytes());
        let sent = case.steps.iter().find_map(|step| match step {
            Step::Send(bytes) | Step::SendPieces(bytes, _) => Some(bytes),
            _ => None,
        });
        let Some(bytes) = sent else { continue };
        add("qmqp_server", &case.name, bytes);
        let Some(Parts { content, sender, recipients }) = parts(bytes) else { continue };
        let message = [sender, b"\n", &recipients.join(&b' '), b"\n", content].concat();
        add("message", &case.name, &message);
        add("queue_file", &case.name, &queue_file(content, sender, &recipients));
        for address in std::iter::once(&sender).chain(&recipients) {
            add("address", &case.name, address);
        }
        for line in content.split(|byte| *byte == b'\n') {
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            if let Some(value) = line.get(name.len() + 1..)
                && [&b"to"[..], b"cc", b"from", b"sender", b"reply-to"].contains(&&*name.to_ascii_lowercase())
            {
                add("header", &case.name, value);
            }
        }
    }
}

/// The queue file that such a message becomes; empty for one that is refused.
fn queue_file(content: &[u8], sender: &[u8], recipients: &[&[u8]]) -> Vec<u8> {
    let mut message = Message::new(
        Arc::new(Options::default()),
        Arc::new(NoTables),
        fixtures::arrival(),
        fixtures::origin(),
    );
    let (mut records, mut envelope, mut file) = (Vec::new(), Vec::new(), Vec::new());
    message.content_bytes(content, &mut records);
    message.end_of_content(&mut records);
    message.sender(sender, &mut envelope);
    for recipient in recipients {
        message.recipient(recipient, &mut envelope);
    }
    if let Ok(finished) = message.finish().result {
        classic(&finished.parts(&envelope, &records), &mut file).unwrap();
    }
    file
}

/// What a whole request consists of.
struct Parts<'r> {
    content: &'r [u8],
    sender: &'r [u8],
    recipients: Vec<&'r [u8]>,
}

/// Takes a request apart.
fn parts(request: &[u8]) -> Option<Parts<'_>> {
    let (mut inner, _) = netstring(request)?;
    let mut parts = Vec::new();
    while !inner.is_empty() {
        let (part, rest) = netstring(inner)?;
        parts.push(part);
        inner = rest;
    }
    let [content, sender, recipients @ ..] = &*parts else { return None };
    Some(Parts { content, sender, recipients: recipients.to_vec() })
}

fn netstring(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    let len: usize = std::str::from_utf8(&bytes[..colon]).ok()?.parse().ok()?;
    let rest = &bytes[colon + 1..];
    let (payload, rest) = rest.split_at_checked(len)?;
    Some((payload, rest.strip_prefix(b",")?))
}
