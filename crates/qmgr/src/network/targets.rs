//! From a next-hop to the addresses to try.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use delivery::hosts::{self, Exchanger, MxAnswer};
use delivery::nexthop::{Nexthop, Port};
use delivery::outcome::{Outcome, Peer, status};

use super::dns::Names;
use super::settings::{Protocol, Settings};

/// The port at which mail comes in from other systems: only there can it loop back to this one.
const SMTP_PORT: u16 = 25;

/// Services that have a name and a port without services(5), which is out of sight in a jail (Postfix's
/// `known_tcp_ports`, and QMQP).
const PORTS: [(&str, u16); 6] =
    [("smtp", 25), ("lmtp", 24), ("smtps", 465), ("submissions", 465), ("submission", 587), ("qmqp", 628)];

/// Where to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HostAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A host to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) peer: Peer,
    pub(super) place: HostAddress,
    /// No host is preferred to it.
    pub(super) is_best: bool,
}

impl Target {
    /// Could it be this system itself, mail going in circles?
    pub(super) fn can_loop(&self, settings: &Settings) -> bool {
        settings.protocol == Protocol::Smtp && self.peer.port == Some(SMTP_PORT)
    }
}

/// The addresses of a next-hop, in the order in which they are to be tried.
///
/// # Errors
/// What becomes of the mail when no host can be tried.
pub(super) async fn find(
    nexthop: &Nexthop,
    names: &Names,
    settings: &Settings,
) -> Result<Vec<Target>, Outcome> {
    let (name, port, is_domain) = match nexthop {
        Nexthop::Socket(path) => {
            let peer = Peer { name: settings.hostname.clone(), address: path.clone(), port: None };
            let place = HostAddress::Unix(settings.socket_base.join(path));
            return Ok(vec![Target { peer, place, is_best: true }]);
        }
        Nexthop::Domain { name, port } => (name, port, true),
        Nexthop::Host { name, port } => (name, port, false),
    };
    let port = number(port.as_ref(), settings)?;
    let exchangers = if is_domain {
        hosts::exchangers(name, names.exchangers(name).await, &settings.hosts)?
    } else {
        hosts::exchangers(name, MxAnswer::None, &settings.hosts)?
    };
    let mut answers = Vec::with_capacity(exchangers.len());
    for Exchanger { name, .. } in &exchangers {
        answers.push(names.addresses(name, settings.ipv4, settings.ipv6).await);
    }
    let detects_loops = settings.protocol == Protocol::Smtp && port == SMTP_PORT;
    let is_own = |address: IpAddr| detects_loops && settings.own_addresses.contains(&address);
    let candidates = hosts::candidates(name, &exchangers, &answers, is_own, &settings.hosts, |below| {
        fastrand::usize(..below.max(1))
    })?;
    let target = |candidate: hosts::Candidate| Target {
        peer: Peer { name: candidate.name, address: candidate.address.to_string(), port: Some(port) },
        place: HostAddress::Tcp(SocketAddr::new(candidate.address, port)),
        is_best: candidate.is_best,
    };
    Ok(candidates.into_iter().map(target).collect())
}

fn number(port: Option<&Port>, settings: &Settings) -> Result<u16, Outcome> {
    match port {
        None => Ok(settings.port),
        Some(Port::Number(number)) => Ok(*number),
        Some(Port::Service(name)) => {
            PORTS.iter().find(|(known, _)| known == name).map(|&(_, number)| number).ok_or_else(|| {
                let words =
                    format!("the service {name:?} of the next-hop is not known: write its port's number");
                Outcome::failed(status(4, 3, 5), words)
            })
        }
    }
}
