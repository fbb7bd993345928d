//! Questions to the DNS: the library asks, and remembers answers for as long as they may be believed; what they mean is
//! decided in `delivery::hosts`.

use std::net::IpAddr;

use delivery::hosts::{AddressAnswer, MxAnswer};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;

/// How many addresses of one host are looked at; what DNS lists beyond is left out.
const ADDRESSES_MAX: usize = 100;
/// How many answers are remembered, each for its time to live.
const REMEMBERED_MAX: u64 = 10_000;

/// Why no names can be looked up.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up DNS lookups from the text of resolv.conf: {0}")]
pub struct OpenError(NetError);

/// The name servers.
#[derive(Clone)]
pub struct Names(TokioResolver);

impl std::fmt::Debug for Names {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Names")
    }
}

/// What a query came to.
enum Answer {
    Records(Vec<RData>),
    NoData,
    NoName,
    Failed,
}

impl Names {
    /// The name servers of a resolv.conf, whose text is read before the jail. Without a usable one, the name server is on
    /// this machine. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the library refuses it.
    pub fn new(resolv_conf: Option<&[u8]>, port: u16) -> Result<Self, OpenError> {
        let parsed = resolv_conf.and_then(|text| parse_resolv_conf(text).ok());
        let (config, options) = match parsed {
            Some((config, options)) => (config, Some(options)),
            None => (ResolverConfig::from_name_servers(Vec::new()), None),
        };
        let (_, _, mut servers) = config.into_parts();
        if servers.is_empty() {
            servers.push(NameServerConfig::udp_and_tcp(IpAddr::from([127, 0, 0, 1])));
        }
        for connection in servers.iter_mut().flat_map(|server| &mut server.connections) {
            connection.port = port;
        }
        let config = ResolverConfig::from_name_servers(servers);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        if let Some(options) = options {
            builder = builder.with_options(options);
        }
        let options = builder.options_mut();
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = REMEMBERED_MAX;
        builder.build().map(Self).map_err(OpenError)
    }

    /// The exchangers of a domain.
    pub async fn exchangers(&self, domain: &str) -> MxAnswer {
        match self.ask(domain, RecordType::MX).await {
            Answer::Records(records) => {
                let exchanger = |data| match data {
                    RData::MX(mx) => Some((mx.preference, mx.exchange.to_ascii())),
                    _ => None,
                };
                MxAnswer::Records(records.into_iter().filter_map(exchanger).collect())
            }
            Answer::NoData | Answer::NoName => MxAnswer::None,
            Answer::Failed => MxAnswer::Failed,
        }
    }

    /// The addresses of a host, of the families in use. A host that is an address is its own.
    pub async fn addresses(&self, host: &str, ipv4: bool, ipv6: bool) -> AddressAnswer {
        if let Ok(address) = host.parse::<IpAddr>() {
            return AddressAnswer::Addresses(vec![address]);
        }
        let of_family = async |wanted: bool, kind| match wanted {
            true => Some(self.ask(host, kind).await),
            false => None,
        };
        let (first, second) = tokio::join!(of_family(ipv4, RecordType::A), of_family(ipv6, RecordType::AAAA));
        let mut found = Vec::new();
        let mut negative = None;
        for answer in [first, second].into_iter().flatten() {
            let this = match answer {
                Answer::Records(records) => {
                    found.extend(records.iter().filter_map(RData::ip_addr));
                    continue;
                }
                Answer::NoData => AddressAnswer::NoData,
                Answer::NoName => AddressAnswer::NoName,
                Answer::Failed => AddressAnswer::Failed,
            };
            // A failure may pass, so it counts before a denial.
            if negative != Some(AddressAnswer::Failed) {
                negative = Some(this);
            }
        }
        found.truncate(ADDRESSES_MAX);
        if found.is_empty() {
            negative.unwrap_or(AddressAnswer::NoData)
        } else {
            AddressAnswer::Addresses(found)
        }
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Answer {
        let Ok(mut name) = Name::from_utf8(name) else { return Answer::NoName };
        // The search list of resolv.conf is not for mail.
        name.set_fqdn(true);
        match self.0.lookup(name, kind).await {
            Ok(lookup) => {
                let of_kind = lookup.answers().iter().filter(|record| record.record_type() == kind);
                let records: Vec<RData> = of_kind.map(|record| record.data.clone()).collect();
                if records.is_empty() { Answer::NoData } else { Answer::Records(records) }
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => match none.response_code {
                ResponseCode::NXDomain => Answer::NoName,
                ResponseCode::NoError => Answer::NoData,
                _ => Answer::Failed,
            },
            Err(_) => Answer::Failed,
        }
    }
}
