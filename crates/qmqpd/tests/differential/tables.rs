//! Lists in files and lookup tables on disk.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::policy::reasoned;
use testbed::case::{Case, RECIPIENT, SENDER};
use testbed::client::request;
use testbed::peers::{self, Peer};
use testbed::postfix::{write_config, write_old};

/// Files by name, and their text. Those that end in `.map` are also built as `lmdb:`, `cdb:` and `hash:`,
/// those that end in `.btree` as `btree:`.
const FILES: &[(&str, &str)] = &[
    ("list", "# who may send\n10.0.0.1\n127.0.0.1, 10.0.0.2\n"),
    ("list-dos", "10.0.0.1\r\n127.0.0.1\r\n"),
    ("list-other", "10.0.0.1\n10.0.0.2\n"),
    ("list-not", "!127.0.0.1\n127.0.0.0/8\n"),
    ("list-broken", "127.0.0.1/8\n127.0.0.1\n"),
    ("list-table", "inline:{127.0.0.1=x}\n"),
    ("list-dollar", "$mynetworks\n"),
    ("clients.map", "127.0.0.1 yes\n10.0.0.1 yes\n"),
    ("names.map", "# a comment\nlocalhost  some text\n  that goes on\n"),
    ("others.map", "10.0.0.1 yes\n"),
    ("clients.btree", "127.0.0.1 yes\n10.0.0.1 yes\n"),
    ("names.btree", "localhost some text\n"),
    ("capitals", "LocalHost yes\n"),
    ("duplicate", "127.0.0.1 a\n127.0.0.1 b\n"),
    ("no-value", "127.0.0.1\n"),
    ("cidr", "# networks\n10.0.0.0/8 no\n127.0.0.0/8 yes\n"),
    ("cidr-if", "if 127.0.0.0/8\n127.0.0.2 no\n127.0.0.1 yes\nendif\n"),
    ("cidr-if-not", "if !127.0.0.0/8\n127.0.0.1 yes\nendif\n"),
    ("cidr-broken", "127.0.0.1/8 yes\n[127.0.0.1 yes\n127.0.0.1\n10.0.0.0/8 x\n"),
    ("cidr-broken-then-good", "127.0.0.1/8 yes\n127.0.0.1 yes\n"),
    ("regexp", "/^127\\.0\\.0\\.1$/ yes\n"),
    ("regexp-case", "/^LOCALHOST$/ yes\n"),
    ("regexp-case-off", "/^LOCALHOST$/i yes\n"),
    ("regexp-not", "!/^10\\./ yes\n"),
    ("regexp-if", "if /^127/\n/\\.1$/ yes\nendif\n"),
    ("regexp-broken", "/^127 yes\n/a/q yes\n/^(127)/ $2\n"),
    ("regexp-back", "/^127\\.(0)\\.\\1\\.1$/ yes\n"),
    ("regexp-brackets", "/^[[:alpha:]]+$/ yes\n"),
    ("pcre", "/^\\d+\\.\\d+\\.\\d+\\.1$/ yes\n"),
    ("pcre-lookahead", "/^(?!10)127/ yes\n"),
    ("pcre-flags", "/^local host$/x yes\n"),
    // Nine nested repetitions: `localhost` costs more backtracking than either server allows.
    ("pcre-endless", "/^((((((((([a-z]+)+)+)+)+)+)+)+)+)+[0-9]$/ yes\n"),
    ("list-continued", "10.0.0.1 #own\n  127.0.0.1\n"),
    ("pcre-broken", "/(/ yes\n/a/q yes\n"),
];

/// Lists that let the client in.
const YES: &[&str] = &[
    "/DIR/list",
    "/DIR/list-dos",
    "/DIR/list-table",
    "!/DIR/list-other, 127.0.0.1",
    "texthash:/DIR/clients.map",
    "texthash:/DIR/names.map",
    "lmdb:/DIR/clients.map",
    "lmdb:/DIR/names.map",
    "hash:/DIR/clients.map",
    "hash:/DIR/names.map",
    "btree:/DIR/names.btree",
    "cdb:/DIR/clients.map",
    "cdb:/DIR/names.map",
    "cidr:/DIR/cidr",
    "cidr:/DIR/cidr-if",
    "cidr:/DIR/cidr-broken-then-good",
    "regexp:/DIR/regexp",
    "regexp:/DIR/regexp-case",
    "regexp:/DIR/regexp-not",
    "regexp:/DIR/regexp-if",
    "regexp:/DIR/regexp-brackets",
    "pcre:/DIR/pcre",
    "pcre:/DIR/pcre-lookahead",
    "pcre:/DIR/pcre-flags",
    "unionmap:{cdb:/DIR/others.map,lmdb:/DIR/clients.map}",
    "randmap:{yes}",
    "randmap:{yes, {no}}",
];

