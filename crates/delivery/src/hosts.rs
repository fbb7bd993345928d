//! Which hosts to try for a domain, and in which order: what the answers of DNS mean (RFC 5321 section 5.1, RFC 7505;
//! each row was seen on Postfix 3.7).
//!
//! ```text
//! domain ─ MX query ─▶ exchangers() ─ address queries ─▶ candidates() ─▶ hosts in order
//!                           └─▶ Outcome                        └─▶ Outcome
//! ```

use std::net::IpAddr;

use crate::outcome::{Outcome, status};

/// How many exchangers of a domain are looked at; what DNS lists beyond is left out. The largest providers have 20.
pub const EXCHANGERS_MAX: usize = 100;

/// The answer to a query for MX records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MxAnswer {
    /// Preference and name, in any order. `0 .` means that the domain takes no mail.
    Records(Vec<(u16, String)>),
    /// The domain has none, or does not exist.
    None,
    /// The name server failed, or did not answer.
    Failed,
}

/// The answer to the queries for a host's addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressAnswer {
    /// Its addresses, of the families in use.
    Addresses(Vec<IpAddr>),
    /// The name exists and has none.
    NoData,
    /// The name does not exist.
    NoName,
    /// The name server failed, or did not answer.
    Failed,
}

/// A host that takes mail for a domain, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchanger {
    /// Lower comes first.
    pub preference: u16,
    /// Its name, without a dot at the end.
    pub name: String,
}

/// A host to try, by address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Lower comes first.
    pub preference: u16,
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Is it among the hosts that DNS prefers? If such a host turns out to be this one, the mail loops.
    pub is_best: bool,
}

/// How a list is ordered and cut (postconf(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// `ignore_mx_lookup_error`: an MX query that fails is taken for a domain without MX records.
    pub ignore_mx_lookup_error: bool,
    /// `smtp_defer_if_no_mx_address_found`: exchangers without addresses are a failure that may pass.
    pub defer_without_address: bool,
    /// `smtp_randomize_addresses`: hosts of one preference are shuffled.
    pub randomize: bool,
    /// `smtp_address_preference`: which family goes first among hosts of one preference.
    pub family: Family,
    /// `smtp_balance_inet_protocols`: neither family may push the other out of the list.
    pub balance: bool,
    /// `smtp_mx_address_limit`: how many addresses are tried; 0: all.
    pub addresses_max: usize,
}

/// `smtp_address_preference`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Family {
    Any,
    Ipv4,
    Ipv6,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ignore_mx_lookup_error: false,
            defer_without_address: false,
            randomize: true,
            family: Family::Any,
            balance: true,
            addresses_max: 5,
        }
    }
}

/// Who takes mail for `domain`: its exchangers, the preferred ones first, or the domain itself if it has none.
///
/// # Errors
/// What becomes of the mail when there is no host to look up.
pub fn exchangers(domain: &str, answer: MxAnswer, settings: &Settings) -> Result<Vec<Exchanger>, Outcome> {
    let itself = || Ok(vec![Exchanger { preference: 0, name: domain.to_owned() }]);
    let mut records = match answer {
        MxAnswer::Records(records) => records,
        MxAnswer::None => return itself(),
        MxAnswer::Failed if settings.ignore_mx_lookup_error => return itself(),
        MxAnswer::Failed => return Err(try_again(domain, "MX")),
    };
    if records.iter().all(|(_, name)| name.is_empty() || name == ".") && !records.is_empty() {
        return Err(Outcome::failed(
            status(5, 1, 0),
            format!("Domain {domain} does not accept mail (nullMX)"),
        ));
    }
    records.retain(|(_, name)| !name.is_empty() && name != ".");
    if records.is_empty() {
        return itself();
    }
    // A stable sort: among equals the order of the answer stays, which the caller may have shuffled already.
    records.sort_by_key(|&(preference, _)| preference);
    records.truncate(EXCHANGERS_MAX);
    let exchanger = |(preference, name): (u16, String)| Exchanger { preference, name: trimmed(&name) };
    Ok(records.into_iter().map(exchanger).collect())
}

