//! Questions to the DNS.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;

use super::hostname;
use super::name::Answer;

/// Whether a resolv.conf names a name server that can be used.
pub(super) fn names_a_server(resolv_conf: Option<&[u8]>) -> bool {
    resolv_conf.is_some_and(|text| parse_resolv_conf(text).is_ok())
}

/// An answer, and for how long it may be believed; no time for a failure.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Timed<T> {
    pub(super) answer: Answer<T>,
    pub(super) ttl: Option<Duration>,
}

pub(super) struct Dns {
    resolver: TokioResolver,
    search: Vec<Name>,
    ndots: usize,
}

impl Dns {
    /// Without a usable resolv.conf, the name server is on this machine, as the C library has it.
    pub(super) fn new(resolv_conf: Option<&[u8]>, port: u16) -> Result<Self, String> {
        let parsed = resolv_conf.and_then(|text| parse_resolv_conf(text).ok());
        let (config, mut options) = parsed.unwrap_or_else(|| {
            let local = NameServerConfig::udp_and_tcp(IpAddr::V4(Ipv4Addr::LOCALHOST));
            (ResolverConfig::from_name_servers(vec![local]), ResolverOpts::default())
        });
        let (domain, mut search, mut name_servers) = config.into_parts();
        if search.is_empty() {
            search.extend(domain);
        }
        for connection in name_servers.iter_mut().flat_map(|server| &mut server.connections) {
            let connection: &mut ConnectionConfig = connection;
            connection.port = port;
        }
        // One cache is enough, the hosts file is read elsewhere, and in resolv.conf the first attempt counts as one.
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.attempts = options.attempts.saturating_sub(1);
        let ndots = options.ndots;
        let config = ResolverConfig::from_parts(None, Vec::new(), name_servers);
        let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { resolver, search, ndots })
    }

    /// The first name of an address; `None` in the answer if it is one that the C library drops.
    pub(super) async fn name(&self, address: IpAddr) -> Timed<Option<Vec<u8>>> {
        // The resolver library answers for all of 127/8 itself, with the name of 127.0.0.1.
        if let IpAddr::V4(v4) = address
            && v4.is_loopback()
            && v4 != Ipv4Addr::LOCALHOST
        {
            return Timed { answer: Answer::NoName, ttl: None };
        }
        match self.resolver.lookup(Name::from(address), RecordType::PTR).await {
            Err(error) => negative(&error),
            Ok(lookup) => {
                let name = lookup.answers().iter().find_map(|record| match &record.data {
                    RData::PTR(pointer) => Some(hostname::from_labels(pointer.0.iter())),
                    _ => None,
                });
                Timed { answer: name.map_or(Answer::NoData, Answer::Found), ttl: ttl(&lookup) }
            }
        }
    }

    /// The addresses of a name that are of the same family as `like`. Names with few dots are looked for in the search list
    /// first, all others there last, as by the C library; but a failure ends the search.
    pub(super) async fn addresses(&self, host: &str, like: IpAddr) -> Timed<Vec<IpAddr>> {
        let record_type = if like.is_ipv4() { RecordType::A } else { RecordType::AAAA };
        let mut result = Timed { answer: Answer::NoName, ttl: None };
        for name in candidates(host, self.ndots, &self.search) {
            let this = match self.resolver.lookup(name, record_type).await {
                Err(error) => negative(&error),
                Ok(lookup) => {
                    let addresses: Vec<_> =
                        lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect();
                    let answer = if addresses.is_empty() { Answer::NoData } else { Answer::Found(addresses) };
                    Timed { answer, ttl: ttl(&lookup) }
                }
            };
            match this.answer {
                Answer::Found(_) | Answer::Temporary => return this,
                Answer::NoData => result = this,
                Answer::NoName if result.answer == Answer::NoName => result = this,
                Answer::NoName => {}
            }
        }
        result
    }
}

/// The full names to ask for, in order.
fn candidates(host: &str, ndots: usize, search: &[Name]) -> Vec<Name> {
    let labels = || host.split('.').map(str::as_bytes);
    let Ok(mut relative) = Name::from_labels(labels()) else { return Vec::new() };
    let mut plain = relative.clone();
    plain.set_fqdn(true);
    relative.set_fqdn(false);
    let mut names: Vec<Name> =
        search.iter().filter_map(|domain| relative.clone().append_domain(domain).ok()).collect();
    let plain_first = labels().count().saturating_sub(1) >= ndots;
    names.insert(if plain_first { 0 } else { names.len() }, plain);
    names
}

/// A negative answer is one; everything else that goes wrong may go well another time.
fn negative<T>(error: &NetError) -> Timed<T> {
    let NetError::Dns(DnsError::NoRecordsFound(none)) = error else {
        return Timed { answer: Answer::Temporary, ttl: None };
    };
    let answer = match none.response_code {
        ResponseCode::NXDomain => Answer::NoName,
        ResponseCode::NoError => Answer::NoData,
        _ => Answer::Temporary,
    };
    Timed { answer, ttl: none.negative_ttl.map(|seconds| Duration::from_secs(seconds.into())) }
}

fn ttl(lookup: &Lookup) -> Option<Duration> {
    lookup.answers().iter().map(|record| Duration::from_secs(record.ttl.into())).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_list_is_used_as_the_c_library_does() {
        let search: Vec<Name> = ["sd.test", "other.test."].iter().map(|name| name.parse().unwrap()).collect();
        let names = |host, ndots| -> Vec<String> {
            candidates(host, ndots, &search).iter().map(Name::to_string).collect()
        };
        assert_eq!(names("web", 1), ["web.sd.test.", "web.other.test.", "web."]);
        assert_eq!(names("web.e.com", 1), ["web.e.com.", "web.e.com.sd.test.", "web.e.com.other.test."]);
        assert_eq!(names("web.e.com", 3), ["web.e.com.sd.test.", "web.e.com.other.test.", "web.e.com."]);
        assert!(names(&"a.".repeat(130), 1).is_empty());
    }

    #[test]
    fn a_resolv_conf_without_a_server_means_this_machine() {
        for text in [None, Some(&b""[..]), Some(b"search e.com\n"), Some(b"\xff\xfe nonsense\n")] {
            assert!(Dns::new(text, 53).is_ok(), "{text:?}");
        }
    }
}
