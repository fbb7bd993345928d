//! What the tables make of addresses, with tables in memory. Answers as observed on Postfix 3.7.

mod limits;

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Mutex;

use super::*;
use crate::tables::Names;

/// Fixed strings, in lower case; the value `FAIL` is a failure.
#[derive(Debug, Default)]
struct Fixed {
    maps: HashMap<&'static str, HashMap<String, String>>,
    listed: Vec<(Names, &'static str)>,
    asked: Mutex<Vec<String>>,
}

impl Fixed {
    fn new(maps: &[(Maps, &[(&str, &str)])]) -> Self {
        let pairs = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let maps = maps.iter().map(|(maps, entries)| (maps.parameter(), pairs(entries)));
        Self { maps: maps.collect(), ..Self::default() }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

impl Tables for Fixed {
    fn has(&self, maps: Maps) -> bool {
        self.maps.contains_key(maps.parameter())
    }

    fn find(
        &self,
        maps: Maps,
        key: Key<'_>,
        _notices: &mut Vec<Notice>,
    ) -> Result<Option<Vec<u8>>, LookupFailed> {
        let (Key::Whole(key) | Key::Part(key)) = key;
        let key = String::from_utf8_lossy(key).to_lowercase();
        self.asked.lock().unwrap().push(key.clone());
        match self.maps.get(maps.parameter()).and_then(|table| table.get(&key)) {
            Some(value) if value == "FAIL" => Err(LookupFailed),
            found => Ok(found.map(|value| value.clone().into_bytes())),
        }
    }

    fn is_listed(&self, names: Names, text: &[u8], _: &mut Vec<Notice>) -> Result<bool, LookupFailed> {
        if self.listed.contains(&(names, "FAIL")) {
            return Err(LookupFailed);
        }
        let is_it =
            |listed: &&(Names, &str)| listed.0 == names && listed.1.as_bytes().eq_ignore_ascii_case(text);
        Ok(self.listed.iter().any(|listed| is_it(&listed)))
    }
}

fn options() -> Options {
    Options {
        myorigin: "mx.example.test".to_owned(),
        recipient_delimiter: "+".to_owned(),
        ..Options::default()
    }
}

/// What `work` says, whether a table failed, and the log.
fn with<T>(
    options: &Options,
    tables: &dyn Tables,
    work: impl FnOnce(&mut Mapping<'_>) -> T,
) -> (T, bool, Vec<String>) {
    let mut notices = Notices::default();
    let mut mapping = Mapping::new(options, tables, "ID", &mut notices);
    let done = work(&mut mapping);
    let failed = mapping.failed;
    (done, failed, notices.into_lines("ID").into_iter().map(|notice| notice.text).collect())
}

fn canonical(options: &Options, tables: &Fixed, address: &str) -> (String, bool, Vec<String>) {
    let (address, failed, log) = with(options, tables, |mapping| {
        mapping.envelope_address(AddressRole::EnvelopeRecipient, address.as_bytes().to_vec())
    });
    (String::from_utf8(address).unwrap(), failed, log)
}

fn aliases(
    options: &Options,
    tables: &Fixed,
    recipient: &str,
) -> (Result<Vec<String>, AliasTooLarge>, Vec<String>) {
    let (found, _, log) = with(options, tables, |mapping| mapping.final_recipients(recipient.as_bytes()));
    let texts = |found: Option<Vec<Vec<u8>>>| {
        let found = found.unwrap_or_else(|| vec![recipient.as_bytes().to_vec()]);
        found.into_iter().map(|address| String::from_utf8(address).unwrap()).collect()
    };
    (found.map(texts), log)
}

#[test]
fn parts_of_an_address_are_asked_for_in_order() {
    let mut tables = Fixed::new(&[(Maps::Canonical, &[])]);
    tables.listed.push((Names::MyDestination, "local.example"));
    for (address, asked) in [
        ("joe@x", &["joe@x", "@x"][..]),
        ("joe+a+b@x", &["joe+a+b@x", "joe@x", "@x"]),
        (
            "joe+a@mx.example.test",
            &["joe+a@mx.example.test", "joe@mx.example.test", "joe+a", "joe", "@mx.example.test"],
        ),
        ("j d@Local.Example", &["\"j d\"@local.example", "\"j d\"", "@local.example"]),
        ("", &["\"\""]),
        ("joe", &["joe"]),
    ] {
        canonical(&options(), &tables, address);
        assert_eq!(tables.asked(), asked, "{address}");
    }
    with(&options(), &tables, |mapping| {
        mapping.find(Maps::Canonical, b"j d+e@x", Form::ExternalThenInternal).unwrap()
    });
    assert_eq!(tables.asked(), ["\"j d+e\"@x", "j d+e@x", "\"j d\"@x", "j d@x", "@x"]);
}

#[test]
fn addresses_of_this_host_are_local() {
    let tables = Fixed::new(&[(Maps::Canonical, &[("joe", "jim@x")])]);
    let options = Options { own_addresses: vec!["192.0.2.1".parse().unwrap()], ..options() };
    assert_eq!(canonical(&options, &tables, "joe@[192.0.2.1]").0, "jim@x");
    assert_eq!(canonical(&options, &tables, "joe@[192.0.2.2]").0, "joe@[192.0.2.2]");
    assert_eq!(canonical(&options, &tables, "joe@MX.example.TEST").0, "jim@x");
}

#[test]
fn canonical_addresses() {
    let tables = Fixed::new(&[(
        Maps::Canonical,
        &[
            ("joe@x", "j.doe@y"),
            ("@old", "@new"),
            ("self@x", "Self@X"),
            ("1@x", "2@x"),
            ("2@x", "\"3 4\"@x"),
            ("many@x", "a@y, b@y"),
            ("null@x", "<>"),
            ("comment@x", "(c)"),
            ("fail@x", "FAIL"),
            ("loop@x", "pool@x"),
            ("pool@x", "loop@x"),
        ],
    )]);
    let none: [&str; 0] = [];
    for (address, expected) in [
        ("joe@x", "j.doe@y"),
        ("Joe+ext@X", "j.doe+ext@y"),
        ("joe+a@old", "joe+a@new"),
        ("self@x", "Self@X"),
        ("1@x", "3 4@x"),
        ("null@x", ""),
        ("other@x", "other@x"),
    ] {
        let (address_found, failed, log) = canonical(&options(), &tables, address);
        assert_eq!((address_found.as_str(), failed), (expected, false), "{address}");
        assert_eq!(log, none, "{address}");
    }
    for (address, expected, fails, line) in [
        ("many@x", "a@y", false, "ID: multi-valued canonical_maps entry for many@x"),
        (
            "comment@x",
            "comment@x",
            true,
            "canonical_maps lookup of comment@x returns non-address result \"(c)\"",
        ),
        (
            "fail@x",
            "fail@x",
            true,
            "ID: canonical_maps map lookup problem for fail@x -- message not accepted, try again later",
        ),
        (
            "loop@x",
            "loop@x",
            false,
            "ID: unreasonable canonical_maps map nesting for loop@x -- message not accepted, try again later",
        ),
    ] {
        let (address_found, failed, log) = canonical(&options(), &tables, address);
        assert_eq!((address_found.as_str(), failed), (expected, fails), "{address}");
        assert_eq!(log.first().map(String::as_str), Some(line));
    }
    let kept = Options { propagates_canonical_extensions: false, ..options() };
    assert_eq!(canonical(&kept, &tables, "joe+ext@x").0, "j.doe@y");
    let off = Options { address_mapping: false, ..options() };
    assert_eq!(canonical(&off, &tables, "joe@x").0, "joe@x");
}

#[test]
fn each_side_has_its_table_and_each_class_its_switch() {
    let tables = Fixed::new(&[
        (Maps::SenderCanonical, &[("a@x", "s@x")]),
        (Maps::RecipientCanonical, &[("a@x", "r@x")]),
        (Maps::Canonical, &[("s@x", "s@common"), ("r@x", "r@common"), ("b@x", "b@common")]),
    ]);
    let only_headers = Options {
        canonical_classes: AddressClasses {
            envelope_sender: false,
            envelope_recipient: false,
            ..AddressClasses::ALL
        },
        ..options()
    };
    for (role, of_a, of_b) in [
        (AddressRole::EnvelopeSender, "s@x", "b@x"),
        (AddressRole::EnvelopeRecipient, "r@x", "b@x"),
        (AddressRole::HeaderSender, "s@common", "b@common"),
        (AddressRole::HeaderRecipient, "r@common", "b@common"),
    ] {
        for (address, expected) in [("a@x", of_a), ("b@x", of_b)] {
            let (found, ..) = with(&only_headers, &tables, |mapping| {
                let mut tokens = scan(address.as_bytes(), 0);
                let changed = mapping.header_address(role, &mut tokens);
                assert_eq!(changed, address != expected);
                external(&tokens)
            });
            assert_eq!(String::from_utf8(found).unwrap(), expected, "{role:?}");
        }
    }
}

#[test]
fn hosts_are_masqueraded() {
    let masquerade = |domains: &[&str], address: &str| {
        let domains = domains.iter().map(|domain| (*domain).to_owned()).collect();
        let classes = AddressClasses::ALL;
        let options = Options { masquerade_domains: domains, masquerade_classes: classes, ..options() };
        let mut tables = Fixed::new(&[]);
        tables.listed.push((Names::MasqueradeExceptions, "root"));
        canonical(&options, &tables, address).0
    };
    for (domains, address, expected) in [
        (&["Example.TEST"][..], "u@host.example.test", "u@example.test"),
        (&["example.test"], "u@a.b.EXAMPLE.test", "u@example.test"),
        (&["example.test"], "u@example.test", "u@example.test"),
        (&["example.test"], "u@notexample.test", "u@notexample.test"),
        (&["example.test"], "Root@host.example.test", "Root@host.example.test"),
        (&["b.example.test", "example.test"], "u@a.b.example.test", "u@b.example.test"),
        (&["example.test", "b.example.test"], "u@a.b.example.test", "u@example.test"),
        (&["!a.example.test", "example.test"], "u@h.a.example.test", "u@h.a.example.test"),
        (&["!a.example.test", "example.test"], "u@h.b.example.test", "u@example.test"),
        (&["!!example.test"], "u@h.example.test", "u@example.test"),
        (&["!", "test"], "u v@h.test", "u v@test"),
    ] {
        assert_eq!(masquerade(domains, address), expected, "{domains:?} {address}");
    }
}

#[test]
fn a_list_of_exceptions_that_fails_is_a_failure() {
    let options = Options { masquerade_domains: vec!["test".to_owned()], ..options() };
    let mut tables = Fixed::new(&[]);
    tables.listed.push((Names::MasqueradeExceptions, "FAIL"));
    let (address, failed, log) = with(&options, &tables, |mapping| {
        mapping.envelope_address(AddressRole::EnvelopeSender, b"u@a.test".to_vec())
    });
    assert_eq!((address.as_slice(), failed), (&b"u@test"[..], true));
    assert_eq!(
        log,
        ["ID: masquerade_exceptions map lookup problem -- message not accepted, try again later"]
    );
}

#[test]
fn virtual_aliases() {
    let tables = Fixed::new(&[(
        Maps::VirtualAlias,
        &[
            ("list@x", "a@x, b@x, list@x"),
            ("a@x", "a@y"),
            ("b@x", "c@x d@x"),
            ("joe@x", "jim"),
            ("@z", "@x"),
            ("odd@x", "\"odd one\"@x"),
        ],
    )]);
    for (recipient, expected) in [
        ("list@x", &["a@y", "c@x", "list@x", "d@x"][..]),
        ("joe+e@x", &["jim+e@mx.example.test"]),
        ("A@z", &["a@y"]),
        ("odd@x", &["odd one@x"]),
        ("none@x", &["none@x"]),
    ] {
        let (found, log) = aliases(&options(), &tables, recipient);
        assert_eq!(found.unwrap(), expected, "{recipient}");
        assert_eq!(log, [""; 0]);
    }
}

#[test]
fn virtual_aliases_without_end() {
    let long = "x".repeat(999);
    let wide = (0..1001).map(|n| format!("{n}@y")).collect::<Vec<_>>().join(",");
    let tables = Fixed::new(&[(
        Maps::VirtualAlias,
        &[
            ("a@x", "b@x"),
            ("b@x", "a@x"),
            ("long@x", &format!("{long}@y")),
            ("wide@x", &wide),
            ("fail@x", "FAIL"),
        ],
    )]);
    let end = "-- message not accepted, try again later";
    for (recipient, line) in [
        ("a@x", format!("ID: unreasonable virtual_alias_maps map nesting for a@x {end}")),
        ("wide@x", format!("ID: unreasonable virtual_alias_maps map expansion size for wide@x {end}")),
        ("long@x", format!("ID: unreasonable virtual_alias_maps result {}... {end}", "x".repeat(300))),
    ] {
        assert_eq!(aliases(&options(), &tables, recipient), (Err(AliasTooLarge), vec![line]));
    }
    let (found, log) = aliases(&options(), &tables, "fail@x");
    assert_eq!(found.unwrap(), ["fail@x"]);
    assert_eq!(log, [format!("ID: virtual_alias_maps map lookup problem for fail@x {end}")]);
}

#[test]
fn a_log_line_shows_no_byte_of_an_address_that_is_no_text() {
    let tables = Fixed::new(&[
        (Maps::VirtualAlias, &[("\"a\u{7}\u{9b}\"@x", "FAIL")]),
        (Maps::Canonical, &[("\"b\u{1b}\"@x", ",")]),
    ]);
    let (_, log) = aliases(&options(), &tables, "a\u{7}\u{9b}@x");
    assert_eq!(
        log,
        ["ID: virtual_alias_maps map lookup problem for a???@x -- message not accepted, try again later"]
    );
    let (.., log) = canonical(&options(), &tables, "b\u{1b}@x");
    assert_eq!(log[0], "canonical_maps lookup of \"b?\"@x returns non-address result \",\"");
    // A byte that is not text becomes one question mark, as with Postfix.
    let tables = Fixed::new(&[(Maps::VirtualAlias, &[("c\u{fffd}@x", "FAIL")])]);
    let (.., log) = with(&options(), &tables, |mapping| mapping.final_recipients(b"c\xff@x"));
    assert!(log[0].contains(" for c?@x "), "{log:?}");
}

/// A table that makes each address longer for ever.
#[derive(Debug)]
struct Growing(Mutex<Cell<u32>>);

impl Tables for Growing {
    fn has(&self, _: Maps) -> bool {
        true
    }

    fn find(&self, _: Maps, key: Key<'_>, _: &mut Vec<Notice>) -> Result<Option<Vec<u8>>, LookupFailed> {
        let (Key::Whole(key) | Key::Part(key)) = key;
        let count = self.0.lock().unwrap();
        count.set(count.get() + 1);
        Ok(Some([b"x", key, b", ", key].concat()))
    }

    fn is_listed(&self, _: Names, _: &[u8], _: &mut Vec<Notice>) -> Result<bool, LookupFailed> {
        Ok(false)
    }
}

#[test]
fn the_work_for_one_recipient_is_bounded() {
    let tables = Growing(Mutex::new(Cell::new(0)));
    let (found, ..) = with(&options(), &tables, |mapping| mapping.final_recipients(b"a@x"));
    assert_eq!(found, Err(AliasTooLarge));
    assert!(tables.0.lock().unwrap().get() <= 1000);
}
