//! What tables make of addresses. The first line has the settings, a letter each; then come entries of tables, a line each: a
//! letter for the parameter, the key up to `=`, and the value; behind an empty line sender, recipients (blanks between),
//! and the content.
#![no_main]

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cleanup::fuzzing::{canonical, fold_case, virtual_aliases};
use cleanup::{Key, LookupFailed, Maps, Names, Options, Tables};
use fuzz::message::{Received, check, check_notices, receive, small_limits};
use libfuzzer_sys::fuzz_target;
use postfix::notice::Notice;
use postfix::record::{Reader, RecordType};

/// More than what is asked for one address: with and without extension, with and without domain, the domain.
const KEYS_MAX: usize = 5;

/// Tables of fixed strings. The value `FAIL` is a failure.
#[derive(Debug)]
struct Fixed {
    utf8: bool,
    entries: HashMap<(Maps, Vec<u8>), Vec<u8>>,
    listed: Vec<(Names, Vec<u8>)>,
    asked: AtomicUsize,
}

impl Fixed {
    fn new(lines: &[&[u8]], utf8: bool) -> Self {
        let mut fixed =
            Self { utf8, entries: HashMap::new(), listed: Vec::new(), asked: AtomicUsize::default() };
        for line in lines {
            let Some((letter, rest)) = line.split_first() else { continue };
            let Some(end) = rest.iter().position(|byte| *byte == b'=') else { continue };
            let (key, value) = (fold_case(&rest[..end], utf8), &rest[end + 1..]);
            let maps = match letter {
                b's' => Maps::SenderCanonical,
                b'r' => Maps::RecipientCanonical,
                b'c' => Maps::Canonical,
                b'v' => Maps::VirtualAlias,
                b'S' => Maps::SenderBcc,
                b'R' => Maps::RecipientBcc,
                b'd' => {
                    fixed.listed.push((Names::MyDestination, key));
                    continue;
                }
                _ => {
                    fixed.listed.push((Names::MasqueradeExceptions, key));
                    continue;
                }
            };
            // A table gives no empty value and no NUL, and no invalid text under SMTPUTF8.
            if !value.is_empty() && !value.contains(&0) && (!utf8 || std::str::from_utf8(value).is_ok()) {
                fixed.entries.insert((maps, key), value.to_vec());
            }
        }
        fixed
    }

    fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::Relaxed)
    }
}

impl Tables for Fixed {
    fn has(&self, maps: Maps) -> bool {
        self.entries.keys().any(|(of, _)| *of == maps)
    }

    fn find(&self, maps: Maps, key: Key<'_>, _: &mut Vec<Notice>) -> Result<Option<Vec<u8>>, LookupFailed> {
        let (Key::Whole(key) | Key::Part(key)) = key;
        self.asked.fetch_add(1, Ordering::Relaxed);
        match self.entries.get(&(maps, fold_case(key, self.utf8))) {
            Some(value) if value == b"FAIL" => Err(LookupFailed),
            found => Ok(found.cloned()),
        }
    }

    fn is_listed(&self, names: Names, text: &[u8], _: &mut Vec<Notice>) -> Result<bool, LookupFailed> {
        let text = fold_case(text, self.utf8);
        Ok(self.listed.iter().any(|(of, listed)| *of == names && *listed == text))
    }
}

fn options(settings: &[u8]) -> Options {
    let has = |letter| settings.contains(&letter);
    let delimiters = [b'+', b'-'].into_iter().filter(|letter| has(*letter)).map(char::from);
    Options {
        recipient_delimiter: delimiters.collect(),
        enable_original_recipient: !has(b'o'),
        smtputf8_enable: !has(b'u'),
        smtputf8_autodetect: has(b'a'),
        owner_request_special: !has(b'n'),
        propagates_canonical_extensions: !has(b'p'),
        propagates_virtual_extensions: !has(b'p'),
        masquerade_domains: if has(b'm') {
            vec!["!keep.example.test".to_owned(), "example.test".to_owned()]
        } else {
            Vec::new()
        },
        append_dot_mydomain: has(b'.'),
        duplicate_filter_limit: if has(b'0') { 0 } else { 3 },
        always_bcc: if has(b'b') { "archive".to_owned() } else { String::new() },
        virtual_alias_recursion_limit: 6,
        virtual_alias_expansion_limit: 8,
        virtual_alias_address_length_limit: 60,
        ..small_limits()
    }
}

