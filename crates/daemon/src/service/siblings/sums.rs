//! What the reports of the other processes come to, and who has to end. Decisions about values, without a file or a clock.

use std::collections::HashMap;
use std::net::IpAddr;

use super::minute::Minute;
use super::region::{CLIENTS_MAX, Counts, Report};

/// What all other processes of the service have told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Others {
    /// How many there are.
    pub(crate) processes: usize,
    /// How many of these take clients.
    pub(crate) accepting: usize,
    /// The places that are free in those that take clients.
    pub(crate) free_places: usize,
    /// Sessions without a message that were logged in this minute.
    pub(crate) logged: u64,
    /// What each client takes; sessions only where clients are taken.
    pub(crate) clients: HashMap<Option<IpAddr>, Sum>,
}

/// What one client takes in all other processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) connections: u64,
    pub(crate) sessions: usize,
    pub(crate) window: u64,
    pub(crate) new_connections: u64,
    pub(crate) messages: u64,
    pub(crate) recipients: u64,
    pub(crate) logged: u64,
}

impl Others {
    /// Adds up. Of other time units than `window`, and other minutes than `minute`, nothing counts.
    pub(super) fn sum<'r>(reports: impl Iterator<Item = &'r Report>, window: u64, minute: Minute) -> Self {
        let mut others = Self::default();
        for report in reports {
            others.add(report, window, minute);
        }
        others
    }

    fn add(&mut self, report: &Report, window: u64, minute: Minute) {
        self.processes = self.processes.saturating_add(1);
        let accepts = report.draining_since.is_none();
        if accepts {
            self.accepting = self.accepting.saturating_add(1);
            let free_places = usize::try_from(report.free_places).unwrap_or(usize::MAX);
            self.free_places = self.free_places.saturating_add(free_places);
        }
        let is_this_minute = report.minute == minute;
        if is_this_minute {
            self.logged = self.logged.saturating_add(report.logged.into());
        }
        for (client, counts) in &report.clients {
            let sum = self.clients.entry(*client).or_default();
            sum.window = window;
            sum.connections = sum.connections.saturating_add(counts.connections.into());
            if accepts {
                let sessions = usize::try_from(counts.sessions).unwrap_or(usize::MAX);
                sum.sessions = sum.sessions.saturating_add(sessions);
            }
            if counts.window == window {
                sum.new_connections = sum.new_connections.saturating_add(counts.new_connections.into());
                sum.messages = sum.messages.saturating_add(counts.messages.into());
                sum.recipients = sum.recipients.saturating_add(counts.recipients);
            }
            if is_this_minute {
                sum.logged = sum.logged.saturating_add(counts.logged.into());
            }
        }
    }

    /// The clients of whom sessions were logged.
    pub(super) fn logged_of(&self) -> HashMap<Option<IpAddr>, u64> {
        let logged = self.clients.iter().map(|(client, sum)| (*client, sum.logged));
        logged.filter(|(_, logged)| *logged > 0).collect()
    }

    /// What a client takes there.
    pub(crate) fn of(&self, client: Option<IpAddr>) -> Sum {
        self.clients.get(&client).copied().unwrap_or_default()
    }
}

/// Of the clients of a process those that are told to the others: those that take most.
pub(super) fn greatest(mut clients: Vec<(Option<IpAddr>, Counts)>) -> Vec<(Option<IpAddr>, Counts)> {
    let weight = |counts: &Counts| {
        [counts.connections, counts.sessions, counts.new_connections, counts.messages, counts.logged]
            .map(u64::from)
            .into_iter()
            .fold(counts.recipients, u64::saturating_add)
    };
    if clients.len() > CLIENTS_MAX {
        clients.select_nth_unstable_by_key(CLIENTS_MAX, |(_, counts)| std::cmp::Reverse(weight(counts)));
        clients.truncate(CLIENTS_MAX);
    }
    clients
}

/// Whether a process that finishes its sessions has to cut them: so many have begun to finish theirs after it. `own` and `others` are
/// since when, and in which region, for each.
pub(super) fn has_to_end(
    own: (u64, usize),
    others: impl Iterator<Item = (u64, usize)>,
    limit: usize,
) -> bool {
    others.filter(|other| *other > own).count() >= limit
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::region::tests::report;
    use super::*;

    proptest! {
        /// Whatever others say, the order in which they are read does not matter, and nothing is less with one more.
        #[test]
        fn sums_only_grow(mut reports in vec(report(), 0..5), one in report(), window: u64, number: u64, phase: u32) {
            let minute = Minute { number, phase };
            let before = Others::sum(reports.iter(), window, minute);
            reports.push(one);
            let after = Others::sum(reports.iter(), window, minute);
            prop_assert_eq!(&after, &Others::sum(reports.iter().rev(), window, minute));
            prop_assert!(after.logged >= before.logged && after.free_places >= before.free_places);
            for (client, sum) in &before.clients {
                let now = after.of(*client);
                prop_assert!(now.connections >= sum.connections && now.recipients >= sum.recipients);
                prop_assert!(now.sessions >= sum.sessions && now.logged >= sum.logged);
            }
        }

        /// Of those that finish their sessions exactly so many may stay, and they are the youngest.
        #[test]
        fn the_oldest_end(since in vec(0_u64..5, 1..20), limit in 0_usize..10) {
            let all: Vec<_> = since.iter().copied().zip(0..).collect();
            let ends = |own: (u64, usize)| {
                has_to_end(own, all.iter().copied().filter(|other| *other != own), limit)
            };
            let (end, stay): (Vec<_>, Vec<_>) = all.iter().copied().partition(|own| ends(*own));
            prop_assert_eq!(stay.len(), limit.min(all.len()));
            prop_assert!(end.iter().max() < stay.iter().min() || end.is_empty() || stay.is_empty());
        }
    }

    #[test]
    fn other_times_count_for_nothing_and_who_drains_has_no_places() {
        let client = Some("192.0.2.1".parse().unwrap());
        let counts = Counts {
            connections: 1,
            sessions: 2,
            window: 7,
            new_connections: 3,
            messages: 4,
            recipients: 5,
            logged: 6,
        };
        let report = Report {
            free_places: 9,
            minute: Minute { number: 8, phase: 0 },
            logged: 6,
            clients: vec![(client, counts)],
            ..Report::default()
        };
        let old = Report { draining_since: Some(1), ..report.clone() };
        let others = Others::sum([&report, &old].into_iter(), 7, report.minute);
        assert_eq!((others.processes, others.accepting, others.free_places, others.logged), (2, 1, 9, 12));
        let sum = others.of(client);
        assert_eq!((sum.connections, sum.sessions, sum.new_connections), (2, 2, 6));
        assert_eq!((sum.messages, sum.recipients, sum.logged), (8, 10, 12));
        let later = Others::sum([&report].into_iter(), 8, Minute { phase: 1, ..report.minute });
        assert_eq!(later.of(client), Sum { connections: 1, sessions: 2, window: 8, ..Sum::default() });
        assert_eq!((later.logged, later.of(None)), (0, Sum::default()));
    }

    #[test]
    fn who_takes_most_is_told_of() {
        let client = |number: u32| Some(IpAddr::from(number.to_be_bytes()));
        let all =
            (0..1000).map(|number| (client(number), Counts { connections: number, ..Counts::default() }));
        let told = greatest(all.collect());
        assert_eq!(told.len(), CLIENTS_MAX);
        assert!(told.iter().all(|(_, counts)| counts.connections >= 1000 - CLIENTS_MAX as u32));
    }
}
