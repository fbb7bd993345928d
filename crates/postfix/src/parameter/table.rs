//! Every parameter that this server knows the meaning of, one row each; and the fields of
//! [`Settings`], made from the same rows.
//!
//! Names, defaults and bounds are those of Postfix 3.7 as Debian builds it (`postconf -d`); a row that came later says
//! so. Text behind `///` is the manual's text. Sources: `postconf -d`, the behaviour of Postfix 3.7, the tables of 3.12.

use std::time::Duration;

use super::{DefaultValue, Kind, Parameter, Reach};
use crate::compatibility::Level;
use crate::settings::loader::Loader;
use crate::settings::words::{
    AddressFormat, Commit, EndOfHeader, Facility, FixLineEndings, LogTarget, NetworksStyle, Submit,
};
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
    ($loader:ident, $name:expr, text($bounds:expr)) => {
        $loader.text($name, $bounds)
    };
    ($loader:ident, $name:expr, list) => {
        $loader.text($name, ANY)
    };
    ($loader:ident, $name:expr, boolean) => {
        $loader.boolean($name)
    };
    ($loader:ident, $name:expr, integer($bounds:expr)) => {
        $loader.integer($name, $bounds)
    };
    ($loader:ident, $name:expr, long($bounds:expr)) => {
        $loader.long($name, $bounds)
    };
    ($loader:ident, $name:expr, time($bounds:expr)) => {
        $loader.time($name, $bounds)
    };
    ($loader:ident, $name:expr, keywords($words:expr)) => {
        $loader.keywords($name, $words, ANY)
    };
    ($loader:ident, $name:expr, some_keywords($words:expr)) => {
        $loader.keywords($name, $words, POSITIVE)
    };
    ($loader:ident, $name:expr, keyword($words:ty)) => {
        $loader.keyword::<$words>($name)
    };
    ($loader:ident, $name:expr, level) => {
        $loader.level($name)
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
            pub(crate) fn from_loader(loader: &mut Loader<'_, '_>) -> Option<Self> {
                $(let $name = load_field!(loader, stringify!($name), $kind $(($args))?);)+
                Some(Self { $($name: $name?),+ })
            }
        }
    };
}

