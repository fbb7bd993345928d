//! Next-hops by DNS.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::MX;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;

use super::world::{Server, World, settings};
use crate::network::{Names, Protocol, Settings};

/// A name server on loopback, and how many queries it has had that have an answer.
async fn name_server() -> (Names, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let queries = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&queries);
    tokio::spawn(async move {
        let mut bytes = [0; 2048];
        loop {
            let (len, from) = socket.recv_from(&mut bytes).await.unwrap();
            let query = Message::from_vec(&bytes[..len]).unwrap();
            let answer = answer(&query);
            count.fetch_add(usize::from(!answer.answers.is_empty()), Ordering::Relaxed);
            socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
    });
    (Names::new(Some(b"nameserver 127.0.0.1\n"), port).unwrap(), queries)
}

fn answer(query: &Message) -> Message {
    let asked = query.queries[0].clone();
    let name = asked.name().to_ascii();
    let mut message = Message::new(query.metadata.id, MessageType::Response, query.metadata.op_code);
    let mut add = |data| message.answers.push(Record::from_rdata(asked.name().clone(), 300, data));
    let host = |text: &str| -> Name { text.parse().unwrap() };
    let mut code = ResponseCode::NoError;
    match (name.as_str(), asked.query_type()) {
        ("two.example.", RecordType::MX) => {
            add(RData::MX(MX::new(20, host("good.example."))));
            add(RData::MX(MX::new(10, host("dead.example."))));
        }
        ("null.example.", RecordType::MX) => add(RData::MX(MX::new(0, Name::root()))),
        ("loop.example.", RecordType::MX) => add(RData::MX(MX::new(0, host("own.example.")))),
        ("many.example.", RecordType::MX) => {
            (2..6).for_each(|last| add(RData::MX(MX::new(last, host(&format!("{last}.many.example."))))));
        }
        (name, RecordType::A) if name.ends_with(".many.example.") => {
            let last = name.split('.').next().unwrap().parse().unwrap();
            add(RData::A(Ipv4Addr::new(127, 0, 0, last).into()));
        }
        (name, _) if name.ends_with("many.example.") => {}
        ("good.example.", RecordType::A) => add(RData::A(Ipv4Addr::LOCALHOST.into())),
        ("dead.example.", RecordType::A) => add(RData::A(Ipv4Addr::new(127, 0, 0, 9).into())),
        ("own.example.", RecordType::A) => add(RData::A(Ipv4Addr::new(127, 0, 0, 7).into())),
        ("bare.example.", RecordType::A) => add(RData::A(Ipv4Addr::LOCALHOST.into())),
        ("fail.example.", _) => code = ResponseCode::ServFail,
        ("two.example." | "null.example." | "good.example." | "dead.example." | "bare.example.", _) => {}
        ("loop.example." | "own.example.", _) => {}
        _ => code = ResponseCode::NXDomain,
    }
    message.metadata.response_code = code;
    message.add_query(asked);
    message
}

fn at_port(port: u16) -> Settings {
    let mut settings = settings(Protocol::Smtp);
    settings.port = port;
    settings.idle_max = std::time::Duration::ZERO;
    settings
}

const WILLING: &str =
    "S:220 h\nC:EHLO\nS:250 h\nC:MAIL\nS:250 ok\nC:RCPT\nS:250 ok\nC:DATA\nS:354 go\nD\nS:250 taken\nQ";

#[tokio::test]
async fn exchangers_are_tried_in_order_and_remembered() {
    let (names, queries) = name_server().await;
    let server = Server::new(&[WILLING, WILLING, WILLING]).await;
    let world = World::with_names(at_port(server.port), names);
    let mut seen = 0;
    for round in 0..2 {
        let found = world.deliver("two.example", &["a@two.example"]).await;
        assert_eq!(found.words(), ["sent 2.0.0 250 taken"]);
        let port = server.port;
        assert_eq!(found.log[0], format!("connect to dead.example[127.0.0.9]:{port}: Connection refused"));
        assert!(found.log[1].contains(&format!("relay=good.example[127.0.0.1]:{port}, ")), "{:?}", found.log);
        let now = queries.load(Ordering::Relaxed);
        assert!(round == 0 || now == seen, "{seen} queries, then {now}");
        seen = now;
    }
    let found = world.deliver("bare.example", &["a@bare.example"]).await;
    assert_eq!(found.words(), ["sent 2.0.0 250 taken"]);
}

#[tokio::test]
async fn what_dns_says_against_a_domain() {
    let (names, _) = name_server().await;
    let mut settings = at_port(25);
    settings.own_addresses = vec!["127.0.0.7".parse().unwrap()];
    let world = World::with_names(settings, names);
    let words = "Host or domain name not found. Name service error for name";
    for (domain, expected, is_blamed) in [
        ("gone.example", format!("bounced 5.4.4 {words}=gone.example type=A: Host not found"), false),
        ("null.example", "bounced 5.1.0 Domain null.example does not accept mail (nullMX)".to_owned(), false),
        (
            "fail.example",
            format!("deferred 4.4.3 {words}=fail.example type=MX: Host not found, try again"),
            true,
        ),
        ("loop.example", "bounced 5.4.6 mail for loop.example loops back to myself".to_owned(), false),
    ] {
        let found = world.deliver(domain, &["a@x.example"]).await;
        assert_eq!((found.words(), found.is_blamed()), (vec![expected], is_blamed));
        assert!(found.log.last().unwrap().contains("relay=none, "));
    }
    let mut request = super::world::to("gone.example", &["a@x.example"]);
    request.by_relayhost = true;
    let found = world.deliver_this(&request, &crate::fixtures::queue_file(&["x"])).await;
    assert!(found.words()[0].starts_with("deferred 4.3.5 "), "{found:?}");
    assert_eq!(found.log[0], "relayhost configuration problem");
}

/// Observed on Postfix 3.7: hosts that greet with 421 do not count, hosts that can be talked to do.
#[tokio::test]
async fn so_many_hosts_can_be_talked_to() {
    let (names, _) = name_server().await;
    let grey = "S:220 h\nC:EHLO\nS:250 h\nC:MAIL\nS:450 grey\nQ";
    let busy = Server::at("127.0.0.2", 0, &["S:421 busy\nQ"]).await;
    let first = Server::at("127.0.0.3", busy.port, &[grey]).await;
    let second = Server::at("127.0.0.4", busy.port, &[grey]).await;
    let untouched = Server::at("127.0.0.5", busy.port, &[WILLING]).await;
    let world = World::with_names(at_port(busy.port), names);
    let found = world.deliver("many.example", &["a@many.example"]).await;
    let words =
        "deferred 4.0.0 host 4.many.example[127.0.0.4] said: 450 grey (in reply to MAIL FROM command)";
    assert_eq!(found.words(), [words]);
    drop(world);
    for server in [busy, first, second] {
        server.heard().await;
    }
    drop(untouched);
}
