//! Every parameter that this server knows the meaning of, one row each; and the fields of
//! [`Settings`], made from the same rows.
//!
//! Names, defaults and bounds are those of Postfix 3.7 as Debian builds it (`postconf -d`); a row that came later says
//! so. Text behind `///` is the manual's text. Sources: `postconf -d`, the behaviour of Postfix 3.7, the tables of 3.12.

use std::time::Duration;

use super::kind::{DefaultValue, Kind, Load, Parameter, Reach};
use super::words::{
    AddressFormat, Commit, EndOfHeader, Facility, FixLineEndings, LogTarget, NetworksStyle, Submit,
};
use crate::compatibility::Level;
use crate::value::{Bounds, Keyword, KeywordSet};
use Reach::{Effective, NoEffectOnQmqp, OtherPrograms, Validated};

const ANY: Bounds = Bounds::NONE;
const POSITIVE: Bounds = Bounds::at_least(1);
const NOT_NEGATIVE: Bounds = Bounds::at_least(0);

const RECEIVE_OVERRIDES: &[&str] =
    &["no_unknown_recipient_checks", "no_address_mappings", "no_header_body_checks", "no_milters"];
const AUTODETECT_CLASSES: &[&str] =
    &["sendmail", "smtpd", "qmqpd", "forward", "bounce", "notify", "verify", "all"];
const SANDBOX: &[&str] = &["seccomp", "landlock"];
const ADDRESS_CLASSES: &[&str] =
    &["envelope_sender", "envelope_recipient", "header_sender", "header_recipient"];
const SENDER_CLASSES: &[&str] = &["envelope_sender", "header_sender"];
const RECIPIENT_CLASSES: &[&str] = &["envelope_recipient", "header_recipient"];
const EXTENSIONS: &[&str] = &["canonical", "virtual", "alias", "forward", "include", "generic"];
const PROTOCOLS: &[&str] = &["ipv4", "ipv6", "all"];

const INSTANCES: Reach = OtherPrograms("postmulti(1)");
const DIRECTORIES: Reach = OtherPrograms("where Postfix keeps its own programs and data");
const NO_BDB: Reach = NoEffectOnQmqp("this server reads Berkeley DB tables itself");

macro_rules! kind {
    (text($bounds:expr)) => {
        Kind::Text($bounds)
    };
    (list) => {
        Kind::List
    };
    (boolean) => {
        Kind::Boolean
    };
    (integer($bounds:expr)) => {
        Kind::Integer($bounds)
    };
    (long($bounds:expr)) => {
        Kind::Long($bounds)
    };
    (time($bounds:expr)) => {
        Kind::Time($bounds)
    };
    (keywords($words:expr)) => {
        Kind::Keywords($words)
    };
    (some_keywords($words:expr)) => {
        Kind::Keywords($words)
    };
    (keyword($words:ty)) => {
        Kind::Keyword(|| <$words as Keyword>::KEYWORDS.iter().map(|&(word, _)| word).collect())
    };
    (level) => {
        Kind::Level
    };
}

macro_rules! field_type {
    (text($bounds:expr)) => {
        String
    };
    (list) => {
        String
    };
    (boolean) => {
        bool
    };
    (integer($bounds:expr)) => {
        i64
    };
    (long($bounds:expr)) => {
        i64
    };
    (time($bounds:expr)) => {
        Duration
    };
    (keywords($words:expr)) => {
        KeywordSet
    };
    (some_keywords($words:expr)) => {
        KeywordSet
    };
    (keyword($words:ty)) => {
        $words
    };
    (level) => {
        Level
    };
}

macro_rules! load_field {
    ($loader:ident, $row:expr, text($bounds:expr)) => {
        $loader.text($row, $bounds)
    };
    ($loader:ident, $row:expr, list) => {
        $loader.text($row, ANY)
    };
    ($loader:ident, $row:expr, boolean) => {
        $loader.boolean($row)
    };
    ($loader:ident, $row:expr, integer($bounds:expr)) => {
        $loader.integer($row, $bounds)
    };
    ($loader:ident, $row:expr, long($bounds:expr)) => {
        $loader.long($row, $bounds)
    };
    ($loader:ident, $row:expr, time($bounds:expr)) => {
        $loader.time($row, $bounds)
    };
    ($loader:ident, $row:expr, keywords($words:expr)) => {
        $loader.keywords($row, $words, ANY)
    };
    ($loader:ident, $row:expr, some_keywords($words:expr)) => {
        $loader.keywords($row, $words, POSITIVE)
    };
    ($loader:ident, $row:expr, keyword($words:ty)) => {
        $loader.keyword::<$words>($row)
    };
    ($loader:ident, $row:expr, level) => {
        $loader.level($row)
    };
}

macro_rules! default_value {
    (= $text:literal) => {
        DefaultValue::Text($text)
    };
    (computed $how:literal) => {
        DefaultValue::Computed($how)
    };
}

macro_rules! unit {
    () => {
        ""
    };
    ($unit:literal) => {
        $unit
    };
}

