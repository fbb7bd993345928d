//! Plain English, as far as a machine can see it: turns that make a reader stop, and lines that are too long for a terminal.
//!
//! The files that are held to it are listed below. Source files are held to it as a whole: error texts, log lines, help
//! and comments alike. What a sentence should say instead is beside each turn.

use std::fs;
use std::path::PathBuf;

use super::{root, sources};

/// Turns, in lower case, and what to write instead. They are found as whole words.
const BANNED: &[(&str, &str)] = &[
    ("nobody", "no client, no user, no process"),
    ("somebody", "the client, another user"),
    ("somebody's", "the client's, another user's"),
    ("anybody", "any client, any user"),
    ("everybody", "all clients, every user"),
    ("whoever", "the client that, the user who"),
    ("is none", "is not a …; there is no …"),
    ("are none", "are not …; there are no …"),
    ("that is no", "that is not a …"),
    ("which is no", "which is not a …"),
    ("it is no", "it is not a …"),
    ("is no more than", "is only"),
    ("him who", "the client that, the user who"),
    ("who has it", "the process that …"),
    ("for good", "permanently"),
    ("lets in", "accepts, authorizes"),
    ("let in", "accepted, authorized"),
    ("may have it", "may use it"),
    ("has it read", "reload"),
    ("give way", "drain, yield"),
    ("gives way", "drains, yields"),
    ("way out", "remedy; say what it is"),
    ("of its own accord", "by itself"),
    ("hears z", "is answered Z"),
    ("hear z", "are answered Z"),
    ("hears so", "is told"),
    ("hear so", "are told"),
    ("is to be foreseen", "can be predicted"),
    ("worn out", "at its limit"),
    ("lest", "so that … not"),
];

/// Documents that are held to it.
const DOCUMENTS: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "bench/README.md",
    "docs/delivery.md",
    "docs/dependencies.md",
    "docs/durability.md",
    "docs/fuzzing.md",
    "docs/limits.md",
    "docs/postfix.md",
    "docs/postfix-differences.md",
    "docs/queue-file.md",
    "docs/testing.md",
    "docs/threat-model.md",
    "man/qmqpd.8",
    "man/qmqpd-config.5",
    "man/qmqpctl.1",
    "man/qmqp-send.1",
    "man/qmqp-bench.1",
];

/// Sources that are held to it, below `crates/`: a file, or all in a directory.
const SOURCES: &[&str] = &[
    "cleanup/src",
    "daemon/src",
    "delivery/src",
    "host/src",
    "intake/src",
    "lookup/src",
    "postfix/src",
    "qmqp/src",
    "qmqpd/src",
    "smtp/src",
    "spool/src",
    "tools/src",
];

/// Turns that contain a banned one and are fine.
const FINE: &[&str] = &[" no longer ", " there are none ", " there is none "];

/// Lines in which a turn stands for something else: the system user.
const EXCEPTIONS: &[&str] =
    &["`nobody`", "\"nobody\"", "=nobody", ".Ql nobody", "user nobody", "value: nobody", "\"everybody\""];

/// Columns of a line of a document, apart from what programs print and from the tables of `WIDE`.
const COLUMNS_MAX: usize = 120;

/// Documents with rows of tables that are wider: each row is a sentence that would not be read in two.
const WIDE: &[&str] = &["ARCHITECTURE.md", "docs/limits.md", "docs/threat-model.md"];

fn documents() -> impl Iterator<Item = (PathBuf, String)> {
    DOCUMENTS.iter().map(|name| (root().join(name), fs::read_to_string(root().join(name)).unwrap()))
}

/// The banned turns of a line, as `turn (write …)`.
fn found(line: &str) -> Vec<String> {
    if EXCEPTIONS.iter().any(|exception| line.contains(exception)) {
        return Vec::new();
    }
    // A full stop, comma, colon or bracket ends a turn; `None` is a value of Rust.
    let line = line.replace("`None`", "|").replace(['.', ',', ';', ':', '(', ')'], " | ");
    let words: Vec<String> = line
        .split(|c: char| !c.is_alphanumeric() && !matches!(c, '\'' | '_' | '|'))
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    let line = format!(" {} ", words.join(" "));
    let line = FINE.iter().fold(line, |line, fine| line.replace(fine, " "));
    let is_there = |turn: &str| line.contains(&format!(" {turn} "));
    BANNED
        .iter()
        .filter(|(turn, _)| is_there(turn))
        .map(|(turn, better)| format!("\"{turn}\" (write: {better})"))
        .collect()
}

#[test]
fn sentences_are_plain() {
    let files = SOURCES.iter().map(|name| root().join("crates").join(name));
    let files = files.flat_map(|path| if path.is_file() { vec![path] } else { sources(&path) });
    let sources = files.map(|path| (path.clone(), fs::read_to_string(path).unwrap()));
    let mut wrong = Vec::new();
    for (path, text) in documents().chain(sources) {
        for (number, line) in (1..).zip(text.lines()) {
            wrong.extend(found(line).into_iter().map(|turn| format!("{}:{number}: {turn}", path.display())));
        }
    }
    assert!(wrong.is_empty(), "hard to read:\n{}", wrong.join("\n"));
}

#[test]
fn documents_fit_a_terminal() {
    let mut long = Vec::new();
    for (path, text) in documents() {
        let has_wide_tables = WIDE.iter().any(|name| path == root().join(name));
        let is_long = |line: &str| {
            let is_exempt = line.starts_with('.') || line.starts_with("    ");
            line.chars().count() > COLUMNS_MAX && !is_exempt && !(has_wide_tables && line.starts_with('|'))
        };
        let lines = (1..).zip(text.lines()).filter(|(_, line)| is_long(line));
        long.extend(lines.map(|(number, _): (usize, _)| format!("{}:{number}", path.display())));
    }
    assert!(long.is_empty(), "more than {COLUMNS_MAX} columns: {long:?}");
}

#[test]
fn turns_are_found() {
    assert_eq!(found("lets Nobody in, for good.").len(), 2);
    assert_eq!(found("the system user `nobody`"), [""; 0]);
    assert_eq!(found("a forgood, nobodys, for: good, there is none"), [""; 0]);
}
