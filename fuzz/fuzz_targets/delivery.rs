//! What decides where mail goes and what is kept of it: addresses, next-hops, logs of reasons that another program wrote, the
//! output of commands.
#![no_main]

use std::net::IpAddr;

use delivery::exit_status::{self, CommandEnd};
use delivery::failure_log::{Action, Entry, Reader};
use delivery::nexthop;
use delivery::routing::{Directory, Domains, Key, LookupFailure, Maps, Settings, route};
use libfuzzer_sys::fuzz_target;

/// Tables whose every answer follows from the input.
struct World<'a>(&'a [u8]);

impl World<'_> {
    fn pick(&self, key: &str) -> u8 {
        let sum = key.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
        self.0.get(sum % self.0.len().max(1)).copied().unwrap_or(0)
    }
}

impl Directory for World<'_> {
    fn lists(&self, domains: Domains, domain: &str) -> Result<bool, LookupFailure> {
        match self.pick(domain) {
            255 => Err(LookupFailure { parameter: domains.parameter(), words: "broken".into() }),
            byte => Ok(byte % 5 == domains as u8),
        }
    }

    fn find(&self, maps: Maps, key: &str, _: Key) -> Result<Option<String>, LookupFailure> {
        assert_eq!(key, key.to_lowercase(), "{}", maps.parameter());
        match self.pick(key) {
            254 => Err(LookupFailure { parameter: maps.parameter(), words: "broken".into() }),
            byte @ 0..40 => Ok(Some(["t:n", "t:", ":n", ":", "error:", "DUNNO", "", "a b"][usize::from(byte % 8)].into())),
            _ => Ok(None),
        }
    }

    fn is_own_address(&self, address: IpAddr) -> bool {
        address.is_loopback()
    }
}

fn settings(flags: u8) -> Settings {
    Settings {
        hostname: "mx.example.test".into(),
        local_transport: "local:".into(),
        virtual_transport: "virtual".into(),
        relay_transport: "relay".into(),
        default_transport: "smtp".into(),
        relayhost: if flags & 1 == 0 { String::new() } else { "[gw]".into() },
        recipient_delimiter: "+-".into(),
        empty_recipient: "MAILER-DAEMON".into(),
        null_sender_key: "<>".into(),
        percent_hack: flags & 2 == 0,
        swap_bangpath: flags & 4 == 0,
        numeric_domain: flags & 8 == 0,
        min_user: flags & 16 == 0,
        parents_without_dot: flags & 32 == 0,
        shows_table_name: true,
    }
}

fn entries(pieces: &[&[u8]]) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut reader = Reader::new(Action::Delayed);
    for piece in pieces {
        reader.take(piece, |entry| found.push(entry));
    }
    found.extend(reader.finish());
    found
}

fuzz_target!(|data: &[u8]| {
    let flags = data.first().copied().unwrap_or(0);
    for address in data.split(|byte| *byte == b'\n') {
        if let Ok(route) = route(b"s@x", address, &settings(flags), &World(data)) {
            let has_domain = route.recipient.rsplit_once('@').is_some_and(|(_, domain)| !domain.is_empty());
            assert!(has_domain && !route.transport.is_empty() && !route.nexthop.is_empty(), "{route:?}");
        }
        if let Ok(text) = std::str::from_utf8(address) {
            let _ = nexthop::smtp(text);
            let _ = nexthop::direct(text);
        }
    }

    let whole = entries(&[data]);
    assert_eq!(entries(&fuzz::pieces(data)), whole, "the entries depend on the split");
    for entry in whole {
        let mut text = Vec::new();
        entry.write(&mut text);
        let again = entries(&[&text]);
        assert_eq!(again.len(), 1, "{entry:?}");
        assert_eq!((again[0].offset, again[0].status, again[0].action), (entry.offset, entry.status, entry.action));
    }

    let outcome = exit_status::outcome("prog", "/bin/prog", CommandEnd::Exited(i32::from(flags)), data);
    assert!(outcome.reason.is_ascii() && !outcome.reason.contains(['\r', '\n']));
});