macro_rules! parameters {
    ($(
        $(#[doc = $doc:literal])+
        $name:ident : $kind:ident $(($args:tt))? $(in $unit:literal)?
            $(= $default:literal)? $(computed $how:literal)? ; $reach:expr;
    )+) => {
        /// All rows, in the order of the manual.
        pub static PARAMETERS: &[Parameter] = &[$(
            Parameter {
                name: stringify!($name),
                kind: kind!($kind $(($args))?),
                default: default_value!($(= $default)? $(computed $how)?),
                unit: unit!($($unit)?),
                doc: concat!($($doc),+),
                reach: $reach,
            }
        ),+];

        /// The typed value of every parameter; a field has the parameter's name.
        ///
        /// Made by [`load`](crate::settings::load()) only. The meaning of each field is the parameter's own text, and
        /// whether the value decides anything is its [`Reach`].
        #[derive(Debug, Clone, PartialEq)]
        pub struct Settings {
            $($(#[doc = $doc])+ pub $name: field_type!($kind $(($args))?),)+
        }

        impl Settings {
            /// Loads every field before it looks whether one is missing, so that all errors are found in one go.
            pub(crate) fn from_loader(loader: &mut impl Load) -> Option<Self> {
                let mut rows = PARAMETERS.iter();
                // There is a row for each field, in the same order.
                $(let $name = rows.next().and_then(|row| load_field!(loader, row, $kind $(($args))?));)+
                Some(Self { $($name: $name?),+ })
            }
        }
    };
}

parameters! {
    /// Clients that may connect: a list of names, addresses, networks, `!` exceptions, files and tables, as described
    /// under MATCH LISTS. If it is empty, no client may.
    qmqpd_authorized_clients: list = ""; Effective;
    /// Time limit for each single read from or write to a client.
    qmqpd_timeout: time(POSITIVE) = "300s"; Effective;
    /// Pause before a Z or D reply, so that a failing client does not return at once.
    qmqpd_error_delay: time(ANY) = "1s"; Effective;
    /// Show the client's port in log lines and replies: `name[address]:port`.
    qmqpd_client_port_logging: boolean = "no"; Effective;

    /// Addresses to listen on: `address:port`, `[ipv6]:port`, or a port alone for the addresses of inet_interfaces.
    /// When it is set, the qmqpd lines of master.cf are ignored. When it is not set, they are used, and the default
    /// applies only if there are none.
    qmqpd_listen: list = "127.0.0.1:6628"; Effective;
    /// Program that makes the queue file. `postfix` is Postfix's cleanup(8), through its socket in the queue directory.
    /// `local` is our own cleanup, which writes to the incoming queue itself.
    qmqpd_submit: keyword(Submit) computed "`postfix` in a process that Postfix's master(8) started, `local` in one of `qmqpd serve`"; Effective;
    /// Whether `qmqpd serve` delivers what is in the queue, with a queue manager and delivery agents of its own. Otherwise mail
    /// stays in the queue until another queue manager takes it. There can be only one on a queue.
    qmqpd_deliver: boolean = "no"; Effective;
    /// How many deliveries may be under way at the same time, over all transports and destinations.
    qmqpd_delivery_limit: integer((Bounds::between(1, 100_000))) = "1000"; Effective;
    /// How our own cleanup makes a message durable before it replies K. `file` writes the queue file and syncs it.
    /// `journal` writes the queue file without a sync, appends the message to a journal in the queue directory, and
    /// syncs the journal, once for many messages. After a system crash, mail that was delivered in the last moments
    /// before it can be delivered again.
    qmqpd_commit: keyword(Commit) computed "`file` in a process that Postfix's master(8) started, `journal` in one of `qmqpd serve`"; Effective;
    /// How long messages may stay in the journal before their queue files are synced and the journal space is reused.
    /// After a system crash, mail delivered within this time can be delivered again.
    qmqpd_journal_checkpoint_delay: time(POSITIVE) = "1s"; Effective;
    /// Amount of data in the journal at which a checkpoint begins at once. The journal of a process uses at most twice
    /// as much disk space.
    qmqpd_journal_checkpoint_size: long((Bounds::between(8_388_608, 4_294_967_296))) in "bytes" = "67108864"; Effective;
    /// Whether a message has its name in the queue from the first byte on, as with Postfix, so that an operator can see
    /// it arrive. Otherwise it gets its name when it is complete: this costs less disk work, and leaves nothing behind
    /// when the process is killed. File systems without O_TMPFILE, and Linux before 6.10, always give the name first.
    qmqpd_named_drafts: boolean = "no"; Effective;
    /// How many threads may wait for the disk at the same time.
    qmqpd_commit_threads: integer((Bounds::between(1, 1024))) = "16"; Effective;
    /// How many clients one service process serves at the same time. Further clients are answered Z within half a
    /// second; under Postfix's master(8) they wait, or another process serves them.
    qmqpd_connection_limit: integer((Bounds::between(1, 1_000_000))) = "5000"; Effective;
    /// How many connections one client may have at the same time in all processes of a service; 0 means no limit. A
    /// client is an IPv4 address, or an IPv6 /64 network. Further connections are answered Z at once. This is
    /// smtpd_client_connection_count_limit for QMQP, except that authorized clients are exempt by default: see
    /// qmqpd_client_event_limit_exceptions.
    qmqpd_client_connection_count_limit: integer(NOT_NEGATIVE) = "50"; Effective;
    /// How many connections one client may make within anvil_rate_time_unit; 0 means no limit.
    qmqpd_client_connection_rate_limit: integer(NOT_NEGATIVE) = "0"; Effective;
    /// How many messages one client may send within anvil_rate_time_unit, accepted or not; 0 means no limit.
    qmqpd_client_message_rate_limit: integer(NOT_NEGATIVE) = "0"; Effective;
    /// How many recipients the messages of one client may have within anvil_rate_time_unit, accepted or not; 0 means no
    /// limit. A single message with more recipients is answered D, since it could never be sent.
    qmqpd_client_recipient_rate_limit: integer(NOT_NEGATIVE) = "0"; Effective;
    /// Clients that are exempt from the four limits above, a list as in qmqpd_authorized_clients. By default these are
    /// all authorized clients, so that list servers can send as fast as they can. In Postfix, smtpd exempts
    /// `$mynetworks`. With that, or with an empty value, the limits apply to authorized clients, too.
    qmqpd_client_event_limit_exceptions: list = "$qmqpd_authorized_clients"; Effective;
    /// Time interval over which connections, messages and recipients of a client are counted.
    anvil_rate_time_unit: time(POSITIVE) = "60s"; Effective;
    /// Time limit for a whole session, from connection to reply, even while the client keeps sending.
    qmqpd_session_deadline: time(POSITIVE) = "3600s"; Effective;
    /// Memory for the messages of all sessions of one service process together, of which no client can have all. A message
    /// that needs more waits; then its client is answered Z.
    qmqpd_memory_limit: long((Bounds::at_least(1_048_576))) in "bytes" = "67108864"; Effective;
    /// Free space that the queue's file system must have; with less, clients are answered Z before their message is
    /// read. 0 means no limit.
    qmqpd_free_space_min: long(ANY) in "bytes" = "$queue_minfree"; Effective;
    /// While qmqpd_memory_limit has no room for a further message of the same client, a message that delivers less than
    /// 1024 bytes within this time is answered Z.
    qmqpd_stress_timeout: time(POSITIVE) = "10s"; Effective;
    /// Processor time that all expressions of regexp: and pcre: tables together may use for one message. A message that
    /// needs more is answered Z.
    qmqpd_expression_time_limit: time(POSITIVE) = "5s"; Effective;
    /// How much is read and thrown away after a request was rejected, so that the client can read the reply. This limit
    /// applies to unauthorized clients, and to data after the end of a request. What an authorized client has declared
    /// is read in any case.
    qmqpd_drain_limit: long((Bounds::at_least(0))) in "bytes" = "33554432"; Effective;
    /// Time limit for reading the rest of a rejected request. From an authorized client, at least 1024 bytes must
    /// arrive within each such interval.
    qmqpd_drain_timeout: time(ANY) = "10s"; Effective;
    /// How to treat a message whose first line ends in CRLF. With `always`, each CRLF in the message is a line ending.
    /// With `never`, each CR becomes a blank, as in Postfix.
    qmqpd_fix_line_endings: keyword(FixLineEndings) = "always"; Effective;
    /// Time limit for looking up a client's name. After that the client is called unknown.
    qmqpd_dns_timeout: time(POSITIVE) = "10s"; Effective;
    /// How long a session waits for the client's name when the name does not decide access. After that the client is
    /// called unknown in the log and in the message. With qmqpd_dns_timeout or more, each session waits for the name,
    /// as in Postfix.
    qmqpd_client_name_wait: time(ANY) = "1s"; Effective;
    /// Restrictions of service processes, besides user and root directory, where the kernel supports them. `seccomp`
    /// leaves the system calls that serving needs. `landlock` leaves the queue directories and the ports of name
    /// servers and tables. Empty turns both off.
    qmqpd_sandbox: keywords(SANDBOX) = "seccomp, landlock"; Effective;
    /// How many sessions without a message are logged per client and minute, and ten times as many for all clients
    /// together. Further ones are counted, and the log reports their number. Sessions with a message are always logged.
    /// 0 means no limit.
    qmqpd_session_log_limit: integer((Bounds::at_least(0))) = "100"; Effective;
    /// How long a service process of `qmqpd serve` whose sessions have ended may wait for the disk, for example at a
    /// stop, before it is killed. After a kill, messages in its journal are safe, but can be delivered again.
    qmqpd_stop_timeout: time(POSITIVE) = "300s"; Effective;
    /// How long a service process of `qmqpd serve` may give no sign of life before it is killed and replaced. 0 turns
    /// this off, for debugging.
    qmqpd_hang_timeout: time(ANY) = "30s"; Effective;
    /// How many draining processes a service may have: processes that finish their sessions after a reload or a table
    /// change. When there are more, the oldest must end its sessions.
    qmqpd_old_process_limit: integer((Bounds::at_least(0))) = "8"; Effective;
    /// Where log lines go if maillog_file is empty.
    qmqpd_log: keyword(LogTarget) = "syslog"; Effective;

    /// A filter, `transport:destination`, to which the queue manager sends the message first.
    content_filter: text(ANY) = ""; Effective;
    /// Steps to skip for mail from this service, for example no_address_mappings. no_unknown_recipient_checks has no
    /// effect on QMQP.
    receive_override_options: keywords(RECEIVE_OVERRIDES) = ""; Effective;
    /// Maximum length of a sender or recipient address, and the size of the pieces in which a long line is stored.
    line_length_limit: integer((Bounds::at_least(512))) in "bytes" = "2048"; Effective;
    /// Maximum size of the message content, and of the whole queue file; 0 or less means no limit.
    message_size_limit: long(ANY) in "bytes" = "10240000"; Effective;
    /// Reply Z (try again) instead of D.
    soft_bounce: boolean = "no"; Effective;
    /// Clients whose sessions are logged in detail, a list as in qmqpd_authorized_clients.
    debug_peer_list: list = ""; Effective;
    /// Additional log level for a client in debug_peer_list.
    debug_peer_level: integer(POSITIVE) = "2"; Effective;
    /// Bytes that may be VERP delimiters.
    verp_delimiter_filter: text(POSITIVE) = "-=+"; Effective;
    /// VERP delimiters for senders that request VERP without naming any.
    default_verp_delimiters: text((Bounds::between(2, 2))) = "+="; Validated("a QMQP sender names its own delimiters");
    /// Lists in which `example.com` also matches the hosts below it; in other lists only `.example.com` does.
    parent_domain_matches_subdomains: list = "debug_peer_list,fast_flush_domains,mynetworks,permit_mx_backup_networks,qmqpd_authorized_clients,relay_domains,smtpd_access_maps"; Effective;
    /// Fold the case of names by the rules of Unicode, keep UTF-8 in logs, and record in the queue file what needs
    /// SMTPUTF8.
    smtputf8_enable: boolean = "${{$compatibility_level} <level {1} ? {no} : {yes}}"; Effective;
    /// Programs that detect by themselves whether a message needs SMTPUTF8.
    smtputf8_autodetect_classes: some_keywords(AUTODETECT_CLASSES) = "sendmail, verify"; Effective;
    /// Reject UTF-8 from clients that did not request SMTPUTF8.
    strict_smtputf8: boolean = "no"; NoEffectOnQmqp("it concerns SMTP sessions");
    /// Use the IDNA2003 mapping of domain names.
    enable_idna2003_compatibility: boolean = "no"; NoEffectOnQmqp("no domain name is converted for QMQP mail");
    /// Name of the service that puts mail into the queue.
    cleanup_service_name: text(POSITIVE) = "cleanup"; Effective;
    /// Pause before a message is accepted while the queue manager cannot keep up.
    in_flow_delay: time((Bounds::at_most(10))) = "1s"; OtherPrograms("Postfix's cleanup(8); our own does not wait for the queue manager");
    /// Free space that the queue's file system must have: the default of qmqpd_free_space_min. Postfix applies it to
    /// SMTP only.
    queue_minfree: long(ANY) in "bytes" = "0"; Effective;
    /// Clients whose message headers are completed.
    local_header_rewrite_clients: list = "permit_inet_interfaces"; NoEffectOnQmqp("the headers of all QMQP mail are completed");

    /// A recipient that is added to every message.
    always_bcc: text(ANY) = ""; Effective;
    /// A message with this many Received headers, our own included, is rejected as looping.
    hopcount_limit: integer(POSITIVE) = "50"; Effective;
    /// Maximum size of a message header; the rest is removed.
    header_size_limit: integer(POSITIVE) in "bytes" = "102400"; Effective;
    /// Maximum number of tokens in an address header; the rest is removed.
    header_address_token_limit: integer(POSITIVE) = "10240"; Effective;
    /// How many recipients are remembered to remove duplicates; 0 or less means all.
    duplicate_filter_limit: integer(ANY) = "1000"; Effective;
    /// Replace each CR or LF inside a line with a blank. Since Postfix 3.9 (Debian's 3.7 has it too).
    cleanup_replace_stray_cr_lf: boolean = "yes"; Effective;
    /// Headers that are removed from a message.
    message_drop_headers: list = "bcc, content-length, resent-bcc, return-path"; Effective;
    /// Rewrite `site!user` to `user@site`.
    swap_bangpath: boolean = "yes"; Effective;
    /// Rewrite `user%domain` to `user@domain`.
    allow_percent_hack: boolean = "yes"; Effective;
    /// Append `@$myorigin` to an address without domain.
    append_at_myorigin: boolean = "yes"; Effective;
    /// Append `.$mydomain` to a domain without dot.
    append_dot_mydomain: boolean = "${{$compatibility_level} <level {1} ? {yes} : {no}}"; Effective;
    /// Maximum nesting of MIME multiparts.
    mime_nesting_limit: integer(POSITIVE) = "100"; Effective;
    /// How much of a MIME boundary is compared.
    mime_boundary_length_limit: integer(POSITIVE) in "bytes" = "2048"; Effective;
    /// Process the primary message headers only, not those of MIME parts.
    disable_mime_input_processing: boolean = "no"; Effective;
    /// Header that is added to a message without a recipient header; empty for none.
    undisclosed_recipients_header: text(ANY) = ""; Effective;
    /// Note a `TLS-Required: no` header of the message in the queue file: a Postfix from 3.10 on then delivers the
    /// message without TLS where it must.
    tls_required_enable: boolean computed "`yes` where `mail_version` is 3.10 or later, otherwise `no`"; Effective;
    /// Together with `requiretls_esmtp_header`: heed a `Require-TLS-ESMTP: yes` header.
    requiretls_enable: boolean computed "`yes` where `mail_version` is 3.11 or later or `requiretls_esmtp_header` is set, otherwise `no`"; Effective;
    /// Together with `requiretls_enable`: note a `Require-TLS-ESMTP: yes` header of the message in the queue file. A
    /// Postfix from 3.11 on then delivers the message only with TLS, as its `smtp_requiretls_policy` says.
    requiretls_esmtp_header: boolean = "yes"; Effective;
    /// Recipient that replaces an empty recipient address.
    empty_address_recipient: text(POSITIVE) = "MAILER-DAEMON"; Effective;
    /// Delay after which the sender is warned; 0 turns this off.
    delay_warning_time: time(ANY) = "0h"; Effective;
    /// Treat recipients as different when their original addresses differ, even if they were rewritten to the same
    /// address.
    enable_original_recipient: boolean = "yes"; Effective;
    /// Characters that separate a user name from its extension.
    recipient_delimiter: text(ANY) = ""; Effective;
    /// Do not split `owner-list` and `list-request` when recipient_delimiter contains `-`.
    owner_request_special: boolean = "yes"; Effective;
    /// Local part that never has an extension.
    double_bounce_sender: text(POSITIVE) = "double-bounce"; Effective;
    /// Where an address extension that a table does not contain is appended to the result: `canonical`, `virtual`; the
    /// other words concern delivery.
    propagate_unmatched_extensions: keywords(EXTENSIONS) = "canonical, virtual"; Effective;
    /// Add missing headers to mail from remote clients too.
    always_add_missing_headers: boolean = "no"; NoEffectOnQmqp("missing headers are added to all QMQP mail");
    /// Domain that completes header addresses of remote clients.
    remote_header_rewrite_domain: text(ANY) = ""; NoEffectOnQmqp("QMQP clients count as local");
    /// How a From header with a full name is written.
    header_from_format: text(POSITIVE) = "standard"; NoEffectOnQmqp("QMQP carries no full name");
    /// Maximum number of attributes in a queue file.
    queue_file_attribute_count_limit: integer(POSITIVE) = "100"; NoEffectOnQmqp("a QMQP message has ten");

    /// Tables that rewrite addresses in envelope and headers.
    canonical_maps: list = ""; Effective;
    /// Addresses to which canonical_maps applies.
    canonical_classes: some_keywords(ADDRESS_CLASSES) = "envelope_sender, envelope_recipient, header_sender, header_recipient"; Effective;
    /// Tables that rewrite sender addresses, before canonical_maps.
    sender_canonical_maps: list = ""; Effective;
    /// Addresses to which sender_canonical_maps applies.
    sender_canonical_classes: some_keywords(SENDER_CLASSES) = "envelope_sender, header_sender"; Effective;
    /// Tables that rewrite recipient addresses, before canonical_maps.
    recipient_canonical_maps: list = ""; Effective;
    /// Addresses to which recipient_canonical_maps applies.
    recipient_canonical_classes: some_keywords(RECIPIENT_CLASSES) = "envelope_recipient, header_recipient"; Effective;
    /// Tables that replace envelope recipients.
    virtual_alias_maps: list = "$virtual_maps"; Effective;
    /// Old name of virtual_alias_maps.
    virtual_maps: list = ""; Effective;
    /// How many times the result of a virtual alias is looked up again.
    virtual_alias_recursion_limit: integer(POSITIVE) = "1000"; Effective;
    /// Maximum number of recipients that virtual aliases may make of one.
    virtual_alias_expansion_limit: integer(POSITIVE) = "1000"; Effective;
    /// Maximum length of the result of a virtual alias.
    virtual_alias_address_length_limit: integer(POSITIVE) in "bytes" = "1000"; Effective;
    /// Domains that replace the hosts in them: `user@host.domain` becomes `user@domain`. With `!` in front of a domain,
    /// its hosts stay.
    masquerade_domains: list = ""; Effective;
    /// Local parts that are not masqueraded: a list of names, files and tables.
    masquerade_exceptions: list = ""; Effective;
    /// Addresses that are masqueraded.
    masquerade_classes: keywords(ADDRESS_CLASSES) = "envelope_sender, header_sender, header_recipient"; Effective;
    /// Tables that add a recipient depending on the sender.
    sender_bcc_maps: list = ""; Effective;
    /// Tables that add a recipient depending on the recipient.
    recipient_bcc_maps: list = ""; Effective;
    /// Tables with rules for primary message headers.
    header_checks: list = ""; Effective;
    /// Tables with rules for MIME headers.
    mime_header_checks: list = "$header_checks"; Effective;
    /// Tables with rules for headers of attached messages.
    nested_header_checks: list = "$header_checks"; Effective;
    /// Tables with rules for body lines.
    body_checks: list = ""; Effective;
    /// How much of each body part body_checks examines, in bytes; 0 means all.
    body_checks_size_limit: integer(NOT_NEGATIVE) = "51200"; Effective;
    /// Characters that cause a message to be rejected.
    message_reject_characters: text(ANY) = ""; Effective;
    /// Characters that are removed from a message.
    message_strip_characters: text(ANY) = ""; Effective;
    /// Mail filters for each message, in this order, as described under MAIL FILTERS.
    non_smtpd_milters: list = ""; Effective;
    /// What happens to a message when a filter cannot be reached, does not answer, or violates the protocol: `accept`,
    /// `reject`, `tempfail`, `shutdown` or `quarantine`. The default is shutdown since Postfix 3.11.
    milter_default_action: text(POSITIVE) = "tempfail"; Effective;
    /// Protocol version offered to filters, 2, 3, 4 or 6, optionally with `no_header_reply`.
    milter_protocol: text(POSITIVE) = "6"; Effective;
    /// Time limit for connecting to a filter.
    milter_connect_timeout: time(POSITIVE) = "30s"; Effective;
    /// Time limit for each read from or write to a filter before the content.
    milter_command_timeout: time(POSITIVE) = "30s"; Effective;
    /// Time limit for each read from or write to a filter during the content, and for its final decision.
    milter_content_timeout: time(POSITIVE) = "300s"; Effective;
    /// Macros sent to filters with the client.
    milter_connect_macros: list = "j {daemon_name} {daemon_addr} v _"; Effective;
    /// Macros sent to filters with the client's greeting.
    milter_helo_macros: list = "{tls_version} {cipher} {cipher_bits} {cert_subject} {cert_issuer}"; Effective;
    /// Macros sent to filters with the sender.
    milter_mail_macros: list = "i {auth_type} {auth_authen} {auth_author} {mail_addr} {mail_host} {mail_mailer}"; Effective;
    /// Macros sent to filters with each recipient.
    milter_rcpt_macros: list = "i {rcpt_addr} {rcpt_host} {rcpt_mailer}"; Effective;
    /// Macros sent to filters before the content.
    milter_data_macros: list = "i"; Effective;
    /// Macros sent to filters with headers and at the end of the headers.
    milter_end_of_header_macros: list = "i"; Effective;
    /// Macros sent to filters with the body and at its end.
    milter_end_of_data_macros: list = "i"; Effective;
    /// Macros sent to filters with unknown SMTP commands.
    milter_unknown_command_macros: list = ""; NoEffectOnQmqp("QMQP has no commands");
    /// Value of the macro `{daemon_name}` for filters.
    milter_macro_daemon_name: text(POSITIVE) = "$myhostname"; Effective;
    /// Value of the macro `v` for filters.
    milter_macro_v: text(POSITIVE) = "$mail_name $mail_version"; Effective;
    /// Values of macros that this server does not know, `name=value`.
    milter_macro_defaults: list = ""; Effective;
    /// Tables with rules for headers produced by mail filters.
    milter_header_checks: list = ""; Effective;
    /// Reject 8-bit bytes in message headers.
    strict_7bit_headers: boolean = "no"; Effective;
    /// Reject 8-bit bytes in headers, and undeclared 8-bit bodies.
    strict_8bitmime: boolean = "no"; Effective;
    /// Reject undeclared 8-bit bodies.
    strict_8bitmime_body: boolean = "no"; Effective;
    /// Reject encodings that multipart and message types do not allow.
    strict_mime_encoding_domain: boolean = "no"; Effective;
    /// Record `encoding=8bit` in the queue file when a Content-Transfer-Encoding header says 8bit or binary.
    detect_8bit_encoding_header: boolean = "yes"; Effective;
    /// Convert a message to 7-bit form when it is received. Since Postfix 3.9.
    force_mime_input_conversion: boolean = "no"; Effective;
    /// What happens when the message header does not end in an empty line. Since Postfix 3.11.
    non_empty_end_of_header_action: keyword(EndOfHeader) = "fix_quietly"; Effective;

    /// Release whose defaults apply. Below 1, 2, 3.6 and 3.11 some parameters keep older defaults.
    compatibility_level: level = "0"; Effective;
    /// The name of this host, in Received headers and elsewhere.
    myhostname: text(POSITIVE) computed "the name of the system; without a dot in it, `.$mydomain` or `.localdomain` is appended"; Effective;
    /// The domain of this host.
    mydomain: text(POSITIVE) computed "$myhostname without its first label, or `localdomain`"; Effective;
    /// Domain that completes an address without one. A value that begins with `/` is the name of a file whose first
    /// line is the domain, as on Debian and Ubuntu; other parameters that refer to `$myorigin` get the file name.
    myorigin: text(POSITIVE) = "$myhostname"; Effective;
    /// Domains that are delivered on this host: a list of names, files and tables. Canonical, alias and Bcc tables may
    /// contain their users without a domain.
    mydestination: list = "$myhostname, localhost.$mydomain, localhost"; Effective;
    /// Where mail for other hosts is sent.
    relayhost: text(ANY) = ""; Effective;
    /// Transport and next-hop of recipients in mydestination.
    local_transport: text(POSITIVE) = "local:$myhostname"; Effective;
    /// Transport and next-hop of recipients in virtual_mailbox_domains.
    virtual_transport: text(POSITIVE) = "virtual"; Effective;
    /// Transport and next-hop of recipients in relay_domains.
    relay_transport: text(POSITIVE) = "relay"; Effective;
    /// Transport and next-hop of recipients in other domains.
    default_transport: text(POSITIVE) = "smtp"; Effective;
    /// Domains, with their sub-domains, whose mail is relayed to another system.
    relay_domains: list = "${{$compatibility_level} <level {2} ? {$mydestination} : {}}"; Effective;
    /// Domains all of whose addresses are aliases: what virtual_alias_maps has not rewritten is bounced.
    virtual_alias_domains: list = "$virtual_alias_maps"; Effective;
    /// Domains that are delivered to mailboxes of users without accounts.
    virtual_mailbox_domains: list = "$virtual_mailbox_maps"; Effective;
    /// Tables from address or domain to transport and next-hop; see transport(5).
    transport_maps: list = ""; Effective;
    /// Tables from address or domain to where the user has moved: mail for him is bounced.
    relocated_maps: list = ""; Effective;
    /// Tables from sender to what takes the place of default_transport.
    sender_dependent_default_transport_maps: list = ""; Effective;
    /// Tables from sender to what takes the place of relayhost.
    sender_dependent_relayhost_maps: list = ""; Effective;
    /// The key of the null sender in sender_dependent_relayhost_maps.
    empty_address_relayhost_maps_lookup_key: text(POSITIVE) = "<>"; Effective;
    /// Next-hop of a content filter that names none. Without one it is the domain of the recipient.
    default_filter_nexthop: text(ANY) = ""; Effective;
    /// Transports whose mail is deferred until a flush.
    defer_transports: list = ""; Effective;
    /// The shortest pause between two attempts, and how long a destination rests that is out of order.
    minimal_backoff_time: time(POSITIVE) = "300s"; Effective;
    /// The longest pause between two attempts.
    maximal_backoff_time: time(POSITIVE) = "4000s"; Effective;
    /// How long a message is tried. 0 means one attempt.
    maximal_queue_lifetime: time((Bounds::between(0, 8_640_000))) = "5d"; Effective;
    /// How long a message without sender is tried; at most maximal_queue_lifetime.
    bounce_queue_lifetime: time((Bounds::between(0, 8_640_000))) = "5d"; Effective;
    /// How often the deferred queue is scanned for messages that are due.
    queue_run_delay: time(POSITIVE) = "300s"; Effective;
    /// How many messages the queue manager works on at the same time.
    qmgr_message_active_limit: integer(POSITIVE) = "20000"; Effective;
    /// How many recipients the queue manager has in memory.
    qmgr_message_recipient_limit: integer(POSITIVE) = "20000"; Effective;
    /// How many recipients of a message one delivery has at most; 0 means no limit.
    default_destination_recipient_limit: integer(NOT_NEGATIVE) = "50"; Effective;
    /// How many deliveries to one destination may be under way at the same time; 0 means no limit.
    default_destination_concurrency_limit: integer(NOT_NEGATIVE) = "20"; Effective;
    /// How many deliveries to a new destination may be under way at the same time.
    initial_destination_concurrency: integer(POSITIVE) = "5"; Effective;
    /// How long the SMTP agent waits for a connection. 0 means as long as the kernel tries.
    smtp_connect_timeout: time(NOT_NEGATIVE) = "30s"; Effective;
    /// How long a server may take for its greeting, and for its reply to EHLO or HELO.
    smtp_helo_timeout: time(POSITIVE) = "300s"; Effective;
    /// How many addresses of a next-hop are looked at; 0 means all.
    smtp_mx_address_limit: integer(NOT_NEGATIVE) = "5"; Effective;
    /// How many hosts of a next-hop that can be talked to are tried; 0 means all.
    smtp_mx_session_limit: integer(NOT_NEGATIVE) = "2"; Effective;
    /// Whether mail goes out under TLS. The agents have no TLS yet: `none` and `may` send in plain text, and
    /// `qmqpd_deliver = yes` is rejected with a level that asks for more.
    smtp_tls_security_level: text(ANY) = ""; Effective;
    /// What smtp_tls_security_level says of SMTP, for LMTP.
    lmtp_tls_security_level: text(ANY) = ""; Effective;
    /// An older way to say `smtp_tls_security_level = may`.
    smtp_use_tls: boolean = "no"; Effective;
    /// An older way to say `lmtp_tls_security_level = may`.
    lmtp_use_tls: boolean = "no"; Effective;
    /// An older way to say `smtp_tls_security_level = encrypt`.
    smtp_enforce_tls: boolean = "no"; Effective;
    /// An older way to say `lmtp_tls_security_level = encrypt`.
    lmtp_enforce_tls: boolean = "no"; Effective;
    /// TLS by next-hop. The agents have no TLS yet: `qmqpd_deliver = yes` is rejected with it.
    smtp_tls_policy_maps: list = ""; Effective;
    /// What smtp_tls_policy_maps says of SMTP, for LMTP.
    lmtp_tls_policy_maps: list = ""; Effective;
    /// Whether the agent logs in. It cannot yet: `qmqpd_deliver = yes` is rejected with it.
    smtp_sasl_auth_enable: boolean = "no"; Effective;
    /// What smtp_sasl_auth_enable says of SMTP, for LMTP.
    lmtp_sasl_auth_enable: boolean = "no"; Effective;
    /// How long a transport is left alone whose agent could not be reached.
    transport_retry_time: time(POSITIVE) = "60s"; Effective;
    /// A report has only the headers of a message that is larger; 0 means no limit.
    bounce_size_limit: integer(NOT_NEGATIVE) in "bytes" = "50000"; Effective;
    /// Whether local parts of recipients may begin with `-`.
    allow_min_user: boolean = "no"; Effective;
    /// Whether a domain that is an IP address without brackets stands for that address.
    resolve_numeric_domain: boolean = "no"; Effective;
    /// Whether the reason of a bounce names the table in which the recipient was not found.
    show_user_unknown_table_name: boolean = "yes"; Effective;
    /// The name of the mail system, in Received headers.
    mail_name: text(POSITIVE) = "Postfix"; Effective;
    /// Release of Postfix whose behaviour this server follows where releases differ and no other parameter decides. Set
    /// it to the release of the Postfix on the same queue. From 3.10 on, cleanup records the Message-ID in the queue file,
    /// logs `removed` for a message that is rejected or discarded, and `tls_required_enable` is on; from 3.11 on,
    /// `requiretls_enable` is on, and proxymap(8) is asked in the form of that release.
    mail_version: text(POSITIVE) = "3.7.11"; Effective;
    /// Date of that release; for use in other values.
    mail_release_date: text(POSITIVE) = "20240304"; Effective;
    /// Account that service processes run as, and that owns the queue.
    mail_owner: text(POSITIVE) = "postfix"; Effective;
    /// The group of Postfix's commands for submission.
    setgid_group: text(POSITIVE) = "postdrop"; Validated("only Postfix's own commands use it");
    /// The account for deliveries to programs and files.
    default_privs: text(POSITIVE) = "nobody"; Validated("delivery belongs to other programs");
    /// The queue directory. Relative table names start here.
    queue_directory: text(POSITIVE) = "/var/spool/postfix"; Effective;
    /// Directory of lock files with process IDs, below queue_directory.
    process_id_directory: text(POSITIVE) = "pid"; Effective;
    /// Directory of Postfix's daemons.
    daemon_directory: text(POSITIVE) = "/usr/lib/postfix/sbin"; DIRECTORIES;
    /// Directory of Postfix's commands.
    command_directory: text(POSITIVE) = "/usr/sbin"; DIRECTORIES;
    /// Directory of Postfix's caches.
    data_directory: text(POSITIVE) = "/var/lib/postfix"; DIRECTORIES;
    /// Directory of Postfix's lists of its own files.
    meta_directory: text(POSITIVE) = "/etc/postfix"; DIRECTORIES;
    /// Directory of Postfix's libraries.
    shlib_directory: text(POSITIVE) = "/usr/lib/postfix"; DIRECTORIES;
    /// Directory of main.cf and master.cf; for use in other values.
    config_directory: text(ANY) computed "the directory that main.cf was read from"; Effective;
    /// The network protocols in use.
    inet_protocols: keywords(PROTOCOLS) = "all"; Effective;
    /// Addresses that mail is received on: `all`, `loopback-only`, or a list of names and addresses. A name stands for
    /// those of its addresses that this machine has; there must be at least one.
    inet_interfaces: list = "all"; Effective;
    /// Addresses of this host on an address translator or proxy.
    proxy_interfaces: list = ""; Effective;
    /// The networks of this host, for use as `qmqpd_authorized_clients = $mynetworks`.
    mynetworks: list computed "made from the addresses of this host by mynetworks_style"; Effective;
    /// How mynetworks is made: `host` trusts this host only, `subnet` its networks, `class` whole network classes.
    mynetworks_style: keyword(NetworksStyle) = "${{$compatibility_level} <level {2} ? {subnet} : {host}}"; Effective;
    /// The syslog facility.
    syslog_facility: keyword(Facility) = "mail"; Effective;
    /// The first part of the tag of log lines.
    syslog_name: text(POSITIVE) = "${multi_instance_name?{$multi_instance_name}:{postfix}}"; Effective;
    /// File that log lines are written to instead of syslog; `/dev/stdout` is allowed.
    maillog_file: text(ANY) = ""; Effective;
    /// Allowed beginnings of the name of maillog_file.
    maillog_file_prefixes: list = "/var, /dev/stdout"; Effective;
    /// Access permissions of a new log file: 600, 640 or 644. Since Postfix 3.9.
    maillog_file_permissions: text(POSITIVE) = "0600"; Effective;
    /// Command that compresses old log files.
    maillog_file_compressor: text(POSITIVE) = "gzip"; OtherPrograms("postfix logrotate");
    /// Suffix for the name of an old log file.
    maillog_file_rotate_suffix: text(POSITIVE) = "%Y%m%d-%H%M%S"; OtherPrograms("postfix logrotate");
    /// Service that writes maillog_file under Postfix.
    postlog_service_name: text(POSITIVE) = "postlog"; OtherPrograms("postlog(1); a daemon learns the socket from its environment");
    /// Time limit of postlogd(8) for a line.
    postlogd_watchdog_timeout: time((Bounds::at_least(10))) = "10s"; OtherPrograms("postlogd(8)");
    /// How many processes a service may have when its master.cf line says `-`.
    default_process_limit: integer(POSITIVE) = "100"; Effective;
    /// How many clients a service process serves before a new process replaces it, under Postfix's master(8). The
    /// replacement does not begin before the process has reached an age of `max_idle`.
    max_use: integer(POSITIVE) = "100"; Effective;
    /// How long a service process without clients waits before it exits.
    max_idle: time(POSITIVE) = "100s"; Effective;
    /// Time limit for each read or write on an internal socket.
    ipc_timeout: time(POSITIVE) = "3600s"; Effective;
    /// How long an internal connection may be unused before it is closed.
    ipc_idle: time(POSITIVE) = "5s"; Effective;
    /// How long an internal connection is used before it is closed.
    ipc_ttl: time(POSITIVE) = "1000s"; Effective;
    /// Time limit for waking another service.
    trigger_timeout: time(POSITIVE) = "10s"; Effective;
    /// Service of the queue manager, which is woken for new mail through its socket or, where master.cf gives it the
    /// type `fifo`, its named pipe.
    queue_service_name: text(POSITIVE) = "qmgr"; Effective;
    /// How long a service process may make no progress before it exits.
    daemon_timeout: time(POSITIVE) = "18000s"; Effective;
    /// Shell command that a service process runs first when it is started with `-D`, or with MAIL_DEBUG in its
    /// environment.
    debugger_command: text(ANY) = ""; Effective;
    /// Longest pause before a service whose process failed is started again.
    service_throttle_time: time(POSITIVE) = "60s"; Effective;
    /// Services of master.cf that are not started: `name/type` or `type`, with `!` for exceptions.
    master_service_disable: list = ""; Effective;
    /// Environment of service processes: names, or `name=value`.
    import_environment: list = "MAIL_CONFIG MAIL_DEBUG MAIL_LOGTAG TZ XAUTHORITY DISPLAY LANG=C POSTLOG_SERVICE POSTLOG_HOSTNAME"; Effective;
    /// Environment of external commands.
    export_environment: list = "TZ MAIL_CONFIG LANG"; Effective;
    /// How long a command of a pipe transport may run.
    command_time_limit: time(POSITIVE) = "1000s"; Effective;
    /// The directory that the paths of virtual_mailbox_maps start in.
    virtual_mailbox_base: text(ANY) = ""; Effective;
    /// The Maildir of an address, below virtual_mailbox_base, with a slash at its end.
    virtual_mailbox_maps: list = ""; Effective;
    /// The user ID of the mailbox of an address.
    virtual_uid_maps: list = ""; Effective;
    /// The group ID of the mailbox of an address.
    virtual_gid_maps: list = ""; Effective;
    /// The lowest user ID that virtual_uid_maps may say.
    virtual_minimum_uid: integer(POSITIVE) = "100"; Effective;
    /// The largest file of a mailbox: at least message_size_limit. 0 is no limit.
    virtual_mailbox_limit: long(NOT_NEGATIVE) in "bytes" = "51200000"; Effective;
    /// Whether postmulti(1) starts this instance.
    multi_instance_enable: boolean = "no"; INSTANCES;
    /// The name of this instance; syslog_name begins with it.
    multi_instance_name: text(ANY) = ""; Effective;
    /// The group of this instance.
    multi_instance_group: text(ANY) = ""; INSTANCES;
    /// The configuration directories of other instances.
    multi_instance_directories: list = ""; INSTANCES;
    /// The command that manages instances.
    multi_instance_wrapper: text(ANY) = ""; INSTANCES;
    /// Configuration directories that commands with group privilege accept.
    alternate_config_directories: list = ""; OtherPrograms("commands with group privilege");
    /// Exit at once when a table cannot be opened, instead of replying Z.
    daemon_table_open_error_is_fatal: boolean = "no"; Effective;
    /// Tables that proxymap(8) may open.
    proxy_read_maps: list = "$local_recipient_maps $mydestination $virtual_alias_maps $virtual_alias_domains $virtual_mailbox_maps $virtual_mailbox_domains $relay_recipient_maps $relay_domains $canonical_maps $sender_canonical_maps $recipient_canonical_maps $relocated_maps $transport_maps $mynetworks $smtpd_sender_login_maps $sender_bcc_maps $recipient_bcc_maps $smtp_generic_maps $lmtp_generic_maps $alias_maps $smtpd_client_restrictions $smtpd_helo_restrictions $smtpd_sender_restrictions $smtpd_relay_restrictions $smtpd_recipient_restrictions $address_verify_sender_dependent_default_transport_maps $address_verify_sender_dependent_relayhost_maps $address_verify_transport_maps $fallback_transport_maps $lmtp_discard_lhlo_keyword_address_maps $lmtp_pix_workaround_maps $lmtp_sasl_password_maps $lmtp_tls_policy_maps $mailbox_command_maps $mailbox_transport_maps $postscreen_discard_ehlo_keyword_address_maps $rbl_reply_maps $sender_dependent_default_transport_maps $sender_dependent_relayhost_maps $smtp_discard_ehlo_keyword_address_maps $smtp_pix_workaround_maps $smtp_sasl_password_maps $smtp_tls_policy_maps $smtpd_discard_ehlo_keyword_address_maps $smtpd_milter_maps $virtual_gid_maps $virtual_uid_maps $local_login_sender_maps $postscreen_reject_footer_maps $smtpd_reject_footer_maps $tls_server_sni_maps $tlsproxy_client_policy_maps $default_delivery_status_filter $lmtp_delivery_status_filter $lmtp_dns_reply_filter $lmtp_reply_filter $local_delivery_status_filter $pipe_delivery_status_filter $postscreen_command_filter $smtp_delivery_status_filter $smtp_dns_reply_filter $smtp_reply_filter $smtpd_command_filter $smtpd_dns_reply_filter $virtual_delivery_status_filter $body_checks $header_checks $lmtp_body_checks $lmtp_header_checks $lmtp_mime_header_checks $lmtp_nested_header_checks $milter_header_checks $mime_header_checks $nested_header_checks $smtp_body_checks $smtp_header_checks $smtp_mime_header_checks $smtp_nested_header_checks"; OtherPrograms("proxymap(8)");
    /// Service that looks up `proxy:` tables.
    proxymap_service_name: text(POSITIVE) = "proxymap"; Effective;
    /// Port numbers of services, so that they need not be looked up.
    known_tcp_ports: list = "lmtp=24, smtp=25, smtps=submissions=465, submission=587"; OtherPrograms("SMTP and LMTP");
    /// Use long queue IDs, which are never reused, instead of short ones.
    enable_long_queue_ids: boolean = "no"; Effective;
    /// Queues whose files are distributed over subdirectories.
    hash_queue_names: list = "deferred, defer"; Effective;
    /// Number of subdirectory levels of those queues.
    hash_queue_depth: integer(POSITIVE) = "1"; Effective;
    /// Use respectful wording in log lines.
    respectful_logging: boolean = "${{$compatibility_level} <level {3.6} ? {no} : {yes}}"; OtherPrograms("SMTP access checks");
    /// Format of addresses in log lines.
    info_log_address_format: keyword(AddressFormat) = "external"; Effective;
    /// Initial size of an LMDB table.
    lmdb_map_size: long(POSITIVE) in "bytes" = "16777216"; NoEffectOnQmqp("this server only reads tables; their size is that of the file");
    /// Memory for reading a Berkeley DB table.
    berkeley_db_read_buffer_size: integer(POSITIVE) in "bytes" = "131072"; NoEffectOnQmqp("tables are read page by page, through the cache of the system");
    /// Maximum size of a reply from a socketmap server. Since Postfix 3.10.
    socketmap_max_reply_size: integer(POSITIVE) in "bytes" = "100000"; Effective;
    /// Maximum size of a query to a socketmap server. Since Postfix 3.12.
    socketmap_max_query_size: integer(POSITIVE) in "bytes" = "10000"; Effective;
    /// Type of the tables that commands make when none is given.
    default_database_type: text(POSITIVE) = "hash"; OtherPrograms("postmap(1)");
    /// Type of cache tables. Since Postfix 3.11.
    default_cache_db_type: text(POSITIVE) = "btree"; OtherPrograms("caches of Postfix");
    /// How names of Berkeley DB tables are treated on a system without Berkeley DB. Since Postfix 3.11.
    non_bdb_migration_level: text(POSITIVE) = "disable"; NO_BDB;
    /// Table types that replace Berkeley DB. Since Postfix 3.11.
    non_bdb_custom_mapping: list = ""; NO_BDB;
}
