//! Odd but plausible configurations and messages, drawn at random, through both servers; a difference is shrunk to a
//! small case before it is reported. `QMQPD_SEED` and `QMQPD_ROUNDS` set which, and how many messages of each
//! configuration; a failure names both.
//!
//! To draw more: add a line to [`SETTINGS`] (what a main.cf can say) or to [`LINES`] (what a message can hold).

use testbed::case::Case;
use testbed::client::request;
use testbed::pair::{self, Pair};
use testbed::peers::Peer;
use testbed::random::{self, Random};
use testbed::suite::{Suite, oracle_only};

/// How many configurations are drawn.
const CONFIGURATIONS: usize = 20;
/// How many messages each gets for fifty of another random test.
const MESSAGES_PER_FIFTY_ROUNDS: usize = 8;

/// A parameter, and the values that it may be drawn with. `TABLE` stands for a list of address tables, `PLAIN` for a
/// list of names.
const SETTINGS: &[(&str, &[&str])] = &[
    ("canonical_maps", &["TABLE"]),
    ("sender_canonical_maps", &["TABLE"]),
    ("recipient_canonical_maps", &["TABLE"]),
    (
        "canonical_classes",
        &["envelope_sender", "header_sender header_recipient", "envelope_recipient,header_sender"],
    ),
    ("sender_canonical_classes", &["envelope_sender", "header_sender"]),
    ("recipient_canonical_classes", &["envelope_recipient", "header_recipient"]),
    ("virtual_alias_maps", &["TABLE"]),
    ("virtual_alias_recursion_limit", &["1", "2", "5"]),
    ("virtual_alias_expansion_limit", &["1", "2", "5"]),
    ("virtual_alias_address_length_limit", &["8", "20"]),
    ("sender_bcc_maps", &["TABLE"]),
    ("recipient_bcc_maps", &["TABLE"]),
    ("always_bcc", &["joe", "a@b.example", "J D", "<x@y>"]),
    ("masquerade_domains", &["PLAIN"]),
    ("masquerade_exceptions", &["PLAIN", "joe", "inline:{joe=x}"]),
    ("masquerade_classes", &["", "envelope_recipient, header_recipient", "envelope_sender"]),
    ("recipient_delimiter", &["+", "-", "-+"]),
    ("owner_request_special", &["no"]),
    ("propagate_unmatched_extensions", &["", "canonical", "virtual"]),
    ("mydestination", &["", "PLAIN", "b.example, !mx.example.test", "inline:{b.example=x}"]),
    ("myorigin", &["b.example", "x"]),
    ("append_at_myorigin", &["no"]),
    ("append_dot_mydomain", &["yes"]),
    ("swap_bangpath", &["no"]),
    ("enable_original_recipient", &["no"]),
    ("duplicate_filter_limit", &["1", "3"]),
    ("empty_address_recipient", &["joe"]),
    ("smtputf8_autodetect_classes", &["all"]),
    ("smtputf8_enable", &["no"]),
    ("receive_override_options", &["no_address_mappings", "no_header_body_checks"]),
    ("enable_long_queue_ids", &["yes"]),
    ("content_filter", &["f:x"]),
    ("delay_warning_time", &["1h"]),
    (
        "header_checks",
        &[
            "regexp:{{/^Subject: x/ WARN} {/^X-Other: (.*)/ INFO got $$1}}",
            "regexp:{{/^(To|Cc):/ PREPEND X-Seen: $$1} {/^Message-Id/ IGNORE}}",
            "regexp:{{/joe/ REPLACE Reply-To: joe} {/b.example/ FILTER f:y}}",
            "regexp:{{/^Bcc/ BCC joe@b.example} {/^Date/ STRIP} {/^Sender/ HOLD}}",
            "regexp:{{/^Subject/ REDIRECT joe@x} {/^Cc/ REJECT no copies} {/^From/ WARN}}",
            "regexp:{{/^Received/ IGNORE} {/^Resent/ DISCARD}}",
            "inline:{joe=PASS} static:DUNNO",
        ],
    ),
    ("mime_header_checks", &["", "regexp:{{/./ WARN mime}}"]),
    ("nested_header_checks", &["", "regexp:{{/^X/ IGNORE} {/./ PREPEND X-Nested: y}}"]),
    (
        "body_checks",
        &[
            "regexp:{{/joe/ REPLACE someone} {/^To/ STRIP} {/^/ INFO line}}",
            "regexp:{{/^From/ REJECT 4.5.6 later} {/./ PREPEND before}}",
        ],
    ),
    ("body_checks_size_limit", &["0", "20"]),
    // A header that is refused is logged up to a hundred bytes: of our own, not a part of its queue ID.
    ("strict_8bitmime", &["yes\nmail_name = Another Mail System"]),
    ("strict_mime_encoding_domain", &["yes"]),
    // No character of a queue ID or date, which are masked.
    ("message_strip_characters", &["=\\0"]),
    ("message_reject_characters", &["~\\377"]),
    ("info_log_address_format", &["internal"]),
];

