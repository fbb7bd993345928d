//! What a process tells the others of its service, as bytes: all numbers little-endian, the rest zeros.
//!
//! | bytes | what |
//! |---|---|
//! | 0–7 | `qmqpdct1` |
//! | 8–11 | CRC-32 of what follows, up to the last client: two processes may read and write at the same time |
//! | 12–15 | how many clients follow |
//! | 16–23 | since when it takes no client any more, in milliseconds of this boot; 0: it does |
//! | 24–27 | places that are free |
//! | 28–31 | sessions without a message that it has logged in the minute of 32–39 |
//! | 32–39 | which minute, since 1970 |
//! | 40–43 | how many seconds after that of the clock it began |
//! | 44–47 | log lines that were lost, and of which the log does not say so |
//! | 64–127, 128–191, … | a client each |
//!
//! A client: family (0, 4 or 6) at 0, address at 8–23, connections 24–27, sessions 28–31; which time unit since 1970 at 32–39,
//! and in it connections 40–43, messages 44–47, recipients 48–55; sessions logged in the minute 56–59.
//!
//! Another process may have been taken over: nothing here trusts a byte.

use std::net::IpAddr;

use super::minute::Minute;

/// How many bytes of the file belong to one process.
pub(super) const REGION_BYTES: usize = 16 * 1024;

const HEADER_BYTES: usize = 64;
const CLIENT_BYTES: usize = 64;

/// Of more clients a process tells only of those that take most.
pub(super) const CLIENTS_MAX: usize = (REGION_BYTES - HEADER_BYTES) / CLIENT_BYTES;

const MAGIC: [u8; 8] = *b"qmqpdct1";

/// Behind the checksum.
const SUMMED_FROM: usize = 12;

/// What one process says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Since when it only finishes its sessions, in milliseconds of this boot.
    pub(crate) draining_since: Option<u64>,
    /// For how many further clients it has room.
    pub(crate) free_places: u32,
    /// The minute of the log quota.
    pub(crate) minute: Minute,
    /// Of all clients, in that minute.
    pub(crate) logged: u32,
    /// Log lines that were lost, of which the log does not say so yet.
    pub(crate) lines_lost: u32,
    /// Those that take most.
    pub(crate) clients: Vec<(Option<IpAddr>, Counts)>,
}

/// What one client takes in one process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Connections at a time that come under limits.
    pub(crate) connections: u32,
    /// Sessions of a client that may send.
    pub(crate) sessions: u32,
    /// The time unit in which the next three are counted, since 1970.
    pub(crate) window: u64,
    /// Connections that come under limits.
    pub(crate) new_connections: u32,
    /// Messages.
    pub(crate) messages: u32,
    /// Recipients.
    pub(crate) recipients: u64,
    /// Sessions without a message that were logged in the minute of the report.
    pub(crate) logged: u32,
}

impl Counts {
    /// Whether there is something in it that was counted within the time unit.
    pub(crate) const fn is_rated(&self) -> bool {
        self.new_connections > 0 || self.messages > 0 || self.recipients > 0
    }
}

impl Report {
    /// The bytes, at most [`REGION_BYTES`]; clients beyond [`CLIENTS_MAX`] are left out.
    pub(super) fn encode(&self) -> Vec<u8> {
        let count = self.clients.len().min(CLIENTS_MAX);
        let mut bytes = Vec::with_capacity(REGION_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&u32::try_from(count).unwrap_or(0).to_le_bytes());
        // Nothing began to drain in the first millisecond of a machine.
        bytes.extend_from_slice(&self.draining_since.map_or(0, |since| since.max(1)).to_le_bytes());
        bytes.extend_from_slice(&self.free_places.to_le_bytes());
        bytes.extend_from_slice(&self.logged.to_le_bytes());
        bytes.extend_from_slice(&self.minute.number.to_le_bytes());
        bytes.extend_from_slice(&self.minute.phase.to_le_bytes());
        bytes.extend_from_slice(&self.lines_lost.to_le_bytes());
        bytes.resize(HEADER_BYTES, 0);
        for (client, counts) in self.clients.iter().take(count) {
            encode_client(*client, counts, &mut bytes);
        }
        let checksum = crc32fast::hash(bytes.get(SUMMED_FROM..).unwrap_or_default());
        if let Some(place) = bytes.get_mut(8..SUMMED_FROM) {
            place.copy_from_slice(&checksum.to_le_bytes());
        }
        bytes
    }

    /// `None`: these bytes were never written by one process, or are just being written.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.get(..8)? != MAGIC {
            return None;
        }
        let count = usize::try_from(u32_at(bytes, 12)?).ok().filter(|count| *count <= CLIENTS_MAX)?;
        let end = HEADER_BYTES.checked_add(count.checked_mul(CLIENT_BYTES)?)?;
        if crc32fast::hash(bytes.get(SUMMED_FROM..end)?) != u32_at(bytes, 8)? {
            return None;
        }
        let clients = bytes.get(HEADER_BYTES..end)?.chunks_exact(CLIENT_BYTES).map(decode_client);
        Some(Self {
            draining_since: Some(u64_at(bytes, 16)?).filter(|since| *since > 0),
            free_places: u32_at(bytes, 24)?,
            logged: u32_at(bytes, 28)?,
            minute: Minute { number: u64_at(bytes, 32)?, phase: u32_at(bytes, 40)? },
            lines_lost: u32_at(bytes, 44)?,
            clients: clients.collect::<Option<_>>()?,
        })
    }
}

