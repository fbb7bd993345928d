//! What each client takes: how many places, how many connections and how much mail within a time.
//!
//! A client is an IPv4 address or an IPv6 network of 64 bits, whose owner has all its addresses. Clients without an internet
//! address are one. Nothing here waits, and the one lock is held for a few additions; and for a look at all clients when other
//! processes are told of them. What these have told (`siblings`) is added to what is counted here.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use postfix::settings::Settings;

use super::siblings::{Changes, Counts, Others, Sum};

/// The limits of one client; zero is no limit. Names and meaning as those of Postfix's smtpd(8) and anvil(8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// `qmqpd_client_connection_count_limit`: connections at a time.
    pub connections: u64,
    /// `qmqpd_client_connection_rate_limit`: connections within the time unit.
    pub connection_rate: u64,
    /// `qmqpd_client_message_rate_limit`: messages within the time unit, accepted or not.
    pub message_rate: u64,
    /// `qmqpd_client_recipient_rate_limit`: recipients within the time unit, accepted or not.
    pub recipient_rate: u64,
    /// `anvil_rate_time_unit`, in seconds.
    pub time_unit: u64,
}

impl Limits {
    /// Those of main.cf.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let limit = |value: i64| u64::try_from(value).unwrap_or(0);
        Self {
            connections: limit(settings.qmqpd_client_connection_count_limit),
            connection_rate: limit(settings.qmqpd_client_connection_rate_limit),
            message_rate: limit(settings.qmqpd_client_message_rate_limit),
            recipient_rate: limit(settings.qmqpd_client_recipient_rate_limit),
            time_unit: settings.anvil_rate_time_unit.as_secs().max(1),
        }
    }

    /// Whether messages or recipients are counted.
    #[must_use]
    pub const fn are_about_mail(&self) -> bool {
        self.message_rate > 0 || self.recipient_rate > 0
    }
}

/// Which limit a client is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Connections at a time.
    Connections,
    /// Connections within the time unit.
    ConnectionRate,
    /// Messages within the time unit.
    MessageRate,
    /// Recipients within the time unit.
    RecipientRate,
    /// One message has more recipients than may come within the time unit.
    RecipientsOfMessage,
}

/// A client is over a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Excess {
    /// Which.
    pub limit: Limit,
    /// How many there are.
    pub figure: u64,
    /// How many there may be.
    pub most: u64,
}

/// The clients of a service process.
#[derive(Debug)]
pub struct Clients {
    limits: Limits,
    /// Sessions of which it is not known yet whether they may send.
    guests_max: usize,
    capacity: Capacity,
    changes: Arc<Changes>,
    state: Mutex<ClientCounts>,
}

/// How many clients a service can take.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// By one process.
    pub of_process: usize,
    /// How many processes may take clients at the same time; `None` is any number, and then they are not shared out.
    pub processes_max: Option<usize>,
}

#[derive(Debug, Default)]
struct ClientCounts {
    guests: usize,
    tallies: HashMap<Option<IpAddr>, Tally>,
    others: Others,
}

/// What one client takes.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    guests: usize,
    sessions: usize,
    connections: u64,
    /// The time unit in which the rest is counted, since 1970.
    window: u64,
    new_connections: u64,
    messages: u64,
    recipients: u64,
}

/// One more of something that a client takes, until it is dropped.
#[derive(Debug)]
pub struct Held<'c> {
    clients: &'c Clients,
    client: Option<IpAddr>,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Guest,
    Session,
    Connection,
}

impl Clients {
    /// For a process of a service with this capacity.
    #[must_use]
    pub fn new(limits: Limits, capacity: Capacity, changes: Arc<Changes>) -> Self {
        let guests_max = capacity.of_process.checked_div(2).unwrap_or(0).max(1);
        Self { limits, guests_max, capacity, changes, state: Mutex::default() }
    }