/// The hosts to try, in order.
///
/// `answers` belong to `exchangers`, one each. `is_own` says whether this system itself is at an address (and the port is
/// the one of SMTP): what DNS prefers less than this system is not tried, or mail would go in circles. `pick` returns
/// a number below its argument, for shuffling.
///
/// # Errors
/// What becomes of the mail when there is no host to try.
pub fn candidates(
    domain: &str,
    exchangers: &[Exchanger],
    answers: &[AddressAnswer],
    is_own: impl Fn(IpAddr) -> bool,
    settings: &Settings,
    mut pick: impl FnMut(usize) -> usize,
) -> Result<Vec<Candidate>, Outcome> {
    let best = exchangers.iter().map(|exchanger| exchanger.preference).min().unwrap_or(0);
    let mut found = Vec::new();
    for (exchanger, answer) in exchangers.iter().zip(answers) {
        let AddressAnswer::Addresses(addresses) = answer else { continue };
        found.extend(addresses.iter().map(|&address| Candidate {
            preference: exchanger.preference,
            name: exchanger.name.clone(),
            address,
            is_best: exchanger.preference == best,
        }));
    }
    if found.is_empty() {
        return Err(without_address(domain, exchangers, answers, settings));
    }
    let own = found
        .iter()
        .filter(|candidate| is_own(candidate.address))
        .map(|candidate| candidate.preference)
        .min();
    let best_found = found.iter().map(|candidate| candidate.preference).min().unwrap_or(best);
    if let Some(own) = own {
        found.retain(|candidate| candidate.preference < own);
        if found.is_empty() {
            return Err(loops(domain, best, best_found));
        }
    }
    Ok(ordered(found, settings, &mut pick))
}

/// Nothing is left in front of ourselves: we are the best exchanger, or a better one could not be found.
fn loops(domain: &str, best: u16, best_found: u16) -> Outcome {
    if best_found > best {
        return Outcome::failed(status(4, 4, 4), format!("unable to find primary relay for {domain}"));
    }
    Outcome::failed(status(5, 4, 6), format!("mail for {domain} loops back to myself"))
}

/// No exchanger has an address. A failure that may pass, of any of them, makes the whole one that may pass.
fn without_address(
    domain: &str,
    exchangers: &[Exchanger],
    answers: &[AddressAnswer],
    settings: &Settings,
) -> Outcome {
    let name_of = |wanted: &AddressAnswer| {
        exchangers
            .iter()
            .zip(answers)
            .find(|(_, answer)| *answer == wanted)
            .map(|(exchanger, _)| exchanger.name.as_str())
    };
    if let Some(name) = name_of(&AddressAnswer::Failed) {
        return try_again(name, "A");
    }
    let last = exchangers.iter().zip(answers).next_back();
    let (name, words) = match last {
        Some((exchanger, AddressAnswer::NoName)) => (exchanger.name.as_str(), "Host not found"),
        Some((exchanger, _)) => (exchanger.name.as_str(), "Host found but no data record of requested type"),
        None => (domain, "Host not found"),
    };
    let class = if settings.defer_without_address && name != domain { 4 } else { 5 };
    Outcome::failed(status(class, 4, 4), not_found(name, "A", words))
}

fn try_again(name: &str, kind: &str) -> Outcome {
    Outcome::failed(status(4, 4, 3), not_found(name, kind, "Host not found, try again"))
}

fn not_found(name: &str, kind: &str, words: &str) -> String {
    format!("Host or domain name not found. Name service error for name={name} type={kind}: {words}")
}

fn trimmed(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_owned()
}

fn ordered(
    mut found: Vec<Candidate>,
    settings: &Settings,
    pick: &mut impl FnMut(usize) -> usize,
) -> Vec<Candidate> {
    if settings.randomize {
        for last in (1..found.len()).rev() {
            found.swap(last, pick(last + 1).min(last));
        }
    }
    let family_rank = |candidate: &Candidate| match settings.family {
        Family::Any => false,
        Family::Ipv4 => candidate.address.is_ipv6(),
        Family::Ipv6 => candidate.address.is_ipv4(),
    };
    found.sort_by_key(|candidate| (candidate.preference, family_rank(candidate)));
    if settings.addresses_max == 0 || found.len() <= settings.addresses_max {
        return found;
    }
    if settings.balance {
        keep_both_families(&mut found, settings.addresses_max);
    }
    found.truncate(settings.addresses_max);
    found
}

