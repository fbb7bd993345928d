//! Look-ups against a name server of our own on loopback.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::Path;

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, PTR};
use hickory_resolver::proto::rr::{Name as DnsName, RData, Record, RecordType};
use tempfile::TempDir;
use tokio::net::UdpSocket;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::*;

/// What the name server says to one question.
#[derive(Debug, Clone)]
enum Say {
    Records(u32, Vec<RData>),
    Code(ResponseCode),
    /// A code, and records all the same.
    Despite(ResponseCode, Vec<RData>),
    Garbage,
    Nothing,
}

/// Questions it knows; to all others the name does not exist.
type Zone = HashMap<(DnsName, RecordType), Say>;

/// A name server, the look-ups that ask it, and what it was asked.
struct World {
    runtime: Runtime,
    names: Arc<PeerNames>,
    asked: Arc<Mutex<Vec<(DnsName, RecordType)>>>,
    _directory: TempDir,
}

impl World {
    fn new(zone: Zone, hosts: &str, adjust: impl FnOnce(&mut Options)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let socket = runtime.block_on(UdpSocket::bind("127.0.0.1:0")).unwrap();
        let mut options = Options {
            hosts: file("hosts", hosts),
            resolv_conf: file(
                "resolv.conf",
                "nameserver 127.0.0.1\nsearch sd.test\noptions timeout:1 attempts:1\n",
            ),
            name_server_port: socket.local_addr().unwrap().port(),
            ..Options::default()
        };
        adjust(&mut options);
        runtime.spawn(serve(socket, zone, Arc::clone(&asked)));
        let (names, notices) = PeerNames::open(options).unwrap();
        assert_eq!(notices, []);
        Self { runtime, names: Arc::new(names), asked, _directory: directory }
    }

    fn lookup(&self, address: &str) -> PeerName {
        self.runtime.block_on(self.names.lookup(address.parse().unwrap()))
    }

