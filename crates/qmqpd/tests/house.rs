//! House rules that no linter knows.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

/// Longer files are split.
const LINES_MAX: usize = 800;

/// Who may import whom.
const EDGES: &[(&str, &[&str])] = &[
    ("qmqp", &[]),
    ("postfix", &[]),
    ("lookup", &["postfix"]),
    ("cleanup", &["postfix"]),
    ("spool", &["postfix"]),
    ("qmqpd", &["qmqp", "postfix", "lookup", "cleanup", "spool"]),
    ("tools", &["qmqp", "postfix", "spool"]),
];

/// Crates without files, sockets, threads, clocks and randomness, and what would be one of these.
const PURE: &[&str] = &["qmqp", "postfix", "cleanup"];
const IMPURE: &[&str] = &[
    "std::fs",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
    "std::os::unix::net",
    "std::thread",
    "std::env",
    "SystemTime::now",
    "Instant::now",
    "std::process::",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn sources(below: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(below).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() && entry.file_name() != "target" {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    found
}

#[test]
fn files_are_short() {
    let lines = |path: &PathBuf| fs::read_to_string(path).unwrap().lines().count();
    let long: Vec<_> =
        sources(&root().join("crates")).into_iter().filter(|path| lines(path) > LINES_MAX).collect();
    assert!(long.is_empty(), "more than {LINES_MAX} lines: {long:?}");
}

#[test]
fn crates_import_what_they_may() {
    for (name, allowed) in EDGES {
        let manifest = fs::read_to_string(root().join("crates").join(name).join("Cargo.toml")).unwrap();
        for (other, _) in EDGES.iter().filter(|(other, _)| other != name && !allowed.contains(other)) {
            let imports = manifest.lines().any(|line| {
                line.starts_with(&format!("{other}.workspace")) || line.starts_with(&format!("{other} ="))
            });
            assert!(!imports, "{name} must not import {other}");
        }
    }
}

#[test]
fn pure_crates_touch_nothing() {
    for name in PURE {
        for path in sources(&root().join("crates").join(name).join("src")) {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap_or("");
            let used = code.lines().filter(|line| !line.trim_start().starts_with("//"));
            for line in used {
                let impure = IMPURE.iter().find(|word| line.contains(**word));
                assert!(impure.is_none(), "{} uses {}: {line}", path.display(), impure.unwrap());
            }
        }
    }
}

/// A program's man page is where its user looks first.
#[test]
fn every_program_has_a_man_page() {
    for page in ["qmqpd.8", "qmqpd-config.5", "qmqp-send.1", "qmqpctl.1"] {
        assert!(root().join("man").join(page).is_file(), "there is no man/{page}");
    }
}

/// Links in the documents lead somewhere.
#[test]
fn links_lead_somewhere() {
    let documents = fs::read_dir(root()).unwrap().chain(fs::read_dir(root().join("docs")).unwrap());
    for path in documents
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
    {
        let text = fs::read_to_string(&path).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let there = path.parent().unwrap().join(target).exists();
            assert!(there, "{} links to {target}, which is not there", path.display());
        }
    }
}
