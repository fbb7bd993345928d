//! Questions to the DNS.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer, RetryDnsHandle};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{DnsRequestOptions, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};

use super::hostname;
use super::name::Answer;

/// The longest chain of aliases that is followed from answer to answer; within one answer any number.
const ALIAS_ANSWERS_MAX: usize = 8;

/// Whether a resolv.conf names a name server that can be used.
pub(super) fn names_a_server(resolv_conf: Option<&[u8]>) -> bool {
    resolv_conf.and_then(parse).is_some()
}

/// What a resolv.conf says, if it names a name server. A search list that the library refuses must not cost the name servers:
/// then it is the search list that is passed over.
pub(super) fn parse(resolv_conf: &[u8]) -> Option<(ResolverConfig, ResolverOpts)> {
    parse_resolv_conf(resolv_conf).ok().or_else(|| {
        let is_search = |line: &&[u8]| {
            let line = line.trim_ascii_start();
            line.starts_with(b"search") || line.starts_with(b"domain")
        };
        let lines = resolv_conf.split(|&byte| byte == b'\n').filter(|line| !is_search(line));
        parse_resolv_conf(lines.collect::<Vec<_>>().join(&b'\n')).ok()
    })
}

/// An answer, and for how long it may be believed; no time for a failure.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Timed<T> {
    pub(super) answer: Answer<T>,
    pub(super) ttl: Option<Duration>,
}

/// The name servers of resolv.conf, asked through the library's pool. Its resolver, one floor up, is of no use here: it answers
/// for localhost, 127/8 and some more without asking, which the C library does not.
pub(super) struct Dns {
    servers: RetryDnsHandle<NameServerPool<TokioRuntimeProvider>>,
    request_options: DnsRequestOptions,
    search: Vec<Name>,
    ndots: usize,
}

impl Dns {
    /// Without a usable resolv.conf, the name server is on this machine, as the C library has it.
    pub(super) fn new(resolv_conf: Option<&[u8]>, port: u16) -> Result<Self, NetError> {
        let (config, options) = resolv_conf.and_then(parse).unwrap_or_else(|| {
            let local = NameServerConfig::udp_and_tcp(IpAddr::V4(Ipv4Addr::LOCALHOST));
            (ResolverConfig::from_name_servers(vec![local]), ResolverOpts::default())
        });
        let (domain, mut search, mut name_servers) = config.into_parts();
        if search.is_empty() {
            search.extend(domain);
        }
        for connection in name_servers.iter_mut().flat_map(|server| &mut server.connections) {
            connection.port = port;
        }
        let mut request_options = DnsRequestOptions::default();
        request_options.use_edns = options.edns0;
        let ndots = options.ndots;
        // In resolv.conf the first attempt counts as one, here it does not.
        let retries = options.attempts.saturating_sub(1);
        let context = Arc::new(PoolContext::new(options, TlsConfig::new()?));
        let pool = NameServerPool::from_config(name_servers, context, TokioRuntimeProvider::default());
        Ok(Self { servers: RetryDnsHandle::new(pool, retries), request_options, search, ndots })
    }

    /// The first name of an address; `None` in the answer if it is one that the C library drops.
    pub(super) async fn name(&self, address: IpAddr) -> Timed<Option<Vec<u8>>> {
        let Timed { answer, ttl } = self.ask(Name::from(address), RecordType::PTR).await;
        let answer = answer.and_then(|records| {
            records.iter().find_map(|data| match data {
                RData::PTR(pointer) => Some(hostname::from_labels(pointer.0.iter())),
                _ => None,
            })
        });
        Timed { answer, ttl }
    }

    /// The addresses of a name that are of the same family as `like`. Names with few dots are looked for in the search list
    /// first, all others there last, as by the C library; but a failure ends the search.
    pub(super) async fn addresses(&self, host: &str, like: IpAddr) -> Timed<Vec<IpAddr>> {
        let record_type = if like.is_ipv4() { RecordType::A } else { RecordType::AAAA };
        let mut result = Timed { answer: Answer::NoName, ttl: None };
        for name in candidates(host, self.ndots, &self.search) {
            let Timed { answer, ttl } = self.ask(name, record_type).await;
            let answer = answer.and_then(|records| Some(records.iter().filter_map(RData::ip_addr).collect()));
            match answer {
                Answer::Found(_) | Answer::Temporary => return Timed { answer, ttl },
                Answer::NoName if result.answer == Answer::NoData => {}
                Answer::NoName | Answer::NoData => result = Timed { answer, ttl },
            }
        }
        result
    }

