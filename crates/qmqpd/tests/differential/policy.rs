//! Who may send, and what the operator's settings do to replies, logs and envelopes.

use super::protocol::early;
use testbed::case::{Case, RECIPIENT, SENDER};
use testbed::client::request;
use testbed::pair::Outcome;

pub(crate) fn cases() -> Vec<Case> {
    [authorized(), broken_lists(), settings(), soft_bounce()].concat()
}

fn whole() -> Vec<u8> {
    request(b"Subject: policy\n\nhello\n", SENDER, &[RECIPIENT])
}

/// A client that waits for its refusal: what a server does with unread data is another case.
fn asks(name: String, clients: &str) -> Case {
    Case::new(name, vec![]).with(&[&format!("qmqpd_authorized_clients = {clients}")])
}

/// Ours says in the log why the client was refused.
pub(crate) fn reasoned(case: Case) -> Case {
    case.differs(
        "the-reply-to-an-unauthorized-client-is-logged",
        |postfix| postfix.assert_not_logged("Error: "),
        |ours| ours.assert_logged("qmqpd: warning: NOQUEUE: localhost[127.0.0.1]: Error: "),
    )
}

/// What both show of a client in debug_peer_list.
fn in_detail(session: &Outcome) {
    for line in [
        "match_hostaddr: qmqpd_authorized_clients: 127.0.0.1 ~? 127.0.0.0/8",
        "netstring_get_length: read netstring length 71",
        "netstring_get_data: read netstring data Subject: policy??hello?",
        "netstring_get_data: read netstring data bob@rcpt.example",
        "netstring_put: write netstring len 26 data KOk: queued as QUEUE-ID",
    ] {
        session.assert_logged(&format!("qmqpd: {line}"));
    }
}

fn authorized() -> Vec<Case> {
    const NO: &str = "DError: localhost[127.0.0.1] is not authorized to use this service";
    let mut cases = Vec::new();
    for (index, list) in [
        "127.0.0.1",
        "[127.0.0.1]",
        "127.0.0.0/8",
        "[127.0.0.0]/8",
        "[127.0.0.0/8]",
        "localhost",
        "LocalHost",
        "10.0.0.1, 127.0.0.1",
        "10.0.0.1 127.0.0.1",
        "!10.0.0.0/8, 127.0.0.1",
        "!!127.0.0.1",
        "127.0.0.1, !127.0.0.1",
        "127.0.0.1 127.0.0.1/8",
        "static:all",
        "inline:{127.0.0.1=yes}",
        "inline:{localhost=REJECT}",
        "cidr:{{127.0.0.0/8 yes}}",
        "cidr:{{!10.0.0.0/8 yes}}",
        "regexp:{{/^127/ yes}}",
        "pcre:{{/^local(?=host)/ yes}}",
        "unionmap:{inline:{127.0.0.1=a},static:b}",
        "pipemap:{inline:{127.0.0.1=a},inline:{a=b}}",
        "$mynetworks",
        "${nothing}127.0.0.1",
        "${{a} == {a} ? {127.0.0.1} : {none}}",
    ]
    .iter()
    .enumerate()
    {
        let line = format!("qmqpd_authorized_clients = {list}");
        cases.push(Case::bytes(format!("policy::yes_{index:02}_{list}"), whole()).with(&[&line]));
    }
    for (index, list) in [
        "",
        "10.0.0.1",
        "127.",
        "127.0.0",
        "127.0.0.01",
        "{127.0.0.1}",
        "!127.0.0.1",
        "!127.0.0.1, 127.0.0.0/8",
        "!localhost, 127.0.0.1",
        ".localhost",
        "unknown",
        "local",
        "[::1]",
        "[fe80::1%lo]",
        "inline:{10.0.0.1=yes}",
        "inline:{LocalHost=yes}",
        "cidr:{{!127.0.0.0/8 yes}}",
        "pipemap:{inline:{127.0.0.1=a},inline:{b=c}}",
        "!static:all, 127.0.0.1",
    ]
    .iter()
    .enumerate()
    {
        cases.push(reasoned(asks(format!("policy::no_{index:02}_{list}"), list).reply(NO)));
    }
    cases
}

fn broken_lists() -> Vec<Case> {
    const BROKEN: &str = "ZError: server configuration error";
    let mut cases = Vec::new();
    for (index, list) in [
        "127.0.0.1/8",
        "127.0.0.0/33",
        "127.0.0.0/",
        "127.0.0/24",
        "127.0.0.1/8 127.0.0.1",
        "fail:why",
        "nosuchtype:/nowhere",
        "2001:db8::1",
        "texthash:/nonexistent/file",
        "cidr:/nonexistent/file",
        "regexp:/nonexistent/file",
        "lmdb:/nonexistent/file",
        "cdb:/nonexistent/file",
        "hash:/nonexistent/file",
        "btree:/nonexistent/file",
        "/nonexistent/file",
        "unionmap:{fail:x,static:b}",
        "!fail:x",
    ]
    .iter()
    .enumerate()
    {
        cases.push(reasoned(asks(format!("policy::broken_{index:02}_{list}"), list).reply(BROKEN)));
    }
    cases.push(
        Case::bytes("policy::broken_behind_a_match", whole())
            .with(&["qmqpd_authorized_clients = 127.0.0.1, fail:x"]),
    );
    cases.push(
        Case::bytes("policy::debug_peer", whole())
            .with(&["debug_peer_list = 127.0.0.1", "debug_peer_level = 2"])
            .differs(
                "detailed-logs-omit-internal-protocols",
                |postfix| {
                    in_detail(postfix);
                    postfix.assert_logged("qmqpd: input attribute name: queue_id");
                },
                |ours| {
                    in_detail(ours);
                    ours.assert_not_logged("attribute");
                },
            ),
    );
    cases.push(
        Case::bytes("policy::broken_debug_peer_list", whole()).with(&["debug_peer_list = 127.0.0.1/8"]),
    );
    cases
}

