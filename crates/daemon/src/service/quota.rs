//! How many sessions without a message are logged: a client that is refused as fast as it can connect must not fill the
//! log, nor push other clients' lines out of it.
//!
//! A session takes a place when it begins, and gives it back when its message begins: mail is always logged. Who finds no
//! place is silent until then. What was left out is counted for each client, and said at the end of each minute. The places are
//! those of a minute of the clock, and of all processes of the service: what others have logged counts, and what those had
//! logged that are gone (`service::siblings`).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::peer_address::network;
use crate::service::Minute;

/// All clients together have so many times the places of one.
const ALL_CLIENTS_FACTOR: u32 = 10;

/// So many clients are counted by themselves in one window; the others together.
const CLIENTS_MAX: usize = 1000;

/// So many of them are named at the end of a window.
const CLIENTS_NAMED_MAX: usize = 20;

/// The places of one window.
#[derive(Debug)]
pub struct SessionQuota {
    /// Places of one client; `None` is any number.
    limit: Option<u32>,
    window: Mutex<Window>,
    /// Of its minutes.
    phase: AtomicU32,
}

#[derive(Debug, Default)]
struct Window {
    minute: Minute,
    /// What other processes have logged in it, of all clients and of each.
    others: u64,
    others_of: HashMap<Option<IpAddr>, u64>,
    /// Of all clients.
    logged: u32,
    is_full_said: bool,
    clients: HashMap<Option<IpAddr>, Count>,
    /// Of those that are not counted by themselves.
    others_together: Count,
}

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    logged: u32,
    silent: u64,
}

/// What a session may log.
#[derive(Debug)]
pub struct QuotaGuard<'q> {
    quota: &'q SessionQuota,
    client: Option<IpAddr>,
    is_silent: AtomicBool,
}

impl SessionQuota {
    /// `limit` is qmqpd_session_log_limit; zero means no limit.
    #[must_use]
    pub fn new(limit: i64) -> Self {
        let limit = u32::try_from(limit).ok().filter(|limit| *limit > 0);
        Self { limit, window: Mutex::default(), phase: AtomicU32::new(0) }
    }

    /// Its minutes begin so many seconds after those of the clock. Call it before the first session.
    pub fn begin_minutes_at(&self, phase: u32) {
        self.phase.store(phase, Ordering::Relaxed);
    }

    /// The minute of this moment.
    #[must_use]
    pub fn minute(&self, seconds: u64) -> Minute {
        Minute::new(self.phase.load(Ordering::Relaxed), seconds)
    }

    /// How long the minute of this moment lasts yet.
    #[must_use]
    pub fn rest_of_minute(&self, seconds: u64) -> Duration {
        self.minute(seconds).rest(seconds)
    }

    /// A session begins, so many seconds after 1970. The text is for the log, once for each client and window.
    pub fn begin(&self, client: Option<IpAddr>, seconds: u64) -> (QuotaGuard<'_>, Option<String>) {
        let client = client.map(network);
        let quota_guard =
            |is_silent| QuotaGuard { quota: self, client, is_silent: AtomicBool::new(is_silent) };
        let Some(limit) = self.limit else { return (quota_guard(false), None) };
        let mut window = self.window();
        window.begin(self.minute(seconds));
        let logged = window.others.saturating_add(window.logged.into());
        let all_are_full = logged >= limit.saturating_mul(ALL_CLIENTS_FACTOR).into();
        let others = window.others_of.get(&client).copied().unwrap_or(0);
        let own = window.count(client);
        if !all_are_full && others.saturating_add(own.logged.into()) < limit.into() {
            own.logged = own.logged.saturating_add(1);
            window.logged = window.logged.saturating_add(1);
            return (quota_guard(false), None);
        }
        own.silent = own.silent.saturating_add(1);
        let is_first = own.silent == 1;
        let (who, is_news) = if all_are_full {
            ("all clients".to_owned(), !std::mem::replace(&mut window.is_full_said, true))
        } else {
            (shown(client), is_first)
        };
        let text = format!(
            "too many sessions without a message from {who}: further ones this minute will be counted, \
             not logged"
        );
        (quota_guard(true), is_news.then_some(text))
    }

