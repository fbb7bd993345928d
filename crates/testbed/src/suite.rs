//! Runs cases against Postfix and ours, and holds every difference against docs/postfix-differences.md.

use std::collections::{BTreeSet, HashMap};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use crate::case::{Case, Difference, Expect};
use crate::pair::{self, Pair};
use crate::peers::Peer;
use crate::random::{self, Random};
use crate::trials::Trials;

/// The page on which every difference stands.
const DIFFERENCES: &str = include_str!("../../../docs/postfix-differences.md");

/// Cases, and the servers that they share: one pair for each main.cf.
#[derive(Default)]
pub struct Suite {
    /// Every case is one; others may be added.
    pub trials: Trials,
    pairs: HashMap<Vec<String>, Arc<Mutex<Pair>>>,
}

impl Suite {
    /// Adds cases.
    pub fn add_all(&mut self, cases: Vec<Case>) {
        let oracle_only = oracle_only();
        for case in cases {
            let pair = self.pair(&case.main_cf);
            let name = case.name.clone();
            self.trials.add(&name, &needs(&case), move || run(&case, &pair, oracle_only));
        }
    }

    /// Adds a test of many cases that `make` draws; nothing is expected of them but that both servers do the same.
    pub fn add_random(&mut self, name: &str, make: fn(&mut Random) -> Case) {
        self.add_random_with(name, vec![], make);
    }

    /// The same under these main.cf lines.
    pub fn add_random_with(&mut self, name: &str, main_cf: Vec<String>, make: fn(&mut Random) -> Case) {
        let pair = self.pair(&[main_cf, vec![format!("# {name}")]].concat());
        let oracle_only = oracle_only();
        self.trials.add(name, &[Peer::Postfix], move || {
            let seed = random::seed();
            let mut pair = pair.lock().unwrap_or_else(PoisonError::into_inner);
            for round in 0..random::rounds() {
                let case = make(&mut Random::new(seed, round));
                let postfix = pair.postfix(&case);
                if oracle_only {
                    continue;
                }
                let ours = pair.ours(&case);
                if let Some(difference) = pair::difference(&postfix, &ours, case.compare_end) {
                    let sent = &case.steps[0];
                    panic!("QMQPD_SEED={seed}, round {round}: ours (+) differs from Postfix (-)\n{difference}{sent:?}");
                }
            }
        });
    }

    /// The servers for these settings.
    fn pair(&mut self, main_cf: &[String]) -> Arc<Mutex<Pair>> {
        let start = || Arc::new(Mutex::new(Pair::new(main_cf.to_vec())));
        Arc::clone(self.pairs.entry(main_cf.to_vec()).or_insert_with(start))
    }

    /// Runs what the command line selects. The servers stop before this returns, whatever the cases did.
    pub fn run(self) -> ExitCode {
        let code = self.trials.run();
        drop(self.pairs);
        code
    }
}

/// Whether only Postfix is run: for cases that ours cannot do yet.
pub fn oracle_only() -> bool {
    std::env::var("QMQPD_ORACLE").is_ok_and(|value| value == "only")
}

fn needs(case: &Case) -> Vec<Peer> {
    let mut needs = vec![Peer::Postfix];
    if case.from.contains(':') {
        needs.push(Peer::Ipv6);
    }
    // Only there do the other addresses have names.
    if case.from != "127.0.0.1" && case.from != "::1" {
        needs.push(Peer::Isolation);
    }
    needs
}

fn run(case: &Case, pair: &Mutex<Pair>, oracle_only: bool) {
    // After a failed case the servers are as good as before; what it left in a queue the next one would report.
    let mut pair = pair.lock().unwrap_or_else(PoisonError::into_inner);
    let postfix = pair.postfix(case);
    let gone =
        |difference: &Difference| difference.gone_in.is_some_and(|version| postfix.version >= Some(version));
    if let Some(difference) = case.difference.filter(gone) {
        (difference.ours)(&postfix);
        if !oracle_only {
            let ours = pair.ours(case);
            (difference.ours)(&ours);
            // What a refusal leaves in the log, and how it closes, stays different.
            let (theirs, mine) = (postfix.said(), ours.said());
            assert_eq!((theirs, postfix.files.len()), (mine, ours.files.len()), "the difference is gone");
            if case.names_a_release() {
                pair::assert_same(&postfix, &ours, case.compare_end);
            }
        }
        return;
    }
    if case.difference.is_none() || case.expected {
        postfix.check(&case.expect);
    }
    if let Some(difference) = case.difference {
        (difference.postfix)(&postfix);
    }
    if oracle_only {
        return;
    }
    let ours = pair.ours(case);
    // Where Postfix's cleanup(8) does the work, what differs in ours does not.
    let is_same = || pair::difference(&postfix, &ours, case.compare_end).is_none();
    if ours.server == pair::DROP_IN && case.difference.is_some() && is_same() {
        return;
    }
    match case.difference {
        None if matches!(case.expect, Expect::Each(_)) => ours.check(&case.expect),
        None => pair::assert_same(&postfix, &ours, case.compare_end),
        Some(Difference { anchor, ours: check, .. }) => {
            assert!(anchors().contains(anchor), "docs/postfix-differences.md has no heading for #{anchor}");
            check(&ours);
            if case.expected {
                ours.check(&case.expect);
            }
            let difference = pair::difference(&postfix, &ours, true);
            assert!(difference.is_some(), "the difference #{anchor} has vanished: both do the same");
        }
    }
}

/// The sections of the page: the heading as links name it, and the text.
fn sections() -> Vec<(String, &'static str)> {
    let slug = |heading: &str| {
        let kept = heading.trim().to_lowercase().replace(' ', "-");
        kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect::<String>()
    };
    let split = |section: &'static str| section.split_once('\n').unwrap_or((section, ""));
    DIFFERENCES.split("\n## ").skip(1).map(split).map(|(heading, text)| (slug(heading), text)).collect()
}

/// The headings of the page, as links name them.
fn anchors() -> BTreeSet<String> {
    sections().into_iter().map(|(anchor, _)| anchor).collect()
}

/// A heading that no test proves is a claim: it has a case here, or names another test (``Proven by `name` ``).
pub fn every_difference_is_proven(by_cases: &BTreeSet<&str>) {
    let crates = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let tests = ["qmqpd/tests", "qmgr/src"].map(|below| std::path::Path::new(crates).join(below));
    let sources: String = tests
        .iter()
        .flat_map(|below| crate::queue::files_below(below))
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    for (anchor, text) in sections() {
        let named = text.split("Proven by `").nth(1).and_then(|rest| rest.split('`').next());
        match named {
            Some(name) => {
                let is_there = [format!("\"{name}\""), format!("fn {name}()")];
                assert!(is_there.iter().any(|it| sources.contains(it)), "no test is called {name}")
            }
            None => assert!(by_cases.contains(anchor.as_str()), "no case shows #{anchor}"),
        }
    }
}