    /// The records of one type, through all aliases.
    async fn ask(&self, mut name: Name, record_type: RecordType) -> Timed<Vec<RData>> {
        let mut ttl = None;
        for _ in 0..ALIAS_ANSWERS_MAX {
            let query = Query::query(name.clone(), record_type);
            let response = match self.servers.lookup(query, self.request_options).first_answer().await {
                Ok(response) => response,
                Err(error) => return negative(&error),
            };
            // As the C library has it: a denial counts, whatever records come with it.
            if response.metadata.response_code != ResponseCode::NoError {
                return Timed { answer: denial(response.metadata.response_code), ttl: None };
            }
            let (end, records) = follow(&response.answers, &name, record_type, &mut ttl);
            if !records.is_empty() {
                return Timed { answer: Answer::Found(records), ttl };
            }
            if end == name {
                break;
            }
            name = end;
        }
        Timed { answer: Answer::NoData, ttl }
    }
}

/// Where the aliases in an answer lead to, beginning with `name`, and the records of the wanted type that are there. `ttl`
/// becomes the least of all that were used.
pub(super) fn follow(
    answers: &[Record],
    name: &Name,
    record_type: RecordType,
    ttl: &mut Option<Duration>,
) -> (Name, Vec<RData>) {
    let mut shorten = |record: &Record| {
        let this = Duration::from_secs(record.ttl.into());
        *ttl = Some(ttl.map_or(this, |ttl| ttl.min(this)));
    };
    // An answer has room for thousands of aliases, in an order that makes a search for each of them expensive.
    let mut aliases = HashMap::new();
    for record in answers {
        if let RData::CNAME(target) = &record.data {
            aliases.entry(&record.name).or_insert((record, &target.0));
        }
    }
    let mut end = name;
    // As many steps as there are aliases: those in a circle come to an end too.
    for _ in 0..aliases.len() {
        let Some((record, target)) = aliases.get(end) else { break };
        shorten(record);
        end = target;
    }
    let wanted = |record: &&Record| record.name == *end && record.record_type() == record_type;
    let records =
        answers.iter().filter(wanted).inspect(|record| shorten(record)).map(|record| record.data.clone());
    let records = records.collect();
    (end.clone(), records)
}

/// The full names to ask for, in order.
pub(super) fn candidates(host: &str, ndots: usize, search: &[Name]) -> Vec<Name> {
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
    let ttl = none.negative_ttl.map(|seconds| Duration::from_secs(seconds.into()));
    Timed { answer: denial(none.response_code), ttl }
}

/// What an answer says that holds no record to go by.
const fn denial<T>(code: ResponseCode) -> Answer<T> {
    match code {
        ResponseCode::NXDomain => Answer::NoName,
        ResponseCode::NoError => Answer::NoData,
        _ => Answer::Temporary,
    }
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
    fn aliases_in_one_answer() {
        let name = |text: &str| -> Name { text.parse().unwrap() };
        let alias = |from: &str, ttl, to: &str| {
            Record::from_rdata(
                name(from),
                ttl,
                RData::CNAME(hickory_resolver::proto::rr::rdata::CNAME(name(to))),
            )
        };
        let address =
            |from: &str, ttl| Record::from_rdata(name(from), ttl, RData::A(Ipv4Addr::LOCALHOST.into()));
        // Out of order, with a record that does not belong to the question.
        let answers = [
            address("c.e.", 20),
            alias("B.e.", 10, "c.e."),
            address("other.e.", 1),
            alias("a.e.", 30, "b.e."),
        ];
        let mut ttl = None;
        let (end, records) = follow(&answers, &name("a.e."), RecordType::A, &mut ttl);
        assert_eq!((end, records.len(), ttl), (name("c.e."), 1, Some(Duration::from_secs(10))));
        let circle = [alias("a.e.", 1, "b.e."), alias("b.e.", 1, "a.e.")];
        let (_, records) = follow(&circle, &name("a.e."), RecordType::A, &mut ttl);
        assert!(records.is_empty());
        // So many that only a way through which is short for each ends soon; the last comes first.
        let steps: u32 = 20_000;
        let mut chain = vec![address(&format!("{steps}.e."), 5)];
        chain.extend((0..steps).rev().map(|at| alias(&format!("{at}.e."), 7, &format!("{}.e.", at + 1))));
        let (end, records) = follow(&chain, &name("0.e."), RecordType::A, &mut ttl);
        assert_eq!((end, records.len()), (name(&format!("{steps}.e.")), 1));
    }

    #[test]
    fn a_bad_search_list_does_not_cost_the_name_servers() {
        let text = format!("search {}.test\nnameserver 192.0.2.53\n", "x".repeat(64));
        assert!(parse_resolv_conf(&text).is_err(), "the library has become milder: our own way round can go");
        let (config, _) = parse(text.as_bytes()).unwrap();
        assert_eq!(config.name_servers().len(), 1);
        assert!(names_a_server(Some(text.as_bytes())));
        assert!(!names_a_server(Some(b"search e.com\n")));
    }

    #[test]
    fn a_resolv_conf_without_a_server_means_this_machine() {
        for text in [None, Some(&b""[..]), Some(b"search e.com\n"), Some(b"\xff\xfe nonsense\n")] {
            assert!(Dns::new(text, 53).is_ok(), "{text:?}");
        }
    }
}
