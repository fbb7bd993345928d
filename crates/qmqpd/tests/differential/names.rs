//! What a client is called: reverse and forward lookups, against a name server of our own.

use testbed::case::{Case, RECIPIENT, SENDER};
use testbed::client::request;

/// Last byte of 127.0.1.x, and what the name server says about it.
const CLIENTS: &[(u8, &str)] = &[
    (1, "good"),
    (3, "forward_lookup_finds_nothing"),
    (4, "reverse_lookup_fails"),
    (5, "forward_lookup_fails"),
    (6, "alias"),
    (7, "name_that_is_an_address"),
    (8, "misplaced_hyphen"),
    (9, "underscore"),
    (10, "mixed_case"),
    (11, "one_of_two_addresses"),
    (13, "forward_lookup_without_an_address"),
    (14, "forward_lookup_gives_ipv6_alone"),
    (15, "numeric"),
    (16, "called_unknown"),
    (21, "no_such_name_with_a_name"),
    (22, "no_such_host_with_an_address"),
    (23, "failure_with_an_address"),
    (24, "alias_to_nowhere"),
    (99, "no_name"),
];

pub(crate) fn cases() -> Vec<Case> {
    let whole = request(b"Subject: names\n\nhello\n", SENDER, &[RECIPIENT]);
    let mut cases = Vec::new();
    for (last, name) in CLIENTS {
        let address: &'static str = format!("127.0.1.{last}").leak();
        cases.push(Case::bytes(format!("names::{name}"), whole.clone()).from(address));
    }
    cases.push(
        Case::bytes("names::forward_lookup_gives_another_address", whole.clone()).from("127.0.1.2").differs(
            "the-address-mismatch-warning-has-name-and-address-in-the-right-order",
            |postfix| {
                postfix.assert_logged(
                    "warning: hostname 127.0.1.2 does not resolve to address other.dns.example",
                )
            },
            |ours| {
                ours.assert_logged(
                    "warning: hostname other.dns.example does not resolve to address 127.0.1.2",
                )
            },
        ),
    );
    let by_name = "qmqpd_authorized_clients = dns.example";
    cases.push(Case::bytes("names::authorized_by_name", whole.clone()).from("127.0.1.1").with(&[by_name]));
    for (last, name) in [("127.0.1.4", "reverse"), ("127.0.1.5", "forward")] {
        cases.push(
            Case::new(format!("names::{name}_failure_of_a_client_with_a_name"), vec![])
                .from(last)
                .with(&[by_name])
                .differs(
                    "a-dns-failure-is-answered-z-not-d",
                    |postfix| {
                        assert!(
                            postfix.said().ends_with("is not authorized to use this service")
                                && postfix.said().starts_with('D')
                        )
                    },
                    |ours| assert!(ours.said().starts_with('Z'), "{:?}", ours.reply),
                ),
        );
    }
    cases.push(
        Case::new("names::failure_where_no_name_could_help", vec![])
            .from("127.0.1.4")
            .with(&["qmqpd_authorized_clients = 10.0.0.0/8"])
            .differs(
                "the-reply-to-an-unauthorized-client-is-logged",
                |postfix| {
                    postfix.assert_refused("DError: unknown[127.0.1.4] is not authorized to use this service")
                },
                |ours| {
                    ours.assert_refused("DError: unknown[127.0.1.4] is not authorized to use this service")
                },
            ),
    );
    cases
}
