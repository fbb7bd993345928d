//! The same bytes to Postfix's qmqpd(8) and to ours: same reply, same queue file, same log lines.
//!
//! Each case is data (`protocol.rs`, `content.rs`, …). Where ours differs on purpose, the case names the heading in
//! docs/postfix-differences.md that gives the reason, and states what each server does; it fails when Postfix no longer
//! does what the page says, and when the two no longer differ.
//!
//! `QMQPD_ORACLE=only` runs the cases against Postfix alone: for a new case, before ours can do it.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub
)]

#[path = "../harness/mod.rs"]
mod harness;

mod addresses;
mod content;
mod envelope;
mod limits;
mod policy;
mod protocol;
mod rewriting;

use std::collections::{BTreeSet, HashMap};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use harness::case::{Case, Difference, Expect};
use harness::isolation;
use harness::pair::{self, Pair};
use harness::peers::Peer;
use harness::trials::Trials;

/// The page on which every difference stands.
const DIFFERENCES: &str = include_str!("../../../../docs/postfix-differences.md");

fn main() -> ExitCode {
    isolation::enter();
    let cases: Vec<Case> = [
        protocol::cases(),
        content::cases(),
        addresses::cases(),
        rewriting::cases(),
        envelope::cases(),
        limits::cases(),
        policy::cases(),
    ]
    .concat();
    let mut trials = Trials::default();
    trials.add("page::every_difference_has_a_case", &[], {
        let used: BTreeSet<_> = cases.iter().filter_map(|case| case.difference).map(|d| d.anchor).collect();
        move || every_heading_is_used(&used)
    });
    let mut pairs: HashMap<Vec<String>, Arc<Mutex<Pair>>> = HashMap::new();
    let oracle_only = std::env::var("QMQPD_ORACLE").is_ok_and(|value| value == "only");
    for case in cases {
        let pair = pairs
            .entry(case.main_cf.clone())
            .or_insert_with(|| Arc::new(Mutex::new(Pair::new(case.main_cf.clone()))));
        let pair = Arc::clone(pair);
        let mut needs = vec![Peer::Postfix];
        if case.from.contains(':') {
            needs.push(Peer::Ipv6);
        }
        if case.from != "127.0.0.1" && case.from != "::1" {
            needs.push(Peer::Isolation);
        }
        let name = case.name.clone();
        trials.add(&name, &needs, move || run(&case, &pair, oracle_only));
    }
    let code = trials.run();
    // The servers stop here, whatever the cases did.
    drop(pairs);
    code
}

fn run(case: &Case, pair: &Mutex<Pair>, oracle_only: bool) {
    // A case that failed in the middle has at worst left its queue files, and the next one would say so.
    let mut pair = pair.lock().unwrap_or_else(PoisonError::into_inner);
    let postfix = pair.postfix(case);
    if case.difference.is_none() {
        postfix.check(&case.expect);
    }
    if let Some(Difference { postfix: check, .. }) = case.difference {
        check(&postfix);
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

/// The headings of the page, as links name them.
fn anchors() -> BTreeSet<String> {
    let slug = |heading: &str| {
        let kept = heading.trim().to_lowercase().replace(' ', "-");
        kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect::<String>()
    };
    DIFFERENCES.lines().filter_map(|line| line.strip_prefix("## ")).map(slug).collect()
}

/// A heading that no case proves is a claim.
fn every_heading_is_used(used: &BTreeSet<&str>) {
    let unproven: Vec<_> = anchors().into_iter().filter(|anchor| !used.contains(anchor.as_str())).collect();
    assert!(unproven.is_empty(), "docs/postfix-differences.md claims {unproven:?}, but no case shows it");
}