    /// The limits.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// For a session that has to wait before it is known whether its client may send: half of the places are for such, and of
    /// these, half for one client. `None` if there is no more room.
    pub fn guest(&self, client: Option<IpAddr>) -> Option<Held<'_>> {
        let mut state = self.state();
        let own = state.tallies.get(&client).map_or(0, |tally| tally.guests);
        let own_max = self.guests_max.checked_div(2).unwrap_or(0).max(1);
        if state.guests >= self.guests_max || own >= own_max {
            return None;
        }
        state.guests = state.guests.saturating_add(1);
        let tally = state.tallies.entry(client).or_default();
        tally.guests = tally.guests.saturating_add(1);
        Some(Held { clients: self, client, what: What::Guest })
    }

    /// For a session whose client may send, and which holds a place while so many others are free in this process. A client may
    /// have `SHARE_FACTOR` times as many places of the service as are free: some always are, for those who have few. `None` if
    /// it has its share.
    pub fn session(&self, client: Option<IpAddr>, free_places: usize) -> Option<Held<'_>> {
        let mut state = self.state();
        let others = state.others.of(client);
        // Its own place was free before.
        let share =
            state.free_places(free_places, self.capacity).saturating_add(1).saturating_mul(SHARE_FACTOR);
        let tally = state.tallies.entry(client).or_default();
        let sessions = tally.sessions.saturating_add(others.sessions);
        if self.capacity.processes_max.is_some() && sessions > share {
            return None;
        }
        tally.sessions = tally.sessions.saturating_add(1);
        self.note(&state, sessions as u64, share as u64);
        Some(Held { clients: self, client, what: What::Session })
    }

    /// Counts a connection, and says whether it is one too many.
    pub fn connection(&self, client: Option<IpAddr>, seconds: u64) -> (Held<'_>, Option<Excess>) {
        let mut state = self.state();
        let Limits { connections, connection_rate, .. } = self.limits;
        let window = self.window(seconds);
        let others = state.others_of(client, window);
        let tally = state.tally(client, window);
        tally.connections = tally.connections.saturating_add(1);
        tally.new_connections = tally.new_connections.saturating_add(1);
        let now = tally.connections.saturating_add(others.connections);
        let new = tally.new_connections.saturating_add(others.new_connections);
        self.note(&state, now, connections);
        self.note(&state, new, connection_rate);
        let excess = excess(Limit::Connections, now, connections)
            .or_else(|| excess(Limit::ConnectionRate, new, connection_rate));
        (Held { clients: self, client, what: What::Connection }, excess)
    }

    /// Counts a message, and says whether it is one too many.
    pub fn message(&self, client: Option<IpAddr>, seconds: u64) -> Option<Excess> {
        let mut state = self.state();
        let window = self.window(seconds);
        let others = state.others_of(client, window);
        let tally = state.tally(client, window);
        tally.messages = tally.messages.saturating_add(1);
        let messages = tally.messages.saturating_add(others.messages);
        self.note(&state, messages, self.limits.message_rate);
        excess(Limit::MessageRate, messages, self.limits.message_rate)
    }

    /// Counts the recipients of a message, and says whether they are too many.
    pub fn recipients(&self, client: Option<IpAddr>, count: u64, seconds: u64) -> Option<Excess> {
        let mut state = self.state();
        let window = self.window(seconds);
        let others = state.others_of(client, window);
        let tally = state.tally(client, window);
        tally.recipients = tally.recipients.saturating_add(count);
        let recipients = tally.recipients.saturating_add(others.recipients);
        self.note(&state, recipients, self.limits.recipient_rate);
        excess(Limit::RecipientRate, recipients, self.limits.recipient_rate)
    }

    /// What the other processes of the service have told.
    pub(super) fn hear(&self, others: Others) {
        let before = std::mem::replace(&mut self.state().others, others);
        // Not under the lock: there may be many.
        drop(before);
    }

    /// What there is to tell them of this time unit. `logged` is how many sessions of each client were logged.
    pub(super) fn counts(
        &self,
        window: u64,
        mut logged: HashMap<Option<IpAddr>, u32>,
    ) -> Vec<(Option<IpAddr>, Counts)> {
        let state = self.state();
        let tallies = state.tallies.iter().map(|(client, tally)| {
            (*client, Counts { logged: logged.remove(client).unwrap_or(0), ..tally.counts(window) })
        });
        let mut counts: Vec<_> = tallies.filter(|(_, counts)| *counts != Counts::default()).collect();
        drop(state);
        counts.extend(
            logged.into_iter().map(|(client, logged)| (client, Counts { logged, ..Counts::default() })),
        );
        counts
    }

    /// Counts what a process that is gone has counted in the time unit that is not over.
    pub(super) fn adopt(&self, counts: &[(Option<IpAddr>, Counts)], seconds: u64) {
        let window = self.window(seconds);
        let mut state = self.state();
        for (client, counts) in
            counts.iter().filter(|(_, counts)| counts.window == window && counts.is_rated())
        {
            let tally = state.tally(*client, window);
            tally.new_connections = tally.new_connections.saturating_add(counts.new_connections.into());
            tally.messages = tally.messages.saturating_add(counts.messages.into());
            tally.recipients = tally.recipients.saturating_add(counts.recipients);
        }
    }

    /// The other processes have to know; soon, if there are any, and the client comes to a quarter of what it may.
    fn note(&self, state: &ClientCounts, count: u64, limit: u64) {
        if limit > 0 && state.others.processes > 0 && count.saturating_mul(4) >= limit {
            self.changes.note_urgent();
        } else {
            self.changes.note();
        }
    }

    /// Whether a message with so many recipients can never be sent.
    pub fn too_many_at_once(&self, recipients: u64) -> Option<Excess> {
        excess(Limit::RecipientsOfMessage, recipients, self.limits.recipient_rate)
    }

    /// The time unit of this moment.
    pub const fn window(&self, seconds: u64) -> u64 {
        match seconds.checked_div(self.limits.time_unit) {
            Some(window) => window,
            None => 0,
        }
    }

    fn release(&self, client: Option<IpAddr>, what: What) {
        let mut state = self.state();
        if matches!(what, What::Guest) {
            state.guests = state.guests.saturating_sub(1);
        }
        let Some(tally) = state.tallies.get_mut(&client) else { return };
        match what {
            What::Guest => tally.guests = tally.guests.saturating_sub(1),
            What::Session => tally.sessions = tally.sessions.saturating_sub(1),
            What::Connection => tally.connections = tally.connections.saturating_sub(1),
        }
        if tally.is_over() && !self.counts_rates() {
            state.tallies.remove(&client);
        }
        if !matches!(what, What::Guest) {
            self.changes.note();
        }
    }

    /// Whether a client is remembered when it has gone.
    const fn counts_rates(&self) -> bool {
        let Limits { connection_rate, message_rate, recipient_rate, .. } = self.limits;
        connection_rate > 0 || message_rate > 0 || recipient_rate > 0
    }

    fn state(&self) -> MutexGuard<'_, ClientCounts> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientCounts {
    /// The counts of a client in this window.
    fn tally(&mut self, client: Option<IpAddr>, window: u64) -> &mut Tally {
        if self.tallies.len() >= CLIENTS_MAX && !self.tallies.contains_key(&client) {
            self.tallies.retain(|_, tally| !tally.is_over() || tally.window == window);
            if self.tallies.len() >= CLIENTS_MAX {
                self.tallies.retain(|_, tally| !tally.is_over());
            }
        }
        let tally = self.tallies.entry(client).or_default();
        if tally.window != window {
            *tally = Tally { window, new_connections: 0, messages: 0, recipients: 0, ..*tally };
        }
        tally
    }
}

