//! What the caller decides about lists and tables: settings from main.cf, and our own bounds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use postfix::compatibility::Release;

use crate::turns::{TurnOptions, Turns};

/// Settings and bounds for match lists and the tables in them.
#[derive(Debug, Clone)]
pub struct Options {
    /// smtputf8_enable: fold case by Unicode instead of ASCII; skip table lines and keys that are not UTF-8.
    pub smtputf8_enable: bool,
    /// parent_domain_matches_subdomains, as text: a list that names the lists in which `example.com` matches its
    /// subdomains too.
    pub parent_domain_matches_subdomains: String,
    /// daemon_table_open_error_is_fatal: a table that cannot be opened is an [`OpenError`](crate::OpenError) instead of
    /// a table whose every lookup fails.
    pub daemon_table_open_error_is_fatal: bool,
    /// Fold the keys of tables with fixed strings (and the keys that they are asked for): the way of address maps.
    /// Match lists fold the client name themselves and leave this off.
    pub fold_keys: bool,
    /// The largest text file (table or pattern file) that is read into memory, in bytes. Ours; Postfix has no bound.
    pub file_bytes_max: u64,
    /// How deep `/file` may include `/file`, and `unionmap:`/`pipemap:`/`debug:` may contain one another. Ours; Postfix
    /// recurses until it dies.
    pub nesting_max: usize,
    /// Time limit for one connect, write or read of a remote table (100 s in Postfix), and for the wait for the lock of
    /// an lmdb file.
    pub operation_timeout: Duration,
    /// Time limit for a whole evaluation of a match list, all remote tables together; `None` for no other limit than
    /// those of the single operations. Ours: a `tcp:` server that hangs costs a client of Postfix a quarter of an hour.
    pub lookup_deadline: Option<Duration>,
    /// How many idle connections one remote table keeps. Ours; a Postfix process keeps one.
    pub idle_connections_max: usize,
    /// proxymap_service_name: the socket of proxymap(8) for `proxy:` tables, in `private` below the current directory.
    pub proxymap_service_name: String,
    /// mail_version: a proxymap(8) from 3.11 on wants other requests than one before.
    pub release: Release,
    /// ipc_idle: how long a connection to proxymap(8) is kept without a question on it.
    pub ipc_idle: Duration,
    /// ipc_ttl: how long a connection to proxymap(8) is kept at all.
    pub ipc_ttl: Duration,
    /// Whether opening a `proxy:` table asks proxymap(8) for it, and says what is wrong. [`check`](crate::check()) does not.
    pub asks_at_open: bool,
    /// Whether a Postfix is known to own the current directory, so that `proxy:` tables need no remark.
    pub is_beside_postfix: bool,
    /// socketmap_max_reply_size: longest reply of a socketmap server, in bytes.
    pub socketmap_max_reply_size: usize,
    /// socketmap_max_query_size: longest query to a socketmap server, in bytes; a longer one is "not found". 0 for no limit.
    pub socketmap_max_query_size: usize,
    /// Who may spend processor time on expressions that take long. One for all tables of a process.
    pub turns: Arc<Turns>,
}

impl Default for Options {
    /// Postfix's defaults at compatibility level 3.6, and bounds that no sane file reaches.
    fn default() -> Self {
        Self {
            smtputf8_enable: true,
            parent_domain_matches_subdomains: "debug_peer_list, fast_flush_domains, mynetworks, \
                permit_mx_backup_networks, qmqpd_authorized_clients, relay_domains, smtpd_access_maps"
                .to_owned(),
            daemon_table_open_error_is_fatal: false,
            fold_keys: false,
            file_bytes_max: 64 << 20,
            nesting_max: 10,
            operation_timeout: Duration::from_secs(100),
            lookup_deadline: Some(Duration::from_secs(100)),
            idle_connections_max: 8,
            proxymap_service_name: "proxymap".to_owned(),
            release: Release::DEFAULT,
            ipc_idle: Duration::from_secs(5),
            ipc_ttl: Duration::from_secs(1000),
            asks_at_open: true,
            is_beside_postfix: false,
            socketmap_max_reply_size: 100_000,
            socketmap_max_query_size: 10_000,
            turns: Turns::new(TurnOptions::default()),
        }
    }
}

impl Options {
    /// When an evaluation that begins now must have ended, if ever.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.lookup_deadline.and_then(|limit| Instant::now().checked_add(limit))
    }
}