/// Local parts and domains that meet often, in tables and in messages.
const USERS: &[&str] = &[
    "joe",
    "Joe",
    "joe+x",
    "joe-x",
    "a",
    "b",
    "owner-a",
    "a-request",
    "\"j d\"",
    "postmaster",
    "j\u{f6}",
    "a.b",
    "",
];
const DOMAINS: &[&str] = &[
    "b.example",
    "B.Example",
    "x",
    "h.b.example",
    "mx.example.test",
    "localhost",
    "[127.0.0.1]",
    "example",
    "\u{fc}.example",
];

/// Lines of a message; `ADDRESSES` stands for a list of addresses.
const LINES: &[&str] = &[
    "To: ADDRESSES",
    "To: ADDRESSES",
    "From: ADDRESSES",
    "Cc: ADDRESSES",
    "Reply-To: ADDRESSES",
    "Resent-To: ADDRESSES",
    "Sender: ADDRESSES",
    "Bcc: ADDRESSES",
    "Subject: x",
    "Message-Id: <x@y>",
    "Date: x",
    "X-Other: ADDRESSES",
    " ADDRESSES",
    "",
    "To: joe",
    "Content-Type: multipart/mixed; boundary=b",
    "Content-Type: message/rfc822",
    "Content-Transfer-Encoding: 8bit",
    "Content-Transfer-Encoding: base64",
    "--b",
    "~",
];

/// What is sent.
#[derive(Debug, Clone)]
struct Message {
    lines: Vec<String>,
    sender: String,
    recipients: Vec<String>,
}

pub(crate) fn add(suite: &mut Suite) {
    for number in 0..CONFIGURATIONS {
        suite.trials.add(&format!("generated::{number:02}"), &[Peer::Postfix], move || run(number));
    }
}

fn run(number: usize) {
    let seed = random::seed();
    // Not the numbers of the messages.
    let main_cf = configuration(&mut Random::new(seed.rotate_left(32), number));
    let mut pair = Pair::new(main_cf.clone());
    for round in 0..random::rounds() * MESSAGES_PER_FIFTY_ROUNDS / 50 {
        let message = message(&mut Random::new(seed, number * 100_000 + round));
        if difference(&mut pair, &message).is_some() {
            let (main_cf, message, difference) = shrink(main_cf, message);
            panic!(
                "QMQPD_SEED={seed}, round {round}: ours (+) differs from Postfix (-)\n{difference}{message:#?}\n{}",
                main_cf.join("\n")
            );
        }
    }
}

fn difference(pair: &mut Pair, message: &Message) -> Option<String> {
    let case = message.case();
    let postfix = pair.postfix(&case);
    if oracle_only() {
        return None;
    }
    pair::difference(&postfix, &pair.ours(&case), case.compare_end)
}

/// Leaves out what is not needed for a difference.
fn shrink(mut main_cf: Vec<String>, mut message: Message) -> (Vec<String>, Message, String) {
    let mut found = difference(&mut Pair::new(main_cf.clone()), &message);
    // Other pairs have other ports and IDs: without a difference there, everything is reported as it is.
    let mut smaller = found.is_some();
    while smaller {
        smaller = false;
        let mut pair = Pair::new(main_cf.clone());
        for candidate in message.smaller() {
            if let Some(difference) = difference(&mut pair, &candidate) {
                (message, found, smaller) = (candidate, Some(difference), true);
                break;
            }
        }
        if smaller {
            continue;
        }
        for left_out in 0..main_cf.len() {
            let mut candidate = main_cf.clone();
            candidate.remove(left_out);
            if let Some(difference) = difference(&mut Pair::new(candidate.clone()), &message) {
                (main_cf, found, smaller) = (candidate, Some(difference), true);
                break;
            }
        }
    }
    (main_cf, message, found.unwrap_or_else(|| "only in the first servers\n".to_owned()))
}