    fn questions(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

async fn serve(socket: UdpSocket, zone: Zone, asked: Arc<Mutex<Vec<(DnsName, RecordType)>>>) {
    let mut buffer = [0; 2048];
    while let Ok((bytes, client)) = socket.recv_from(&mut buffer).await {
        let query = Message::from_vec(&buffer[..bytes]).unwrap();
        let question = query.queries[0].clone();
        let key = (question.name().to_lowercase(), question.query_type());
        asked.lock().unwrap().push(key.clone());
        let mut reply = Message::response(query.metadata.id, OpCode::Query);
        reply.add_query(question.clone());
        match zone.get(&key).cloned().unwrap_or(Say::Code(ResponseCode::NXDomain)) {
            Say::Nothing => continue,
            Say::Garbage => {
                socket.send_to(&buffer[..12], client).await.unwrap();
                continue;
            }
            Say::Code(code) => reply.metadata.response_code = code,
            Say::Despite(code, records) => {
                reply.metadata.response_code = code;
                reply.add_answers(
                    records.into_iter().map(|data| Record::from_rdata(question.name().clone(), 300, data)),
                );
            }
            Say::Records(ttl, records) => {
                reply.add_answers(
                    records.into_iter().map(|data| Record::from_rdata(question.name().clone(), ttl, data)),
                );
            }
        }
        socket.send_to(&reply.to_vec().unwrap(), client).await.unwrap();
    }
}

fn dns_name(text: &str) -> DnsName {
    let mut name = DnsName::from_labels(text.split('.').map(str::as_bytes)).unwrap();
    name.set_fqdn(true);
    name
}

fn reverse(zone: &mut Zone, address: &str, say: Say) {
    zone.insert((DnsName::from(address.parse::<IpAddr>().unwrap()), RecordType::PTR), say);
}

fn names(names: &[&str]) -> Say {
    Say::Records(300, names.iter().map(|name| RData::PTR(PTR(dns_name(name)))).collect())
}

fn forward(zone: &mut Zone, name: &str, say: Say) {
    for record_type in [RecordType::A, RecordType::AAAA] {
        zone.insert((dns_name(name).to_lowercase(), record_type), say.clone());
    }
}

/// The addresses of one family.
fn addresses(addresses: &[&str]) -> Say {
    let data = |address: &&str| match address.parse().unwrap() {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    };
    Say::Records(300, addresses.iter().map(data).collect())
}

fn verified(name: &str) -> PeerName {
    PeerName::silent(Name::Verified(name.to_owned()))
}

/// A client that is unknown, with a warning.
fn unknown(warning: &str) -> PeerName {
    PeerName { name: Name::Unknown, notices: vec![Notice::warning(warning)] }
}

fn unresolved(warning: &str) -> PeerName {
    PeerName { name: Name::Unresolved, notices: vec![Notice::warning(warning)] }
}

/// Observed on Postfix 3.7.11 with glibc 2.36, with a name server that gave the same answers. Where Postfix says `unknown`
/// after a temporary failure, the name is unresolved here; the words are the same.
#[test]
fn names_as_postfix_finds_them() {
    const SILENT: PeerName = PeerName::silent(Name::Unknown);
    let longest = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
    let cases = [
        (
            names(&["Good.Example.com"]),
            "good.example.com",
            addresses(&["192.0.2.1"]),
            verified("Good.Example.com"),
        ),
        (names(&["under_score.e"]), "under_score.e", addresses(&["192.0.2.1"]), verified("under_score.e")),
        (names(&["single"]), "single", addresses(&["192.0.2.1"]), verified("single")),
        (names(&["unknown"]), "unknown", addresses(&["192.0.2.1"]), verified("unknown")),
        (names(&["two.e"]), "two.e", addresses(&["192.0.2.9", "192.0.2.1"]), verified("two.e")),
        (names(&[&longest]), &longest, addresses(&["192.0.2.1"]), verified(&longest)),
        (names(&["searched"]), "searched.sd.test", addresses(&["192.0.2.1"]), verified("searched")),
        (names(&["dotted.e"]), "dotted.e.sd.test", addresses(&["192.0.2.1"]), verified("dotted.e")),
        (
            names(&["first.e", "second.e"]),
            "second.e",
            addresses(&["192.0.2.1"]),
            unknown("hostname first.e does not resolve to address 192.0.2.1: Name or service not known"),
        ),
        (
            names(&["wrong.e"]),
            "wrong.e",
            addresses(&["192.0.2.9"]),
            unknown("hostname wrong.e does not resolve to address 192.0.2.1"),
        ),
        (
            names(&["nodata.e"]),
            "nodata.e",
            Say::Records(300, Vec::new()),
            unknown(
                "hostname nodata.e does not resolve to address 192.0.2.1: No address associated with hostname",
            ),
        ),
        (
            names(&["servfail.e"]),
            "servfail.e",
            Say::Code(ResponseCode::ServFail),
            unresolved(
                "hostname servfail.e does not resolve to address 192.0.2.1: Temporary failure in name resolution",
            ),
        ),
        (
            names(&["refused.e"]),
            "refused.e",
            Say::Code(ResponseCode::Refused),
            unresolved(
                "hostname refused.e does not resolve to address 192.0.2.1: Temporary failure in name resolution",
            ),
        ),
        (
            names(&["silent.e"]),
            "silent.e",
            Say::Nothing,
            unresolved(
                "hostname silent.e does not resolve to address 192.0.2.1: Temporary failure in name resolution",
            ),
        ),
        (names(&["10.0.0.5"]), "10.0.0.5", Say::Nothing, unknown("numeric hostname: 10.0.0.5")),
        (names(&["12345"]), "12345", Say::Nothing, unknown("valid_hostname: numeric hostname: 12345")),
        (names(&["bad-.e"]), "bad-.e", Say::Nothing, unknown("valid_hostname: misplaced hyphen: bad-.e")),
        (
            names(&["a.-bad.e"]),
            "a.-bad.e",
            Say::Nothing,
            unknown("valid_hostname: misplaced hyphen: a.-bad.e"),
        ),
        (names(&["-bad.e", "good.e"]), "good.e", addresses(&["192.0.2.1"]), SILENT),
        (names(&["has space.e"]), "x", Say::Nothing, SILENT),
        (names(&["nul\0.e"]), "x", Say::Nothing, SILENT),
        (names(&["new\nline.e"]), "x", Say::Nothing, SILENT),
        (names(&["caf\u{e9}.e"]), "x", Say::Nothing, SILENT),
        (names(&["*.e"]), "x", Say::Nothing, SILENT),
        (Say::Records(300, Vec::new()), "x", Say::Nothing, SILENT),
        (Say::Code(ResponseCode::NXDomain), "x", Say::Nothing, SILENT),
        (Say::Code(ResponseCode::ServFail), "x", Say::Nothing, PeerName::silent(Name::Unresolved)),
        (Say::Code(ResponseCode::Refused), "x", Say::Nothing, PeerName::silent(Name::Unresolved)),
        (Say::Nothing, "x", Say::Nothing, PeerName::silent(Name::Unresolved)),
        (Say::Garbage, "x", Say::Nothing, PeerName::silent(Name::Unresolved)),
    ];
    for (pointer, name, addresses, expected) in cases {
        let shown = format!("{pointer:?}");
        let mut zone = Zone::new();
        reverse(&mut zone, "192.0.2.1", pointer);
        forward(&mut zone, name, addresses);
        let world = World::new(zone, "", |_| ());
        assert_eq!(world.lookup("192.0.2.1"), expected, "{shown}");
    }
}

/// Observed on Postfix 3.7.11 with glibc 2.36.
#[test]
fn a_denial_counts_whatever_records_come_with_it() {
    let name_of = |code| {
        let mut zone = Zone::new();
        reverse(&mut zone, "192.0.2.1", Say::Despite(code, vec![RData::PTR(PTR(dns_name("here.e")))]));
        forward(&mut zone, "here.e", addresses(&["192.0.2.1"]));
        World::new(zone, "", |_| ()).lookup("192.0.2.1")
    };
    assert_eq!(name_of(ResponseCode::NoError), verified("here.e"));
    assert_eq!(name_of(ResponseCode::NXDomain), PeerName::silent(Name::Unknown));
    assert_eq!(name_of(ResponseCode::ServFail), PeerName::silent(Name::Unresolved));
    let mut zone = Zone::new();
    reverse(&mut zone, "192.0.2.1", names(&["here.e"]));
    let address = vec![RData::A(A(Ipv4Addr::new(192, 0, 2, 1)))];
    forward(&mut zone, "here.e", Say::Despite(ResponseCode::NXDomain, address));
    assert_eq!(
        World::new(zone, "", |_| ()).lookup("192.0.2.1"),
        unknown("hostname here.e does not resolve to address 192.0.2.1: Name or service not known")
    );
}

#[test]
fn the_root_is_no_name() {
    let mut zone = Zone::new();
    reverse(&mut zone, "192.0.2.1", Say::Records(300, vec![RData::PTR(PTR(DnsName::root()))]));
    let world = World::new(zone, "", |_| ());
    assert_eq!(world.lookup("192.0.2.1"), unknown("valid_hostname: misplaced delimiter: ."));
}

#[test]
fn aliases_are_followed_in_both_directions() {
    let mut zone = Zone::new();
    let alias = |name| Say::Records(300, vec![RData::CNAME(CNAME(dns_name(name)))]);
    reverse(&mut zone, "192.0.2.1", alias("1.sub.2.0.192.in-addr.arpa"));
    zone.insert((dns_name("1.sub.2.0.192.in-addr.arpa"), RecordType::PTR), names(&["alias.e"]));
    forward(&mut zone, "alias.e", alias("target.e"));
    forward(&mut zone, "target.e", addresses(&["192.0.2.1"]));
    let world = World::new(zone, "", |_| ());
    assert_eq!(world.lookup("192.0.2.1"), verified("alias.e"));
}

#[test]
fn the_client_s_own_family_counts() {
    let mut zone = Zone::new();
    reverse(&mut zone, "2001:db8::1", names(&["six.e"]));
    reverse(&mut zone, "192.0.2.1", names(&["six.e"]));
    zone.insert((dns_name("six.e"), RecordType::AAAA), addresses(&["2001:db8::1"]));
    zone.insert((dns_name("six.e"), RecordType::A), Say::Records(300, Vec::new()));
    let world = World::new(zone, "", |_| ());
    assert_eq!(world.lookup("2001:db8::1"), verified("six.e"));
    assert_eq!(
        world.lookup("192.0.2.1"),
        unknown("hostname six.e does not resolve to address 192.0.2.1: No address associated with hostname")
    );
}

#[test]
fn a_mapped_address_is_the_ipv4_address_that_it_is() {
    let mut zone = Zone::new();
    reverse(&mut zone, "192.0.2.1", names(&["four.e"]));
    forward(&mut zone, "four.e", addresses(&["192.0.2.1"]));
    let world = World::new(zone.clone(), "", |_| ());
    assert_eq!(world.lookup("::ffff:192.0.2.1"), verified("four.e"));
    let world = World::new(zone, "", |options| options.ipv4 = false);
    assert_eq!(world.lookup("::ffff:192.0.2.1"), PeerName::silent(Name::Unknown));
}

#[test]
fn the_hosts_file_comes_first() {
    let mut zone = Zone::new();
    reverse(&mut zone, "192.0.2.1", names(&["dns.e"]));
    reverse(&mut zone, "192.0.2.3", names(&["half.e"]));
    forward(&mut zone, "asked.e", addresses(&["192.0.2.5"]));
    let hosts = "127.0.0.1 localhost\n::1 localhost\n192.0.2.1 Hosts.E alias.e\n192.0.2.2 -bad.e\n192.0.2.4 half.e\n\
                 192.0.2.5 asked.e\n192.0.2.6 asked.e\n192.0.2.7 has*star\n192.0.2.8 ::1\n192.0.2.9\n192.0.2.10 trail.e.\n192.0.2.3 half.e2";
    let world = World::new(zone, hosts, |_| ());
    assert_eq!(world.lookup("127.0.0.1"), verified("localhost"));
    assert_eq!(world.lookup("::1"), verified("localhost"));
    assert_eq!(world.lookup("192.0.2.1"), verified("Hosts.E"));
    assert_eq!(world.lookup("192.0.2.2"), unknown("valid_hostname: misplaced hyphen: -bad.e"));
    assert_eq!(world.lookup("192.0.2.6"), verified("asked.e"));
    assert_eq!(world.lookup("192.0.2.7"), unknown("valid_hostname: invalid character 42(decimal): has*star"));
    assert_eq!(world.lookup("192.0.2.8"), unknown("numeric hostname: ::1"));
    assert_eq!(world.lookup("192.0.2.9"), unknown("valid_hostname: empty hostname"));
    assert_eq!(world.lookup("192.0.2.10"), unknown("valid_hostname: misplaced delimiter: trail.e."));
    assert_eq!(world.questions(), 0);
}

#[test]
fn loopback_is_an_address_like_any_other() {
    let mut zone = Zone::new();
    reverse(&mut zone, "127.1.0.1", names(&["loop.e"]));
    forward(&mut zone, "loop.e", addresses(&["127.1.0.1"]));
    let world = World::new(zone, "", |_| ());
    assert_eq!(world.lookup("127.1.0.1"), verified("loop.e"));
    assert_eq!(world.lookup("127.0.0.1"), PeerName::silent(Name::Unknown));
}

#[test]
fn aliases_in_a_circle_end_somewhere() {
    let mut zone = Zone::new();
    let alias = |name| Say::Records(300, vec![RData::CNAME(CNAME(dns_name(name)))]);
    reverse(&mut zone, "192.0.2.1", names(&["a.e"]));
    forward(&mut zone, "a.e", alias("b.e"));
    forward(&mut zone, "b.e", alias("a.e"));
    let world = World::new(zone, "", |_| ());
    assert_eq!(world.lookup("192.0.2.1").name, Name::Unknown);
}

#[test]
fn a_dead_name_server_delays_only_those_who_need_it() {
    let mut zone = Zone::new();
    reverse(&mut zone, "192.0.2.1", Say::Nothing);
    let deadline = Duration::from_millis(300);
    let world = World::new(zone, "192.0.2.2 hosts.e\n", |options| options.deadline = deadline);
    let start = Instant::now();
    let names = Arc::clone(&world.names);
    let slow = world.runtime.spawn(async move { names.lookup("192.0.2.1".parse().unwrap()).await });
    world.runtime.block_on(async {
        // Each is polled once only, so this does not depend on time.
        tokio::select! {
            biased;
            name = world.names.lookup("192.0.2.2".parse().unwrap()) => assert_eq!(name, verified("hosts.e")),
            () = std::future::ready(()) => panic!("a name in the hosts file had to wait"),
        }
    });
    assert_eq!(world.runtime.block_on(slow).unwrap(), PeerName::silent(Name::Unresolved));
    assert!(start.elapsed() >= deadline);
    // The failure is remembered for a while: no server is asked again.
    let questions = world.questions();
    assert_eq!(world.lookup("192.0.2.1"), PeerName::silent(Name::Unresolved));
    assert_eq!(world.questions(), questions);
}

#[test]
fn answers_are_remembered_as_long_as_they_are_good() {
    let mut zone = Zone::new();
    reverse(&mut zone, "192.0.2.1", names(&["kept.e"]));
    forward(&mut zone, "kept.e", addresses(&["192.0.2.1"]));
    reverse(&mut zone, "192.0.2.2", Say::Records(0, vec![RData::PTR(PTR(dns_name("fleeting.e")))]));
    forward(&mut zone, "fleeting.e", addresses(&["192.0.2.2"]));
    reverse(&mut zone, "192.0.2.3", names(&["wrong.e"]));
    let world = World::new(zone, "", |_| ());
    for (address, first, second) in
        [("192.0.2.1", 2, 0), ("192.0.2.2", 2, 2), ("192.0.2.3", 3, 0), ("192.0.2.4", 1, 0)]
    {
        let before = world.questions();
        let answer = world.lookup(address);
        assert_eq!(world.questions() - before, first, "{address}");
        assert_eq!(world.lookup(address), answer, "warnings included");
        assert_eq!(world.questions() - before, first + second, "{address}");
    }
}

#[test]
fn a_crowd_at_once() {
    let mut zone = Zone::new();
    for host in 0..200 {
        let address = Ipv4Addr::new(198, 51, 100, host).to_string();
        reverse(&mut zone, &address, names(&[&format!("h{host}.e")]));
        forward(&mut zone, &format!("h{host}.e"), addresses(&[&address]));
    }
    let world = World::new(zone, "", |_| ());
    let mut crowd = JoinSet::new();
    for client in 0..1000u16 {
        let host = u8::try_from(client % 200).unwrap();
        let names = Arc::clone(&world.names);
        let look = async move { (host, names.lookup(Ipv4Addr::new(198, 51, 100, host).into()).await) };
        crowd.spawn_on(look, world.runtime.handle());
    }
    for (host, name) in world.runtime.block_on(crowd.join_all()) {
        assert_eq!(name, verified(&format!("h{host}.e")));
    }
    // Two questions for each address, but for the retries that a busy machine may cause.
    let asked: std::collections::HashSet<_> = world.asked.lock().unwrap().drain(..).collect();
    assert_eq!(asked.len(), 400);
}

#[test]
fn an_impatient_client_does_not_harm_the_next() {
    let mut zone = Zone::new();
    reverse(&mut zone, "192.0.2.1", names(&["here.e"]));
    forward(&mut zone, "here.e", addresses(&["192.0.2.1"]));
    let world = World::new(zone, "", |_| ());
    let address = "192.0.2.1".parse().unwrap();
    world.runtime.block_on(async {
        // Polled once, so that the question is under way, then dropped.
        tokio::select! {
            biased;
            _ = world.names.lookup(address) => panic!("answered at once"),
            () = std::future::ready(()) => (),
        }
    });
    assert_eq!(world.lookup("192.0.2.1"), verified("here.e"));
}

/// A client that can do without the name waits for it once, and not again until it is found.
#[test]
fn a_name_that_does_not_come_is_not_waited_for_again() {
    let mut zone = Zone::new();
    reverse(&mut zone, "192.0.2.1", Say::Nothing);
    reverse(&mut zone, "192.0.2.2", names(&["web.e"]));
    forward(&mut zone, "web.e", addresses(&["192.0.2.2"]));
    let world = World::new(zone, "192.0.2.3 hosts.e\n", |options| {
        options.patience = Duration::ZERO;
        options.unresolved_ttl = Duration::ZERO;
    });
    let soon = |address: &str| world.runtime.block_on(world.names.lookup_soon(address.parse().unwrap()));
    assert_eq!(soon("192.0.2.1"), None);
    assert_eq!(soon("192.0.2.3"), Some(verified("hosts.e")), "the hosts file needs no patience");
    // Beside that, the question is asked to its end.
    assert_eq!(world.lookup("192.0.2.1"), PeerName::silent(Name::Unresolved));
    let begin = || world.names.begin("192.0.2.1".parse().unwrap());
    let (_runtime, next) = (world.runtime.enter(), begin());
    assert!(next.is_doubtful && next.name().is_none());
    assert!(Arc::ptr_eq(&next, &begin()), "one question at a time");
    assert_eq!(world.lookup("192.0.2.2"), verified("web.e"));
    assert_eq!(soon("192.0.2.2"), Some(verified("web.e")));
}

#[test]
fn so_many_look_ups_at_a_time_and_no_more() {
    let mut zone = Zone::new();
    reverse(&mut zone, "192.0.2.1", Say::Nothing);
    let world = World::new(zone, "", |options| options.lookups_max = 1);
    let _runtime = world.runtime.enter();
    let first = world.names.begin("192.0.2.1".parse().unwrap());
    assert_eq!(world.lookup("192.0.2.2"), PeerName::silent(Name::Unresolved));
    assert_eq!(world.runtime.block_on(first.wait()), PeerName::silent(Name::Unresolved));
    wait_until(|| world.lookup("192.0.2.2") == PeerName::silent(Name::Unknown));
}

/// Bounded: a look-up gives its turn back just after it has told its name.
fn wait_until(condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(20), "in vain");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn files_that_are_missing_or_unreadable() {
    let nowhere = Options {
        hosts: "/nonexistent/hosts".into(),
        resolv_conf: "/nonexistent/resolv.conf".into(),
        ..Options::default()
    };
    let (_, notices) = PeerNames::open(nowhere.clone()).unwrap();
    let words = "/nonexistent/resolv.conf names no name server: using 127.0.0.1";
    assert_eq!(notices, [Notice::info(words)]);
    let unreadable = Options { hosts: Path::new("/").to_owned(), ..nowhere };
    let error = PeerNames::open(unreadable).unwrap_err().to_string();
    assert!(error.starts_with("cannot read /: "), "{error}");
}
