//! The parameters of the agent. Names, defaults and meanings are Postfix's (postconf(5)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use delivery::hosts;
use smtp::client::Stage;
use smtp::extensions::Keyword;

/// What the agent speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// smtp(8) of Postfix.
    Smtp,
    /// lmtp(8) of Postfix.
    Lmtp,
    /// The client of a QMQP server, as qmail-qmqpc.
    Qmqp,
}

/// How long each step may take. Postfix counts from read to read; here a step is a whole reply, or a piece of content,
/// so that a server which sends a byte a minute comes to an end (Postfix's `smtp_per_request_deadline`).
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct Timeouts {
    /// 0: as long as the kernel tries.
    pub connect: Duration,
    pub helo: Duration,
    pub start_tls: Duration,
    pub x_forward: Duration,
    pub mail: Duration,
    pub rcpt: Duration,
    pub data_init: Duration,
    pub data_xfer: Duration,
    pub data_done: Duration,
    pub rset: Duration,
    pub quit: Duration,
}

impl Timeouts {
    /// Those of a protocol: LMTP alone leaves the connection to the kernel.
    #[must_use]
    pub const fn of(protocol: Protocol) -> Self {
        let connect = if matches!(protocol, Protocol::Lmtp) { 0 } else { 30 };
        Self {
            connect: Duration::from_secs(connect),
            helo: Duration::from_secs(300),
            start_tls: Duration::from_secs(300),
            x_forward: Duration::from_secs(300),
            mail: Duration::from_secs(300),
            rcpt: Duration::from_secs(300),
            data_init: Duration::from_secs(120),
            data_xfer: Duration::from_secs(180),
            data_done: Duration::from_secs(600),
            rset: Duration::from_secs(20),
            quit: Duration::from_secs(300),
        }
    }

    /// How long a reply may take.
    #[must_use]
    pub const fn at(&self, stage: Stage) -> Duration {
        match stage {
            Stage::Greeting | Stage::Ehlo | Stage::Helo | Stage::Lhlo | Stage::Auth | Stage::Idle => {
                self.helo
            }
            Stage::StartTls | Stage::Handshake => self.start_tls,
            Stage::XForward => self.x_forward,
            Stage::Mail => self.mail,
            Stage::Rcpt => self.rcpt,
            Stage::Data => self.data_init,
            Stage::Content => self.data_xfer,
            Stage::EndOfContent => self.data_done,
            Stage::Rset => self.rset,
            Stage::Quit => self.quit,
        }
    }
}

/// `smtp_tls_security_level`, as far as this agent knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsLevel {
    /// No TLS. `may` comes out as this: the agent speaks no TLS yet, and `may` allows that.
    Plain,
    /// TLS is a must: mail waits, since the agent speaks none yet. It never goes out in plain text.
    Mandatory,
}

/// What the agent works by.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools)]
pub struct Settings {
    /// What it speaks.
    pub protocol: Protocol,
    /// `myhostname`; the name in EHLO unless `smtp_helo_name` is another.
    pub hostname: String,
    /// `smtp_helo_name`.
    pub hello_name: String,
    /// The port where a next-hop names none: 25, 24, 628.
    pub port: u16,
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// `smtp_bind_address`.
    pub bind_ipv4: Option<Ipv4Addr>,
    /// `smtp_bind_address6`.
    pub bind_ipv6: Option<Ipv6Addr>,
    /// `inet_protocols` has IPv4.
    pub ipv4: bool,
    /// `inet_protocols` has IPv6.
    pub ipv6: bool,
    /// Addresses at which this system itself takes mail: `inet_interfaces`, `proxy_interfaces`.
    pub own_addresses: Vec<IpAddr>,
    /// Order and number of hosts.
    pub hosts: hosts::Settings,
    /// `smtp_mx_session_limit`: how many hosts that can be talked to are tried; 0: all.
    pub sessions_max: usize,
    /// `smtp_skip_5xx_greeting`.
    pub skip_5xx_greeting: bool,
    /// `smtp_line_length_limit`, in bytes; 0: none.
    pub line_bytes_max: usize,
    /// `smtp_send_xforward_command`.
    pub sends_x_forward: bool,
    /// `smtp_discard_ehlo_keywords`.
    pub hidden: Vec<Keyword>,
    /// `smtp_never_ehlo` says no.
    pub extended: bool,
    /// `smtp_fallback_relay`: next-hops tried behind all others.
    pub fallback_relay: String,
    /// `soft_bounce`.
    pub soft_bounce: bool,
    /// `smtp_connection_cache_time_limit`: how long a connection waits for more mail; 0: it does not.
    pub idle_max: Duration,
    /// `smtp_connection_reuse_time_limit`: how old a connection gets.
    pub reuse_max: Duration,
    /// How many connections may wait at a time. Postfix has no such limit.
    pub idle_connections_max: usize,
    /// How much TLS there must be.
    pub tls: TlsLevel,
    /// `smtp_sasl_auth_enable`.
    pub authenticates: bool,
    /// `smtp_sasl_security_options` lacks `noplaintext`: passwords may be sent as they are. By default they may not.
    pub allows_plaintext: bool,
    /// `smtp_sasl_auth_soft_bounce`: a refused log-in is a failure that may pass.
    pub auth_soft_bounce: bool,
    /// Where the path of a socket of the file system begins, if it is relative: `queue_directory`.
    pub socket_base: PathBuf,
}

