//! Entry points for the fuzz targets; compiled for them only.

use std::sync::Arc;

use super::super::clients::{Capacity, Clients, Limits};
use super::minute::Minute;
use super::region::Report;
use super::sums::Others;

/// What is read of a region, written anew; `None` if it makes no sense.
#[must_use]
pub fn read_region(bytes: &[u8]) -> Option<Vec<u8>> {
    Some(Report::decode(bytes)?.encode())
}

/// Counts what a region has as a process does that finds it free, in the time unit of each client. How many of its clients
/// there are, and how many are remembered.
#[must_use]
pub fn adopt_region(bytes: &[u8]) -> Option<(usize, usize)> {
    let report = Report::decode(bytes)?;
    let limits =
        Limits { connections: 1, connection_rate: 1, message_rate: 1, recipient_rate: 1, time_unit: 1 };
    let clients = Clients::new(limits, Capacity { of_process: 1, processes_max: Some(1) }, Arc::default());
    for (_, counts) in &report.clients {
        clients.adopt(&report.clients, counts.window);
    }
    Some((report.clients.len(), clients.counts(0, [].into()).len()))
}

/// What regions come to in the time of the first client of the first one: processes, those that take clients, free places,
/// logged sessions; and of all clients together connections, sessions, new connections, messages, recipients, logged sessions.
#[must_use]
pub fn sum_of_regions(regions: &[Vec<u8>], window: u64, minute: u64, phase: u32) -> [u64; 10] {
    let reports: Vec<Report> = regions.iter().filter_map(|region| Report::decode(region)).collect();
    let others = Others::sum(reports.iter(), window, Minute { number: minute, phase });
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let mut sums = [0_u64; 10];
    let all = [number(others.processes), number(others.accepting), number(others.free_places), others.logged];
    let clients = others.clients.values().map(|sum| {
        [sum.connections, number(sum.sessions), sum.new_connections, sum.messages, sum.recipients, sum.logged]
    });
    for (sum, value) in sums.iter_mut().zip(all) {
        *sum = value;
    }
    for client in clients {
        for (sum, value) in sums.iter_mut().skip(all.len()).zip(client) {
            *sum = sum.saturating_add(value);
        }
    }
    sums
}
