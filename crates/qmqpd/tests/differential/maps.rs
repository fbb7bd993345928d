//! Address tables: canonical addresses, masquerading, virtual aliases, automatic recipients.

use testbed::case::{Case, SENDER};
use testbed::client::request;

/// Settings, and what is sent under them.
struct Group {
    name: &'static str,
    main_cf: &'static [&'static str],
    /// Senders, each with recipients; blanks separate recipients, `~` stands for a blank, EMPTY for an empty one.
    envelopes: &'static [(&'static str, &'static str)],
    /// Which of the messages are refused, `h` being the headers, and with what reply; the others are queued.
    refused: [(&'static str, &'static str); 2],
}

const WRITE: &str = "ZError: queue file write error";
const ALIAS: &str = "ZError: 4.6.0 Alias expansion error";

impl Group {
    const fn refused(self, messages: &'static str, reply: &'static str) -> Self {
        Self { refused: [self.refused[1], (messages, reply)], ..self }
    }

    /// The case with what is expected of it.
    fn expecting(&self, case: Case, message: &str) -> Case {
        match self.refused.iter().find(|(messages, _)| messages.contains(message)) {
            Some((_, reply)) => case.reply(*reply),
            None => case,
        }
    }
}

/// Each group receives these headers, too.
const HEADERS: &str = "To: bob@rcpt.example, Bob <BOB@rcpt.example>, joe, a@old.example, \"a b\"@x.example,\n\
    u@host.example.test, loop1@x.example, two@x.example (c), joe+ext@x.example\n\
    From: alice@sender.example, joe@sub.host.example.test (Joe), root@host.example.test, <>, g: joe, a@old.example;\n\
    Cc: same@x.example, <b@rcpt.example>\nSubject: bob@rcpt.example\nX-To: bob@rcpt.example\n\
    Reply-To: nobody@else.example\n\nTo: bob@rcpt.example\n";

const ENVELOPES: &[(&str, &str)] = &[
    (
        "alice@sender.example",
        "bob@rcpt.example BOB@Rcpt.example bob joe+ext@x.example joe+@x.example +ext@x.example a@old.example \
         a+b@old.example A@OLD.example same@x.example Same@X.example Same@x.example nobody@else.example a~b@x.example \
         two@x.example u@host.example.test root@host.example.test root@a.host.example.test",
    ),
    ("bob@rcpt.example", "bob@rcpt.example"),
    ("joe+ext@x.example", "joe+a+b@x.example"),
    ("a@old.example", "postmaster+x@old.example owner-x+y@x.example"),
    (
        "u@host.example.test",
        "joe joe+ext joe@mx.example.test joe+ext@localhost joe@[127.0.0.1] joe@[IPv6:::1] joe@[192.0.2.1] \
         j\u{f6}e@x.example J\u{d6}E@X.example",
    ),
    ("", "bob@rcpt.example"),
    ("root@sub.host.example.test", "EMPTY"),
];