impl ClientCounts {
    /// What a client takes in other processes, in this window.
    fn others_of(&self, client: Option<IpAddr>, window: u64) -> Sum {
        match self.others.of(client) {
            sum if sum.window == window => sum,
            sum => Sum { connections: sum.connections, sessions: sum.sessions, ..Sum::default() },
        }
    }

    /// How many places are free in the whole service; where that is not known, in this process.
    fn free_places(&self, own: usize, capacity: Capacity) -> usize {
        let others = &self.others;
        let not_started =
            capacity.processes_max.unwrap_or(1).saturating_sub(1).saturating_sub(others.accepting);
        own.saturating_add(others.free_places).saturating_add(not_started.saturating_mul(capacity.of_process))
    }
}

impl Tally {
    /// What other processes are told.
    fn counts(&self, window: u64) -> Counts {
        let number = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let present = Counts {
            connections: number(self.connections),
            sessions: u32::try_from(self.sessions).unwrap_or(u32::MAX),
            ..Counts::default()
        };
        if self.window != window {
            return present;
        }
        let (new_connections, messages) = (number(self.new_connections), number(self.messages));
        Counts { window, new_connections, messages, recipients: self.recipients, ..present }
    }

    /// Whether the client is gone.
    const fn is_over(&self) -> bool {
        self.guests == 0 && self.sessions == 0 && self.connections == 0
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.clients.release(self.client, self.what);
    }
}

