//! Runs cases against Postfix and ours, and holds every difference against docs/postfix-differences.md.

use std::collections::{BTreeSet, HashMap};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use super::case::{Case, Difference, Expect};
use super::pair::{self, Pair};
use super::peers::Peer;
use super::trials::Trials;

/// The page on which every difference stands.
const DIFFERENCES: &str = include_str!("../../../../docs/postfix-differences.md");

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
        let oracle_only = std::env::var("QMQPD_ORACLE").is_ok_and(|value| value == "only");
        for case in cases {
            let pair = self.pairs.entry(case.main_cf.clone()).or_insert_with(|| {
                let pair = Pair::new(case.main_cf.clone());
                Arc::new(Mutex::new(pair))
            });
            let pair = Arc::clone(pair);
            let name = case.name.clone();
            self.trials.add(&name, &needs(&case), move || run(&case, &pair, oracle_only));
        }
    }

    /// Runs what the command line selects. The servers stop before this returns, whatever the cases did.
    pub fn run(self) -> ExitCode {
        let code = self.trials.run();
        drop(self.pairs);
        code
    }
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
    match case.difference {
        None => postfix.check(&case.expect),
        Some(Difference { postfix: check, .. }) => check(&postfix),
    }
    if oracle_only {
        return;
    }
    let ours = pair.ours(case);
    match case.difference {
        None if matches!(case.expect, Expect::Each(_)) => ours.check(&case.expect),
        None => pair::assert_same(&postfix, &ours, case.compare_end),
        Some(Difference { anchor, ours: check, .. }) => {
            assert!(anchors().contains(anchor), "docs/postfix-differences.md has no heading for #{anchor}");
            check(&ours);
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
pub fn anchors() -> BTreeSet<String> {
    sections().into_iter().map(|(anchor, _)| anchor).collect()
}

/// A heading that no test proves is a claim: it has a case here, or names an end-to-end test (``Proven by `name` ``).
pub fn every_difference_is_proven(by_cases: &BTreeSet<&str>) {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/end_to_end");
    let sources: String = super::queue::files_below(directory.as_ref())
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    for (anchor, text) in sections() {
        let named = text.split("Proven by `").nth(1).and_then(|rest| rest.split('`').next());
        match named {
            Some(name) => {
                assert!(sources.contains(&format!("\"{name}\"")), "no end-to-end test is called {name}")
            }
            None => assert!(by_cases.contains(anchor.as_str()), "no case shows #{anchor}"),
        }
    }
}