const fn group(name: &'static str, main_cf: &'static [&'static str]) -> Group {
    Group { name, main_cf, envelopes: ENVELOPES, refused: [("", ""); 2] }
}

/// The most that each of the parameters can be told in one line.
const CANONICAL: &str = "inline:{ {bob@rcpt.example = robert@other.example}, {bob = b@rcpt.example}, {joe = j.doe}, \
     {joe@x.example = joe@y.example}, {@old.example = @new.example}, {same@x.example = Same@x.example}, \
     {two@x.example = a@x.example; b@x.example, c}, {\"a b\"@x.example = ab@x.example}, {al@sender.example = <>}, \
     {loop1@x.example = loop2@x.example}, {loop2@x.example = loop1@x.example}, {joe@y.example = a!c} }";

const GROUPS: &[Group] = &[
    group("canonical", &["canonical_maps = {CANONICAL}"]),
    group("canonical_delimiter", &["canonical_maps = {CANONICAL}", "recipient_delimiter = +"]),
    group("canonical_delimiters", &["canonical_maps = {CANONICAL}", "recipient_delimiter = -+"]),
    group(
        "canonical_owner_not_special",
        &[
            "canonical_maps = inline:{owner=x@y.example}",
            "recipient_delimiter = -",
            "owner_request_special = no",
        ],
    ),
    group(
        "canonical_not_propagated",
        &[
            "canonical_maps = {CANONICAL}",
            "recipient_delimiter = +",
            "propagate_unmatched_extensions = virtual",
        ],
    ),
    group(
        "canonical_sides",
        &[
            "sender_canonical_maps = inline:{alice@sender.example=bob@rcpt.example, bob@rcpt.example=s@x.example}",
            "recipient_canonical_maps = inline:{bob@rcpt.example=r@x.example, nobody@else.example=bob}",
            "canonical_maps = {CANONICAL}",
        ],
    ),
    group(
        "canonical_envelope_only",
        &["canonical_maps = {CANONICAL}", "canonical_classes = envelope_recipient"],
    ),
    group(
        "canonical_headers_only",
        &["canonical_maps = {CANONICAL}", "canonical_classes = header_sender, header_recipient"],
    ),
    group(
        "canonical_side_classes",
        &[
            "sender_canonical_maps = {CANONICAL}",
            "sender_canonical_classes = header_sender",
            "recipient_canonical_maps = {CANONICAL}",
            "recipient_canonical_classes = envelope_recipient",
        ],
    ),
    group(
        "canonical_pattern",
        &["canonical_maps = regexp:{{/^(.*)@old\\.example$$/ $$1@new.example}, {/^joe$$/ x}}"],
    ),
    group(
        "canonical_two_tables",
        &[
            "canonical_maps = regexp:{{/^bob/ bob@two.example}}, inline:{@rcpt.example=@three.example, @two.example=@rcpt.example}",
        ],
    ),
    group("canonical_static", &["canonical_maps = static:x"]),
    group("canonical_static_at", &["canonical_maps = static:@d.example", "recipient_delimiter = +"]),
    group("canonical_fails", &["canonical_maps = fail:down"]).refused("h0123456", WRITE),
    group("canonical_fails_late", &["canonical_maps = inline:{alice@sender.example=x@y.example}, fail:down"]).refused("h0123456", WRITE),
    group(
        "canonical_fails_in_headers",
        &["canonical_maps = fail:down", "canonical_classes = header_recipient"],
    ).refused("h", WRITE),
    group("canonical_empty", &["canonical_maps = pcre:{{/^(z*)bob@/ $$1}}"]).refused("h015", WRITE),
    group(
        "canonical_no_address",
        &["canonical_maps = inline:{bob@rcpt.example=(c), alice@sender.example=;}"],
    ).refused("h015", WRITE),
    group("canonical_null", &["canonical_maps = inline:{alice@sender.example=<>, bob@rcpt.example=\"\"}"]),
    group("canonical_of_null", &["canonical_maps = inline:{\"\"=null@x.example}"]),
    group("canonical_is_missing", &["canonical_maps = texthash:/no/such/file"]).refused("h0123456", WRITE),
    group("canonical_type_unknown", &["canonical_maps = nosuch:table"]).refused("h0123456", WRITE),
    group(
        "destination_table",
        &[
            "canonical_maps = {CANONICAL}",
            "mydestination = inline:{x.example=y}, !else.example, RCPT.example",
        ],
    ),
    group("destination_fails", &["canonical_maps = {CANONICAL}", "mydestination = fail:down"]).refused("h0123456", WRITE),
    group("origin", &["canonical_maps = {CANONICAL}", "myorigin = x.example", "mydestination ="]),
    group("masquerade", &["masquerade_domains = example.test"]),
    group(
        "masquerade_order",
        &["masquerade_domains = !a.host.example.test Host.Example.test, example.test, example"],
    ),
    group("masquerade_not", &["masquerade_domains = !!example.test !x.example example"]),
    group(
        "masquerade_exceptions",
        &["masquerade_domains = example.test example", "masquerade_exceptions = Root, inline:{u=x}"],
    ),
    group(
        "masquerade_exceptions_fail",
        &["masquerade_domains = example.test", "masquerade_exceptions = root, fail:down"],
    ).refused("h01234", WRITE),
    group(
        "masquerade_recipients",
        &["masquerade_domains = example.test", "masquerade_classes = envelope_recipient"],
    ),
    group("masquerade_nothing", &["masquerade_domains = example.test", "masquerade_classes ="]),
    group("masquerade_after_canonical", &["masquerade_domains = example", "canonical_maps = {CANONICAL}"]),
    group("virtual", &["virtual_alias_maps = {VIRTUAL}"]),
    group("virtual_delimiter", &["virtual_alias_maps = {VIRTUAL}", "recipient_delimiter = +"]),
    group(
        "virtual_not_propagated",
        &[
            "virtual_alias_maps = {VIRTUAL}",
            "recipient_delimiter = +",
            "propagate_unmatched_extensions = canonical",
        ],
    ),
    group("virtual_old_name", &["virtual_maps = {VIRTUAL}"]),
    group("virtual_after_canonical", &["virtual_alias_maps = {VIRTUAL}", "canonical_maps = {CANONICAL}"]),
    group("virtual_original_ignored", &["virtual_alias_maps = {VIRTUAL}", "enable_original_recipient = no"]),
    group("virtual_filter_of_two", &["virtual_alias_maps = {VIRTUAL}", "duplicate_filter_limit = 2"]),
    group(
        "virtual_loop",
        &[
            "virtual_alias_maps = inline:{bob@rcpt.example=loop1@x.example, loop1@x.example=loop2@x.example, loop2@x.example=loop1@x.example}",
        ],
    ).refused("015", ALIAS),
    group(
        "virtual_recursion_limit",
        &[
            "virtual_alias_maps = inline:{bob@rcpt.example=1@x, 1@x=2@x, 2@x=3@x}",
            "virtual_alias_recursion_limit = 3",
        ],
    ).refused("015", ALIAS),
    group(
        "virtual_recursion_fits",
        &[
            "virtual_alias_maps = inline:{bob@rcpt.example=1@x, 1@x=2@x, 2@x=3@x}",
            "virtual_alias_recursion_limit = 4",
        ],
    ),
    group(
        "virtual_expansion_limit",
        &[
            "virtual_alias_maps = inline:{ {bob@rcpt.example = 1@x, 2@x, 3@x} }",
            "virtual_alias_expansion_limit = 2",
        ],
    ).refused("015", ALIAS),
    group(
        "virtual_expansion_fits",
        &[
            "virtual_alias_maps = inline:{ {bob@rcpt.example = 1@x, 2@x, 3@x} }",
            "virtual_alias_expansion_limit = 3",
        ],
    ),
    group(
        "virtual_expansion_is_last",
        &[
            "virtual_alias_maps = inline:{ {bob@rcpt.example = 1@x, 2@x}, {2@x = 2@x, 3@x, 4@x} }",
            "virtual_alias_expansion_limit = 2",
        ],
    ).refused("015", ALIAS),
    group(
        "virtual_length_limit",
        &[
            "virtual_alias_maps = inline:{bob@rcpt.example=123456789@x.example}",
            "virtual_alias_address_length_limit = 18",
        ],
    ).refused("015", ALIAS),
    group(
        "virtual_length_fits",
        &[
            "virtual_alias_maps = inline:{bob@rcpt.example=123456789@x.example}",
            "virtual_alias_address_length_limit = 19",
        ],
    ),
    group(
        "virtual_grows",
        &[
            "virtual_alias_maps = inline:{ {@rcpt.example = @a.rcpt.example, x} }, regexp:{{/^(.*)@(.*)$$/ $${1}x@$${2}}}",
            "virtual_alias_address_length_limit = 100",
        ],
    )
    .refused("h0123456", ALIAS),
    group("virtual_fails", &["virtual_alias_maps = fail:down"]).refused("h0123456", WRITE),
    group(
        "virtual_fails_late",
        &[
            "virtual_alias_maps = inline:{ {bob@rcpt.example = c@x.example, d@x.example}, {c@x.example = c@x.example}}, fail:down",
        ],
    ).refused("h0123456", WRITE),
    group("virtual_empty", &["virtual_alias_maps = pcre:{{/^(z*)bob@/ $$1}}"]).refused("015", WRITE),
    group("virtual_no_address", &["virtual_alias_maps = inline:{bob@rcpt.example=(c)}"]).refused("015", WRITE),
    group("sender_bcc", &["sender_bcc_maps = {BCC}"]),
    group("sender_bcc_original_ignored", &["sender_bcc_maps = {BCC}", "enable_original_recipient = no"]),
    group("recipient_bcc", &["recipient_bcc_maps = {BCC}"]),
    group(
        "bcc_delimiter",
        &["sender_bcc_maps = {BCC}", "recipient_bcc_maps = {BCC}", "recipient_delimiter = +"],
    ),
    group(
        "bcc_everywhere",
        &[
            "sender_bcc_maps = static:bob@rcpt.example",
            "recipient_bcc_maps = {BCC}",
            "always_bcc = joe",
            "virtual_alias_maps = {VIRTUAL}",
            "canonical_maps = {CANONICAL}",
            "masquerade_domains = example",
            "masquerade_classes = envelope_recipient",
        ],
    ),
    group("bcc_fails", &["sender_bcc_maps = inline:{bob@rcpt.example=x}, fail:down"]).refused("h02346", WRITE),
    group("recipient_bcc_fails", &["recipient_bcc_maps = inline:{bob@rcpt.example=x}, fail:down"]).refused("h02346", WRITE),
    group(
        "always_bcc_fails",
        &[
            "always_bcc = joe",
            "virtual_alias_maps = regexp:{{/^[^j]/ x@y.example}}, inline:{x@y.example=x@y.example}, fail:down",
        ],
    ).refused("h0123456", WRITE),
    group("always_bcc_loops", &["always_bcc = joe", "virtual_alias_maps = inline:{joe=jim, jim=joe}"]).refused("h0123456", ALIAS),
    group(
        "two_failures",
        &["virtual_alias_maps = inline:{joe=jim, jim=joe}", "recipient_bcc_maps = fail:down"],
    ).refused("h012356", WRITE).refused("4", ALIAS),
    group(
        "no_address_mappings",
        &[
            "receive_override_options = no_address_mappings",
            "sender_bcc_maps = fail:a",
            "recipient_bcc_maps = fail:b",
            "virtual_alias_maps = fail:c",
            "canonical_maps = fail:d",
            "sender_canonical_maps = fail:d",
            "recipient_canonical_maps = fail:d",
            "masquerade_domains = example",
            "always_bcc = joe",
        ],
    ),
    group("autodetected", &["canonical_maps = inline:{bob@rcpt.example=b\u{f6}b@rcpt.example, joe=j\u{f6}@x}", "smtputf8_autodetect_classes = all"]),
    group("autodetected_virtual", &["virtual_alias_maps = inline:{bob@rcpt.example=b\u{f6}b@rcpt.example}", "smtputf8_autodetect_classes = qmqpd"]),
    group("not_utf8", &["canonical_maps = {CANONICAL}", "smtputf8_enable = no"]),
    group("copy_without_quotes", &["recipient_bcc_maps = pcre:{{/^a b@/ \"c d\"@x.example}}"]),
    group("proxied_hosts", &["canonical_maps = {CANONICAL}", "inet_interfaces = 127.0.0.1", "proxy_interfaces = 192.0.2.1"]),
    group("long_ids", &["canonical_maps = {CANONICAL}", "enable_long_queue_ids = yes"]),
    group(
        "filter_and_warning",
        &["sender_bcc_maps = {BCC}", "content_filter = f:x", "delay_warning_time = 1h"],
    ),
    group(
        "dot_mydomain",
        &["canonical_maps = {CANONICAL}", "virtual_alias_maps = {VIRTUAL}", "append_dot_mydomain = yes"],
    ),
    group(
        "nothing_appended",
        &["canonical_maps = {CANONICAL}", "virtual_alias_maps = {VIRTUAL}", "append_at_myorigin = no"],
    ),
];

const VIRTUAL: &str = "inline:{ {bob@rcpt.example = joe, same@x.example, b@z.example}, {joe = j1, j2}, {j2 = j1}, \
     {same@x.example = Same@x.example, other@x.example}, {joe@x.example = j@y.example, k}, {@old.example = @new.example}, \
     {two@x.example = bob@rcpt.example bob@rcpt.example}, {\"a b\"@x.example = \"c d\"@x.example}, {root@host.example.test = <>} }";

const BCC: &str = "inline:{ {bob@rcpt.example = copy@x.example}, {joe = joe@z.example}, {joe@x.example = copy}, \
     {@old.example = @z.example}, {alice@sender.example = a@x, b@y}, {\"a b\"@x.example = \"a b\"@y.example}, \
     {u@host.example.test = BOB@rcpt.example}, {nobody@else.example = nobody@else.example} }";

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for group in GROUPS {
        let Group { name, main_cf, envelopes, .. } = group;
        let filled: Vec<String> = main_cf
            .iter()
            .map(|line| {
                line.replace("{CANONICAL}", CANONICAL).replace("{VIRTUAL}", VIRTUAL).replace("{BCC}", BCC)
            })
            .collect();
        // A refusal is not what takes time here.
        let lines: Vec<&str> = filled.iter().map(String::as_str).chain(["qmqpd_error_delay = 0s"]).collect();
        let headers = request(HEADERS.as_bytes(), SENDER, &[b"x@y.example"]);
        let mut of_group = vec![group.expecting(Case::bytes(format!("maps::{name}::headers"), headers), "h")];
        for (index, (sender, recipients)) in envelopes.iter().enumerate() {
            let recipients: Vec<String> = recipients
                .split_whitespace()
                .map(|recipient| recipient.replace('~', " ").replace("EMPTY", ""))
                .collect();
            let slices: Vec<&[u8]> = recipients.iter().map(String::as_bytes).collect();
            let case = Case::envelope(format!("maps::{name}::{index}"), sender, &slices);
            of_group.push(group.expecting(case, &index.to_string()));
        }
        cases.extend(of_group.into_iter().map(|case| case.with(&lines)));
    }
    cases.push(
        Case::envelope("maps::literal_that_is_none", SENDER, &[b"joe@[nonsense]"])
            .with(&["canonical_maps = inline:{joe=x}"])
            .differs(
                "no-warning-about-an-invalid-domain-literal-in-a-table-lookup",
                |postfix| postfix.assert_logged("warning: valid_ipv4_hostaddr: invalid character"),
                |ours| {
                    ours.assert_queued();
                    ours.assert_not_logged("warning: ");
                },
            ),
    );
    cases
}
