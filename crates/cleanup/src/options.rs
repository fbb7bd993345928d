//! The settings of cleanup, and what is known about a message before its first byte.

use std::net::IpAddr;

use postfix::settings::words::EndOfHeader;

/// When a message whose lines end in CR LF is taken as one whose lines end in LF.
///
/// qmail and Postfix take CR as data; Postfix then turns it into a blank, and the empty line that ends the header is
/// no longer empty. Clients that send CR LF mean line ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FixLineEndings {
    /// If the first line ends in CR LF, one CR before each LF is removed.
    #[default]
    Always,
    /// CR is data, as in Postfix.
    Never,
}

/// The settings of main.cf that decide what happens to a message. Field names are the parameter names, unless the
/// field says otherwise; [`Options::default`] has the defaults of Postfix 3.7 with `compatibility_level = 3.6`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The host in Received: and Message-Id: headers.
    pub myhostname: String,
    /// The software named in Received: headers.
    pub mail_name: String,
    /// The domain of addresses without one.
    pub myorigin: String,
    /// The parent of a domain without dots, if `append_dot_mydomain`.
    pub mydomain: String,
    /// Bytes in a content record; longer lines are stored in pieces. At least 1.
    pub line_length_limit: usize,
    /// Bytes in one header with its continuation lines; the rest is cut off.
    pub header_size_limit: usize,
    /// Tokens in one address header; what follows is lost if the header is rewritten.
    pub header_address_token_limit: usize,
    /// So many Received: headers, ours included, are too many.
    pub hopcount_limit: u32,
    /// Bytes in a queue file of the classic layout; 0 is no limit. (main.cf: any value below 1 is no limit.)
    pub message_size_limit: u64,
    /// Boundary strings remembered at a time, less two.
    pub mime_nesting_limit: usize,
    /// Bytes of a boundary string that are remembered.
    pub mime_boundary_length_limit: usize,
    /// The message after its primary header is all body.
    pub disable_mime_input_processing: bool,
    /// `Content-Transfer-Encoding: 8bit` or `binary` is noted in the queue file.
    pub detect_8bit_encoding_header: bool,
    /// A CR or LF inside a line becomes a blank (main.cf: `cleanup_replace_stray_cr_lf`).
    pub replace_stray_cr_lf: bool,
    /// Main.cf: `qmqpd_fix_line_endings`.
    pub fix_line_endings: FixLineEndings,
    /// An address without domain gets `@$myorigin`.
    pub append_at_myorigin: bool,
    /// A domain without dot gets `.$mydomain`.
    pub append_dot_mydomain: bool,
    /// `append_dot_mydomain` is on because `compatibility_level` is below 1: its effects are logged.
    pub append_dot_mydomain_by_default: bool,
    /// `host!user` becomes `user@host`.
    pub swap_bangpath: bool,
    /// `user%host` becomes `user@host`.
    pub allow_percent_hack: bool,
    /// Unicode case folding of recipients, and the send options of SMTPUTF8.
    pub smtputf8_enable: bool,
    /// `smtputf8_autodetect_classes` has `qmqpd` or `all`: 8-bit headers or addresses request SMTPUTF8.
    pub smtputf8_autodetect: bool,
    /// Recipients that arrived in different spelling are different, even if they are rewritten to the same.
    pub enable_original_recipient: bool,
    /// So many recipients are remembered to find duplicates; 0 is all of them.
    pub duplicate_filter_limit: usize,
    /// The recipient that an empty one becomes.
    pub empty_address_recipient: String,
    /// An additional recipient of each message; empty means none.
    pub always_bcc: String,
    /// `transport:next-hop`, recorded for the queue manager; empty means none.
    pub content_filter: String,
    /// Seconds after which the sender is told of a delay; 0 is never. (main.cf: `delay_warning_time`.)
    pub delay_warning_time_seconds: u64,
    /// The header of a message without To: and Cc:; empty means none.
    pub undisclosed_recipients_header: String,
    /// Names, in any case, of primary headers that are dropped.
    pub message_drop_headers: Vec<String>,
    /// Content is inspected: the nine settings below, and header_checks and its like, have their effect. (main.cf:
    /// `no_header_body_checks` is not in `receive_override_options`.)
    pub header_body_checks: bool,
    /// Bytes for which a message is refused.
    pub message_reject_characters: Vec<u8>,
    /// Bytes that are removed.
    pub message_strip_characters: Vec<u8>,
    /// Headers must be 7-bit.
    pub strict_7bit_headers: bool,
    /// Headers must be 7-bit, and bodies unless they announce otherwise.
    pub strict_8bitmime: bool,
    /// Bodies must be 7-bit unless they announce otherwise.
    pub strict_8bitmime_body: bool,
    /// Multipart and message types must not be encoded as a whole.
    pub strict_mime_encoding_domain: bool,
    /// What becomes of a message whose header does not end in an empty line.
    pub non_empty_end_of_header_action: EndOfHeader,
    /// `TLS-Required: no` is noted in the queue file (main.cf: `tls_required_enable`).
    pub tls_required_header: bool,
    /// `Require-TLS-ESMTP: yes` is noted in the queue file (main.cf: `requiretls_enable` and `requiretls_esmtp_header`).
    pub require_tls_header: bool,
    /// What cleanup(8) does since release 3.10 without a setting: it notes the Message-ID in the queue file, logs that a
    /// file was removed, and counts a generated From: header that is 8-bit. (main.cf: `mail_version`.)
    pub since_3_10: bool,
    /// Bytes of each body part that body rules look at; 0 is all of them.
    pub body_checks_size_limit: u64,
    /// Addresses in log lines are quoted as in a message (main.cf: `info_log_address_format = external`).
    pub log_external_addresses: bool,
    /// 8-bit parts are converted to quoted-printable.
    pub force_mime_input_conversion: bool,
    /// Bytes that may be VERP delimiters.
    pub verp_delimiter_filter: String,
    /// Canonical maps, masquerading, virtual aliases and automatic recipients are on: not under
    /// `receive_override_options = no_address_mappings`.
    pub address_mapping: bool,
    /// Which addresses `canonical_maps` applies to.
    pub canonical_classes: AddressClasses,
    /// Which addresses `sender_canonical_maps` applies to: senders at most.
    pub sender_canonical_classes: AddressClasses,
    /// Which addresses `recipient_canonical_maps` applies to: recipients at most.
    pub recipient_canonical_classes: AddressClasses,
    /// Domains that hide the hosts in them, in any case; `!` before one leaves them as they are. None switches
    /// masquerading off.
    pub masquerade_domains: Vec<String>,
    /// Which addresses are masqueraded.
    pub masquerade_classes: AddressClasses,
    /// The bytes of which the first in a local part begins its extension; empty is no extensions.
    pub recipient_delimiter: String,
    /// `-` begins no extension in `owner-list` and `list-request`.
    pub owner_request_special: bool,
    /// A local part that never has an extension.
    pub double_bounce_sender: String,
    /// An extension that a canonical table does not know is put to its result (`propagate_unmatched_extensions`).
    pub propagates_canonical_extensions: bool,
    /// The same for virtual aliases.
    pub propagates_virtual_extensions: bool,
    /// How often the result of a virtual alias is looked up again.
    pub virtual_alias_recursion_limit: usize,
    /// How many recipients one can become.
    pub virtual_alias_expansion_limit: usize,
    /// How long the result of a virtual alias can be, in bytes.
    pub virtual_alias_address_length_limit: usize,
    /// Addresses of this host: domains such as `[192.0.2.1]` are local (`inet_interfaces`, `proxy_interfaces`).
    pub own_addresses: Vec<IpAddr>,
    /// Queue IDs are unique for ever, so a Message-Id: needs no time (main.cf: `enable_long_queue_ids`).
    pub long_queue_ids: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            myhostname: "localhost.localdomain".to_owned(),
            mail_name: "Postfix".to_owned(),
            myorigin: "localhost.localdomain".to_owned(),
            mydomain: "localdomain".to_owned(),
            line_length_limit: 2048,
            header_size_limit: 102_400,
            header_address_token_limit: 10_240,
            hopcount_limit: 50,
            message_size_limit: 10_240_000,
            mime_nesting_limit: 100,
            mime_boundary_length_limit: 2048,
            disable_mime_input_processing: false,
            detect_8bit_encoding_header: true,
            replace_stray_cr_lf: true,
            fix_line_endings: FixLineEndings::Always,
            append_at_myorigin: true,
            append_dot_mydomain: false,
            append_dot_mydomain_by_default: false,
            swap_bangpath: true,
            allow_percent_hack: true,
            smtputf8_enable: true,
            smtputf8_autodetect: false,
            enable_original_recipient: true,
            duplicate_filter_limit: 1000,
            empty_address_recipient: "MAILER-DAEMON".to_owned(),
            always_bcc: String::new(),
            content_filter: String::new(),
            delay_warning_time_seconds: 0,
            undisclosed_recipients_header: String::new(),
            message_drop_headers: ["bcc", "content-length", "resent-bcc", "return-path"]
                .map(str::to_owned)
                .to_vec(),
            header_body_checks: true,
            message_reject_characters: Vec::new(),
            message_strip_characters: Vec::new(),
            strict_7bit_headers: false,
            strict_8bitmime: false,
            strict_8bitmime_body: false,
            strict_mime_encoding_domain: false,
            non_empty_end_of_header_action: EndOfHeader::FixQuietly,
            tls_required_header: false,
            require_tls_header: false,
            since_3_10: false,
            body_checks_size_limit: 51_200,
            log_external_addresses: true,
            force_mime_input_conversion: false,
            verp_delimiter_filter: "-=+".to_owned(),
            address_mapping: true,
            canonical_classes: AddressClasses::ALL,
            sender_canonical_classes: AddressClasses::SENDERS,
            recipient_canonical_classes: AddressClasses::RECIPIENTS,
            masquerade_domains: Vec::new(),
            masquerade_classes: AddressClasses { envelope_recipient: false, ..AddressClasses::ALL },
            recipient_delimiter: String::new(),
            owner_request_special: true,
            double_bounce_sender: "double-bounce".to_owned(),
            propagates_canonical_extensions: true,
            propagates_virtual_extensions: true,
            virtual_alias_recursion_limit: 1000,
            virtual_alias_expansion_limit: 1000,
            virtual_alias_address_length_limit: 1000,
            own_addresses: Vec::new(),
            long_queue_ids: false,
        }
    }
}