/// An expansion ends within its limits, and each of its results is final.
fn aliases(options: &Options, tables: &Fixed, recipient: &[u8]) {
    tables.asked();
    let expanded = virtual_aliases(options, tables, recipient);
    let rounds = options.virtual_alias_expansion_limit * options.virtual_alias_recursion_limit;
    assert!(tables.asked() <= rounds * KEYS_MAX, "an expansion does not end");
    check_notices(&expanded.notices);
    let Ok(Some(results)) = expanded.value else { return };
    assert!(!results.is_empty() && results.len() <= options.virtual_alias_expansion_limit);
    let same = |one: &[u8], other: &[u8]| fold_case(one, tables.utf8) == fold_case(other, tables.utf8);
    for result in &results {
        let limit = options.virtual_alias_address_length_limit;
        assert!(result.len() <= limit || result == recipient, "a long result");
        if let Ok(Some(again)) = virtual_aliases(options, tables, result).value {
            assert!(
                again.iter().any(|address| same(address, result)),
                "{:?} is no final recipient of {:?}: {again:?}",
                String::from_utf8_lossy(result),
                String::from_utf8_lossy(recipient),
            );
        }
    }
}

/// A canonical address is found in so many rounds, and is its own.
fn canonicals(options: &Options, tables: &Fixed, address: &[u8]) {
    for maps in [Maps::SenderCanonical, Maps::RecipientCanonical, Maps::Canonical] {
        tables.asked();
        let found = canonical(options, tables, maps, address);
        assert!(tables.asked() <= 10 * KEYS_MAX, "an address has no end");
        check_notices(&found.notices);
        let is_endless = found.notices.iter().any(|notice| notice.text.contains("unreasonable"));
        if found.failed || is_endless {
            continue;
        }
        let again = canonical(options, tables, maps, &found.value);
        assert_eq!(
            String::from_utf8_lossy(&fold_case(&again.value, tables.utf8)),
            String::from_utf8_lossy(&fold_case(&found.value, tables.utf8)),
            "a canonical address has another canonical address"
        );
    }
}

/// What the filter of duplicates has learnt does not come again.
fn duplicates(options: &Options, received: &Received) {
    let finished = received.outcome.result.as_ref().expect("an accepted message");
    let (mut learnt, mut group) = (HashSet::new(), Vec::new());
    for records in [&received.recipients, &finished.extracted] {
        for record in Reader::new(records) {
            let (_, record) = record.expect("whole records");
            let folded = fold_case(record.data, options.smtputf8_enable);
            if options.enable_original_recipient {
                group.push((record.kind.0, folded.clone()));
            }
            if record.kind != RecordType::RECIPIENT {
                continue;
            }
            if !options.enable_original_recipient {
                group.push((record.kind.0, folded));
            }
            // Automatic recipients differ in what they were before their aliases, too, which is not written.
            let is_told = group.iter().any(|(_, data)| data.starts_with(b"dsn_orig_rcpt="));
            let is_exact = is_told || !options.enable_original_recipient;
            let has_room =
                options.duplicate_filter_limit == 0 || learnt.len() < options.duplicate_filter_limit;
            if has_room {
                assert!(learnt.insert(group.clone()) || !is_exact, "twice: {group:?}");
            } else {
                assert!(!learnt.contains(&group) || !is_exact, "twice: {group:?}");
            }
            group.clear();
        }
        group.clear();
    }
}

fuzz_target!(|data: &[u8]| {
    let (settings, mut rest) = fuzz::split_line(data);
    let mut lines = Vec::new();
    while !rest.is_empty() {
        let (line, behind) = fuzz::split_line(rest);
        rest = behind;
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let (sender, rest) = fuzz::split_line(rest);
    let (recipients, content) = fuzz::split_line(rest);
    let recipients: Vec<&[u8]> = recipients.split(|byte| *byte == b' ').collect();
    let options = Arc::new(options(settings));
    let tables = Arc::new(Fixed::new(&lines, options.smtputf8_enable));
    for address in recipients.iter().take(3).chain([&sender]) {
        aliases(&options, &tables, address);
        canonicals(&options, &tables, address);
    }

    let shared: Arc<dyn Tables> = Arc::clone(&tables) as Arc<dyn Tables>;
    let whole = receive(&options, &shared, &[content], sender, &recipients);
    let split = receive(&options, &shared, &fuzz::pieces(content), sender, &recipients);
    assert_eq!(split.outcome, whole.outcome, "the outcome depends on the split");
    assert_eq!(split.content, whole.content, "the records depend on the split");
    if check(&options, &whole).is_some() {
        duplicates(&options, &whole);
    }
});