fn encode_client(client: Option<IpAddr>, counts: &Counts, bytes: &mut Vec<u8>) {
    let (family, address) = match client {
        None => (0_u64, [0; 16]),
        Some(IpAddr::V4(address)) => (4, address.to_ipv6_mapped().octets()),
        Some(IpAddr::V6(address)) => (6, address.octets()),
    };
    bytes.extend_from_slice(&family.to_le_bytes());
    bytes.extend_from_slice(&address);
    bytes.extend_from_slice(&counts.connections.to_le_bytes());
    bytes.extend_from_slice(&counts.sessions.to_le_bytes());
    bytes.extend_from_slice(&counts.window.to_le_bytes());
    bytes.extend_from_slice(&counts.new_connections.to_le_bytes());
    bytes.extend_from_slice(&counts.messages.to_le_bytes());
    bytes.extend_from_slice(&counts.recipients.to_le_bytes());
    bytes.extend_from_slice(&counts.logged.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
}

fn decode_client(bytes: &[u8]) -> Option<(Option<IpAddr>, Counts)> {
    let octets: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
    let address = std::net::Ipv6Addr::from(octets);
    let client = match u64_at(bytes, 0)? {
        0 => None,
        4 => Some(IpAddr::V4(address.to_ipv4_mapped()?)),
        6 => Some(IpAddr::V6(address)),
        _ => return None,
    };
    let counts = Counts {
        connections: u32_at(bytes, 24)?,
        sessions: u32_at(bytes, 28)?,
        window: u64_at(bytes, 32)?,
        new_connections: u32_at(bytes, 40)?,
        messages: u32_at(bytes, 44)?,
        recipients: u64_at(bytes, 48)?,
        logged: u32_at(bytes, 56)?,
    };
    Some((client, counts))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(field.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(field.try_into().ok()?))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn client() -> impl Strategy<Value = Option<IpAddr>> {
        prop_oneof![
            Just(None),
            any::<[u8; 4]>().prop_map(|octets| Some(octets.into())),
            any::<[u8; 16]>().prop_map(|octets| Some(octets.into())),
        ]
    }

    fn counts() -> impl Strategy<Value = Counts> {
        let parts = (any::<[u32; 5]>(), any::<[u64; 2]>());
        parts.prop_map(
            |([connections, sessions, new_connections, messages, logged], [window, recipients])| Counts {
                connections,
                sessions,
                window,
                new_connections,
                messages,
                recipients,
                logged,
            },
        )
    }

    pub(crate) fn report() -> impl Strategy<Value = Report> {
        let draining_since = prop_oneof![Just(None), (1..u64::MAX).prop_map(Some)];
        (draining_since, any::<(u32, u64, u32, u32, u32)>(), vec((client(), counts()), 0..20)).prop_map(
            |(draining_since, (free_places, number, phase, logged, lines_lost), clients)| Report {
                draining_since,
                free_places,
                minute: Minute { number, phase },
                logged,
                lines_lost,
                clients,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(report in report(), rest in vec(any::<u8>(), 0..200)) {
            let mut bytes = report.encode();
            bytes.extend_from_slice(&rest);
            prop_assert_eq!(Report::decode(&bytes), Some(report));
        }

        #[test]
        fn any_bytes_are_read_or_not(bytes in vec(any::<u8>(), 0..400)) {
            prop_assert_eq!(Report::decode(&bytes), None);
        }

        /// With a checksum that is right, as another process can make it, too.
        #[test]
        fn hostile_bytes_are_read_or_not(body in vec(any::<u8>(), 52..300), count in 0_u32..6) {
            let mut bytes = MAGIC.to_vec();
            bytes.extend_from_slice(&[0; 4]);
            bytes.extend_from_slice(&count.to_le_bytes());
            bytes.extend_from_slice(&body);
            let end = (HEADER_BYTES + count as usize * CLIENT_BYTES).min(bytes.len());
            let checksum = crc32fast::hash(&bytes[SUMMED_FROM..end]);
            bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
            if let Some(report) = Report::decode(&bytes) {
                prop_assert_eq!(report.clients.len(), count as usize);
            }
        }

        /// Half of the old and half of the new bytes.
        #[test]
        fn a_report_that_is_just_being_written_is_none(old in report(), new in report(), at in 0_usize..2000) {
            prop_assume!(old != new);
            let (old, new) = (old.encode(), new.encode());
            let mut torn = new.get(..at).unwrap_or(&new).to_vec();
            torn.extend_from_slice(old.get(torn.len()..).unwrap_or_default());
            let read = Report::decode(&torn).map(|report| report.encode());
            prop_assert!(read.is_none() || read.as_ref() == Some(&old) || read == Some(new));
        }
    }

    #[test]
    fn a_region_holds_so_many_clients_and_no_more() {
        let many = (0..1000_u32).map(|number| (Some(number.to_be_bytes().into()), Counts::default()));
        let bytes = Report { clients: many.collect(), ..Report::default() }.encode();
        assert_eq!(bytes.len(), REGION_BYTES);
        assert_eq!(Report::decode(&bytes).unwrap().clients.len(), CLIENTS_MAX);
        let mut too_many = bytes;
        too_many[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Report::decode(&too_many), None);
        assert_eq!(Report::decode(&[]), None);
        assert_eq!(Report::decode(&[0; REGION_BYTES]), None);
    }
}