    /// Ends a window: what there is to say about it.
    pub fn end_window(&self) -> Vec<String> {
        let window = std::mem::take(&mut *self.window());
        let mut silent: Vec<_> = window.clients.into_iter().filter(|(_, count)| count.silent > 0).collect();
        silent.sort_by_key(|(client, count)| (std::cmp::Reverse(count.silent), *client));
        let (named, others) = silent.split_at_checked(CLIENTS_NAMED_MAX).unwrap_or((&silent, &[]));
        let line = |sessions: u64, who: &str| {
            format!("sessions without a message, not logged: {sessions} from {who}")
        };
        let mut lines: Vec<String> =
            named.iter().map(|(client, count)| line(count.silent, &shown(*client))).collect();
        let rest = others
            .iter()
            .map(|(_, count)| count.silent)
            .fold(window.others_together.silent, u64::saturating_add);
        if rest > 0 {
            lines.push(line(rest, "other clients"));
        }
        lines
    }

    /// What other processes of the service have logged in this minute: of all clients, and of each.
    pub fn hear(&self, minute: Minute, others: u64, others_of: HashMap<Option<IpAddr>, u64>) {
        if self.limit.is_none() {
            return;
        }
        let mut window = self.window();
        window.begin(minute);
        (window.others, window.others_of) = (others, others_of);
    }

    /// What there is to tell them: what was logged of all clients, and of each.
    #[must_use]
    pub fn counts(&self, minute: Minute) -> (u32, HashMap<Option<IpAddr>, u32>) {
        let window = self.window();
        if window.minute != minute {
            return (0, HashMap::new());
        }
        let logged = window.clients.iter().filter(|(_, count)| count.logged > 0);
        (window.logged, logged.map(|(client, count)| (*client, count.logged)).collect())
    }

    /// Counts what a process had logged in a minute, of all clients and of some, that is gone.
    pub fn adopt(
        &self,
        of_minute: Minute,
        logged: u32,
        logged_of: impl Iterator<Item = (Option<IpAddr>, u32)>,
        seconds: u64,
    ) {
        if of_minute != self.minute(seconds) || self.limit.is_none() {
            return;
        }
        let mut window = self.window();
        window.begin(of_minute);
        window.logged = window.logged.saturating_add(logged);
        for (client, logged) in logged_of.filter(|(_, logged)| *logged > 0) {
            let own = window.count(client);
            own.logged = own.logged.saturating_add(logged);
        }
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    /// Another minute has begun: what was logged counts no more. What was left out is still to be said.
    fn begin(&mut self, minute: Minute) {
        if self.minute != minute {
            self.minute = minute;
            (self.logged, self.others, self.is_full_said) = (0, 0, false);
            self.others_of.clear();
            self.clients.values_mut().chain([&mut self.others_together]).for_each(|count| count.logged = 0);
        }
    }

    /// The count of a client; beyond [`CLIENTS_MAX`] clients, that of all others.
    fn count(&mut self, client: Option<IpAddr>) -> &mut Count {
        if self.clients.len() >= CLIENTS_MAX && !self.clients.contains_key(&client) {
            return &mut self.others_together;
        }
        self.clients.entry(client).or_default()
    }
}

impl QuotaGuard<'_> {
    /// Whether the session says nothing for now.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.is_silent.load(Ordering::Relaxed)
    }

    /// The session has a message: it is logged, and costs no place. True if it was silent until now.
    pub fn has_message(&self) -> bool {
        let was_silent = self.is_silent.swap(false, Ordering::Relaxed);
        if self.quota.limit.is_none() {
            return false;
        }
        let mut window = self.quota.window();
        let own = window.count(self.client);
        if was_silent {
            own.silent = own.silent.saturating_sub(1);
        } else {
            own.logged = own.logged.saturating_sub(1);
            window.logged = window.logged.saturating_sub(1);
        }
        was_silent
    }
}

