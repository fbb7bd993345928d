//! Limits at their very edge, and switches that are off.

use super::*;

#[test]
fn aliases_may_be_as_large_as_their_limits() {
    let tables = Fixed::new(&[(
        Maps::VirtualAlias,
        &[("list@x", "a@y, b@y"), ("one@x", "two@x"), ("two@x", "abcdef@y")],
    )]);
    let found = |options: Options, recipient| aliases(&options, &tables, recipient).0;
    let of = |virtual_alias_expansion_limit| Options { virtual_alias_expansion_limit, ..options() };
    assert_eq!(found(of(2), "list@x"), Ok(vec!["a@y".to_owned(), "b@y".to_owned()]));
    assert_eq!(found(of(1), "list@x"), Err(AliasTooLarge));
    let of = |virtual_alias_address_length_limit| Options { virtual_alias_address_length_limit, ..options() };
    assert_eq!(found(of(8), "two@x"), Ok(vec!["abcdef@y".to_owned()]));
    assert_eq!(found(of(7), "two@x"), Err(AliasTooLarge));
    // The lookup that finds nothing counts too.
    let of = |virtual_alias_recursion_limit| Options { virtual_alias_recursion_limit, ..options() };
    assert_eq!(found(of(3), "one@x"), Ok(vec!["abcdef@y".to_owned()]));
    assert_eq!(found(of(2), "one@x"), Err(AliasTooLarge));
}

#[test]
fn a_domain_of_dots_is_nobody_s_own() {
    let mut tables = Fixed::new(&[(Maps::Canonical, &[("joe", "jim@x")])]);
    for domain in ["", "local", "dots."] {
        tables.listed.push((Names::MyDestination, domain));
    }
    for (address, expected) in
        [("joe@local", "jim@x"), ("joe@local.", "jim@x"), ("joe@", "joe@"), ("joe@dots..", "joe@dots..")]
    {
        assert_eq!(canonical(&options(), &tables, address).0, expected);
    }
}

#[test]
fn addresses_are_masqueraded_only_where_that_is_on() {
    let masqueraded = |address_mapping, domains: &[&str], envelope_recipient| {
        let options = Options {
            address_mapping,
            masquerade_domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
            masquerade_classes: AddressClasses { envelope_recipient, ..AddressClasses::ALL },
            ..options()
        };
        canonical(&options, &Fixed::new(&[]), "u@host.test").0
    };
    assert_eq!(masqueraded(true, &["test"], true), "u@test");
    assert_eq!(masqueraded(false, &["test"], true), "u@host.test");
    assert_eq!(masqueraded(true, &["test"], false), "u@host.test");
    assert_eq!(masqueraded(true, &[], true), "u@host.test");
    let options = |domains: &[&str]| Options {
        masquerade_domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
        ..options()
    };
    let tables = Fixed::new(&[]);
    for (domains, address, expected) in [
        ("test", "u@host.test", "u@test"),
        ("!test", "u@host.test", "u@host.test"),
        ("test", "u@test", "u@test"),
    ] {
        let ((changed, text), ..) = with(&options(&[domains]), &tables, |mapping| {
            let mut tokens = scan(address.as_bytes(), 0);
            let changed = mapping.header_address(AddressRole::HeaderSender, &mut tokens);
            (changed, external(&tokens))
        });
        assert_eq!((changed, text.as_slice()), (address != expected, expected.as_bytes()), "{domains}");
    }
}

/// Tables that say something at each lookup, and know nothing.
#[derive(Debug)]
struct Talking;

impl Tables for Talking {
    fn has(&self, maps: Maps) -> bool {
        maps == Maps::Canonical
    }

    fn find(&self, _: Maps, _: Key<'_>, notices: &mut Vec<Notice>) -> Result<Option<Vec<u8>>, LookupFailed> {
        notices.push(Notice::warning("found nothing"));
        Ok(None)
    }

    fn is_listed(&self, _: Names, _: &[u8], notices: &mut Vec<Notice>) -> Result<bool, LookupFailed> {
        notices.push(Notice::warning("is not listed"));
        Ok(false)
    }
}

#[test]
fn what_tables_say_is_logged() {
    let (.., log) = with(&options(), &Talking, |mapping| {
        mapping.envelope_address(AddressRole::EnvelopeRecipient, b"u@x".to_vec())
    });
    assert_eq!(log, ["found nothing", "is not listed", "found nothing"]);
}