const fn excess(limit: Limit, figure: u64, most: u64) -> Option<Excess> {
    if most > 0 && figure > most { Some(Excess { limit, figure, most }) } else { None }
}

/// A client may have so many times the places that are free.
const SHARE_FACTOR: usize = 16;

/// So many clients are remembered beyond their last connection, for their rates.
const CLIENTS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { connections: 2, connection_rate: 3, message_rate: 2, recipient_rate: 10, time_unit: 60 };

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    fn of(limits: Limits, of_process: usize) -> Clients {
        Clients::new(limits, Capacity { of_process, processes_max: Some(1) }, Arc::default())
    }

    fn over(limit: Limit, figure: u64, most: u64) -> Option<Excess> {
        Some(Excess { limit, figure, most })
    }

    #[test]
    fn connections_at_a_time_and_within_a_minute() {
        let clients = of(LIMITS, 100);
        let client = address("192.0.2.1");
        let (first, excess) = clients.connection(client, 0);
        assert_eq!(excess, None);
        let (_second, excess) = clients.connection(client, 1);
        assert_eq!(excess, None);
        assert_eq!(clients.connection(client, 2).1, over(Limit::Connections, 3, 2));
        assert_eq!(clients.connection(address("192.0.2.2"), 2).1, None, "another one");
        drop(first);
        assert_eq!(clients.connection(client, 3).1, over(Limit::ConnectionRate, 4, 3));
        assert_eq!(clients.connection(client, 60).1, None, "a minute later");
    }

    #[test]
    fn mail_within_a_minute() {
        let clients = of(LIMITS, 100);
        let client = address("192.0.2.1");
        let messages: Vec<_> = [0, 59, 59, 60].iter().map(|at| clients.message(client, *at)).collect();
        assert_eq!(messages, [None, None, over(Limit::MessageRate, 3, 2), None]);
        assert_eq!(clients.recipients(client, 9, 60), None);
        assert_eq!(clients.recipients(client, 2, 60), over(Limit::RecipientRate, 11, 10));
        assert_eq!(clients.recipients(client, 10, 120), None);
        assert_eq!(clients.too_many_at_once(10), None);
        assert_eq!(clients.too_many_at_once(11), over(Limit::RecipientsOfMessage, 11, 10));
    }

    #[test]
    fn one_client_never_has_all_places() {
        const PLACES: usize = 300;
        let clients = of(LIMITS, PLACES);
        let take = |client, held: &mut Vec<_>| {
            let free = PLACES - held.len() - 1;
            clients.session(client, free).map(|session| held.push(session)).is_some()
        };
        let mut held = Vec::new();
        while take(address("192.0.2.1"), &mut held) {}
        let free = PLACES - held.len();
        assert!((10..=30).contains(&free), "{free} places are left for others");
        for other in 0..8 {
            assert!(take(address(&format!("192.0.2.1{other}")), &mut held));
        }
        assert!(!take(address("192.0.2.1"), &mut held));
        held.clear();
        assert!(clients.state().tallies.values().all(Tally::is_over));
        let few = of(LIMITS, 2);
        let _both = [few.session(None, 1).unwrap(), few.session(None, 0).unwrap()];
    }

    /// What one other process tells, that has so many free places.
    fn others(client: Option<IpAddr>, free_places: usize, sum: Sum) -> Others {
        let clients = [(client, sum)].into_iter().collect();
        Others { processes: 1, accepting: 1, free_places, logged: 0, clients }
    }

    #[test]
    fn what_other_processes_have_counted_counts() {
        let clients = of(LIMITS, 100);
        let client = address("192.0.2.1");
        let sum = Sum {
            connections: 2,
            window: 1,
            new_connections: 2,
            messages: 2,
            recipients: 9,
            ..Sum::default()
        };
        clients.hear(others(client, 0, sum));
        assert_eq!(clients.connection(client, 60).1, over(Limit::Connections, 3, 2));
        assert_eq!(clients.connection(address("192.0.2.2"), 60).1, None, "another one");
        assert_eq!(clients.message(client, 60), over(Limit::MessageRate, 3, 2));
        assert_eq!(clients.recipients(client, 2, 60), over(Limit::RecipientRate, 11, 10));
        assert_eq!(clients.message(client, 120), None, "the next minute");
        assert_eq!(clients.connection(client, 120).1, over(Limit::Connections, 3, 2));
        clients.hear(Others::default());
        assert_eq!(clients.connection(client, 120).1, None);
        clients.hear(others(client, 0, Sum { new_connections: 2, window: 2, ..Sum::default() }));
        assert_eq!(clients.connection(client, 120).1, over(Limit::ConnectionRate, 5, 3));
    }

    #[test]
    fn what_is_told_is_adopted_by_another_process_within_the_time_unit() {
        let (old, client) = (of(LIMITS, 100), address("192.0.2.1"));
        let _connection = old.connection(client, 60);
        let _session = old.session(client, 50).unwrap();
        assert_eq!(old.message(client, 60), None);
        assert_eq!(old.recipients(client, 9, 60), None);
        let told = old.counts(1, [(client, 7), (address("192.0.2.9"), 8)].into_iter().collect());
        let own = Counts {
            connections: 1,
            sessions: 1,
            window: 1,
            new_connections: 1,
            messages: 1,
            recipients: 9,
            logged: 7,
        };
        let other = Counts { logged: 8, ..Counts::default() };
        assert_eq!(told, [(client, own), (address("192.0.2.9"), other)]);
        let new = of(LIMITS, 100);
        new.adopt(&told, 60);
        assert_eq!(new.recipients(client, 2, 60), over(Limit::RecipientRate, 11, 10));
        let adopted =
            Counts { window: 1, new_connections: 1, messages: 1, recipients: 11, ..Counts::default() };
        assert_eq!(new.counts(1, HashMap::new()), [(client, adopted)], "who is connected is not adopted");
        let late = of(LIMITS, 100);
        late.adopt(&told, 120);
        assert_eq!(late.counts(2, HashMap::new()), []);
    }

    /// As under Postfix's master(8): two processes of twenty places each.
    #[test]
    fn places_of_all_processes_are_shared_out() {
        let client = address("192.0.2.1");
        let two = Capacity { of_process: 20, processes_max: Some(2) };
        let clients = Clients::new(LIMITS, two, Arc::default());
        let mut held = Vec::new();
        // As long as another process can be started, this one can be full of it.
        for taken in 1..=20 {
            held.push(clients.session(client, 20 - taken).unwrap());
        }
        held.clear();
        clients.hear(others(client, 0, Sum { sessions: 20, ..Sum::default() }));
        let granted = (1..=20).take_while(|taken| {
            clients.session(client, 20 - taken).map(|session| held.push(session)).is_some()
        });
        let granted = granted.count();
        assert!((15..20).contains(&granted), "{granted}");
        assert!(clients.session(address("192.0.2.2"), 20 - granted - 1).is_some(), "another one");
        let any = Clients::new(LIMITS, Capacity { processes_max: None, ..two }, Arc::default());
        let all = [(); 1000].map(|()| any.session(client, 0));
        assert!(all.iter().all(Option::is_some), "there are always more processes");
    }

    #[test]
    fn guests_leave_room_for_others() {
        let clients = of(LIMITS, 100);
        let mut guests = Vec::new();
        while let Some(guest) = clients.guest(address("192.0.2.1")) {
            guests.push(guest);
        }
        assert_eq!(guests.len(), 25);
        for other in 0..25 {
            guests.push(clients.guest(address(&format!("198.51.100.{other}"))).unwrap());
        }
        assert!(clients.guest(address("203.0.113.1")).is_none(), "half of the places");
        guests.clear();
        assert!(clients.guest(address("192.0.2.1")).is_some());
    }

    #[test]
    fn very_many_clients_are_forgotten() {
        let clients = of(LIMITS, 100);
        for number in 0..3 * u32::try_from(CLIENTS_MAX).unwrap() {
            drop(clients.connection(Some(std::net::Ipv4Addr::from_bits(number).into()), 7));
        }
        assert!(clients.state().tallies.len() <= CLIENTS_MAX);
        let unlimited = Limits { connection_rate: 0, message_rate: 0, recipient_rate: 0, ..LIMITS };
        let clients = of(unlimited, 100);
        drop(clients.connection(address("192.0.2.1"), 7));
        assert!(clients.state().tallies.is_empty(), "nothing is remembered that no limit asks for");
    }
}
