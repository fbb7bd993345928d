//! By which name a client is known: the name of its address, if that name has this address.
//!
//! As Postfix does it: the hosts file first, then the DNS; the first name only; forward look-up for the client's own family.
//! Unlike Postfix, a temporary failure is told apart from a name that does not exist, and a slow name server holds up
//! no clients but those that need it: each look-up is a task of its own, beside the sessions that want its answer. All files are
//! read when the look-ups are opened, so that it works in a jail.

mod cache;
mod dns;
#[cfg(fuzzing)]
pub mod fuzzing;
mod hostname;
mod hosts;
mod name;

use std::cell::Cell;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore};
use tokio::time::{timeout, timeout_at};

use cache::Cache;
use dns::{Dns, Timed};
use hosts::Hosts;
use name::Answer;
pub use name::{Name, PeerName};
use postfix::notice::Notice;

/// Where the answers come from, and the bounds of the search.
#[derive(Debug, Clone)]
pub struct Options {
    /// The hosts file; a missing one is an empty one.
    pub hosts: PathBuf,
    /// The resolver's configuration; if there is none, the name server is on this machine. Of its options, `ndots`, `timeout`,
    /// `attempts` and `edns0` are respected.
    pub resolv_conf: PathBuf,
    /// The port of the name servers; 53 but for tests.
    pub name_server_port: u16,
    /// Whether the server speaks IPv4: then an IPv4-mapped IPv6 address is treated as the IPv4 address that it is.
    pub ipv4: bool,
    /// The longest time that one look-up takes; after that the name is [`Name::Unresolved`].
    pub deadline: Duration,
    /// How long [`PeerNames::lookup_soon`] waits, from the beginning of a look-up.
    pub patience: Duration,
    /// How many look-ups are under way at a time; further clients have no name for now.
    pub lookups_max: usize,
    /// How many clients are remembered, those that are being looked up included. Each takes a few hundred bytes.
    pub cache_entries_max: usize,
    /// The longest time for which a verified name is remembered; the DNS may say less, the hosts file does not say.
    pub verified_ttl_max: Duration,
    /// The longest time for which it is remembered that there is no name; also the time if the DNS does not say.
    pub unknown_ttl_max: Duration,
    /// The time for which a failure is remembered: short, but a dead name server must not delay each connection of a
    /// busy client.
    pub unresolved_ttl: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            hosts: "/etc/hosts".into(),
            resolv_conf: "/etc/resolv.conf".into(),
            name_server_port: 53,
            ipv4: true,
            deadline: Duration::from_secs(20),
            patience: Duration::from_secs(1),
            lookups_max: 4096,
            cache_entries_max: 10_000,
            verified_ttl_max: Duration::from_secs(3600),
            unknown_ttl_max: Duration::from_secs(300),
            unresolved_ttl: Duration::from_secs(10),
        }
    }
}

/// Why no names can be looked up.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file that is there cannot be read.
    #[error("cannot read {path}: {source}: make it readable, or remove it", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The resolver library refuses the configuration.
    #[error("cannot set up DNS lookups from {path}: {reason}", path = path.display())]
    Resolver {
        /// The configuration.
        path: PathBuf,
        /// Why.
        reason: hickory_resolver::net::NetError,
    },
}

/// Looks up the names of clients, and remembers them. Clones share everything.
#[derive(Clone)]
pub struct PeerNames(Arc<Shared>);

struct Shared {
    options: Options,
    hosts: Hosts,
    dns: Dns,
    cache: Mutex<Cache<IpAddr, Arc<Lookup>>>,
    turns: Arc<Semaphore>,
}

/// One look-up, under way or done.
#[derive(Debug)]
struct Lookup {
    began: Instant,
    /// The one before failed: a client that can do without the name does not wait for this one.
    is_doubtful: bool,
    outcome: OnceLock<Remembered>,
    done: Notify,
}

#[derive(Debug)]
struct Remembered {
    name: PeerName,
    until: Instant,
}

impl Lookup {
    fn finish(&self, outcome: Remembered) {
        let _first = self.outcome.set(outcome);
        self.done.notify_waiters();
    }

    fn name(&self) -> Option<PeerName> {
        self.outcome.get().map(|remembered| remembered.name.clone())
    }

    /// The name, when it is there.
    async fn wait(&self) -> PeerName {
        loop {
            // Before the look: what ends after it is heard.
            let done = self.done.notified();
            if let Some(name) = self.name() {
                return name;
            }
            done.await;
        }
    }
}

impl PeerNames {
    /// Reads hosts file and resolver configuration, now and never again. The notices are for the log.
    ///
    /// # Errors
    /// When a file is there but cannot be read, or the resolver cannot be set up.
    pub fn open(options: Options) -> Result<(Self, Vec<Notice>), OpenError> {
        let mut notices = Vec::new();
        let hosts = Hosts::parse(&read_if_there(&options.hosts)?.unwrap_or_default());
        let resolv_conf = read_if_there(&options.resolv_conf)?;
        if !dns::names_a_server(resolv_conf.as_deref()) {
            let path = options.resolv_conf.display();
            notices.push(Notice::info(format!("{path} names no name server: using 127.0.0.1")));
        }
        let dns = Dns::new(resolv_conf.as_deref(), options.name_server_port)
            .map_err(|reason| OpenError::Resolver { path: options.resolv_conf.clone(), reason })?;
        let cache = Mutex::new(Cache::new(options.cache_entries_max));
        let turns = Arc::new(Semaphore::new(options.lookups_max.min(Semaphore::MAX_PERMITS)));
        Ok((Self(Arc::new(Shared { options, hosts, dns, cache, turns })), notices))
    }

