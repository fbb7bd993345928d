//! Lookup tables with random contents, asked by `postmap -q` and by ours: same answers, same warnings.
//!
//! The contents follow from the number of the table, so a failure names a table that can be had again.
#![cfg(test)]

mod berkeley;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{ExitCode, Stdio};

use lookup::{Options, table};
use testbed::peers::{self, Peer};
use testbed::postfix::{scratch, write_config, write_old};
use testbed::trials::Trials;

const TABLES_PER_KIND: u64 = 16;

fn main() -> ExitCode {
    testbed::program::set(env!("CARGO_BIN_EXE_qmqpd"), env!("CARGO_TARGET_TMPDIR"));
    let mut trials = Trials::default();
    for kind in [
        "cidr", "regexp", "pcre", "texthash", "lmdb", "cdb", "hash", "btree", "inline", "unionmap", "pipemap",
    ] {
        trials.add(&format!("tables::{kind}"), &[Peer::Postfix], move || compare(kind));
    }
    berkeley::add(&mut trials);
    trials.run()
}

/// Numbers that look random and follow from the first one.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % sides
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.roll(from.len())]
    }

    fn many(&mut self, most: usize, piece: impl Fn(&mut Self) -> String) -> String {
        (0..=self.roll(most)).map(|_| piece(self)).collect()
    }
}

const NAMES: &[&str] = &[
    "a.example",
    "b.a.example",
    "Example.COM",
    "x",
    "k1",
    "10.0.0.1",
    "straße.example",
    "MÜNCHEN.example",
    "a=b",
    "key:",
    "a\\",
    "\"q\"",
    "example",
    "abc",
    "aaa",
];
const ENDS: &[&str] = &["\n", "\n", "\n", "\n\n", "\n# comment\n", "\n  more\n", "\r\n", " \n", "\n \n"];
const VALUES: &[&str] =
    &["ok", "ok", "REJECT  two words", "", "v", "$1", "x$$", "${1}y$(1)", "$2", "${1", "$", "$a"];
const ATOMS: &[&str] = &[
    "a",
    "b",
    ".",
    "[a-c]",
    "(a)",
    "(b|c)",
    "x*",
    "(x+)?",
    "^",
    "$",
    "[.]",
    "\\.",
    "(",
    "[",
    "[[:alpha:]]",
    "\\b",
    "a{2}",
    "\\1",
    "k(.)",
    "example",
    "\\(",
    ")",
];
const JUNK: &[&str] =
    &["a", "b", "0", "1", ".", "/", ":", "[", "]", "!", "#", "$", "(", ")", "\\", "=", " ", "\t"];

fn junk(dice: &mut Dice) -> String {
    dice.many(8, |dice| dice.pick(JUNK).to_owned())
}

fn address(dice: &mut Dice) -> String {
    if dice.roll(4) == 0 {
        return dice
            .pick(&["::1", "2001:db8::1", "fe80::1", "2001:db8:1::", "::", "1:2:3:4:5:6:7:8"])
            .to_owned();
    }
    let mut octet = || dice.pick(&["0", "1", "10", "127", "192", "255"]);
    format!("{}.{}.{}.{}", octet(), octet(), octet(), octet())
}

fn network(dice: &mut Dice) -> String {
    let address = address(dice);
    let bits = match address.contains(':') {
        true => dice.pick(&["0", "16", "32", "64", "127", "128", "129"]),
        false => dice.pick(&["0", "1", "8", "16", "24", "31", "32", "033", "x", ""]),
    };
    // Half of them without bits behind the mask, or hardly any table has a good rule.
    let address = match (dice.roll(2), bits.parse().ok().filter(|&bits: &u32| bits <= 32)) {
        (0, Some(bits)) if !address.contains(':') => {
            let whole = u32::from(address.parse::<std::net::Ipv4Addr>().unwrap());
            std::net::Ipv4Addr::from(whole & u32::MAX.checked_shl(32 - bits).unwrap_or(0)).to_string()
        }
        _ => address,
    };
    let not = dice.pick(&["", "", "", "!", "! !"]);
    match dice.roll(5) {
        0 => format!("{not}{address}"),
        1 => format!("{not}[{address}]/{bits}"),
        2 => format!("{not}[{address}/{bits}]"),
        _ => format!("{not}{address}/{bits}"),
    }
}

fn expression(kind: &str, dice: &mut Dice, flags: &[&str]) -> String {
    let (not, delimiter) = (dice.pick(&["", "", "", "!", "! "]), dice.pick(&["/", "/", "|"]));
    let mut pattern = dice.many(4, |dice| dice.pick(ATOMS).to_owned());
    if kind == "regexp" {
        // These are refused (docs/postfix-differences.md).
        pattern = pattern.replace("\\1", "b");
    }
    let close = if dice.roll(8) == 0 { "" } else { delimiter };
    format!("{not}{delimiter}{pattern}{close}{}", dice.pick(flags))
}