impl Message {
    fn case(&self) -> Case {
        let recipients: Vec<&[u8]> = self.recipients.iter().map(String::as_bytes).collect();
        let content = self.lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        Case::bytes("generated", request(content.as_bytes(), self.sender.as_bytes(), &recipients))
    }

    /// This message with one thing less.
    fn smaller(&self) -> Vec<Self> {
        let mut found = Vec::new();
        for left_out in 0..self.recipients.len() {
            let mut smaller = self.clone();
            smaller.recipients.remove(left_out);
            found.push(smaller);
        }
        for left_out in 0..self.lines.len() {
            let mut smaller = self.clone();
            smaller.lines.remove(left_out);
            found.push(smaller);
        }
        found
    }
}

fn configuration(random: &mut Random) -> Vec<String> {
    let mut lines = vec!["qmqpd_error_delay = 0s".to_owned()];
    for (name, values) in SETTINGS {
        // A few at a time: each for itself is tried elsewhere.
        if random.below(5) == 0 {
            let value = match random.pick(values) {
                "TABLE" => tables(random),
                "PLAIN" => plain(random),
                value => value.to_owned(),
            };
            lines.push(format!("{name} = {value}"));
        }
    }
    if !lines.iter().any(|line| line.contains("_maps = ")) {
        lines.push(format!("canonical_maps = {}", tables(random)));
    }
    lines
}

fn tables(random: &mut Random) -> String {
    let tables = (0..=random.below(2)).map(|_| match random.below(12) {
        0 => "fail:down".to_owned(),
        1 => "static:s@static.example".to_owned(),
        2 => "regexp:{{/^j(.*)@(.*)$$/ $${1}@r.example}}".to_owned(),
        3 => "pcre:{{/^(a.*)@b/ $${1}, b@b.example}}".to_owned(),
        _ => {
            let entries =
                (0..=random.below(8)).map(|_| format!("{{{} = {}}}", address(random), value(random)));
            let mut entries: Vec<String> = entries.collect();
            // A key that stands twice is a broken table in Postfix.
            entries.sort_by_key(|entry| entry.split(" = ").next().unwrap_or_default().to_lowercase());
            entries.dedup_by_key(|entry| entry.split(" = ").next().unwrap_or_default().to_lowercase());
            format!("inline:{{ {} }}", entries.join(", "))
        }
    });
    tables.collect::<Vec<_>>().join(", ")
}

fn value(random: &mut Random) -> String {
    match random.below(10) {
        0 => "<>".to_owned(),
        1 => "(no address)".to_owned(),
        2 => format!("{} {}", address(random), address(random)),
        3 => format!("{}, {}, {}", address(random), address(random), address(random)),
        4 => format!("Name <{}>", address(random)),
        _ => address(random),
    }
}

fn plain(random: &mut Random) -> String {
    let names = (0..=random.below(3)).map(|_| {
        format!(
            "{}{}",
            random.pick(&["", "", "!"]),
            random.pick(&["b.example", "Example", "x", "h.b.example", "test"])
        )
    });
    names.collect::<Vec<_>>().join(" ")
}

fn address(random: &mut Random) -> String {
    let user = random.pick(USERS);
    if random.below(4) == 0 && !user.is_empty() {
        user.to_owned()
    } else {
        format!("{user}@{}", random.pick(DOMAINS))
    }
}

fn message(random: &mut Random) -> Message {
    let lines = (0..random.below(7)).map(|_| {
        let addresses = (0..=random.below(3)).map(|_| match random.below(5) {
            0 => format!("Name <{}>", address(random)),
            1 => format!("{} (comment)", address(random)),
            _ => address(random),
        });
        let addresses = addresses.collect::<Vec<_>>().join(", ");
        random.pick(LINES).replace("ADDRESSES", &addresses)
    });
    let lines = lines.collect();
    let bare = |address: String| address.replace('"', "");
    let sender = if random.below(6) == 0 { String::new() } else { bare(address(random)) };
    let recipients = (0..random.below(6)).map(|_| bare(address(random))).collect();
    Message { lines, sender, recipients }
}