/// Lets the first host of a family that would be cut away take the last place.
fn keep_both_families(found: &mut [Candidate], addresses_max: usize) {
    let Some((kept, cut)) = found.split_at_mut_checked(addresses_max) else { return };
    if addresses_max < 2 {
        return;
    }
    for is_missing in [IpAddr::is_ipv4, IpAddr::is_ipv6] {
        if kept.iter().any(|candidate| is_missing(&candidate.address)) {
            continue;
        }
        let other = cut.iter_mut().find(|candidate| is_missing(&candidate.address));
        if let (Some(last), Some(other)) = (kept.last_mut(), other) {
            std::mem::swap(last, other);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::outcome::Fate;
    use proptest::prelude::*;

    fn records(list: &[(u16, &str)]) -> MxAnswer {
        MxAnswer::Records(list.iter().map(|&(preference, name)| (preference, name.to_owned())).collect())
    }

    fn addresses(list: &[&str]) -> AddressAnswer {
        AddressAnswer::Addresses(list.iter().map(|address| address.parse().unwrap()).collect())
    }

    fn names(list: &[(u16, &str)]) -> Vec<Exchanger> {
        exchangers("d.example", records(list), &Settings::default()).unwrap()
    }

    fn try_for(
        exchangers: &[Exchanger],
        answers: &[AddressAnswer],
        own: &str,
    ) -> Result<Vec<String>, String> {
        let settings = Settings { randomize: false, ..Settings::default() };
        let own: Option<IpAddr> = own.parse().ok();
        candidates("d.example", exchangers, answers, |address| Some(address) == own, &settings, |_| 0)
            .map(|found| {
                found.iter().map(|candidate| format!("{}[{}]", candidate.name, candidate.address)).collect()
            })
            .map_err(|outcome| format!("{} {}", outcome.status, outcome.reason))
    }

    #[test]
    fn exchangers_come_by_preference_and_a_domain_without_any_is_its_own() {
        let found = names(&[(20, "b.example."), (10, "a.example")]);
        assert_eq!(
            found.iter().map(|host| host.name.as_str()).collect::<Vec<_>>(),
            ["a.example", "b.example"]
        );
        assert_eq!(
            exchangers("d.example", MxAnswer::None, &Settings::default()).unwrap()[0].name,
            "d.example"
        );
        let many: Vec<_> = (0..1000).map(|number| (1, if number == 0 { "a" } else { "b" })).collect();
        assert_eq!(names(&many).len(), EXCHANGERS_MAX);
    }

    #[test]
    fn answers_that_end_it() {
        let outcome = exchangers("d.example", records(&[(0, ".")]), &Settings::default()).unwrap_err();
        assert_eq!(
            (outcome.status.to_string(), outcome.reason.as_str()),
            ("5.1.0".into(), "Domain d.example does not accept mail (nullMX)")
        );
        let outcome = exchangers("d.example", MxAnswer::Failed, &Settings::default()).unwrap_err();
        let words = "Host or domain name not found. Name service error for name=d.example type=MX: Host not found, try again";
        assert_eq!(
            (outcome.fate, outcome.status.to_string(), outcome.reason.as_str()),
            (Fate::Deferred, "4.4.3".into(), words)
        );
        let ignoring = Settings { ignore_mx_lookup_error: true, ..Settings::default() };
        assert_eq!(exchangers("d.example", MxAnswer::Failed, &ignoring).unwrap()[0].name, "d.example");
        // A null MX beside real ones is left out.
        assert_eq!(names(&[(0, "."), (5, "a")]).len(), 1);
    }

    #[test]
    fn hosts_without_address_are_skipped() {
        let found = names(&[(10, "a"), (20, "b"), (30, "c")]);
        let answers = [AddressAnswer::NoName, addresses(&["192.0.2.2"]), AddressAnswer::Failed];
        assert_eq!(try_for(&found, &answers, ""), Ok(vec!["b[192.0.2.2]".into()]));
    }

    #[test]
    fn no_address_at_all() {
        let name = |name: &str, words: &str| {
            format!("Host or domain name not found. Name service error for name={name} type=A: {words}")
        };
        let itself = exchangers("d.example", MxAnswer::None, &Settings::default()).unwrap();
        assert_eq!(
            try_for(&itself, &[AddressAnswer::NoName], ""),
            Err(format!("5.4.4 {}", name("d.example", "Host not found")))
        );
        let words = "Host found but no data record of requested type";
        assert_eq!(
            try_for(&itself, &[AddressAnswer::NoData], ""),
            Err(format!("5.4.4 {}", name("d.example", words)))
        );
        let two = names(&[(10, "a"), (20, "b")]);
        let answers = [AddressAnswer::Failed, AddressAnswer::NoName];
        assert_eq!(
            try_for(&two, &answers, ""),
            Err(format!("4.4.3 {}", name("a", "Host not found, try again")))
        );
        let settings = Settings { defer_without_address: true, ..Settings::default() };
        let answers = [AddressAnswer::NoName, AddressAnswer::NoName];
        let outcome = candidates("d.example", &two, &answers, |_| false, &settings, |_| 0).unwrap_err();
        assert_eq!(outcome.status.to_string(), "4.4.4");
    }

    #[test]
    fn what_dns_prefers_less_than_us_is_not_tried() {
        let found = names(&[(10, "a"), (20, "us"), (30, "c")]);
        let answers = [addresses(&["192.0.2.1"]), addresses(&["192.0.2.9"]), addresses(&["192.0.2.3"])];
        assert_eq!(try_for(&found, &answers, "192.0.2.9"), Ok(vec!["a[192.0.2.1]".into()]));
        let best = [addresses(&["192.0.2.9"]), addresses(&["192.0.2.8"]), addresses(&["192.0.2.3"])];
        assert_eq!(
            try_for(&found, &best, "192.0.2.9"),
            Err("5.4.6 mail for d.example loops back to myself".into())
        );
        let lost = [AddressAnswer::NoName, addresses(&["192.0.2.9"]), addresses(&["192.0.2.3"])];
        assert_eq!(
            try_for(&found, &lost, "192.0.2.9"),
            Err("4.4.4 unable to find primary relay for d.example".into())
        );
    }

    #[test]
    fn the_list_is_cut_and_no_family_is_lost() {
        let found = names(&[(10, "a"), (20, "b")]);
        let six: Vec<String> = (1..=6).map(|number| format!("192.0.2.{number}")).collect();
        let six: Vec<&str> = six.iter().map(String::as_str).collect();
        let list = try_for(&found, &[addresses(&six), addresses(&["2001:db8::1"])], "").unwrap();
        assert_eq!((list.len(), list[4].as_str()), (5, "b[2001:db8::1]"));
        assert_eq!(list[0], "a[192.0.2.1]");
        let settings =
            Settings { family: Family::Ipv6, randomize: false, addresses_max: 0, ..Settings::default() };
        let one = names(&[(10, "a")]);
        let both = [addresses(&["192.0.2.1", "2001:db8::1"])];
        let list = candidates("d.example", &one, &both, |_| false, &settings, |_| 0).unwrap();
        assert!(list[0].address.is_ipv6() && list.len() == 2);
    }

    proptest! {
        /// Whatever is picked: preferences stay in order, nothing is lost or doubled below the limit, nothing is invented.
        #[test]
        fn shuffling_keeps_preferences(preferences in proptest::collection::vec(0u16..4, 1..12), picks in proptest::collection::vec(any::<usize>(), 12), addresses_max in 0usize..8) {
            let list: Vec<Exchanger> = preferences.iter().enumerate().map(|(number, &preference)| Exchanger { preference, name: number.to_string() }).collect();
            let answers: Vec<AddressAnswer> = (0..list.len()).map(|number| addresses(&[&format!("192.0.2.{number}")])).collect();
            let settings = Settings { addresses_max, ..Settings::default() };
            let mut picks = picks.into_iter().cycle();
            let found = candidates("d", &list, &answers, |_| false, &settings, |below| picks.next().unwrap() % below).unwrap();
            let limit = if addresses_max == 0 { list.len() } else { addresses_max.min(list.len()) };
            prop_assert_eq!(found.len(), limit);
            prop_assert!(found.windows(2).all(|pair| pair[0].preference <= pair[1].preference));
            let mut names: Vec<_> = found.iter().map(|candidate| candidate.name.clone()).collect();
            names.sort();
            names.dedup();
            prop_assert_eq!(names.len(), limit);
        }
    }
}