/// Whether what main.cf says of TLS can be kept without TLS. `prefix` is `smtp` or `lmtp`; then the values of
/// `_tls_security_level`, `_enforce_tls` and `_tls_policy_maps`.
///
/// # Errors
/// The parameter that cannot be kept, with its value.
pub fn tls_level(prefix: &str, level: &str, enforces: bool, policies: &str) -> Result<TlsLevel, String> {
    if !policies.trim().is_empty() {
        return Err(format!("{prefix}_tls_policy_maps = {policies}"));
    }
    match level.trim() {
        "" if enforces => Err(format!("{prefix}_enforce_tls = yes")),
        "" | "none" | "may" => Ok(TlsLevel::Plain),
        other => Err(format!("{prefix}_tls_security_level = {other}")),
    }
}

impl Settings {
    /// Postfix's defaults.
    #[must_use]
    pub fn new(protocol: Protocol, hostname: &str) -> Self {
        Self {
            protocol,
            hostname: hostname.to_owned(),
            hello_name: hostname.to_owned(),
            port: match protocol {
                Protocol::Smtp => 25,
                Protocol::Lmtp => 24,
                Protocol::Qmqp => 628,
            },
            timeouts: Timeouts::of(protocol),
            bind_ipv4: None,
            bind_ipv6: None,
            ipv4: true,
            ipv6: true,
            own_addresses: Vec::new(),
            hosts: hosts::Settings::default(),
            sessions_max: 2,
            skip_5xx_greeting: true,
            line_bytes_max: 998,
            sends_x_forward: false,
            hidden: Vec::new(),
            extended: true,
            fallback_relay: String::new(),
            soft_bounce: false,
            idle_max: Duration::from_secs(2),
            reuse_max: Duration::from_secs(300),
            idle_connections_max: 1000,
            tls: TlsLevel::Plain,
            authenticates: false,
            allows_plaintext: false,
            auth_soft_bounce: true,
            socket_base: PathBuf::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What asks for TLS never goes out in plain text.
    #[test]
    fn a_level_that_cannot_be_kept_is_named() {
        for level in ["", "none", "may", " may "] {
            assert_eq!(tls_level("smtp", level, false, ""), Ok(TlsLevel::Plain), "{level}");
        }
        assert_eq!(tls_level("smtp", "may", true, ""), Ok(TlsLevel::Plain), "the newer parameter counts");
        for level in ["encrypt", "fingerprint", "verify", "secure", "dane", "dane-only", "nonsense"] {
            let words = format!("lmtp_tls_security_level = {level}");
            assert_eq!(tls_level("lmtp", level, false, ""), Err(words));
        }
        assert_eq!(tls_level("smtp", "", true, ""), Err("smtp_enforce_tls = yes".to_owned()));
        let policies = tls_level("smtp", "none", false, "cdb:/x");
        assert_eq!(policies, Err("smtp_tls_policy_maps = cdb:/x".to_owned()));
    }
}
