//! A name server for the tests: it answers from a table, on 127.0.0.1:53 of our own network namespace.

use std::net::{IpAddr, UdpSocket};
use std::str::FromStr;
use std::sync::OnceLock;

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, PTR};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// What the server knows about a name.
#[derive(Debug, Clone, Copy)]
enum Answer {
    /// This name, in answer to PTR.
    Pointer(&'static str),
    /// This address, in answer to A or AAAA.
    Address(&'static str),
    /// Another name for it.
    Alias(&'static str),
    /// The server has trouble.
    Failure,
    /// No answer at all.
    Silence,
    /// The name exists, without records of the type.
    Nothing,
    /// The answer says that there is no such name, whatever records are in it.
    Denial,
}

use Answer::{Address, Alias, Denial, Failure, Nothing, Pointer, Silence};

/// The loopback addresses 127.0.1.x and their names. What is not here does not exist.
const ZONE: &[(&str, Answer)] = &[
    ("1.1.0.127.in-addr.arpa", Pointer("mail.dns.example")),
    ("mail.dns.example", Address("127.0.1.1")),
    ("2.1.0.127.in-addr.arpa", Pointer("other.dns.example")),
    ("other.dns.example", Address("192.0.2.2")),
    ("3.1.0.127.in-addr.arpa", Pointer("nowhere.dns.example")),
    ("4.1.0.127.in-addr.arpa", Failure),
    ("5.1.0.127.in-addr.arpa", Pointer("broken.dns.example")),
    ("broken.dns.example", Failure),
    ("6.1.0.127.in-addr.arpa", Pointer("alias.dns.example")),
    ("alias.dns.example", Alias("target.dns.example")),
    ("target.dns.example", Address("127.0.1.6")),
    ("7.1.0.127.in-addr.arpa", Pointer("10.0.0.5")),
    ("8.1.0.127.in-addr.arpa", Pointer("-bad.dns.example")),
    ("9.1.0.127.in-addr.arpa", Pointer("under_score.dns.example")),
    ("under_score.dns.example", Address("127.0.1.9")),
    ("10.1.0.127.in-addr.arpa", Pointer("MiXed.Dns.Example")),
    ("mixed.dns.example", Address("127.0.1.10")),
    ("11.1.0.127.in-addr.arpa", Pointer("two.dns.example")),
    ("two.dns.example", Address("192.0.2.9")),
    ("two.dns.example", Address("127.0.1.11")),
    ("12.1.0.127.in-addr.arpa", Silence),
    ("13.1.0.127.in-addr.arpa", Pointer("empty.dns.example")),
    ("empty.dns.example", Nothing),
    ("14.1.0.127.in-addr.arpa", Pointer("only6.dns.example")),
    ("only6.dns.example", Address("2001:db8::14")),
    ("15.1.0.127.in-addr.arpa", Pointer("12345")),
    ("16.1.0.127.in-addr.arpa", Pointer("unknown")),
    ("unknown", Address("127.0.1.16")),
    ("17.1.0.127.in-addr.arpa", Pointer("\u{1b}[31m\r\nFAKED\u{7}.dns.example")),
    ("20.1.0.127.in-addr.arpa", Silence),
    ("18.1.0.127.in-addr.arpa", Pointer("nul\0\u{9b}.dns.example")),
    ("21.1.0.127.in-addr.arpa", Pointer("denied.dns.example")),
    ("21.1.0.127.in-addr.arpa", Denial),
    ("denied.dns.example", Address("127.0.1.21")),
    ("22.1.0.127.in-addr.arpa", Pointer("denied-address.dns.example")),
    ("denied-address.dns.example", Address("127.0.1.22")),
    ("denied-address.dns.example", Denial),
    ("23.1.0.127.in-addr.arpa", Pointer("half-failed.dns.example")),
    ("half-failed.dns.example", Address("127.0.1.23")),
    ("half-failed.dns.example", Failure),
    ("24.1.0.127.in-addr.arpa", Pointer("dangling.dns.example")),
    ("dangling.dns.example", Alias("nowhere.dns.example")),
];

/// Seconds that an answer may be kept.
const TTL_SECONDS: u32 = 60;

static RUNNING: OnceLock<()> = OnceLock::new();

/// Starts the server, once; it runs until the process ends.
pub fn start() {
    assert!(crate::isolation::inside(), "port 53 is ours only in our own network namespace");
    RUNNING.get_or_init(|| {
        let socket = UdpSocket::bind("127.0.0.1:53").expect("port 53 on loopback");
        std::thread::spawn(move || serve(&socket));
    });
}

fn serve(socket: &UdpSocket) {
    let mut buffer = [0; 2048];
    while let Ok((length, client)) = socket.recv_from(&mut buffer) {
        let Ok(query) = Message::from_vec(&buffer[..length]) else { continue };
        if let Some(answer) = answer(&query) {
            let _ = socket.send_to(&answer.to_vec().unwrap(), client);
        }
    }
}

fn answer(query: &Message) -> Option<Message> {
    let question = query.queries.first()?;
    let mut message = Message::response(query.metadata.id, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.metadata.recursion_available = true;
    message.add_query(question.clone());
    let mut name = question.name().clone();
    let found = |name: &Name| -> Vec<Answer> {
        let asked = name.to_string().trim_end_matches('.').to_lowercase();
        ZONE.iter().filter(|(known, _)| *known == asked).map(|(_, answer)| *answer).collect()
    };
    let mut answers = found(&name);
    if let [Alias(target)] = answers[..] {
        let target = Name::from_str(&format!("{target}.")).unwrap();
        message.add_answer(Record::from_rdata(name, TTL_SECONDS, RData::CNAME(CNAME(target.clone()))));
        answers = found(&target);
        name = target;
    }
    if answers.is_empty() {
        message.metadata.response_code = ResponseCode::NXDomain;
    }
    for answer in answers {
        match answer {
            Silence => return None,
            Failure => message.metadata.response_code = ResponseCode::ServFail,
            Denial => message.metadata.response_code = ResponseCode::NXDomain,
            Nothing | Alias(_) => {}
            Pointer(target) if question.query_type() == RecordType::PTR => {
                let target = Name::from_labels(target.split('.').map(str::as_bytes)).unwrap();
                message.add_answer(Record::from_rdata(name.clone(), TTL_SECONDS, RData::PTR(PTR(target))));
            }
            Address(address) => {
                let data = match (address.parse().unwrap(), question.query_type()) {
                    (IpAddr::V4(v4), RecordType::A) => RData::A(A(v4)),
                    (IpAddr::V6(v6), RecordType::AAAA) => RData::AAAA(AAAA(v6)),
                    _ => continue,
                };
                message.add_answer(Record::from_rdata(name.clone(), TTL_SECONDS, data));
            }
            Pointer(_) => {}
        }
    }
    Some(message)
}