fn shown(client: Option<IpAddr>) -> String {
    match client {
        Some(IpAddr::V6(network)) => format!("[{network}]/64"),
        Some(address) => format!("[{address}]"),
        None => "local clients".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    /// Whether each of so many sessions is silent, and what was said meanwhile.
    fn sessions(quota: &SessionQuota, client: &str, count: usize) -> (usize, Vec<String>) {
        let begun: Vec<_> = (0..count).map(|_| quota.begin(address(client), 0)).collect();
        let silent = begun.iter().filter(|(quota_guard, _)| quota_guard.is_silent()).count();
        (silent, begun.into_iter().filter_map(|(_, text)| text).collect())
    }

    #[test]
    fn a_client_is_silent_from_its_limit_on_until_the_window_is_over() {
        let quota = SessionQuota::new(3);
        let words = "too many sessions without a message from [192.0.2.1]: further ones this minute \
         will be counted, not logged";
        assert_eq!(sessions(&quota, "192.0.2.1", 10), (7, vec![words.to_owned()]));
        assert_eq!(sessions(&quota, "192.0.2.2", 3), (0, vec![]));
        assert_eq!(quota.end_window(), ["sessions without a message, not logged: 7 from [192.0.2.1]"]);
        assert_eq!(sessions(&quota, "192.0.2.1", 3), (0, vec![]));
        assert!(quota.end_window().is_empty());
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        let quota = SessionQuota::new(1);
        assert_eq!(sessions(&quota, "2001:db8::1", 1).0, 0);
        assert_eq!(sessions(&quota, "2001:db8::ffff", 2).0, 2);
        assert_eq!(sessions(&quota, "2001:db8:0:1::1", 1).0, 0);
        let line = "sessions without a message, not logged: 2 from [2001:db8::]/64";
        assert_eq!(quota.end_window(), [line]);
    }

    #[test]
    fn mail_is_always_logged_and_costs_no_place() {
        let quota = SessionQuota::new(1);
        for _ in 0..10 {
            let (quota_guard, _) = quota.begin(address("192.0.2.1"), 0);
            assert!(!quota_guard.is_silent() && !quota_guard.has_message());
        }
        let (_idle, _) = quota.begin(address("192.0.2.1"), 0);
        let (quota_guard, said) = quota.begin(address("192.0.2.1"), 0);
        assert!(quota_guard.is_silent() && said.is_some());
        assert!(quota_guard.has_message() && !quota_guard.is_silent());
        assert!(quota.end_window().is_empty(), "nothing was left out in the end");
    }

    #[test]
    fn very_many_clients_share_what_there_is() {
        let quota = SessionQuota::new(2);
        let mut said = Vec::new();
        let mut silent = 0_u64;
        for client in 0..5000_u32 {
            let (quota_guard, text) = quota.begin(Some(std::net::Ipv4Addr::from_bits(client).into()), 0);
            said.extend(text);
            silent += u64::from(quota_guard.is_silent());
        }
        assert_eq!((silent, said.len()), (4980, 1), "{said:?}");
        let lines = quota.end_window();
        assert_eq!(lines.len(), CLIENTS_NAMED_MAX + 1, "{lines:?}");
        let of = |line: &String| line.split_whitespace().nth(6).unwrap().parse::<u64>().unwrap();
        assert_eq!(lines.iter().map(of).sum::<u64>(), 4980);
        assert!(quota.window().clients.len() <= CLIENTS_MAX);
    }

    #[test]
    fn without_a_limit_nobody_is_silent() {
        let quota = SessionQuota::new(0);
        assert_eq!(sessions(&quota, "192.0.2.1", 1000), (0, vec![]));
        assert!(!quota.begin(None, 0).0.has_message());
        assert!(quota.end_window().is_empty());
    }

    /// Beyond the greatest number, those that are known keep their own count.
    #[test]
    fn known_clients_keep_their_count_when_there_are_too_many() {
        let quota = SessionQuota::new(1000);
        let client = |number: u32| Some(IpAddr::from(std::net::Ipv4Addr::from_bits(number)));
        for number in 0..1100 {
            assert!(!quota.begin(client(number), 0).0.is_silent());
        }
        assert_eq!(quota.window().clients.len(), CLIENTS_MAX);
        assert_eq!(quota.window().others_together.logged, 100);
        for _ in 0..999 {
            assert!(!quota.begin(client(5), 0).0.is_silent(), "it has a thousand places of its own");
        }
        assert!(quota.begin(client(5), 0).0.is_silent());
        assert!(!quota.begin(client(6), 0).0.is_silent());
        assert_eq!(quota.end_window(), ["sessions without a message, not logged: 1 from [0.0.0.5]"]);
    }

    #[test]
    fn all_clients_together_have_ten_times_the_places_of_one() {
        let quota = SessionQuota::new(2);
        for client in 1..=10 {
            assert_eq!(sessions(&quota, &format!("192.0.2.{client}"), 2), (0, vec![]));
        }
        let words = "too many sessions without a message from all clients: further ones this minute \
         will be counted, not logged";
        assert_eq!(sessions(&quota, "192.0.2.11", 1), (1, vec![words.to_owned()]));
        assert_eq!(sessions(&quota, "192.0.2.12", 2), (2, vec![]));
        assert_eq!(
            quota.end_window(),
            [
                "sessions without a message, not logged: 2 from [192.0.2.12]",
                "sessions without a message, not logged: 1 from [192.0.2.11]"
            ]
        );
    }

    /// A message frees the place of its session for another.
    #[test]
    fn a_message_gives_back_the_place_of_all_clients_too() {
        let quota = SessionQuota::new(1);
        let voices: Vec<_> =
            (1..=10).map(|client| quota.begin(address(&format!("192.0.2.{client}")), 0).0).collect();
        assert!(voices.iter().all(|quota_guard| !quota_guard.is_silent()));
        let (silent, _) = quota.begin(address("192.0.2.11"), 0);
        assert!(silent.is_silent());
        assert!(!voices[0].has_message());
        assert!(!quota.begin(address("192.0.2.12"), 0).0.is_silent());
        assert!(quota.begin(address("192.0.2.13"), 0).0.is_silent());
        assert!(silent.has_message() && !silent.is_silent());
        let line = "sessions without a message, not logged: 1 from [192.0.2.13]";
        assert_eq!(quota.end_window(), [line]);
    }

    /// Those of other processes, and of one that is gone.
    /// Those of other processes, and of one that is gone.
    #[test]
    fn places_are_those_of_all_processes() {
        let quota = SessionQuota::new(10);
        let [first, second] = [60, 120].map(|seconds| quota.minute(seconds));
        quota.hear(first, 7, [(address("192.0.2.1"), 7)].into_iter().collect());
        let logged = |quota: &SessionQuota, client, seconds| {
            (0..20).filter(|_| !quota.begin(address(client), seconds).0.is_silent()).count()
        };
        assert_eq!((logged(&quota, "192.0.2.1", 60), logged(&quota, "192.0.2.2", 60)), (3, 10));
        let told = (13, [(address("192.0.2.1"), 3), (address("192.0.2.2"), 10)].into_iter().collect());
        assert_eq!((quota.counts(first), quota.counts(second)), (told, (0, HashMap::new())));
        assert_eq!(logged(&quota, "192.0.2.1", 120), 10, "the next minute");
        let quota = SessionQuota::new(10);
        quota.adopt(first, 10, [(address("192.0.2.1"), 10)].into_iter(), 120);
        quota.adopt(second, 8, [(address("192.0.2.1"), 8)].into_iter(), 120);
        assert_eq!(logged(&quota, "192.0.2.1", 120), 2);
        quota.hear(second, 89, HashMap::new());
        assert_eq!(logged(&quota, "192.0.2.2", 120), 1, "of all clients together");
    }

    #[test]
    fn clients_without_an_address_are_one() {
        let quota = SessionQuota::new(1);
        assert!(!quota.begin(None, 0).0.is_silent());
        let (quota_guard, said) = quota.begin(None, 0);
        assert!(quota_guard.is_silent() && said.is_some_and(|text| text.contains(" from local clients: ")));
        assert_eq!(quota.end_window(), ["sessions without a message, not logged: 1 from local clients"]);
    }
}