/// Lists that do not.
const NO: &[&str] = &[
    "/DIR/list-other",
    "/DIR/list-not",
    "/DIR/list-dollar",
    "!/DIR/list, 127.0.0.1",
    "!lmdb:/DIR/clients.map, 127.0.0.1",
    "texthash:/DIR/others.map",
    "texthash:/DIR/capitals",
    "texthash:/DIR/no-value",
    "lmdb:/DIR/others.map",
    "hash:/DIR/others.map",
    "!btree:/DIR/clients.btree, 127.0.0.1",
    "cdb:/DIR/others.map",
    "cidr:/DIR/cidr-if-not",
    "cidr:/DIR/cidr-broken",
    "regexp:/DIR/regexp-case-off",
    "regexp:/DIR/regexp-broken",
    "pcre:/DIR/pcre-broken",
];

/// Lists that cannot be used.
const BROKEN: &[&str] = &["randmap:{}", "randmap:yes", "/DIR/list-broken", "texthash:/DIR/duplicate"];

pub(crate) fn cases() -> Vec<Case> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tables");
    // Without Postfix there is no postmap, and no case runs; but each is there by its name, as ignored.
    if Peer::Postfix.missing().is_none() {
        build(&dir);
    }
    let with_list = |case: Case, list: &str| {
        case.with(&[&format!(
            "qmqpd_authorized_clients = {}",
            list.replace("/DIR", &dir.display().to_string())
        )])
    };
    let whole = request(b"Subject: tables\n\nhello\n", SENDER, &[RECIPIENT]);
    let mut cases = Vec::new();
    for list in YES {
        cases.push(with_list(Case::bytes(format!("tables::yes_{list}"), whole.clone()), list));
    }
    for list in NO {
        let case = Case::new(format!("tables::no_{list}"), vec![]);
        let no = "DError: localhost[127.0.0.1] is not authorized to use this service";
        cases.push(with_list(reasoned(case.reply(no)), list));
    }
    for list in BROKEN {
        let case =
            Case::new(format!("tables::broken_{list}"), vec![]).reply("ZError: server configuration error");
        cases.push(with_list(reasoned(case), list));
    }
    cases.extend(differences(&whole).into_iter().map(|(case, list)| with_list(case, list)));
    cases
}

/// Lists that we read otherwise, on purpose.
fn differences(whole: &[u8]) -> Vec<(Case, &'static str)> {
    const REFUSED: &str = "DError: localhost[127.0.0.1] is not authorized to use this service";
    const UNUSABLE: &str = "ZError: server configuration error";
    vec![
        (
            Case::bytes("tables::unix", whole.to_vec()).differs(
                "unsupported-table-types",
                |postfix| postfix.assert_refused(REFUSED),
                |ours| ours.assert_refused(UNUSABLE),
            ),
            "unix:passwd.byname",
        ),
        (
            Case::bytes("tables::continued_line", whole.to_vec())
                .differs(
                    "pattern-files-follow-the-line-rules-of-postfix-312",
                    |postfix| postfix.assert_queued(),
                    |ours| ours.assert_refused(REFUSED),
                )
                .until((3, 8)),
            "/DIR/list-continued",
        ),
        (
            Case::new("tables::endless_expression", vec![]).differs(
                "an-expression-that-exceeds-the-limits-of-its-engine-is-answered-z",
                |postfix| postfix.assert_refused(REFUSED),
                |ours| ours.assert_refused(UNUSABLE),
            ),
            "pcre:/DIR/pcre-endless",
        ),
        (
            Case::bytes("tables::back_reference", whole.to_vec()).differs(
                "back-references-in-regexp-tables-are-rejected",
                |postfix| postfix.assert_queued(),
                |ours| ours.assert_refused(UNUSABLE),
            ),
            "regexp:/DIR/regexp-back",
        ),
    ]
}

/// Writes the files, and builds the databases with Postfix's own postmap.
fn build(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    let config = write_config(dir, "compatibility_level = 3.6\n", "");
    for (name, text) in FILES {
        let path = dir.join(name);
        write_old(&path, text);
        let kinds: &[&str] = match name.rsplit_once('.') {
            Some((_, "map")) => &["lmdb", "cdb", "hash"],
            Some((_, "btree")) => &["btree"],
            _ => &[],
        };
        for kind in kinds {
            let postmap = peers::file("/usr/sbin/postmap").unwrap();
            let status = Command::new(postmap)
                .arg("-c")
                .arg(&config)
                .arg(format!("{kind}:{}", path.display()))
                .status();
            assert!(status.unwrap().success(), "postmap {kind}:{}", path.display());
        }
    }
}
