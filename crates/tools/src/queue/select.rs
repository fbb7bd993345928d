//! Which messages a command is about: filters over state, envelope, age, size and reasons.

use super::message::Message;
use spool::Queue;
use std::ops::RangeInclusive;

/// The filters of a command. All that are given must hold.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Filters")]
pub(super) struct Filters {
    /// Select by envelope sender: an address, @domain, <> for the null sender; * stands for any text
    #[arg(long, value_name = "PATTERN")]
    sender: Option<String>,
    /// Select messages with such a recipient left
    #[arg(long, value_name = "PATTERN")]
    recipient: Option<String>,
    /// Select messages with a recipient left in this domain; .domain stands for its subdomains
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<String>,
    /// Select messages that arrived longer ago, as 30m, 12h, 5d, 2w
    #[arg(long, value_name = "AGE", value_parser = parse_age)]
    older: Option<u64>,
    /// Select messages that arrived since then
    #[arg(long, value_name = "AGE", value_parser = parse_age)]
    younger: Option<u64>,
    /// Select messages in these queues, of incoming, active, deferred, hold and corrupt
    #[arg(long, visible_alias = "queue", value_parser = parse_queue, value_delimiter = ',', value_name = "QUEUE,…")]
    state: Vec<Queue>,
    /// Select messages with a recipient that was put off for a reason with this text
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Select messages of this many bytes, as 10k.., ..1M, 1M..10M
    #[arg(long, value_name = "FROM..TO", value_parser = parse_sizes)]
    size: Option<RangeInclusive<u64>>,
}

impl Filters {
    /// The queues to look into.
    pub(super) fn queues(&self) -> &[Queue] {
        if self.state.is_empty() { &Queue::ALL } else { &self.state }
    }

    /// Whether the user has named queues.
    pub(super) const fn names_queues(&self) -> bool {
        !self.state.is_empty()
    }

    /// Whether any filter is given.
    pub(super) fn is_set(&self) -> bool {
        !self.state.is_empty() || self.size.is_some() || self.looks_at_age() || self.looks_at_envelope()
    }

    const fn looks_at_age(&self) -> bool {
        self.older.is_some() || self.younger.is_some()
    }

    const fn looks_at_envelope(&self) -> bool {
        self.sender.is_some() || self.recipient.is_some() || self.domain.is_some() || self.reason.is_some()
    }

    /// Whether the reasons have to be read.
    pub(super) const fn looks_at_reasons(&self) -> bool {
        self.reason.is_some()
    }

    /// Whether the message is meant. `now`: seconds since 1970.
    pub(super) fn matches(&self, message: &Message, now: u64) -> bool {
        let age = now.saturating_sub(message.arrival);
        let sender = message.letter.sender.as_deref();
        (self.state.is_empty() || self.state.contains(&message.queue))
            && self.older.is_none_or(|limit| age > limit)
            && self.younger.is_none_or(|limit| age <= limit)
            && self.size.as_ref().is_none_or(|sizes| sizes.contains(&message.bytes()))
            && self.sender.as_deref().is_none_or(|pattern| sender.is_some_and(|it| is_like(pattern, it)))
            && self.matches_recipients(message)
    }

    /// Whether one recipient is as all filters want it.
    fn matches_recipients(&self, message: &Message) -> bool {
        if self.recipient.is_none() && self.domain.is_none() && self.reason.is_none() {
            return true;
        }
        let reason = self.reason.as_deref().map(str::to_lowercase);
        message.recipients.iter().any(|recipient| {
            self.recipient.as_deref().is_none_or(|pattern| is_like(pattern, &recipient.address))
                && self.domain.as_deref().is_none_or(|domain| is_in(domain, &recipient.address))
                && reason.as_deref().is_none_or(|text| {
                    message.reason_of(recipient).is_some_and(|reason| reason.to_lowercase().contains(text))
                })
        })
    }
}

/// The domain of an address, in lower case; empty where there is none.
pub(super) fn domain_of(address: &[u8]) -> String {
    let at = address.iter().rposition(|byte| *byte == b'@');
    let domain = at.and_then(|at| address.get(at.saturating_add(1)..)).unwrap_or_default();
    String::from_utf8_lossy(domain).to_lowercase()
}

fn is_in(domain: &str, address: &[u8]) -> bool {
    let (wanted, found) = (domain.trim_start_matches('@').to_lowercase(), domain_of(address));
    if wanted.starts_with('.') { found.ends_with(&wanted) } else { found == wanted }
}

/// Whether the address is as the pattern says.
fn is_like(pattern: &str, address: &[u8]) -> bool {
    let address = String::from_utf8_lossy(address).to_lowercase();
    let pattern = pattern.to_lowercase();
    let pattern = pattern.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(&pattern);
    let any_local_part = pattern.starts_with('@') && address.ends_with(pattern);
    any_local_part || is_wildcard_match(pattern.as_bytes(), address.as_bytes())
}

