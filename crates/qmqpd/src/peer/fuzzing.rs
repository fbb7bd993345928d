//! Doors for the fuzz targets; built for them alone.

use std::net::IpAddr;

use hickory_resolver::proto::op::Message;
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use super::hosts::Hosts;
use super::name::{self, Answer, PeerName};
use super::{dns, hostname};

/// Whether a resolv.conf names a name server.
#[must_use]
pub fn names_a_server(resolv_conf: &[u8]) -> bool {
    dns::names_a_server(Some(resolv_conf))
}

/// The name that one message gives to a client, when it contains all answers about it; `None` if it is not a message.
#[must_use]
pub fn name_in_response(message: &[u8], client: IpAddr) -> Option<PeerName> {
    let message = Message::from_vec(message).ok()?;
    let (_, records) = dns::follow(&message.answers, &Name::from(client), RecordType::PTR, &mut None);
    let pointer = records.iter().find_map(|data| match data {
        RData::PTR(pointer) => Some(hostname::from_labels(pointer.0.iter())),
        _ => None,
    });
    let host = match name::claimed(pointer.map_or(Answer::NoName, Answer::Found)) {
        Ok(host) => host,
        Err(outcome) => return Some(outcome),
    };
    let full = Name::from_labels(host.split('.').map(str::as_bytes)).ok()?;
    let (_, records) = dns::follow(&message.answers, &full, RecordType::A, &mut None);
    let addresses = records.iter().filter_map(RData::ip_addr).collect();
    Some(name::verified(host, client, &Answer::Found(addresses)))
}

/// The name that a hosts file gives to a client.
#[must_use]
pub fn name_in_hosts(text: &[u8], client: IpAddr) -> Option<PeerName> {
    let hosts = Hosts::parse(text);
    let claimed = name::claimed(Answer::Found(hosts.name(client).map(<[u8]>::to_vec)));
    let host = match claimed {
        Ok(host) => host,
        Err(outcome) => return Some(outcome),
    };
    let addresses = Answer::Found(hosts.addresses(&host, client));
    Some(name::verified(host, client, &addresses))
}

/// The full names to ask for when a client claims this one, under a resolv.conf; `None` if it is not a host name, or no server is to
/// be asked.
#[must_use]
pub fn names_to_ask(host: &[u8], resolv_conf: &[u8]) -> Option<Vec<String>> {
    let host = hostname::check(host).ok()?;
    let (config, options) = dns::parse(resolv_conf)?;
    let names = dns::candidates(&host, options.ndots, config.search());
    Some(names.iter().map(Name::to_string).collect())
}