/// Which addresses of a message something applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressClasses {
    /// The envelope sender.
    pub envelope_sender: bool,
    /// Envelope recipients.
    pub envelope_recipient: bool,
    /// Addresses in headers like From:.
    pub header_sender: bool,
    /// Addresses in headers like To:.
    pub header_recipient: bool,
}

impl AddressClasses {
    /// All addresses.
    pub const ALL: Self =
        Self { envelope_sender: true, envelope_recipient: true, header_sender: true, header_recipient: true };
    /// Senders only.
    pub const SENDERS: Self = Self { envelope_recipient: false, header_recipient: false, ..Self::ALL };
    /// Recipients only.
    pub const RECIPIENTS: Self = Self { envelope_sender: false, header_sender: false, ..Self::ALL };
}

/// When and as what the message arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// The queue ID, for Received: and Message-Id: headers and the log.
    pub queue_id: String,
    /// Seconds since 1970 and microseconds at which the queue ID was made: the time in the Message-Id: header, and the
    /// base of the message's lifetime in the queue (`create_time`).
    pub created: (u64, u32),
    /// Seconds since 1970 and microseconds at which the client connected: the `T` record.
    pub arrived: (u64, u32),
    /// `arrived` as RFC 5322 text for Received: and Date: headers, e.g. `Sun, 22 Nov 2026 22:25:00 +0000 (UTC)`.
    /// Postfix 3.7 pads the day with a blank, 3.9 and later with a zero.
    pub date: String,
}

/// Who sent the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Verified host name, or `unknown`.
    pub client_name: String,
    /// Address without brackets or prefix: `192.0.2.1`, `2001:db8::1`.
    pub client_address: String,
    /// Port in decimal digits.
    pub client_port: String,
    /// 2 for IPv4, 10 for IPv6, 0 for neither.
    pub address_family: i32,
    /// What log lines call the client: `name[address]`, with `:port` under `qmqpd_client_port_logging`.
    pub log_origin: String,
    /// How it came, as records, Received: headers and log lines name it: `QMQP`.
    pub protocol: &'static str,
}

impl Origin {
    /// The address as it stands in an RFC 5321 address literal: `IPv6:` before one of that family.
    #[must_use]
    pub fn literal(&self) -> String {
        if self.address_family == 10 {
            format!("IPv6:{}", self.client_address)
        } else {
            self.client_address.clone()
        }
    }
}