    /// The address by which a client is known: IPv4 for an IPv4-mapped IPv6 address, if the server speaks IPv4.
    #[must_use]
    pub fn canonical_address(&self, address: IpAddr) -> IpAddr {
        if self.0.options.ipv4 { address.to_canonical() } else { address }
    }

    /// The name of the client at `address`, from memory or after asking. Needs a tokio runtime with I/O and time. It ends within
    /// the deadline and a second, and can be dropped at any time. Simultaneous look-ups of one address share the question.
    pub async fn lookup(&self, address: IpAddr) -> PeerName {
        let lookup = self.begin(address);
        let patience = self.0.options.deadline.saturating_add(Duration::from_secs(1));
        timeout(patience, lookup.wait()).await.unwrap_or_else(|_| PeerName::silent(Name::Unresolved))
    }

    /// The name, if it is known already; if not, it is looked up from now on.
    #[must_use]
    pub fn known(&self, address: IpAddr) -> Option<PeerName> {
        self.begin(address).name()
    }

    /// As [`lookup`](Self::lookup) for a session that can do without: `None` if the name is not there within the patience. The look-up goes on. Whose
    /// name could not be had the last time does not wait at all.
    pub async fn lookup_soon(&self, address: IpAddr) -> Option<PeerName> {
        let lookup = self.begin(address);
        let name = lookup.name();
        if name.is_some() || lookup.is_doubtful {
            return name;
        }
        let until = lookup.began.checked_add(self.0.options.patience)?;
        timeout_at(until.into(), lookup.wait()).await.ok()
    }

    /// The look-up of this address: the last one, while what it found is good, or a new one.
    fn begin(&self, address: IpAddr) -> Arc<Lookup> {
        let address = self.canonical_address(address);
        let now = Instant::now();
        let is_doubtful = Cell::new(false);
        let is_new = Cell::new(false);
        let lookup = {
            let mut cache = self.0.cache.lock().unwrap_or_else(PoisonError::into_inner);
            let keep = |lookup: &Arc<Lookup>| match lookup.outcome.get() {
                None => true,
                Some(remembered) => {
                    is_doubtful.set(remembered.name.name == Name::Unresolved);
                    remembered.until > now
                }
            };
            cache.get_or_insert(address, keep, || {
                is_new.set(true);
                Arc::new(Lookup {
                    began: now,
                    is_doubtful: is_doubtful.get(),
                    outcome: OnceLock::new(),
                    done: Notify::new(),
                })
            })
        };
        if is_new.get() {
            self.start(address, &lookup);
        }
        lookup
    }

    fn start(&self, address: IpAddr, lookup: &Arc<Lookup>) {
        if let Some(name) = self.0.name_of_hosts(address) {
            return lookup.finish(self.0.remembered(name, None));
        }
        let Ok(turn) = Arc::clone(&self.0.turns).try_acquire_owned() else {
            let until = Instant::now();
            return lookup.finish(Remembered { name: PeerName::silent(Name::Unresolved), until });
        };
        let (shared, lookup) = (Arc::clone(&self.0), Arc::clone(lookup));
        tokio::spawn(async move {
            lookup.finish(shared.ask_within_deadline(address).await);
            drop(turn);
        });
    }
}

impl Shared {
    /// The name, if the hosts file is all that it takes.
    fn name_of_hosts(&self, address: IpAddr) -> Option<PeerName> {
        let name = self.hosts.name(address)?;
        let host = match name::claimed(Answer::Found(Some(name.to_vec()))) {
            Ok(host) => host,
            Err(outcome) => return Some(outcome),
        };
        let addresses = self.hosts.addresses(&host, address);
        (!addresses.is_empty()).then(|| name::verified(host, address, &Answer::Found(addresses)))
    }

    async fn ask_within_deadline(&self, address: IpAddr) -> Remembered {
        let (name, ttl) = timeout(self.options.deadline, self.ask(address))
            .await
            .unwrap_or_else(|_| (PeerName::silent(Name::Unresolved), None));
        self.remembered(name, ttl)
    }

    fn remembered(&self, name: PeerName, ttl: Option<Duration>) -> Remembered {
        let ttl = match name.name {
            Name::Verified(_) => {
                ttl.map_or(self.options.verified_ttl_max, |ttl| ttl.min(self.options.verified_ttl_max))
            }
            Name::Unknown => {
                ttl.map_or(self.options.unknown_ttl_max, |ttl| ttl.min(self.options.unknown_ttl_max))
            }
            Name::Unresolved => self.options.unresolved_ttl,
        };
        let now = Instant::now();
        Remembered { name, until: now.checked_add(ttl).unwrap_or(now) }
    }

    /// Both questions, each to the hosts file first.
    async fn ask(&self, address: IpAddr) -> (PeerName, Option<Duration>) {
        let Timed { answer, ttl: name_ttl } = match self.hosts.name(address) {
            Some(name) => Timed { answer: Answer::Found(Some(name.to_vec())), ttl: None },
            None => self.dns.name(address).await,
        };
        let host = match name::claimed(answer) {
            Ok(host) => host,
            Err(outcome) => return (outcome, name_ttl),
        };
        let Timed { answer, ttl } = match self.hosts.addresses(&host, address) {
            addresses if addresses.is_empty() => self.dns.addresses(&host, address).await,
            addresses => Timed { answer: Answer::Found(addresses), ttl: None },
        };
        let ttl = match (name_ttl, ttl) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        (name::verified(host, address, &answer), ttl)
    }
}

impl std::fmt::Debug for PeerNames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerNames").field("options", &self.0.options).finish_non_exhaustive()
    }
}

fn read_if_there(path: &PathBuf) -> Result<Option<Vec<u8>>, OpenError> {
    match std::fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(OpenError::Read { path: path.clone(), source }),
    }
}

#[cfg(test)]
mod tests;