fn settings() -> Vec<Case> {
    let bcc = ["always_bcc = archive@log.example"];
    let port = ["qmqpd_client_port_logging = yes"];
    vec![
        Case::bytes("policy::always_bcc", whole()).with(&bcc),
        Case::bytes(
            "policy::always_bcc_is_a_recipient",
            request(b"\nx\n", SENDER, &[b"archive@log.example"]),
        )
        .with(&bcc),
        Case::bytes("policy::always_bcc_without_recipients", request(b"\nx\n", SENDER, &[]))
            .with(&bcc)
            .reply("DError: no recipients specified"),
        Case::bytes("policy::always_bcc_bare", whole()).with(&["always_bcc = archive"]),
        Case::bytes(
            "policy::always_bcc_and_8bit",
            request(b"Content-Transfer-Encoding: 8bit\n\nx\n", SENDER, &[RECIPIENT]),
        )
        .with(&bcc),
        Case::bytes("policy::always_bcc_no_address_mappings", whole())
            .with(&["always_bcc = archive@log.example", "receive_override_options = no_address_mappings"]),
        Case::bytes("policy::content_filter", whole()).with(&["content_filter = smtp:[127.0.0.1]:10025"]),
        Case::bytes(
            "policy::content_filter_and_verp",
            request(b"\nx\n", b"list-@host.example-@[]", &[RECIPIENT]),
        )
        .with(&["content_filter = scan:", "always_bcc = a@b"]),
        Case::bytes("policy::port_logging", whole()).with(&port),
        early(
            Case::bytes("policy::port_logging_malformed", *b"x")
                .with(&port)
                .reply("Dnetstring format error while receiving QMQP packet header"),
        ),
        Case::new("policy::port_logging_refused", vec![])
            .with(&["qmqpd_client_port_logging = yes", "qmqpd_authorized_clients ="])
            .differs(
                "the-reply-to-an-unauthorized-client-is-logged",
                |postfix| {
                    postfix.assert_refused(
                        "DError: localhost[127.0.0.1]:PORT is not authorized to use this service",
                    )
                },
                |ours| {
                    ours.assert_refused(
                        "DError: localhost[127.0.0.1]:PORT is not authorized to use this service",
                    )
                },
            ),
        Case::bytes("policy::ipv6", whole()).from("::1"),
        Case::bytes("policy::ipv6_network", whole())
            .from("::1")
            .with(&["qmqpd_authorized_clients = [::]/64"]),
        Case::bytes("policy::ipv6_port_logging", whole()).from("::1").with(&port),
        Case::bytes("policy::hashed_incoming", whole())
            .with(&["hash_queue_names = incoming", "hash_queue_depth = 2"]),
        Case::bytes("policy::hashed_incoming_long_ids", whole()).with(&[
            "hash_queue_names = incoming",
            "hash_queue_depth = 2",
            "enable_long_queue_ids = yes",
        ]),
        Case::bytes("policy::syslog_name", whole()).with(&["syslog_name = other/$service_name"]),
        Case::bytes(
            "policy::smtputf8_autodetect",
            request("Subject: \u{fc}\n\nx\n".as_bytes(), SENDER, &[RECIPIENT]),
        )
        .with(&["smtputf8_autodetect_classes = all"]),
        Case::bytes("policy::named_client", whole()).from("127.0.0.2"),
        Case::bytes("policy::mixed_case_client", whole()).from("127.0.0.3"),
        Case::bytes("policy::underscore_client", whole()).from("127.0.0.4"),
        Case::bytes("policy::misplaced_hyphen_client", whole()).from("127.0.0.5"),
        Case::bytes("policy::single_label_client", whole()).from("127.0.0.6"),
        Case::bytes("policy::client_with_two_names", whole()).from("127.0.0.7"),
        Case::bytes("policy::parent_domain", whole())
            .from("127.0.0.2")
            .with(&["qmqpd_authorized_clients = com"]),
        Case::bytes("policy::dotted_parent_domain", whole())
            .from("127.0.0.2")
            .with(&["parent_domain_matches_subdomains =", "qmqpd_authorized_clients = .example.com"]),
        Case::bytes("policy::parent_domain_in_a_table", whole())
            .from("127.0.0.2")
            .with(&["qmqpd_authorized_clients = inline:{example.com=x}"]),
    ]
}

fn soft_bounce() -> Vec<Case> {
    let soft = ["soft_bounce = yes"];
    vec![
        early(
            Case::bytes("policy::soft_bounce_malformed", *b"x")
                .with(&soft)
                .reply("Znetstring format error while receiving QMQP packet header"),
        ),
        early(
            Case::bytes("policy::soft_bounce_too_long", *b"99999999999999999999:")
                .with(&soft)
                .reply("Znetstring length exceeds storage limit while receiving QMQP packet header"),
        ),
        Case::bytes("policy::soft_bounce_no_recipients", request(b"\nx\n", SENDER, &[]))
            .with(&soft)
            .reply("ZError: no recipients specified"),
        Case::bytes("policy::soft_bounce_queued", whole()).with(&soft),
    ]
}
