//! House rules that no linter knows.
#![cfg(test)]

#[path = "house/imports.rs"]
mod imports;

use std::fs;
use std::path::{Path, PathBuf};

#[path = "house/help.rs"]
mod help;
#[path = "house/limits.rs"]
mod limits;
#[path = "house/linked.rs"]
mod linked;
#[path = "house/words.rs"]
mod words;

/// Longer files are split.
const LINES_MAX: usize = 800;

/// Who may import whom.
const EDGES: &[(&str, &[&str])] = &[
    ("qmqp", &[]),
    ("smtp", &[]),
    ("postfix", &[]),
    ("lookup", &["postfix"]),
    ("cleanup", &["postfix"]),
    ("spool", &["postfix"]),
    ("delivery", &["postfix", "smtp"]),
    ("host", &["postfix"]),
    ("daemon", &["postfix", "host", "lookup", "spool"]),
    ("intake", &["postfix", "lookup", "cleanup", "spool", "daemon"]),
    ("qmgr", &["postfix", "lookup", "cleanup", "smtp", "qmqp", "delivery", "spool", "daemon", "intake"]),
    ("qmqpd", &["qmqp", "postfix", "lookup", "cleanup", "delivery", "spool", "daemon", "intake", "qmgr"]),
    ("tools", &["qmqp", "postfix", "host", "spool"]),
];

/// What tests share: it may import anything, and only tests import it.
const TEST_BED: &str = "testbed";

/// The simulated world: the same.
const WORLD: &str = "sim";

/// Crates in which no file, and no folder, imports another one that imports it in turn, by whatever detour.
const WITHOUT_CIRCLES: &[&str] =
    &["cleanup", "delivery", "intake", "lookup", "postfix", "qmqp", "smtp", "spool"];

/// Which folders and files directly below a large crate import which others of it: each only what stands above it, so that none
/// imports in a circle. A new arrow is a line here, or a sign that something stands in the wrong place.
const MODULES: &[(&str, &[Imports])] = &[
    (
        "daemon",
        &[
            ("address_space", &[]),
            ("inherited", &[]),
            ("log", &[]),
            ("peer_address", &[]),
            ("port", &[]),
            ("queue_directory", &[]),
            ("exit", &["log"]),
            ("jail", &[]),
            ("config", &["jail", "log", "port", "queue_directory"]),
            ("master", &["address_space", "config", "exit", "inherited", "jail", "log", "queue_directory"]),
            ("control", &["config", "exit", "master"]),
            ("service", &["address_space", "config", "inherited", "jail", "log", "peer_address"]),
        ],
    ),
    (
        "qmgr",
        &[
            ("request", &[]),
            ("wire", &["request"]),
            ("fixtures", &["request"]),
            ("agent", &["request", "wire"]),
            ("delivery_line", &["request"]),
            ("lines", &["delivery_line"]),
            ("settings", &[]),
            ("mail_copy", &[]),
            ("mailbox", &[]),
            ("network", &["delivery_line", "mail_copy", "request", "wire"]),
            ("pipe", &["agent", "delivery_line", "mail_copy", "mailbox", "request"]),
            ("maildir", &["agent", "delivery_line", "mail_copy", "mailbox", "request"]),
            ("program", &["network", "pipe"]),
            ("network_agent", &["network", "program"]),
            ("manager", &["delivery_line", "lines", "program", "request", "settings", "wire"]),
        ],
    ),
    (
        "qmqpd",
        &[
            ("peer", &[]),
            ("space", &[]),
            ("client", &["peer"]),
            ("access", &["client"]),
            ("verdict", &["space"]),
            ("session", &["access", "client", "peer", "space", "verdict"]),
            ("lists", &[]),
            ("program", &["lists"]),
            ("server", &["access", "peer", "program", "session", "verdict"]),
            ("check", &[]),
            ("cli", &["check", "program", "server"]),
        ],
    ),
];

