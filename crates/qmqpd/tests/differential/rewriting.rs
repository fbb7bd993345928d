//! How addresses are completed under settings other than the usual.

use testbed::case::Case;

const HEADERS: &str = "To: joe, a@h, h!u, a%b, x@y.z, u@h.\nFrom: joe\n\nhello\n";

/// Names of settings groups, and their main.cf lines.
const SETTINGS: &[(&str, &[&str])] = &[
    ("append_dot_mydomain", &["append_dot_mydomain = yes"]),
    ("append_at_myorigin_off", &["append_at_myorigin = no", "append_dot_mydomain = no"]),
    ("swap_bangpath_off", &["swap_bangpath = no"]),
    ("allow_percent_hack_off", &["allow_percent_hack = no"]),
    ("myorigin", &["myorigin = example.test"]),
    ("myorigin_expands", &["myorigin = $mydomain"]),
    ("mail_name", &["mail_name = Ours & Theirs"]),
    ("empty_address_recipient", &["empty_address_recipient = nobody"]),
    ("drop_headers", &["message_drop_headers = x-drop, subject"]),
    ("undisclosed", &["undisclosed_recipients_header = To: undisclosed-recipients:;"]),
    ("enable_original_recipient_off", &["enable_original_recipient = no"]),
    ("stray_cr_lf_kept", &["cleanup_replace_stray_cr_lf = no", "qmqpd_fix_line_endings = never"]),
    ("mime_input_off", &["disable_mime_input_processing = yes"]),
    ("token_limit", &["header_address_token_limit = 5"]),
    ("compatibility_0", &["compatibility_level = 0"]),
    ("smtputf8_off", &["smtputf8_enable = no"]),
    ("long_ids", &["enable_long_queue_ids = yes"]),
    ("myhostname", &["myhostname = other.host.example"]),
    ("delay_warning", &["delay_warning_time = 4h"]),
];

/// A file of one word that only systems have whose Postfix reads the domain from a file: Debian and Ubuntu.
const ORIGIN_FILE: &str = "/etc/debian_version";

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let origin_line = format!("myorigin = {ORIGIN_FILE}");
    let origin: &[&str] = &[&origin_line, "masquerade_domains = $myorigin", "recipient_delimiter = +"];
    let has_origin = std::path::Path::new(ORIGIN_FILE).exists();
    let origin = has_origin.then_some(("myorigin_is_a_file", origin));
    for (name, lines) in SETTINGS.iter().copied().chain(origin) {
        let message = "Subject: x\nX-Drop: y\nBcc: b@c\n\none\rtwo\n--b\nX : y\n";
        cases.push(Case::content(format!("rewriting::{name}::headers"), HEADERS).with(lines));
        cases.push(Case::content(format!("rewriting::{name}::message"), message).with(lines));
        cases.push(
            Case::content(format!("rewriting::{name}::crlf"), "Subject: x\r\n\r\nbody\r\n").with(lines),
        );
        cases.push(
            Case::envelope(
                format!("rewriting::{name}::envelope"),
                "alice",
                &[b"bob", b"h!u", b"a%b", b"x@y", b"x@y.z.", b"", b"Bob", b"bob@mx.example.test", b"bob"],
            )
            .with(lines),
        );
    }
    // The CRLF message is about the settings that keep it as it is.
    cases.retain(|case| !case.name.ends_with("::crlf") || case.name.contains("stray_cr_lf"));
    cases
}
