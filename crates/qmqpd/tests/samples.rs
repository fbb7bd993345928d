//! Real messages: the samples in the packages of other projects, through Postfix and through ours.
//!
//! Both must store the same, and where nothing in a message gives cleanup(8) a reason to touch it, its body must come out
//! as it went in.
#![cfg(test)]

use std::process::ExitCode;

use testbed::case::Case;
use testbed::isolation;
use testbed::pair::Outcome;
use testbed::peers::{Peer, SAMPLES, samples};
use testbed::queue::files_below;
use testbed::suite::Suite;

/// What ends the names of messages among the samples; a directory has pictures and programs too.
const MESSAGES: &[&str] = &["txt", "raw", "eml"];

fn main() -> ExitCode {
    testbed::program::set(env!("CARGO_BIN_EXE_qmqpd"), env!("CARGO_TARGET_TMPDIR"));
    isolation::enter();
    let mut suite = Suite::default();
    suite.trials.add("samples::are_there", &[Peer::Samples], || {});
    for (package, path) in SAMPLES {
        for file in samples(path).iter().flat_map(|dir| files_below(dir)) {
            if !file.extension().is_some_and(|end| MESSAGES.iter().any(|known| *known == end)) {
                continue;
            }
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            suite.add_all(cases(&format!("{package}::{name}"), &std::fs::read(&file).unwrap()));
        }
    }
    suite.run()
}

/// The message as a QMQP client sends it, with newlines alone; and as it stands, if that is something else.
fn cases(name: &str, text: &[u8]) -> Vec<Case> {
    let plain = without_crlf(text);
    let mut cases =
        vec![Case::content(name, &plain), intact(Case::content(format!("{name}::body"), &plain), &plain)];
    if plain != text {
        let raw = Case::content(format!("{name}::crlf"), text);
        cases.push(raw.with(&["qmqpd_fix_line_endings = never"]));
    }
    cases
}

fn without_crlf(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for (index, &byte) in text.iter().enumerate() {
        if byte != b'\r' || text.get(index + 1) != Some(&b'\n') {
            out.push(byte);
        }
    }
    out
}

/// The body comes out as it went in, unless it has bytes that cleanup(8) replaces.
fn intact(case: Case, text: &[u8]) -> Case {
    let end_of_header = text.windows(2).position(|two| two == b"\n\n").unwrap_or(text.len());
    let body = text[end_of_header..].to_vec();
    let replaced = body.contains(&b'\r') || !body.ends_with(b"\n");
    case.each(move |outcome: &Outcome| {
        outcome.assert_queued();
        let message = outcome.files[0].message();
        assert!(replaced || message.ends_with(&body), "{}: the body was changed", outcome.server);
    })
}