/// A module, and those that it imports.
type Imports = (&'static str, &'static [&'static str]);

/// Crates without files, sockets, threads, clocks and randomness, and what would be one of these.
const PURE: &[&str] = &["qmqp", "postfix", "cleanup", "delivery", "smtp"];
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

/// Where memory safety is our own affair: how many blocks, functions and `impl`s are unsafe, and why there is no other way.
const UNSAFE: &[(&str, usize, &str)] = &[
    (
        "lookup/src/native/posix.rs",
        9,
        "regcomp(3), regexec(3) and re_search() of the C library, as Postfix's regexp: tables read them",
    ),
    (
        "lookup/src/native/pcre.rs",
        22,
        "libpcre2, with flags of Postfix's pcre: tables, limits and callouts that the safe wrapper lacks",
    ),
    ("daemon/src/inherited.rs", 5, "descriptors that a master(8) left open at agreed numbers"),
    ("daemon/src/master/mod.rs", 1, "takes the descriptors that systemd left, first thing in the process"),
    (
        "daemon/src/service/start.rs",
        1,
        "takes the descriptors that a master(8) left, first thing in the process",
    ),
    ("daemon/src/service/worker.rs", 1, "fork(2), while there is one thread"),
    (
        "qmqpd/tests/sandbox/probe.rs",
        4,
        "tries to map memory that can be run, and calls that no safe wrapper offers",
    ),
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

/// A crate that is not in the list could import anything.
#[test]
fn every_crate_has_its_edges() {
    let mut found: Vec<String> = fs::read_dir(root().join("crates"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != TEST_BED && name != WORLD)
        .collect();
    let mut known: Vec<&str> = EDGES.iter().map(|(name, _)| *name).collect();
    found.sort();
    known.sort_unstable();
    assert_eq!(found, known, "below crates/, and in EDGES");
}

#[test]
fn only_tests_import_the_test_bed() {
    for (name, _) in EDGES {
        let manifest = fs::read_to_string(root().join("crates").join(name).join("Cargo.toml")).unwrap();
        for section in manifest.split("\n[").skip(1) {
            let (title, lines) = section.split_once(']').unwrap();
            let imports = lines.lines().any(|line| line.starts_with(TEST_BED) || line.starts_with("sim."));
            assert!(
                !imports || title.ends_with("dev-dependencies"),
                "{name} imports {TEST_BED} in [{title}]"
            );
        }
    }
}

/// What a folder or a file stands on does not stand on it: so each can be read, tested and taken out by itself.
#[test]
fn files_import_in_no_circle() {
    for name in WITHOUT_CIRCLES {
        let src = root().join("crates").join(name).join("src");
        let edges = imports::edges(&src, &sources(&src));
        assert!(edges.len() > 2, "{name}: {edges:?}: files import in another way now");
        for edges in [&edges, &imports::folders(&edges)] {
            let knots = imports::knots(edges);
            let is_in_one = |(from, to): &&(String, String)| {
                knots.iter().any(|knot| knot.contains(from) && knot.contains(to))
            };
            let arrows: Vec<_> = edges.iter().filter(is_in_one).collect();
            assert!(knots.is_empty(), "{name}: these import each other: {knots:?}; the arrows: {arrows:?}");
        }
    }
}

/// What only tests turn on in a crate is in no program: manifests ask for it among the dev-dependencies alone.
#[test]
fn no_program_has_what_is_for_tests() {
    const FOR_TESTS: &[&str] = &["\"simulated\"", "\"fixtures\""];
    let manifests = EDGES.iter().map(|(name, _)| format!("crates/{name}/Cargo.toml"));
    for path in manifests.chain(["Cargo.toml".to_owned()]) {
        let manifest = fs::read_to_string(root().join(&path)).unwrap();
        for section in manifest.split("\n[").skip(1) {
            let (title, lines) = section.split_once(']').unwrap();
            let mut requests = lines.lines().filter(|line| line.contains("features = ["));
            let asks = requests.any(|line| FOR_TESTS.iter().any(|feature| line.contains(feature)));
            assert!(!asks || title == "dev-dependencies", "{path} asks for it in [{title}]");
        }
    }
}

/// `#![cfg(test)]` at the head of a test program is all that the linter must know: it may panic (clippy.toml).
#[test]
fn no_test_program_silences_the_linter() {
    for path in sources(&root().join("crates")) {
        if !path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == TEST_BED) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let silences = text.lines().any(|line| line.starts_with(concat!("#!", "[allow")));
        assert!(!silences, "{} silences lints for a whole program", path.display());
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

/// Which way a message goes is decided in one place; `config` and the table of parameters only name the setting.
#[test]
fn only_the_back_ends_ask_where_mail_goes() {
    let asks = |path: &PathBuf| fs::read_to_string(path).unwrap().contains(".qmqpd_submit");
    let asking = |name: &str| -> Vec<PathBuf> {
        sources(&root().join("crates").join(name).join("src")).into_iter().filter(asks).collect()
    };
    assert!(!asking("intake").is_empty());
    for name in ["daemon", "qmqpd"] {
        assert_eq!(asking(name), Vec::<PathBuf>::new(), "{name} asks");
    }
}

/// `println!` and its kind panic when the reader has gone or the disk is full: writeln!, and do without the answer.
#[test]
fn no_program_prints_in_a_way_that_panics() {
    for (name, _) in EDGES {
        for path in sources(&root().join("crates").join(name).join("src")) {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap_or("");
            let used = code.lines().filter(|line| !line.trim_start().starts_with("//"));
            for line in used {
                assert!(
                    !line.contains("print!(") && !line.contains("println!("),
                    "{}: {line}",
                    path.display()
                );
            }
        }
    }
}

/// A program's man page is where its user looks first.
#[test]
fn every_program_has_a_man_page() {
    for page in ["qmqpd.8", "qmqpd-config.5", "qmqp-send.1", "qmqp-bench.1", "qmqpctl.1"] {
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

/// One more `unsafe` is worth a line above, with its reason.
#[test]
fn unsafe_code_is_counted_and_justified() {
    let crates = root().join("crates");
    let mut found = Vec::new();
    for path in sources(&crates) {
        let name = path.strip_prefix(&crates).unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let code = text.lines().map(str::trim_start).filter(|line| !line.starts_with("//"));
        // A `"` before the word: it is quoted, as in this file.
        let count = code
            .flat_map(|line| line.match_indices("unsafe ").map(move |(at, _)| line.split_at(at).0))
            .filter(|before| !before.contains('"'))
            .count();
        if count > 0 {
            found.push((name, count));
        }
    }
    found.sort();
    let known: Vec<_> = UNSAFE.iter().map(|(name, count, _)| ((*name).to_owned(), *count)).collect();
    let mut sorted = known.clone();
    sorted.sort();
    assert_eq!(found, sorted, "found, and listed with a reason");
    assert!(UNSAFE.iter().all(|(_, _, reason)| reason.len() > 20));
}

/// The head of a library says what it is, what it is not, which two types matter, and shows an example, which
/// `cargo test --doc` runs.
#[test]
fn crates_begin_with_a_page() {
    for name in
        ["cleanup", "daemon", "delivery", "intake", "lookup", "postfix", "qmqp", "smtp", "spool", "testbed"]
    {
        let text = fs::read_to_string(root().join("crates").join(name).join("src/lib.rs")).unwrap();
        let head: Vec<&str> = text.lines().take_while(|line| line.starts_with("//!")).collect();
        let places = ["//! # What it is not", "//! # The two types that matter", "//! # Example", "//! ```"]
            .map(|wanted| head.iter().rposition(|line| *line == wanted));
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{name}: {places:?}");
    }
}

/// Names of types that say nothing without the file that they are in; each was in use for several things.
const BARE_NAMES: &[&str] =
    &["Failure", "Found", "Kept", "Overflow", "Place", "Places", "Seen", "Standing", "State", "Waiting"];

/// A type's name says what it is the state of, or what failed: a reader meets it in other files than its own.
#[test]
fn types_say_what_they_are() {
    let mut wrong = Vec::new();
    for directory in ["crates", "bench/src", "fuzz/fuzz_targets"] {
        for path in sources(&root().join(directory)) {
            let text = fs::read_to_string(&path).unwrap();
            for (number, line) in (1..).zip(text.lines()) {
                let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
                let is_type = words.any(|word| matches!(word, "struct" | "enum" | "type" | "trait"));
                if is_type && words.next().is_some_and(|name| BARE_NAMES.contains(&name)) {
                    wrong.push(format!("{}:{number}: {}", path.display(), line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "say in the name what it is:\n{}", wrong.join("\n"));
}

/// docs/dependencies.md has an entry for each crate that we name, and for none that we do not.
#[test]
fn every_dependency_has_its_reason() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (_, table) = manifest.split_once("[workspace.dependencies]").unwrap();
    let table = table.split("\n[").next().unwrap();
    let mut named: Vec<&str> = table
        .lines()
        .filter(|line| !line.contains("path = \"crates/"))
        .filter_map(|line| line.split_once(" = ").map(|(name, _)| name))
        .collect();
    let page = fs::read_to_string(root().join("docs/dependencies.md")).unwrap();
    let entries = page.lines().filter_map(|line| line.strip_prefix("- **")?.split("**").next());
    let mut explained: Vec<&str> = entries.collect();
    for list in [&mut named, &mut explained] {
        list.sort_unstable();
        list.dedup();
    }
    assert_eq!(named, explained, "named in Cargo.toml, and explained in docs/dependencies.md");
}

/// What every machine has that these tests can run on.
const ALWAYS_THERE: &[&str] =
    &["/bin/sh", "/bin/true", "/dev/full", "/dev/null", "/usr/lib", "id", "sh", "sleep", "sync"];

/// Programs that tests start or look for, and other files of packages, stand in the table of .ci/peers, so that a fresh machine
/// gets them, or says at once that it cannot. A bare name stands for any directory.
#[test]
fn every_program_that_a_test_starts_is_fetched() {
    let script = fs::read_to_string(root().join(".ci/peers")).unwrap();
    let (_, table) = script.split_once("\ntable='\n").unwrap();
    let (table, _) = table.split_once("\n'\n").unwrap();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split('|').map(str::trim).collect()).collect();
    assert!(rows.iter().all(|row| row.len() == 4), "{table}");
    let files: Vec<&str> = rows.iter().flat_map(|row| row[1].split(' ')).collect();
    let is_fetched = |name: &str| {
        files.iter().any(|file| {
            let lies_in =
                file.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            lies_in || file.rsplit('/').next() == Some(name)
        })
    };
    let mut count = 0;
    for path in sources(&root().join("crates")) {
        let is_of_tests =
            path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == TEST_BED);
        if !is_of_tests || path.ends_with("house.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for name in files_named(&text) {
            count += 1;
            let known = ALWAYS_THERE.contains(&name) || is_fetched(name);
            assert!(known, "{}: {name} has no line in .ci/peers", path.display());
        }
    }
    assert!(count > 60, "{count} files found: tests name them in another way now");
}

/// Programs that are started, and paths where packages and the kernel put things.
fn files_named(text: &str) -> Vec<&str> {
    let started = ["Command::new(\"", "command(\"", "posix_spawn(\""];
    let programs = started.iter().flat_map(|before| text.split(before).skip(1));
    let directories = ["/usr/", "/bin/", "/sbin/", "/dev/"];
    let paths = text.split('"').filter(|word| directories.iter().any(|start| word.starts_with(start)));
    programs
        .filter_map(|rest| rest.split('"').next())
        .chain(paths)
        .map(|name| name.trim_end_matches('\\'))
        .filter(|name| !name.contains([' ', '{']))
        .collect()
}

/// The arrows among the modules of a crate are those of the table: no further one, and none that is gone.
#[test]
fn modules_import_what_they_may() {
    for (name, modules) in MODULES {
        let src = root().join("crates").join(name).join("src");
        let found = imports::folders(&imports::edges(&src, &sources(&src)));
        let listed = modules
            .iter()
            .flat_map(|(from, allowed)| allowed.iter().map(|to| ((*from).to_owned(), (*to).to_owned())));
        let listed: std::collections::BTreeSet<_> = listed.collect();
        let news: Vec<_> = found.difference(&listed).collect();
        assert!(news.is_empty(), "{name}: these arrows are new: {news:?}");
        let gone: Vec<_> = listed.difference(&found).collect();
        assert!(gone.is_empty(), "{name}: these arrows are no more: {gone:?}");
        for (at, (from, allowed)) in modules.iter().enumerate() {
            let above = |module: &&&str| modules[..at].iter().any(|(other, _)| other == *module);
            let below: Vec<_> = allowed.iter().filter(|module| !above(module)).collect();
            assert!(below.is_empty(), "{name}: {from} imports {below:?}, which must stand above it");
        }
    }
}