/// One line of a table of this kind, with its end.
fn line(kind: &str, dice: &mut Dice) -> String {
    let flags: &[&str] = match kind {
        "regexp" => &["", "", "i", "m", "x", "q"],
        _ => &["", "", "i", "m", "s", "x", "A", "E", "U", "X", "q"],
    };
    let blank = dice.pick(&[" ", "\t", "  ", ""]);
    let rule = |dice: &mut Dice| if kind == "cidr" { network(dice) } else { expression(kind, dice, flags) };
    let text = match (kind, dice.roll(12)) {
        (_, 0) => junk(dice),
        ("cidr" | "regexp" | "pcre", 1) => format!("{}{}", dice.pick(&["if ", "IF ", "if !"]), rule(dice)),
        ("cidr" | "regexp" | "pcre", 2) => dice.pick(&["endif", "ENDIF ", "endif x"]).to_owned(),
        ("regexp", 3) => format!("{}{}{blank}{}", rule(dice), rule(dice), dice.pick(VALUES)),
        ("cidr" | "regexp" | "pcre", _) => format!("{}{blank}{}", rule(dice), dice.pick(VALUES)),
        _ => format!("{}{blank}{}", dice.pick(NAMES), dice.pick(VALUES)),
    };
    text + dice.pick(ENDS)
}

/// The name of a table behind its type: a file, or the table itself.
fn name(kind: &str, dice: &mut Dice, dir: &Path) -> String {
    let list = |dice: &mut Dice, pieces: &[&str]| {
        let inside = dice.many(3, |dice| format!("{}{}", dice.pick(pieces), dice.pick(&[",", " ", ", "])));
        format!("{{{inside}{}", dice.pick(&["}", "}", "}", "}", "", "x}", "}x"]))
    };
    match kind {
        "inline" => {
            list(dice, &["a.example=v", "{k1 = two words}", "x", "{x=}", "=", "{}", "a.example=w", "a = b"])
        }
        "unionmap" | "pipemap" => list(
            dice,
            &["static:a", "inline:{x=k1,k1=y}", "inline:{a.example=x}", "static:{b c}", "inline:{q=", "zz"],
        ),
        _ => {
            let path = dir.join(kind);
            write_old(&path, &dice.many(12, |dice| line(kind, dice)));
            path.display().to_string()
        }
    }
}

fn keys(dice: &mut Dice) -> Vec<String> {
    let mut keys: Vec<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
    keys.extend((0..15).map(|_| address(dice)));
    keys.extend((0..5).map(|_| junk(dice)));
    keys
}

fn compare(kind: &str) {
    let dir = scratch("tables");
    let config = write_config(dir.path(), "compatibility_level = 3.6\n", "");
    for number in 0..TABLES_PER_KIND {
        let mut dice = Dice(number);
        let name = name(kind, &mut dice, dir.path());
        if matches!(kind, "lmdb" | "cdb" | "hash" | "btree") {
            // A duplicate or a bad line is a warning to postmap, and the table is built.
            run(&config, &[&format!("{kind}:{name}")], "");
        }
        let keys = keys(&mut dice);
        // Not folded: the way of match lists.
        let theirs = postmap(&config, &format!("{kind}:{name}"), &keys);
        let ours = ours(kind, &name, &keys);
        let text = std::fs::read_to_string(&name).unwrap_or_default();
        assert_eq!(ours, theirs, "{kind} table {number} (ours, postmap), {name}:\n{text}");
    }
}

/// What a table answered, and what was logged.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Answers(Vec<String>, BTreeSet<String>),
    /// The table cannot be used.
    Unusable,
}

fn run(config: &Path, arguments: &[&str], input: &str) -> (String, String) {
    let mut command = peers::command("/usr/sbin/postmap").unwrap();
    command.arg("-c").arg(config).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        // A table that is unusable makes postmap end before it reads its input.
        scope.spawn(move || drop(stdin.write_all(input.as_bytes())));
        child.wait_with_output().unwrap()
    });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

fn postmap(config: &Path, table: &str, keys: &[String]) -> Heard {
    let input: String = keys.iter().map(|key| format!("{key}\n")).collect();
    let (answers, log) = run(config, &["-f", "-q", "-", table], &input);
    if log.contains("fatal: ") || log.contains("duplicate entry") {
        // postmap alone goes on after a duplicate; a daemon does not.
        return Heard::Unusable;
    }
    let log = log.lines().filter_map(|line| line.strip_prefix("postmap: warning: "));
    // postmap's own words about answers, not the table's.
    let log = log.filter(|line| !line.contains("empty string result") && !line.contains("NO RESULT"));
    Heard::Answers(answers.lines().map(str::to_owned).collect(), log.map(printable).collect())
}

fn ours(kind: &str, name: &str, keys: &[String]) -> Heard {
    let mut notices = Vec::new();
    let Ok(table) = table::open(kind, name, &Options::default(), &mut notices) else {
        return Heard::Unusable;
    };
    let mut answers = Vec::new();
    for key in keys {
        match table
            .lookup(key.as_bytes(), &mut table::Call { notices: &mut notices, deadline: None, budget: None })
        {
            Ok(Some(value)) => answers.push(format!("{key}\t{}", String::from_utf8(value).unwrap())),
            Ok(None) => {}
            Err(_) => return Heard::Unusable,
        }
    }
    Heard::Answers(answers, notices.iter().map(|notice| printable(&notice.text)).collect())
}

/// As the log shows it.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}