/// `*` stands for any text. Takes as many steps as pattern and text have bytes, multiplied, at the most.
fn is_wildcard_match(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at_pattern, mut at_text) = (0_usize, 0_usize);
    // Behind the last star, and how far the star reaches by now.
    let mut star: Option<(usize, usize)> = None;
    while at_text < text.len() {
        match pattern.get(at_pattern) {
            Some(b'*') => {
                at_pattern = at_pattern.saturating_add(1);
                star = Some((at_pattern, at_text));
            }
            Some(byte) if Some(byte) == text.get(at_text) => {
                at_pattern = at_pattern.saturating_add(1);
                at_text = at_text.saturating_add(1);
            }
            _ => {
                let Some((behind, reach)) = star else { return false };
                at_pattern = behind;
                at_text = reach.saturating_add(1);
                star = Some((behind, at_text));
            }
        }
    }
    pattern.get(at_pattern..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

fn parse_queue(name: &str) -> Result<Queue, String> {
    Queue::parse(name).ok_or_else(|| "the queues are incoming, active, deferred, hold and corrupt".to_owned())
}

/// Seconds out of `90`, `30m`, `12h`, `5d`, `2w`.
fn parse_age(text: &str) -> Result<u64, String> {
    let units = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400), ('w', 604_800)];
    with_unit(text, &units).ok_or_else(|| "write a number with s, m, h, d or w, as 30m or 5d".to_owned())
}

fn parse_sizes(text: &str) -> Result<RangeInclusive<u64>, String> {
    let words = || "write two sizes with two dots between, as 10k.., ..1M or 1M..10M".to_owned();
    let units = [('k', 1 << 10), ('M', 1 << 20), ('G', 1 << 30)];
    let (from, to) = text.split_once("..").ok_or_else(words)?;
    let bound = |text: &str, default| {
        if text.is_empty() { Some(default) } else { with_unit(text, &units) }
    };
    let (from, to) = (bound(from, 0).ok_or_else(words)?, bound(to, u64::MAX).ok_or_else(words)?);
    Ok(from..=to)
}

/// A number, and what its unit stands for.
fn with_unit(text: &str, units: &[(char, u64)]) -> Option<u64> {
    let unit = units.iter().find(|(unit, _)| text.ends_with(*unit));
    let digits = unit.map_or(text, |(unit, _)| text.trim_end_matches(*unit));
    digits.parse::<u64>().ok()?.checked_mul(unit.map_or(1, |(_, factor)| *factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_addresses() {
        for (pattern, address) in [
            ("alice@Sender.example", "Alice@sender.example"),
            ("<alice@sender.example>", "alice@sender.example"),
            ("<>", ""),
            ("", ""),
            ("@sender.example", "alice@sender.example"),
            ("*@*.example", "alice@sender.example"),
            ("a*e@*", "alice@sender.example"),
            ("*", ""),
            ("*a*b*", "xxaxxaxbx"),
        ] {
            assert!(is_like(pattern, address.as_bytes()), "{pattern} {address}");
        }
        for (pattern, address) in [
            ("alice@sender.example", "malice@sender.example"),
            ("<>", "a@b"),
            ("@example", "alice@sender.example"),
            ("a*z", "alice@sender.example"),
            ("*ab", "aba"),
        ] {
            assert!(!is_like(pattern, address.as_bytes()), "{pattern} {address}");
        }
        assert!(is_in("rcpt.Example", b"bob@RCPT.example") && is_in(".example", b"bob@rcpt.example"));
        assert!(!is_in("cpt.example", b"bob@rcpt.example") && !is_in(".rcpt.example", b"bob@rcpt.example"));
    }

    /// Without care, such a pattern takes exponential time.
    #[test]
    fn a_hostile_pattern_ends() {
        assert!(!is_wildcard_match(&b"*a".repeat(200), &[b'a'; 199]));
    }

    #[test]
    fn ages_and_sizes_have_units() {
        assert_eq!(parse_age("90"), Ok(90));
        assert_eq!(parse_age("2w"), Ok(1_209_600));
        assert_eq!(parse_sizes("10k..1M"), Ok(10_240..=1_048_576));
        assert_eq!(parse_sizes("..7"), Ok(0..=7));
        assert_eq!(parse_sizes("7.."), Ok(7..=u64::MAX));
        for bad in ["", "x", "5y", "99999999999999999999", "9999999999999999w", "-1"] {
            assert!(parse_age(bad).is_err(), "{bad}");
            assert!(parse_sizes(bad).is_err() && parse_sizes(&format!("1..{bad}x")).is_err(), "{bad}");
        }
    }
}
