//! SMTP and LMTP: what each reply leads to.

use super::world::{Server, World, settings, to};
use crate::fixtures::queue_file;
use crate::network::{Protocol, TlsLevel};
use postfix::record::{RecordType, encode};
use std::io::Write as _;

const UP_TO_MAIL: &str = "S:220 h\nC:EHLO client.example\nS:250 h\n";
const WILLING: &str =
    "S:220 h\nC:EHLO\nS:250 h\nC:MAIL\nS:250 ok\nC:RCPT\nS:250 ok\nC:DATA\nS:354 go\nD\nS:250 2.0.0 taken\nQ";

fn script(tail: &str) -> String {
    format!("{UP_TO_MAIL}{tail}")
}

#[tokio::test]
async fn a_message_is_sent_and_the_connection_used_again() {
    let server = Server::new(&["
        S:220 h
        C:EHLO client.example
        S:250-h
        S:250-SIZE 1000
        S:250-DSN
        S:250 PIPELINING
        C:MAIL FROM:<alice@sender.example> SIZE=294
        C:RCPT TO:<a@x.example> ORCPT=rfc822;a@x.example
        C:RCPT TO:<b@x.example>
        C:DATA
        S:250 ok
        S:250 ok
        S:550 5.1.1 unknown
        S:354 go
        D
        S:250 2.0.0 Ok: queued as X1
        C:MAIL
        C:RCPT
        C:DATA
        S:250 ok
        S:250 ok
        S:354 go
        D
        S:250 2.0.0 Ok: queued as X2
        Q"])
    .await;
    let world = World::new(settings(Protocol::Smtp));
    let first = world.deliver(&server.nexthop(), &["a@x.example", "b@x.example"]).await;
    assert_eq!(
        first.words(),
        [
            "sent 2.0.0 250 2.0.0 Ok: queued as X1",
            "bounced 5.1.1 host H said: 550 5.1.1 unknown (in reply to RCPT TO command)"
        ]
    );
    assert!(first.outcomes[0].is_dsn_passed_on && !first.is_blamed());
    let line = first.log.iter().find(|line| line.contains("<a@x.example>")).unwrap();
    let head = format!("1C835288: to=<a@x.example>, relay=127.0.0.1[127.0.0.1]:{}, delay=", server.port);
    assert!(line.starts_with(&head), "{line}");
    assert!(line.ends_with(", dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as X1)"), "{line}");

    let second = world.deliver(&server.nexthop(), &["c@x.example"]).await;
    assert_eq!(second.words(), ["sent 2.0.0 250 2.0.0 Ok: queued as X2"]);
    assert!(second.log[0].contains(&format!(":{}, conn_use=2, delay=", server.port)), "{:?}", second.log);
    let heard = server.heard().await;
    assert!(heard.contains(&"| ..dot".to_owned()) && heard.contains(&"| text".to_owned()), "{heard:?}");
}

/// Rows of the table of replies: how the session ends, the outcome, and is the destination to blame. With a second host that
/// is willing: is it tried?
const ROWS: &[(&str, &str, bool, bool)] = &[
    ("S:421 4.3.2 busy\nQ", "deferred 4.3.2 host H refused to talk to me: 421 4.3.2 busy", true, true),
    ("S:554 5.7.1 no\nQ", "deferred 4.7.1 host H refused to talk to me: 554 5.7.1 no", true, true),
    ("", "deferred 4.4.2 lost connection with H while receiving the initial server greeting", true, true),
    (
        "S:220 h\nC:EHLO",
        "deferred 4.4.2 lost connection with H while performing the EHLO handshake",
        true,
        true,
    ),
    (
        "S:220 h\nC:EHLO\nS:500 what\nC:HELO\nS:550 never\nQ",
        "bounced 5.0.0 host H refused to talk to me: 550 never",
        false,
        false,
    ),
    (
        "MAIL\nS:450 4.1.8 later\nQ",
        "deferred 4.1.8 host H said: 450 4.1.8 later (in reply to MAIL FROM command)",
        false,
        true,
    ),
    ("MAIL\nS:550 no\nQ", "bounced 5.0.0 host H said: 550 no (in reply to MAIL FROM command)", false, false),
    ("MAIL", "deferred 4.4.2 lost connection with H while sending MAIL FROM", true, true),
    (
        "MAIL\nS:250 ok\nC:RCPT\nS:450 4.2.0 grey\nQ",
        "deferred 4.2.0 host H said: 450 4.2.0 grey (in reply to RCPT TO command)",
        false,
        true,
    ),
    ("MAIL\nS:250 ok\nC:RCPT", "deferred 4.4.2 lost connection with H while sending RCPT TO", true, true),
    (
        "MAIL\nS:250 ok\nC:RCPT\nS:250 ok\nC:DATA\nS:451 x\nQ",
        "deferred 4.0.0 host H said: 451 x (in reply to DATA command)",
        false,
        true,
    ),
    (
        "MAIL\nS:250 ok\nC:RCPT\nS:250 ok\nC:DATA\nS:250 2.0.0 x\nQ",
        "bounced 5.5.0 Protocol error: host H said: 250 2.0.0 x (in reply to DATA command)",
        false,
        false,
    ),
    (
        "MAIL\nS:250 ok\nC:RCPT\nS:250 ok\nC:DATA",
        "deferred 4.4.2 lost connection with H while sending DATA command",
        true,
        true,
    ),
    (
        "MAIL\nS:250 ok\nC:RCPT\nS:250 ok\nC:DATA\nS:354 go\nD\nS:452 4.2.2 full\nQ",
        "deferred 4.2.2 host H said: 452 4.2.2 full (in reply to end of DATA command)",
        false,
        true,
    ),
    (
        "MAIL\nS:250 ok\nC:RCPT\nS:250 ok\nC:DATA\nS:354 go\nD\nS:554 spam\nQ",
        "bounced 5.0.0 host H said: 554 spam (in reply to end of DATA command)",
        false,
        false,
    ),
    (
        "MAIL\nS:250 ok\nC:RCPT\nS:250 ok\nC:DATA\nS:354 go\nD",
        "deferred 4.4.2 lost connection with H while sending end of data -- message may be sent more than once",
        true,
        true,
    ),
];

fn row_script(tail: &str) -> String {
    if tail.starts_with("MAIL") { script(&format!("C:{tail}")) } else { tail.to_owned() }
}

#[tokio::test]
async fn each_reply_has_its_outcome() {
    for (tail, words, is_blamed, _) in ROWS {
        let server = Server::new(&[&row_script(tail)]).await;
        let world = World::new(settings(Protocol::Smtp));
        let found = world.deliver(&server.nexthop(), &["a@x.example"]).await;
        assert_eq!((found.words(), found.is_blamed()), (vec![(*words).to_owned()], *is_blamed), "{tail}");
        drop(world);
        server.heard().await;
    }
}

#[tokio::test]
async fn a_second_host_is_tried_where_the_first_has_not_the_last_word() {
    for (tail, words, _, tries_next) in ROWS {
        let first = Server::new(&[&row_script(tail)]).await;
        let second = Server::new(&[WILLING]).await;
        let world = World::new(settings(Protocol::Smtp));
        let nexthop = format!("{}, {}", first.nexthop(), second.nexthop());
        let found = world.deliver(&nexthop, &["a@x.example"]).await;
        if *tries_next {
            assert_eq!(found.words(), ["sent 2.0.0 250 2.0.0 taken"], "{tail}");
            let reason = words.splitn(3, ' ').nth(2).unwrap().replace("H ", "127.0.0.1[127.0.0.1] ");
            assert!(found.log.contains(&format!("1C835288: {reason}")), "{reason}: {:?}", found.log);
        } else {
            assert_eq!(found.words(), [*words], "{tail}");
        }
        assert!(!found.is_blamed(), "{tail}");
    }
}

#[tokio::test]
async fn a_refused_connection_is_logged_and_to_blame() {
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let world = World::new(settings(Protocol::Smtp));
    let found = world.deliver(&format!("[127.0.0.1]:{port}"), &["a@x.example"]).await;
    assert_eq!(found.words(), [format!("deferred 4.4.1 connect to H:{port}: Connection refused")]);
    assert_eq!(found.log[0], format!("connect to 127.0.0.1[127.0.0.1]:{port}: Connection refused"));
    assert!(found.log[1].contains("relay=none, ") && found.is_blamed());
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_no_word_on_the_mail() {
    let closing =
        format!("{UP_TO_MAIL}C:MAIL\nS:250 ok\nC:RCPT\nS:250 ok\nC:DATA\nS:354 go\nD\nS:250 ok\nC:MAIL");
    let server = Server::new(&[&closing, WILLING]).await;
    let world = World::new(settings(Protocol::Smtp));
    for _ in 0..2 {
        let found = world.deliver(&server.nexthop(), &["a@x.example"]).await;
        assert!(found.words()[0].starts_with("sent"), "{found:?}");
    }
}

#[tokio::test]
async fn a_server_that_asks_for_less_is_heard() {
    let server = Server::new(&[&script("C:MAIL\nS:421 4.7.28 unusual rate\nQ")]).await;
    let found = World::new(settings(Protocol::Smtp)).deliver(&server.nexthop(), &["a@x.example"]).await;
    assert!(found.finished.is_congested && !found.is_blamed());
}

#[tokio::test]
async fn what_a_host_cannot_take_is_not_sent() {
    let offers = "S:220 h\nC:EHLO\nS:250-h\nS:250 SIZE 100\nQ";
    let server = Server::new(&[offers, offers]).await;
    let world = World::new(settings(Protocol::Smtp));
    let found = world.deliver(&server.nexthop(), &["a@x.example"]).await;
    assert_eq!(found.words(), ["bounced 5.3.4 message size 294 exceeds size limit 100 of server H"]);
    let mut request = to(&server.nexthop(), &["a@x.example"]);
    request.size_bytes = 10;
    request.is_smtp_utf8 = true;
    let found = world.deliver_this(&request, &queue_file(&["x"])).await;
    assert_eq!(found.words(), ["bounced 5.6.7 SMTPUTF8 is required, but was not offered by host H"]);
}

#[tokio::test]
async fn where_tls_is_a_must_nothing_goes_out_in_plain_text() {
    for (offer, code) in [("S:250 h", "4.7.4"), ("S:250-h\nS:250 STARTTLS", "4.7.5")] {
        let server = Server::new(&[&format!("S:220 h\nC:EHLO\n{offer}\nQ")]).await;
        let mut settings = settings(Protocol::Smtp);
        settings.tls = TlsLevel::Mandatory;
        let found = World::new(settings).deliver(&server.nexthop(), &["a@x.example"]).await;
        assert!(found.words()[0].starts_with(&format!("deferred {code} TLS is required")), "{found:?}");
        server.heard().await;
    }
}

#[tokio::test]
async fn a_log_in_needs_leave_to_send_the_password() {
    let offers = "S:220 h\nC:EHLO\nS:250-h\nS:250 AUTH PLAIN LOGIN\n";
    let tail = "C:MAIL\nS:250 ok\nC:RCPT\nS:250 ok\nC:DATA\nS:354 go\nD\nS:250 ok\nQ";
    // base64 of NUL me NUL secret
    let plain = format!("{offers}C:AUTH PLAIN AG1lAHNlY3JldA==\nS:235 in\n{tail}");
    let login = format!(
        "S:220 h\nC:EHLO\nS:250-h\nS:250 AUTH LOGIN\nC:AUTH LOGIN\nS:334 VXNlcm5hbWU6\nC:bWU=\nS:334 UGFzc3dvcmQ6\n\
         C:c2VjcmV0\nS:235 in\n{tail}"
    );
    let wrong = format!("{offers}C:AUTH PLAIN\nS:535 5.7.8 wrong\nQ");
    for (script, allows, words) in [
        (plain, true, "sent 2.0.0 250 ok"),
        (login, true, "sent 2.0.0 250 ok"),
        (wrong, true, "deferred 4.7.8 SASL authentication failed; server H said: 535 5.7.8 wrong"),
        (
            format!("{offers}Q"),
            false,
            "deferred 4.7.0 SASL authentication failed; cannot authenticate to server H: no mechanism available",
        ),
    ] {
        let server = Server::new(&[&script]).await;
        let mut settings = settings(Protocol::Smtp);
        (settings.authenticates, settings.allows_plaintext) = (true, allows);
        let found = World::new(settings).deliver(&server.nexthop(), &["a@x.example"]).await;
        assert_eq!(found.words(), [words]);
    }
}

#[tokio::test]
async fn lmtp_answers_for_each_recipient() {
    let server = Server::new(&["
        S:220 h
        C:LHLO client.example
        S:250-h
        S:250 PIPELINING
        C:MAIL
        C:RCPT
        C:RCPT
        C:RCPT
        C:RCPT
        C:DATA
        S:250 ok
        S:250 ok
        S:550 5.1.1 no
        S:250 ok
        S:250 ok
        S:354 go
        D
        S:250 2.1.5 one
        S:452 4.2.2 full"])
    .await;
    let world = World::new(settings(Protocol::Lmtp));
    let recipients = ["a@x.example", "b@x.example", "c@x.example", "d@x.example"];
    let found = world.deliver(&format!("inet:127.0.0.1:{}", server.port), &recipients).await;
    assert_eq!(
        found.words(),
        [
            "sent 2.1.5 250 2.1.5 one",
            "bounced 5.1.1 host H said: 550 5.1.1 no (in reply to RCPT TO command)",
            "deferred 4.2.2 host H said: 452 4.2.2 full (in reply to end of DATA command)",
            "deferred 4.4.2 lost connection with H while sending end of data -- message may be sent more than once",
        ]
    );
}

#[tokio::test]
async fn a_socket_of_the_file_system_that_is_not_there() {
    let world = World::new(settings(Protocol::Lmtp));
    let found = world.deliver("unix:/nowhere/lmtp", &["a@x.example"]).await;
    let words = "deferred 4.4.1 connect to client.example[/nowhere/lmtp]: No such file or directory";
    assert_eq!((found.words(), found.is_blamed()), (vec![words.to_owned()], true));
}

#[tokio::test]
async fn a_damaged_content_is_never_ended() {
    let tail = "C:MAIL\nS:250 ok\nC:RCPT\nS:250 ok\nC:DATA\nS:354 go";
    let server = Server::new(&[&script(&format!("{tail}\nC:<end>"))]).await;
    let mut records = Vec::new();
    encode(&mut records, RecordType::NORMAL, b"Subject: x");
    encode(&mut records, RecordType::RECIPIENT, b"a@x.example");
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&records).unwrap();
    let world = World::new(settings(Protocol::Smtp));
    let found = world.deliver_this(&to(&server.nexthop(), &["a@x.example"]), &file).await;
    assert!(found.finished.is_content_damaged && found.outcomes.is_empty(), "{found:?}");
    server.heard().await;
}

#[tokio::test]
async fn soft_bounce_defers() {
    let server = Server::new(&[&script("C:MAIL\nS:550 no\nQ")]).await;
    let mut settings = settings(Protocol::Smtp);
    settings.soft_bounce = true;
    let found = World::new(settings).deliver(&server.nexthop(), &["a@x.example"]).await;
    assert_eq!(found.words(), ["SOFTBOUNCE 4.0.0 host H said: 550 no (in reply to MAIL FROM command)"]);
}
