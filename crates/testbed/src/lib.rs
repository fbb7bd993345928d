//! What the tests of whole programs share: the peers (programs of other projects), a private Postfix, a private
//! instance of ours, a QMQP client that can misbehave, mail filters, and readers for what the servers leave behind.
//!
//! Everything listens on loopback and lives in a temporary directory. Where the tests run as root they first move
//! into network and mount namespaces of their own ([`isolation`]), with their own hosts file and a name server in
//! this process, so that no test depends on the machine's names.
//!
//! # What it is not
//!
//! No program imports it; only tests do. It has no tests' expectations: a suite says what must hold, and this crate
//! runs the servers and reads what they did. It never waits for a time, only for a condition ([`wait`]).
//!
//! # The two types that matter
//!
//! [`case::Case`] is one test of the differential suite as data: main.cf lines, what the client does, what is
//! expected. [`ours::Instance`] is a running server of ours, and [`postfix::Instance`] one of Postfix; dropping
//! either stops it.
//!
//! # Example
//!
//! ```
//! use testbed::client::{reply, request};
//!
//! let bytes = request(b"hi\n", b"a@b.c", &[b"d@e.f"]);
//! assert_eq!(bytes, b"22:3:hi\n,5:a@b.c,5:d@e.f,,");
//! // What a client that counts netstrings makes of what a server sent.
//! assert_eq!(reply(b"3:Kok,"), Some(&b"Kok"[..]));
//! assert_eq!(reply(b"3:Ko"), None);
//! ```

pub mod case;
pub mod client;
pub mod drop_in;
mod failure;
pub mod isolation;
pub mod mailboxes;
pub mod maillog;
pub mod mask;
pub mod milter;
pub mod name_server;
pub mod ours;
pub mod pair;
pub mod peers;
pub mod ports;
pub mod postfix;
pub mod program;
pub mod queue;
pub mod queue_file;
pub mod random;
pub mod seeds;
pub mod small_disk;
pub mod strace;
pub mod suite;
pub mod trials;
pub mod wait;

/// main.cf lines that both servers get in every test.
///
/// `in_flow_delay`: without a queue manager Postfix would pause for a second before each message.
/// `max_use`: the lines that a process logs as it starts must not appear in the middle of a case.
/// `qmqpd_session_log_limit`: and each of them is compared by its log lines.
/// `qmqpd_error_delay`: refusals are most of the cases; the cases about the delay set it.
pub(crate) const BASE_MAIN_CF: &[&str] = &[
    "compatibility_level = 3.6",
    "myhostname = mx.example.test",
    "mydestination =",
    "inet_interfaces = loopback-only",
    "alias_maps =",
    "in_flow_delay = 0",
    "max_use = 1000000",
    "max_idle = 1h",
    "qmqpd_authorized_clients = 127.0.0.0/8, [::1]",
    "qmqpd_error_delay = 0",
    "qmqpd_session_log_limit = 0",
];

/// The value that a main.cf setting would have after `base` and then `more`; the last one wins.
pub fn setting<'a>(more: &'a [String], name: &str) -> Option<&'a str> {
    more.iter().rev().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == name).then(|| value.trim())
    })
}