parameters! {
    /// Who may connect: a list of names, addresses, networks, `!` exceptions, files and tables, as described under
    /// MATCH LISTS. Empty means nobody.
    qmqpd_authorized_clients: list = ""; Effective;
    /// How long a client may take for each single read or write.
    qmqpd_timeout: time(POSITIVE) = "300s"; Effective;
    /// Pause before a reply that is not K is sent, so that a client that fails does not come back at once.
    qmqpd_error_delay: time(ANY) = "1s"; Effective;
    /// Show the client's port in log lines and replies: `name[address]:port`.
    qmqpd_client_port_logging: boolean = "no"; Effective;

    /// Where `qmqpd serve` listens: `address:port`, `[ipv6]:port`, or a port alone for the addresses of
    /// inet_interfaces. When it is set, the qmqpd lines of master.cf are left to others; when it is not, its default counts
    /// only if there are none.
    qmqpd_listen: list = "127.0.0.1:6628"; Effective;
    /// Who turns the message into a queue file. `postfix` is Postfix's cleanup(8), through its socket in the queue
    /// directory. `local` is our own cleanup, straight into the incoming queue.
    qmqpd_submit: keyword(Submit) computed "`postfix` in a process that Postfix's master(8) started, `local` in one of `qmqpd serve`"; Effective;
    /// How our own cleanup makes a message durable before K is sent. `file` writes the queue file and waits until it is on
    /// disk. `journal` also appends the message to a journal in the queue directory, and waits until that is on disk, which
    /// takes one wait for many messages; after a crash of the machine, mail that was delivered in the last moments before it
    /// can be delivered again.
    qmqpd_commit: keyword(Commit) computed "`file` in a process that Postfix's master(8) started, `journal` in one of `qmqpd serve`"; Effective;
    /// How long messages may stay in the journal before their queue files are brought to disk and the journal is free again: the
    /// time within which mail can repeat after a crash of the machine.
    qmqpd_journal_checkpoint_delay: time(POSITIVE) = "1s"; Effective;
    /// How much may be in the journal before the same happens at once. The journal of a process takes twice as much of the
    /// disk at most.
    qmqpd_journal_checkpoint_size: long((Bounds::between(8_388_608, 4_294_967_296))) in "bytes" = "67108864"; Effective;
    /// Whether a message has its name in the queue from its first byte on, as with Postfix, so that an operator can see it
    /// come. Otherwise it gets its name when it is complete, which costs the disk less, and nothing of it is left when the
    /// process is killed before. File systems without O_TMPFILE, and Linux before 6.10, know only the former.
    qmqpd_named_drafts: boolean = "no"; Effective;
    /// How many threads wait for the disk at the same time.
    qmqpd_commit_threads: integer((Bounds::between(1, 1024))) = "16"; Effective;
    /// How many clients one service process serves at the same time. One more hears Z within half a second; under Postfix's master(8)
    /// it waits for a place, or for another process.
    qmqpd_connection_limit: integer((Bounds::between(1, 1_000_000))) = "5000"; Effective;
    /// How many connections one client may have at the same time in one service process; zero is no limit. A client is
    /// an IPv4 address, or an IPv6 network of 64 bits. One more hears Z at once. As smtpd_client_connection_count_limit, but
    /// that clients who may send are exempt by default: see qmqpd_client_event_limit_exceptions.
    qmqpd_client_connection_count_limit: integer(NOT_NEGATIVE) = "50"; Effective;
    /// How many connections one client may make within anvil_rate_time_unit; zero is no limit.
    qmqpd_client_connection_rate_limit: integer(NOT_NEGATIVE) = "0"; Effective;
    /// How many messages one client may send within anvil_rate_time_unit, accepted or not; zero is no limit.
    qmqpd_client_message_rate_limit: integer(NOT_NEGATIVE) = "0"; Effective;
    /// How many recipients the messages of one client may have within anvil_rate_time_unit, accepted or not; zero is no limit. A
    /// single message with more is refused with D, since it could never be sent.
    qmqpd_client_recipient_rate_limit: integer(NOT_NEGATIVE) = "0"; Effective;
    /// To which clients the four limits above do not apply, a list as in qmqpd_authorized_clients: by default to none who may
    /// send, so that list servers can send as fast as they can. Postfix has `$mynetworks` in smtpd; with that, or empty,
    /// authorized clients are held to the limits, too.
    qmqpd_client_event_limit_exceptions: list = "$qmqpd_authorized_clients"; Effective;
    /// The time within which connections, messages and recipients of a client are counted.
    anvil_rate_time_unit: time(POSITIVE) = "60s"; Effective;
    /// How long one client may stay, from its connection to its reply, however busily it sends.
    qmqpd_session_deadline: time(POSITIVE) = "3600s"; Effective;
    /// Memory that the messages of all sessions of one service process may hold together; who needs more hears Z.
    qmqpd_memory_limit: long((Bounds::at_least(1_048_576))) in "bytes" = "67108864"; Effective;
    /// Free space that the queue's file system must have before a message is read; else its client hears Z. 0 is no limit.
    qmqpd_free_space_min: long(ANY) in "bytes" = "$queue_minfree"; Effective;
    /// While the messages that qmqpd_memory_limit has room for are all under way, one that brings less than 1024 bytes
    /// within this time gives way, and its client hears Z.
    qmqpd_stress_timeout: time(POSITIVE) = "10s"; Effective;
    /// Processor time that all expressions of regexp: and pcre: tables together may take for one message. One that needs
    /// more hears Z.
    qmqpd_expression_time_limit: time(POSITIVE) = "5s"; Effective;
    /// How much of a refused request is still read, so that the client gets to read its reply: of a client that may not send,
    /// and behind the end of a request. What a client that may send has announced is read in any case.
    qmqpd_drain_limit: long((Bounds::at_least(0))) in "bytes" = "33554432"; Effective;
    /// How long that is read; and the time within which a client that may send must bring 1024 bytes of a refused request.
    qmqpd_drain_timeout: time(ANY) = "10s"; Effective;
    /// What happens to a message whose first line ends in CRLF: with `always` it is taken as a CRLF message, each CRLF
    /// being a line end; with `never` each CR becomes a blank, as in Postfix.
    qmqpd_fix_line_endings: keyword(FixLineEndings) = "always"; Effective;
    /// How long the look-up of a client's name may take before the client is called unknown.
    qmqpd_dns_timeout: time(POSITIVE) = "10s"; Effective;
    /// How long a client waits for its name to be looked up where the name does not decide whether it may send: then it is
    /// called unknown in the log and in the message. With qmqpd_dns_timeout or more, every client waits, as with Postfix.
    qmqpd_client_name_wait: time(ANY) = "1s"; Effective;
    /// What holds a service process besides its user and its root directory, where the kernel has it: `seccomp` leaves it
    /// the system calls that it needs, `landlock` the queue directories and the ports of name servers and tables. Empty
    /// for neither.
    qmqpd_sandbox: keywords(SANDBOX) = "seccomp, landlock"; Effective;
    /// How many sessions of one client that bring no message are logged within a minute, and ten times as many of all
    /// clients together; the others are counted, and the log says how many they were. Messages are always logged. Zero is
    /// no limit.
    qmqpd_session_log_limit: integer((Bounds::at_least(0))) = "100"; Effective;
    /// How long a service process of `qmqpd serve` that has ended its sessions may wait for the disk, on a stop for example,
    /// before it is killed. Until accepted mail is on disk its journal answers for it; what is in the journal of a process
    /// that was killed may be delivered again.
    qmqpd_stop_timeout: time(POSITIVE) = "300s"; Effective;
    /// How long a service process of `qmqpd serve` may be silent before it counts as hung, is killed, and another one takes
    /// its place. Zero is for ever: for a process that is being debugged.
    qmqpd_hang_timeout: time(ANY) = "30s"; Effective;
    /// How many processes of a service of `qmqpd serve` may finish their sessions after a reload, or after a table has changed.
    /// When there are more, the oldest is told to end its sessions.
    qmqpd_old_process_limit: integer((Bounds::at_least(0))) = "8"; Effective;
    /// Where log lines go while maillog_file is empty.
    qmqpd_log: keyword(LogTarget) = "syslog"; Effective;

    /// A filter, `transport:destination`, that the queue manager gives the message to first.
    content_filter: text(ANY) = ""; Effective;
    /// What is left out for mail that comes in here, for example no_address_mappings. no_unknown_recipient_checks has
    /// no effect on QMQP.
    receive_override_options: keywords(RECEIVE_OVERRIDES) = ""; Effective;
    /// Longest sender or recipient address, and the size of the pieces in which a long line is stored.
    line_length_limit: integer((Bounds::at_least(512))) in "bytes" = "2048"; Effective;
    /// Longest message content, and largest whole queue file; zero or less means no limit.
    message_size_limit: long(ANY) in "bytes" = "10240000"; Effective;
    /// Answer Z, try again, instead of every D.
    soft_bounce: boolean = "no"; Effective;
    /// Clients whose sessions are logged in detail, a list as in qmqpd_authorized_clients.
    debug_peer_list: list = ""; Effective;
    /// How much more is logged for a client of debug_peer_list.
    debug_peer_level: integer(POSITIVE) = "2"; Effective;
    /// The bytes that may be VERP delimiters.
    verp_delimiter_filter: text(POSITIVE) = "-=+"; Effective;
    /// VERP delimiters for senders that ask for VERP without naming any.
    default_verp_delimiters: text((Bounds::between(2, 2))) = "+="; Validated("a QMQP sender names its own delimiters");
    /// The lists in which `example.com` also matches the hosts below it; in other lists only `.example.com` does.
    parent_domain_matches_subdomains: list = "debug_peer_list,fast_flush_domains,mynetworks,permit_mx_backup_networks,qmqpd_authorized_clients,relay_domains,smtpd_access_maps"; Effective;
    /// Fold the case of names by the rules of Unicode, keep UTF-8 in logs, and note in the queue file what needs SMTPUTF8.
    smtputf8_enable: boolean = "${{$compatibility_level} <level {1} ? {no} : {yes}}"; Effective;
    /// The programs that detect by themselves whether a message needs SMTPUTF8.
    smtputf8_autodetect_classes: some_keywords(AUTODETECT_CLASSES) = "sendmail, verify"; Effective;
    /// Refuse UTF-8 from clients that did not ask for SMTPUTF8.
    strict_smtputf8: boolean = "no"; NoEffectOnQmqp("it concerns SMTP sessions");
    /// Use the IDNA2003 mapping of domain names.
    enable_idna2003_compatibility: boolean = "no"; NoEffectOnQmqp("no domain name is converted for QMQP mail");
    /// The service that takes mail into the queue.
    cleanup_service_name: text(POSITIVE) = "cleanup"; Effective;
    /// Pause before a message is taken while the queue manager falls behind.
    in_flow_delay: time((Bounds::at_most(10))) = "1s"; OtherPrograms("Postfix's cleanup(8); our own never waits for the queue manager");
    /// Free space that the queue's file system must have: the default of qmqpd_free_space_min. Postfix looks at it for SMTP
    /// only.
    queue_minfree: long(ANY) in "bytes" = "0"; Effective;
    /// The clients whose message headers are completed.
    local_header_rewrite_clients: list = "permit_inet_interfaces"; NoEffectOnQmqp("the headers of all QMQP mail are completed");

    /// A recipient that is added to every message.
    always_bcc: text(ANY) = ""; Effective;
    /// A message with this many Received headers, our own included, is refused as looping.
    hopcount_limit: integer(POSITIVE) = "50"; Effective;
    /// How much of a single message header is kept.
    header_size_limit: integer(POSITIVE) in "bytes" = "102400"; Effective;
    /// How many tokens of an address header are parsed.
    header_address_token_limit: integer(POSITIVE) = "10240"; Effective;
    /// How many recipients are remembered to drop duplicates; zero or less means all.
    duplicate_filter_limit: integer(ANY) = "1000"; Effective;
    /// Replace each CR or LF that stands inside a line with a blank. Since Postfix 3.9 (Debian's 3.7 has it too).
    cleanup_replace_stray_cr_lf: boolean = "yes"; Effective;
    /// The headers that are dropped from a message.
    message_drop_headers: list = "bcc, content-length, resent-bcc, return-path"; Effective;
    /// Rewrite `site!user` to `user@site`.
    swap_bangpath: boolean = "yes"; Effective;
    /// Rewrite `user%domain` to `user@domain`.
    allow_percent_hack: boolean = "yes"; Effective;
    /// Append `@$myorigin` to an address without domain.
    append_at_myorigin: boolean = "yes"; Effective;
    /// Append `.$mydomain` to a domain without dot.
    append_dot_mydomain: boolean = "${{$compatibility_level} <level {1} ? {yes} : {no}}"; Effective;
    /// How many levels of MIME multiparts are followed.
    mime_nesting_limit: integer(POSITIVE) = "100"; Effective;
    /// How much of a MIME boundary is compared.
    mime_boundary_length_limit: integer(POSITIVE) in "bytes" = "2048"; Effective;
    /// Look at the primary message header only, not at those of MIME parts.
    disable_mime_input_processing: boolean = "no"; Effective;
    /// The header that is added to a message without recipient header; empty for none.
    undisclosed_recipients_header: text(ANY) = ""; Effective;
    /// The recipient that an empty recipient address stands for.
    empty_address_recipient: text(POSITIVE) = "MAILER-DAEMON"; Effective;
    /// After how long the sender is warned that mail is delayed; zero for never.
    delay_warning_time: time(ANY) = "0h"; Effective;
    /// Tell recipients apart by the address that was given as well, not only by what it was rewritten to.
    enable_original_recipient: boolean = "yes"; Effective;
    /// The characters that separate a user name from its extension.
    recipient_delimiter: text(ANY) = ""; Effective;
    /// Take no extension off `owner-list` and `list-request` when recipient_delimiter has `-`.
    owner_request_special: boolean = "yes"; Effective;
    /// A local part that has no extension, however it looks.
    double_bounce_sender: text(POSITIVE) = "double-bounce"; Effective;
    /// Where an extension that a table does not know is put to its result: `canonical`, `virtual`; the other words are for
    /// delivery.
    propagate_unmatched_extensions: keywords(EXTENSIONS) = "canonical, virtual"; Effective;
    /// Add missing headers to mail from remote clients too.
    always_add_missing_headers: boolean = "no"; NoEffectOnQmqp("missing headers are added to all QMQP mail");
    /// The domain that completes header addresses of remote clients.
    remote_header_rewrite_domain: text(ANY) = ""; NoEffectOnQmqp("QMQP clients count as local");
    /// How a From header with a full name is written.
    header_from_format: text(POSITIVE) = "standard"; NoEffectOnQmqp("QMQP carries no full name");
    /// How many attributes a queue file may have.
    queue_file_attribute_count_limit: integer(POSITIVE) = "100"; NoEffectOnQmqp("a QMQP message has ten");

    /// Rewrite addresses by these tables, in envelope and headers.
    canonical_maps: list = ""; Effective;
    /// Which addresses canonical_maps applies to.
    canonical_classes: some_keywords(ADDRESS_CLASSES) = "envelope_sender, envelope_recipient, header_sender, header_recipient"; Effective;
    /// Rewrite sender addresses by these tables, before canonical_maps.
    sender_canonical_maps: list = ""; Effective;
    /// Which addresses sender_canonical_maps applies to.
    sender_canonical_classes: some_keywords(SENDER_CLASSES) = "envelope_sender, header_sender"; Effective;
    /// Rewrite recipient addresses by these tables, before canonical_maps.
    recipient_canonical_maps: list = ""; Effective;
    /// Which addresses recipient_canonical_maps applies to.
    recipient_canonical_classes: some_keywords(RECIPIENT_CLASSES) = "envelope_recipient, header_recipient"; Effective;
    /// Replace envelope recipients by these tables.
    virtual_alias_maps: list = "$virtual_maps"; Effective;
    /// The old name of virtual_alias_maps.
    virtual_maps: list = ""; Effective;
    /// How often the result of a virtual alias is looked up again.
    virtual_alias_recursion_limit: integer(POSITIVE) = "1000"; Effective;
    /// How many recipients one can become by virtual aliases.
    virtual_alias_expansion_limit: integer(POSITIVE) = "1000"; Effective;
    /// How long the result of a virtual alias may be.
    virtual_alias_address_length_limit: integer(POSITIVE) in "bytes" = "1000"; Effective;
    /// Domains that stand for the hosts in them: `user@host.domain` becomes `user@domain`. `!` before one leaves its
    /// hosts as they are.
    masquerade_domains: list = ""; Effective;
    /// Local parts that are not masqueraded: a list of names, files and tables.
    masquerade_exceptions: list = ""; Effective;
    /// Which addresses are masqueraded.
    masquerade_classes: keywords(ADDRESS_CLASSES) = "envelope_sender, header_sender, header_recipient"; Effective;
    /// Recipients that are added by sender.
    sender_bcc_maps: list = ""; Effective;
    /// Recipients that are added by recipient.
    recipient_bcc_maps: list = ""; Effective;
    /// Patterns that primary message headers are compared with.
    header_checks: list = ""; Effective;
    /// Patterns that MIME headers are compared with.
    mime_header_checks: list = "$header_checks"; Effective;
    /// Patterns that headers of attached messages are compared with.
    nested_header_checks: list = "$header_checks"; Effective;
    /// Patterns that body lines are compared with.
    body_checks: list = ""; Effective;
    /// How much of each body part body_checks looks at, in bytes; 0 is all of it.
    body_checks_size_limit: integer(NOT_NEGATIVE) = "51200"; Effective;
    /// Characters for which a message is refused.
    message_reject_characters: text(ANY) = ""; Effective;
    /// Characters that are removed from a message.
    message_strip_characters: text(ANY) = ""; Effective;
    /// The mail filters that a message is shown to, in this order, as described under MAIL FILTERS.
    non_smtpd_milters: list = ""; Effective;
    /// What happens to a message when a filter cannot be reached, does not answer, or makes no sense: `accept`,
    /// `reject`, `tempfail`, `shutdown` or `quarantine`. Since Postfix 3.11 the default is shutdown.
    milter_default_action: text(POSITIVE) = "tempfail"; Effective;
    /// The protocol version that filters are offered, 2, 3, 4 or 6, and perhaps `no_header_reply`.
    milter_protocol: text(POSITIVE) = "6"; Effective;
    /// How long connecting to a filter may take.
    milter_connect_timeout: time(POSITIVE) = "30s"; Effective;
    /// How long a filter may take for each read or write before the content.
    milter_command_timeout: time(POSITIVE) = "30s"; Effective;
    /// How long a filter may take for each read or write of the content, and for its decision at the end.
    milter_content_timeout: time(POSITIVE) = "300s"; Effective;
    /// The macros that filters get with the client.
    milter_connect_macros: list = "j {daemon_name} {daemon_addr} v _"; Effective;
    /// The macros that filters get with its greeting.
    milter_helo_macros: list = "{tls_version} {cipher} {cipher_bits} {cert_subject} {cert_issuer}"; Effective;
    /// The macros that filters get with the sender.
    milter_mail_macros: list = "i {auth_type} {auth_authen} {auth_author} {mail_addr} {mail_host} {mail_mailer}"; Effective;
    /// The macros that filters get with each recipient.
    milter_rcpt_macros: list = "i {rcpt_addr} {rcpt_host} {rcpt_mailer}"; Effective;
    /// The macros that filters get before the content.
    milter_data_macros: list = "i"; Effective;
    /// The macros that filters get with headers and at their end.
    milter_end_of_header_macros: list = "i"; Effective;
    /// The macros that filters get with the body and at its end.
    milter_end_of_data_macros: list = "i"; Effective;
    /// The macros that filters get with unknown SMTP commands.
    milter_unknown_command_macros: list = ""; NoEffectOnQmqp("QMQP has no commands");
    /// What filters get as the macro `{daemon_name}`.
    milter_macro_daemon_name: text(POSITIVE) = "$myhostname"; Effective;
    /// What filters get as the macro `v`.
    milter_macro_v: text(POSITIVE) = "$mail_name $mail_version"; Effective;
    /// Values of macros that this server knows nothing of, `name=value`.
    milter_macro_defaults: list = ""; Effective;
    /// Patterns that headers from milters are compared with.
    milter_header_checks: list = ""; Effective;
    /// Refuse 8-bit bytes in message headers.
    strict_7bit_headers: boolean = "no"; Effective;
    /// Refuse 8-bit bytes in headers, and 8-bit bodies that are not declared.
    strict_8bitmime: boolean = "no"; Effective;
    /// Refuse 8-bit bodies that are not declared.
    strict_8bitmime_body: boolean = "no"; Effective;
    /// Refuse encodings that multipart and message types do not allow.
    strict_mime_encoding_domain: boolean = "no"; Effective;
    /// Note `encoding=8bit` in the queue file when a Content-Transfer-Encoding header says 8bit or binary.
    detect_8bit_encoding_header: boolean = "yes"; Effective;
    /// Convert a message to 7-bit form on its way in. Since Postfix 3.9.
    force_mime_input_conversion: boolean = "no"; Effective;
    /// What happens when the message header does not end in an empty line. Since Postfix 3.11.
    non_empty_end_of_header_action: keyword(EndOfHeader) = "fix_quietly"; Effective;

    /// Which release's defaults apply; below 1, 2, 3.6 and 3.11 some keep their older values.
    compatibility_level: level = "0"; Effective;
    /// The name of this host, in Received headers and elsewhere.
    myhostname: text(POSITIVE) computed "the name of the system; without a dot in it, `.$mydomain` or `.localdomain` is appended"; Effective;
    /// The domain of this host.
    mydomain: text(POSITIVE) computed "$myhostname without its first label, or `localdomain`"; Effective;
    /// The domain that completes an address without one. A value that begins with `/` is the name of a file whose first
    /// line is the domain, as on Debian and Ubuntu; other parameters that refer to `$myorigin` see the name.
    myorigin: text(POSITIVE) = "$myhostname"; Effective;
    /// The domains that are delivered on this host: a list of names, files and tables. In canonical, alias and Bcc tables
    /// their users may stand without domain.
    mydestination: list = "$myhostname, localhost.$mydomain, localhost"; Effective;
    /// Where mail for other hosts is sent.
    relayhost: text(ANY) = ""; Validated("delivery belongs to other programs; it must not be $myhostname");
    /// The name of the mail system, in Received headers.
    mail_name: text(POSITIVE) = "Postfix"; Effective;
    /// The release of Postfix whose ways are followed; for use in other values.
    mail_version: text(POSITIVE) = "3.7.11"; Effective;
    /// The date of that release; for use in other values.
    mail_release_date: text(POSITIVE) = "20240304"; Effective;
    /// The account that service processes run as and that owns the queue.
    mail_owner: text(POSITIVE) = "postfix"; Effective;
    /// The group of Postfix's commands for submission.
    setgid_group: text(POSITIVE) = "postdrop"; Validated("only Postfix's own commands use it");
    /// The account for deliveries to programs and files.
    default_privs: text(POSITIVE) = "nobody"; Validated("delivery belongs to other programs");
    /// Where the queue is; relative table names start here.
    queue_directory: text(POSITIVE) = "/var/spool/postfix"; Effective;
    /// Where lock files with process IDs are, below queue_directory.
    process_id_directory: text(POSITIVE) = "pid"; Effective;
    /// Where Postfix's daemons are.
    daemon_directory: text(POSITIVE) = "/usr/lib/postfix/sbin"; DIRECTORIES;
    /// Where Postfix's commands are.
    command_directory: text(POSITIVE) = "/usr/sbin"; DIRECTORIES;
    /// Where Postfix keeps caches.
    data_directory: text(POSITIVE) = "/var/lib/postfix"; DIRECTORIES;
    /// Where Postfix keeps lists of its own files.
    meta_directory: text(POSITIVE) = "/etc/postfix"; DIRECTORIES;
    /// Where Postfix keeps its libraries.
    shlib_directory: text(POSITIVE) = "/usr/lib/postfix"; DIRECTORIES;
    /// Where main.cf and master.cf are; for use in other values.
    config_directory: text(ANY) computed "the directory that main.cf was read from"; Effective;
    /// The network protocols in use.
    inet_protocols: keywords(PROTOCOLS) = "all"; Effective;
    /// The addresses that mail is received on: `all`, `loopback-only`, or a list of names and addresses. Of the addresses of
    /// a name those count that this machine has; there must be one.
    inet_interfaces: list = "all"; Effective;
    /// Addresses of this host that a translator or proxy holds for it.
    proxy_interfaces: list = ""; Effective;
    /// The networks of this host, for use as `qmqpd_authorized_clients = $mynetworks`.
    mynetworks: list computed "made from the addresses of this host by mynetworks_style"; Effective;
    /// How mynetworks is made: `host` trusts this host only, `subnet` its networks, `class` whole network classes.
    mynetworks_style: keyword(NetworksStyle) = "${{$compatibility_level} <level {2} ? {subnet} : {host}}"; Effective;
    /// The syslog facility.
    syslog_facility: keyword(Facility) = "mail"; Effective;
    /// The first part of the tag of log lines.
    syslog_name: text(POSITIVE) = "${multi_instance_name?{$multi_instance_name}:{postfix}}"; Effective;
    /// A file that log lines go to instead of syslog; `/dev/stdout` is allowed.
    maillog_file: text(ANY) = ""; Effective;
    /// How the name of maillog_file may begin.
    maillog_file_prefixes: list = "/var, /dev/stdout"; Effective;
    /// Access permissions of a new log file: 600, 640 or 644. Since Postfix 3.9.
    maillog_file_permissions: text(POSITIVE) = "0600"; Effective;
    /// The command that compresses old log files.
    maillog_file_compressor: text(POSITIVE) = "gzip"; OtherPrograms("postfix logrotate");
    /// What is appended to the name of an old log file.
    maillog_file_rotate_suffix: text(POSITIVE) = "%Y%m%d-%H%M%S"; OtherPrograms("postfix logrotate");
    /// The service that writes maillog_file under Postfix.
    postlog_service_name: text(POSITIVE) = "postlog"; OtherPrograms("postlog(1); a daemon learns the socket from its environment");
    /// How long postlogd(8) may take for a line.
    postlogd_watchdog_timeout: time((Bounds::at_least(10))) = "10s"; OtherPrograms("postlogd(8)");
    /// How many processes a service may have when its master.cf line says `-`.
    default_process_limit: integer(POSITIVE) = "100"; Effective;
    /// How many clients a service process serves before a fresh one takes its place, under Postfix's master(8). It does so no
    /// sooner than at an age of `max_idle`.
    max_use: integer(POSITIVE) = "100"; Effective;
    /// How long a service process waits for a client before it ends.
    max_idle: time(POSITIVE) = "100s"; Effective;
    /// How long an exchange over an internal socket may take.
    ipc_timeout: time(POSITIVE) = "3600s"; Effective;
    /// How long an internal connection may be unused.
    ipc_idle: time(POSITIVE) = "5s"; Effective;
    /// How long an internal connection is used.
    ipc_ttl: time(POSITIVE) = "1000s"; Effective;
    /// How long waking another service may take.
    trigger_timeout: time(POSITIVE) = "10s"; Effective;
    /// The queue manager's service, which is woken for new mail, through its socket or, where master.cf gives it the type
    /// `fifo`, its named pipe.
    queue_service_name: text(POSITIVE) = "qmgr"; Effective;
    /// How long a service process may be stuck before it ends itself.
    daemon_timeout: time(POSITIVE) = "18000s"; Effective;
    /// What a service process runs first that is started with `-D`, or with MAIL_DEBUG in its environment: a shell command.
    debugger_command: text(ANY) = ""; Effective;
    /// Pause before a service whose process failed is started again.
    service_throttle_time: time(POSITIVE) = "60s"; Effective;
    /// Services of master.cf that are not started: `name/type` or `type`, `!` for exceptions.
    master_service_disable: list = ""; Effective;
    /// The environment that service processes get: names, or `name=value`.
    import_environment: list = "MAIL_CONFIG MAIL_DEBUG MAIL_LOGTAG TZ XAUTHORITY DISPLAY LANG=C POSTLOG_SERVICE POSTLOG_HOSTNAME"; Effective;
    /// The environment that external commands get.
    export_environment: list = "TZ MAIL_CONFIG LANG"; OtherPrograms("deliveries to programs");
    /// Whether this instance is started by postmulti(1).
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
    /// End at once when a table cannot be opened, instead of answering Z.
    daemon_table_open_error_is_fatal: boolean = "no"; Effective;
    /// The tables that proxymap(8) opens.
    proxy_read_maps: list = "$local_recipient_maps $mydestination $virtual_alias_maps $virtual_alias_domains $virtual_mailbox_maps $virtual_mailbox_domains $relay_recipient_maps $relay_domains $canonical_maps $sender_canonical_maps $recipient_canonical_maps $relocated_maps $transport_maps $mynetworks $smtpd_sender_login_maps $sender_bcc_maps $recipient_bcc_maps $smtp_generic_maps $lmtp_generic_maps $alias_maps $smtpd_client_restrictions $smtpd_helo_restrictions $smtpd_sender_restrictions $smtpd_relay_restrictions $smtpd_recipient_restrictions $address_verify_sender_dependent_default_transport_maps $address_verify_sender_dependent_relayhost_maps $address_verify_transport_maps $fallback_transport_maps $lmtp_discard_lhlo_keyword_address_maps $lmtp_pix_workaround_maps $lmtp_sasl_password_maps $lmtp_tls_policy_maps $mailbox_command_maps $mailbox_transport_maps $postscreen_discard_ehlo_keyword_address_maps $rbl_reply_maps $sender_dependent_default_transport_maps $sender_dependent_relayhost_maps $smtp_discard_ehlo_keyword_address_maps $smtp_pix_workaround_maps $smtp_sasl_password_maps $smtp_tls_policy_maps $smtpd_discard_ehlo_keyword_address_maps $smtpd_milter_maps $virtual_gid_maps $virtual_uid_maps $local_login_sender_maps $postscreen_reject_footer_maps $smtpd_reject_footer_maps $tls_server_sni_maps $tlsproxy_client_policy_maps $default_delivery_status_filter $lmtp_delivery_status_filter $lmtp_dns_reply_filter $lmtp_reply_filter $local_delivery_status_filter $pipe_delivery_status_filter $postscreen_command_filter $smtp_delivery_status_filter $smtp_dns_reply_filter $smtp_reply_filter $smtpd_command_filter $smtpd_dns_reply_filter $virtual_delivery_status_filter $body_checks $header_checks $lmtp_body_checks $lmtp_header_checks $lmtp_mime_header_checks $lmtp_nested_header_checks $milter_header_checks $mime_header_checks $nested_header_checks $smtp_body_checks $smtp_header_checks $smtp_mime_header_checks $smtp_nested_header_checks"; OtherPrograms("proxymap(8)");
    /// The service that is asked about `proxy:` tables.
    proxymap_service_name: text(POSITIVE) = "proxymap"; Effective;
    /// Port numbers of services, so that no look-up is needed.
    known_tcp_ports: list = "lmtp=24, smtp=25, smtps=submissions=465, submission=587"; OtherPrograms("SMTP and LMTP");
    /// Use long queue IDs, which never repeat, instead of short ones.
    enable_long_queue_ids: boolean = "no"; Effective;
    /// The queues whose files are spread over subdirectories.
    hash_queue_names: list = "deferred, defer"; Effective;
    /// How many levels of subdirectories those queues have.
    hash_queue_depth: integer(POSITIVE) = "1"; Effective;
    /// Avoid words that hurt in log lines.
    respectful_logging: boolean = "${{$compatibility_level} <level {3.6} ? {no} : {yes}}"; OtherPrograms("SMTP access checks");
    /// How addresses are written in log lines.
    info_log_address_format: keyword(AddressFormat) = "external"; Effective;
    /// The initial size of an LMDB table.
    lmdb_map_size: long(POSITIVE) in "bytes" = "16777216"; NoEffectOnQmqp("tables are only read here; their size is that of the file");
    /// Memory for reading a Berkeley DB table.
    berkeley_db_read_buffer_size: integer(POSITIVE) in "bytes" = "131072"; NoEffectOnQmqp("tables are read page by page, through the cache of the system");
    /// Longest answer of a socketmap server. Since Postfix 3.10.
    socketmap_max_reply_size: integer(POSITIVE) in "bytes" = "100000"; Effective;
    /// Longest question to a socketmap server. Since Postfix 3.12.
    socketmap_max_query_size: integer(POSITIVE) in "bytes" = "10000"; Effective;
    /// The type of table that commands make when none is given.
    default_database_type: text(POSITIVE) = "hash"; OtherPrograms("postmap(1)");
    /// The type of table for caches. Since Postfix 3.11.
    default_cache_db_type: text(POSITIVE) = "btree"; OtherPrograms("caches of Postfix");
    /// What happens to names of Berkeley DB tables on a system without it. Since Postfix 3.11.
    non_bdb_migration_level: text(POSITIVE) = "disable"; NO_BDB;
    /// The table types that stand in for Berkeley DB. Since Postfix 3.11.
    non_bdb_custom_mapping: list = ""; NO_BDB;
}
