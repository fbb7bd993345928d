//! Patterns of a match list that can never apply, because others come before them.
//!
//! The first pattern that matches a client decides, so an exception stands in front of the pattern that it is an
//! exception from. Behind it, it has no effect, and the server says nothing: the client that was meant is
//! authorized.

use std::collections::HashMap;

use crate::finding::{Finding, PatternFileLine};
use crate::host::{self, ParentStyle};

/// One pattern in the order in which it is tried.
pub(crate) struct Step {
    /// As it is written.
    pub(crate) item: Vec<u8>,
    /// The pattern file and the line in it.
    pub(crate) place: PatternFileLine,
    /// Whether a hit means "no match"; a `!` before the file that it stands in counts.
    pub(crate) negated: bool,
    /// Whom it matches.
    pub(crate) reach: Reach,
}

/// Whom a pattern matches, as far as that can be told without asking it.
pub(crate) enum Reach {
    /// Every client.
    EveryClient,
    /// The clients with these addresses.
    Network(ipnet::IpNet),
    /// The clients with this name, folded, and what the list's style makes of it.
    Name(Vec<u8>),
    /// A table, or something that is wrong.
    Unknown,
}

/// Of one kind of finding so many are told one by one; who has more has the same reason for all.
const FINDINGS_MAX: usize = 20;

/// The patterns that never apply, in their order.
pub(crate) fn findings(steps: &[Step], style: ParentStyle) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut before: [Before<'_>; 2] = [Before::default(), Before::default()];
    let last_plain = steps.iter().rposition(|step| !step.negated);
    let only_exceptions = last_plain.is_none() && !steps.is_empty();
    for (at, step) in steps.iter().enumerate() {
        let [plain, exceptions] = &before;
        let (same, opposite) = if step.negated { (exceptions, plain) } else { (plain, exceptions) };
        let hidden = same.covers(step, style).is_none().then(|| opposite.covers(step, style)).flatten();
        let kind = if step.negated { "exception" } else { "pattern" };
        if let Some(by) = hidden {
            let what = format!("this {kind} never applies: \"{}\" before it already matches", shown(by));
            found.push(finding(step, what, format!("write it before \"{}\"", shown(by))));
        } else if step.negated && !only_exceptions && last_plain.is_some_and(|last| last < at) {
            let what = "this exception never applies: no later pattern would match".to_owned();
            found.push(finding(
                step,
                what,
                "write exceptions before the patterns that they \
             modify"
                    .to_owned(),
            ));
        }
        if let Some(before) = before.get_mut(usize::from(step.negated)) {
            before.add(step);
        }
    }
    let more = found.len().saturating_sub(FINDINGS_MAX);
    found.truncate(FINDINGS_MAX);
    if more > 0 {
        found.push(Finding::of_list(
            format!("{more} more patterns never apply"),
            "check their order".to_owned(),
        ));
    }
    if only_exceptions {
        found.push(Finding::of_list(
            "there are only exceptions: no client matches".to_owned(),
            "write after them the pattern that they modify, such as $mynetworks".to_owned(),
        ));
    }
    found
}

fn finding(step: &Step, what: String, remedy: String) -> Finding {
    Finding { place: step.place.clone(), item: step.item.clone(), what, remedy }
}

fn shown(step: &Step) -> String {
    crate::syntax::shown(&step.item)
}

/// The patterns of one sign so far.
#[derive(Default)]
struct Before<'s> {
    every_client: Option<&'s Step>,
    networks: HashMap<ipnet::IpNet, &'s Step>,
    names: HashMap<&'s [u8], &'s Step>,
}

impl<'s> Before<'s> {
    fn add(&mut self, step: &'s Step) {
        match &step.reach {
            Reach::EveryClient => {
                self.every_client.get_or_insert(step);
            }
            Reach::Network(network) => {
                self.networks.entry(*network).or_insert(step);
            }
            Reach::Name(name) => {
                self.names.entry(name).or_insert(step);
            }
            Reach::Unknown => {}
        }
    }

    /// A pattern among these that matches whomever this one matches.
    fn covers(&self, step: &Step, style: ParentStyle) -> Option<&'s Step> {
        if let Some(every_client) = self.every_client {
            return Some(every_client);
        }
        match &step.reach {
            Reach::Network(network) => {
                let wider = std::iter::successors(Some(*network), ipnet::IpNet::supernet);
                wider.into_iter().find_map(|wider| self.networks.get(&wider).copied())
            }
            Reach::Name(name) => {
                let keys = host::keys(name, true, style);
                keys.into_iter().find_map(|key| {
                    // `.example.com` as a pattern is not the parent of itself, nor is a name its own subdomain.
                    self.names.get(key).copied().filter(|_| host::matches(name, key, style))
                })
            }
            Reach::EveryClient | Reach::Unknown => None,
        }
    }
}
