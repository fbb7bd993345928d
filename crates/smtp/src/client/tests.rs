#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use super::*;
use proptest::prelude::*;

const ALL: &str = "250-mx.example.org\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250-DSN\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN\r\n";
const PLAIN: &str = "250 mx.example.org\r\n";

fn message(recipients: usize) -> Message {
    let recipients =
        (0..recipients).map(|number| Recipient::new(format!("r{number}@example.org").as_bytes()).unwrap());
    Message::new(b"list@example.com", recipients.collect()).unwrap()
}

/// A session that is ready, behind a greeting and this reply to EHLO.
fn ready(dialect: Dialect, offers: &str) -> Client {
    let mut client = Client::new(Options { dialect, ..Options::smtp("relay.example.com") });
    assert_eq!(client.stage(), Stage::Greeting);
    client.receive(b"220 hello\r\n").unwrap();
    client.receive(offers.as_bytes()).unwrap();
    assert_eq!(told(&mut client), ["Ready"]);
    let _ = client.take_output();
    client
}

fn sent(client: &mut Client) -> String {
    String::from_utf8(client.take_output()).unwrap()
}

/// The events, each as a short line.
fn told(client: &mut Client) -> Vec<String> {
    std::iter::from_fn(|| client.next_event()).map(|event| short(&event)).collect()
}

fn short(event: &Event) -> String {
    match event {
        Event::Refused { stage, reply } => format!("refused {stage:?} {}", reply.code),
        Event::Recipient { index, accepted, reply } => format!("rcpt {index} {accepted} {}", reply.code),
        Event::Answer { recipient, accepted, reply } => {
            format!("answer {recipient:?} {accepted} {}", reply.code)
        }
        Event::StartTlsRefused(reply) => format!("no tls {}", reply.code),
        Event::AuthRefused(reply) => format!("no auth {}", reply.code),
        Event::SenderRefused(reply) => format!("no sender {}", reply.code),
        Event::ContentRefused(reply) => format!("no content {}", reply.code),
        Event::XForwardRefused(reply) => format!("no xforward {}", reply.code),
        Event::Unsolicited(reply) => format!("unsolicited {}", reply.code),
        Event::Reset(reply) => format!("reset {}", reply.code),
        Event::Quit(reply) => format!("quit {}", reply.code),
        other => format!("{other:?}"),
    }
}

#[test]
fn ehlo_comes_first_and_helo_after_any_refusal_but_421() {
    let mut client = Client::new(Options::smtp("relay.example.com"));
    client.receive(b"220 x\r\n").unwrap();
    assert_eq!(sent(&mut client), "EHLO relay.example.com\r\n");
    client.receive(b"502 what\r\n").unwrap();
    assert_eq!((sent(&mut client), client.stage()), ("HELO relay.example.com\r\n".into(), Stage::Helo));
    client.receive(b"250 mx and PIPELINING\r\n").unwrap();
    assert_eq!(told(&mut client), ["Ready"]);
    assert_eq!(client.extensions(), &Extensions { server_name: "mx".into(), ..Extensions::default() });

    let mut client = Client::new(Options::smtp("relay.example.com"));
    client.receive(b"220 x\r\n421 not now\r\n").unwrap();
    assert_eq!(told(&mut client), ["refused Ehlo 421"]);
}

#[test]
fn a_refused_greeting_is_told_with_its_stage() {
    for (dialect, said, event) in [
        (Dialect::Smtp, "554 no\r\n", "refused Greeting 554"),
        (Dialect::Smtp, "421 busy\r\n", "refused Greeting 421"),
        (Dialect::Smtp, "354 odd\r\n", "refused Greeting 354"),
        (Dialect::Smtp, "220 x\r\n500 x\r\n450 x\r\n", "refused Helo 450"),
        (Dialect::Lmtp, "220 x\r\n550 x\r\n", "refused Lhlo 550"),
    ] {
        let mut client = Client::new(Options { dialect, ..Options::smtp("relay") });
        client.receive(said.as_bytes()).unwrap();
        assert_eq!(told(&mut client), [event], "{said:?}");
        assert!(client.begin(message(1)).is_err() && !client.is_reusable());
    }
}

#[test]
fn with_pipelining_the_envelope_goes_out_at_once() {
    let mut client = ready(Dialect::Smtp, ALL);
    let mut mail = message(2);
    mail.size_bytes = Some(10);
    client.begin(mail).unwrap();
    let envelope = "MAIL FROM:<list@example.com> SIZE=10\r\nRCPT TO:<r0@example.org>\r\nRCPT TO:<r1@example.org>\r\nDATA\r\n";
    assert_eq!(sent(&mut client), envelope);
    assert_eq!(client.stage(), Stage::Mail);
    client.receive(b"250 x\r\n250 x\r\n450 x\r\n").unwrap();
    assert_eq!(
        (told(&mut client), client.stage()),
        (vec!["rcpt 0 true 250".into(), "rcpt 1 false 450".into()], Stage::Data)
    );
    client.receive(b"354 x\r\n").unwrap();
    assert_eq!((told(&mut client), client.stage()), (vec!["SendContent".into()], Stage::Content));
    client.content_sent().unwrap();
    client.quit();
    assert_eq!((sent(&mut client), client.stage()), ("QUIT\r\n".into(), Stage::EndOfContent));
    client.receive(b"250 x\r\n221 bye\r\n").unwrap();
    assert_eq!(told(&mut client), ["answer None true 250", "MessageOver", "quit 221"]);
}

#[test]
fn without_pipelining_commands_wait_for_replies() {
    let mut client = ready(Dialect::Smtp, PLAIN);
    client.begin(message(2)).unwrap();
    for (command, reply) in [
        ("MAIL FROM:<list@example.com>\r\n", "250 x\r\n"),
        ("RCPT TO:<r0@example.org>\r\n", "550 x\r\n"),
        ("RCPT TO:<r1@example.org>\r\n", "250 x\r\n"),
        ("DATA\r\n", "354 x\r\n"),
    ] {
        assert_eq!(sent(&mut client), command);
        client.receive(reply.as_bytes()).unwrap();
    }
    assert_eq!(told(&mut client), ["rcpt 0 false 550", "rcpt 1 true 250", "SendContent"]);
}

/// What a refusal leads to, with and without pipelining: replies, then events, then whether a second message begins with RSET.
#[test]
fn refusals() {
    for (offers, replies, events) in [
        (PLAIN, "550 s\r\n", &["no sender 550", "MessageOver"][..]),
        (ALL, "550 s\r\n503 r\r\n503 r\r\n503 d\r\n", &["no sender 550", "MessageOver"]),
        (ALL, "450 s\r\n250 r\r\n250 r\r\n354 d\r\n554 empty\r\n", &["no sender 450", "MessageOver"]),
        (PLAIN, "250 s\r\n550 r\r\n450 r\r\n", &["rcpt 0 false 550", "rcpt 1 false 450", "MessageOver"]),
        (
            ALL,
            "250 s\r\n550 r\r\n450 r\r\n503 d\r\n",
            &["rcpt 0 false 550", "rcpt 1 false 450", "MessageOver"],
        ),
        (
            ALL,
            "250 s\r\n550 r\r\n450 r\r\n354 d\r\n250 e\r\n",
            &["rcpt 0 false 550", "rcpt 1 false 450", "MessageOver"],
        ),
        (
            ALL,
            "250 s\r\n250 r\r\n450 r\r\n451 d\r\n",
            &["rcpt 0 true 250", "rcpt 1 false 450", "no content 451", "MessageOver"],
        ),
        (
            ALL,
            "250 s\r\n250 r\r\n250 r\r\n250 d\r\n",
            &["rcpt 0 true 250", "rcpt 1 true 250", "no content 250", "MessageOver"],
        ),
        (PLAIN, "354 s\r\n", &["no sender 354", "MessageOver"]),
        (PLAIN, "252 s\r\n150 r\r\n350 r\r\n", &["rcpt 0 false 150", "rcpt 1 false 350", "MessageOver"]),
    ] {
        let mut client = ready(Dialect::Smtp, offers);
        client.begin(message(2)).unwrap();
        client.receive(replies.as_bytes()).unwrap();
        assert_eq!(told(&mut client), events, "{replies:?}");
        assert!(client.is_reusable(), "{replies:?}");
        let _ = client.take_output();
        client.begin(message(1)).unwrap();
        assert_eq!(sent(&mut client).starts_with("RSET\r\n"), !replies.contains('e'), "{replies:?}");
    }
}

#[test]
fn an_empty_message_goes_out_where_data_was_accepted_and_no_recipient() {
    let mut client = ready(Dialect::Smtp, ALL);
    client.begin(message(1)).unwrap();
    let _ = client.take_output();
    client.receive(b"250 x\r\n550 x\r\n354 x\r\n").unwrap();
    assert_eq!((sent(&mut client), client.stage()), (".\r\n".into(), Stage::EndOfContent));
}

#[test]
fn lmtp_answers_for_each_recipient() {
    let mut client = ready(Dialect::Lmtp, ALL);
    client.begin(message(3)).unwrap();
    client.receive(b"250 x\r\n250 x\r\n550 x\r\n250 x\r\n354 x\r\n").unwrap();
    client.content_sent().unwrap();
    let _ = told(&mut client);
    client.receive(b"250 x\r\n").unwrap();
    assert_eq!(
        (told(&mut client), client.stage()),
        (vec!["answer Some(0) true 250".into()], Stage::EndOfContent)
    );
    client.receive(b"452 x\r\n").unwrap();
    assert_eq!(told(&mut client), ["answer Some(2) false 452", "MessageOver"]);
    assert!(client.is_reusable());
}

#[test]
fn a_long_list_stays_within_the_window() {
    let mut client = ready(Dialect::Smtp, ALL);
    client.begin(message(1000)).unwrap();
    let mut commands = 0;
    let mut accepted = 0;
    loop {
        let output = sent(&mut client);
        assert!(output.len() <= PIPELINED_BYTES_MAX, "{}", output.len());
        let lines = output.lines().count();
        commands += lines;
        if output.ends_with("DATA\r\n") {
            client.receive(&[b"250 x\r\n".repeat(lines - 1), b"354 x\r\n".to_vec()].concat()).unwrap();
            break;
        }
        // One reply at a time: the window opens as the replies come.
        assert!(lines > 0);
        client.receive(&b"250 x\r\n".repeat(lines)).unwrap();
    }
    let events = told(&mut client);
    accepted += events.iter().filter(|event| event.starts_with("rcpt")).count();
    assert_eq!((commands, accepted, events.last().unwrap().as_str()), (1002, 1000, "SendContent"));
}

#[test]
fn tls_begins_anew_and_forgets_what_was_said_in_plain_text() {
    let mut client = ready(Dialect::Smtp, ALL);
    client.start_tls().unwrap();
    assert_eq!(sent(&mut client), "STARTTLS\r\n");
    client.receive(b"220 go\r\n250-evil\r\n250 AUTH PLAIN\r\n").unwrap();
    assert_eq!((told(&mut client), client.stage()), (vec!["StartTls".into()], Stage::Handshake));
    client.receive(b"250 more of it\r\n").unwrap();
    client.tls_established().unwrap();
    assert_eq!(sent(&mut client), "EHLO relay.example.com\r\n");
    assert_eq!(client.extensions(), &Extensions::default());
    client.receive(b"250-mx\r\n250 DSN\r\n").unwrap();
    assert_eq!(told(&mut client), ["Ready"]);
    assert!(client.extensions().dsn && !client.extensions().start_tls);
}

#[test]
fn refused_tls_leaves_the_session() {
    let mut client = ready(Dialect::Smtp, ALL);
    client.start_tls().unwrap();
    client.receive(b"454 later\r\n").unwrap();
    assert_eq!(told(&mut client), ["no tls 454"]);
    assert!(client.begin(message(1)).is_ok() && client.tls_established().is_err());
}

#[test]
fn a_log_in_takes_challenges() {
    let mut client = ready(Dialect::Smtp, ALL);
    client.authenticate("PLAIN", Some("AGEAYg==")).unwrap();
    assert_eq!(sent(&mut client), "AUTH PLAIN AGEAYg==\r\n");
    client.receive(b"535 5.7.8 no\r\n").unwrap();
    assert_eq!(told(&mut client), ["no auth 535"]);
    client.authenticate("LOGIN", None).unwrap();
    client.receive(b"334 VXNlcm5hbWU6\r\n").unwrap();
    assert_eq!(told(&mut client), [r#"AuthChallenge("VXNlcm5hbWU6")"#]);
    client.auth_response("YQ==").unwrap();
    assert_eq!(sent(&mut client), "AUTH LOGIN\r\nYQ==\r\n");
    client.receive(b"235 in\r\n").unwrap();
    assert_eq!(told(&mut client), ["Authenticated"]);
}

#[test]
fn xforward_goes_before_the_message_and_its_refusal_does_not_matter() {
    let mut client = ready(Dialect::Smtp, ALL);
    let mut mail = message(1);
    mail.x_forward = vec![b"XFORWARD ADDR=192.0.2.1\r\n".to_vec(), b"XFORWARD PROTO=QMQP\r\n".to_vec()];
    client.begin(mail).unwrap();
    assert!(sent(&mut client).starts_with("XFORWARD ADDR=192.0.2.1\r\nXFORWARD PROTO=QMQP\r\nMAIL FROM"));
    client.receive(b"250 x\r\n501 x\r\n250 x\r\n250 x\r\n354 x\r\n").unwrap();
    assert_eq!(told(&mut client), ["no xforward 501", "rcpt 0 true 250", "SendContent"]);
}

/// A server that refuses while the content is being sent has answered; one that accepts then is not to be believed.
#[test]
fn replies_before_the_content_has_ended() {
    let begun = || {
        let mut client = ready(Dialect::Smtp, ALL);
        client.begin(message(1)).unwrap();
        client.receive(b"250 x\r\n250 x\r\n354 x\r\n").unwrap();
        let _ = told(&mut client);
        client
    };
    let mut client = begun();
    client.receive(b"552 too big\r\n").unwrap();
    assert_eq!(client.early_failure().map(|reply| reply.code), Some(552));
    client.content_sent().unwrap();
    assert_eq!(told(&mut client), ["answer None false 552", "MessageOver"]);
    let error = begun().receive(b"250 taken\r\n").unwrap_err();
    assert_eq!(error.to_string(), "the server accepted the message before it was sent: 250 taken");
}

#[test]
fn a_session_that_the_server_gave_up_is_not_used_again() {
    let mut client = ready(Dialect::Smtp, ALL);
    client.receive(b"421 idle too long\r\n").unwrap();
    assert_eq!(told(&mut client), ["unsolicited 421"]);
    assert!(!client.is_reusable() && client.begin(message(1)).is_err());

    let mut client = ready(Dialect::Smtp, ALL);
    client.begin(message(1)).unwrap();
    client.receive(b"250 x\r\n421 x\r\n421 x\r\n").unwrap();
    assert!(!client.is_reusable());

    let mut client = ready(Dialect::Smtp, ALL);
    client.begin(message(1)).unwrap();
    client.receive(b"250 x\r\nodd line\r\n550 x\r\n503 x\r\n").unwrap();
    assert_eq!(told(&mut client), ["rcpt 0 false 550", "MessageOver"]);
    assert!(!client.is_reusable(), "replies may belong to other commands now");
}

#[test]
fn an_idle_session_is_probed() {
    let mut client = ready(Dialect::Smtp, ALL);
    client.reset().unwrap();
    assert_eq!((sent(&mut client), client.stage()), ("RSET\r\n".into(), Stage::Rset));
    client.receive(b"250 x\r\n").unwrap();
    assert_eq!(told(&mut client), ["reset 250"]);
    assert!(client.is_reusable());
    client.reset().unwrap();
    client.receive(b"451 x\r\n").unwrap();
    assert!(!client.is_reusable());
}

#[test]
fn a_message_without_recipients_is_over_at_once() {
    let mut client = ready(Dialect::Smtp, ALL);
    client.begin(message(0)).unwrap();
    assert_eq!((sent(&mut client), told(&mut client)), (String::new(), vec!["MessageOver".into()]));
}

#[test]
fn the_clients_name_cannot_break_its_line() {
    let mut client = Client::new(Options::smtp("a\r\nMAIL b"));
    client.receive(b"220 x\r\n").unwrap();
    assert_eq!(sent(&mut client), "EHLO a??MAIL?b\r\n");
}

/// Plays a session to its end, with the server's bytes in these pieces.
fn play(offers: &str, script: &[u8], cuts: &[usize]) -> (Vec<String>, String, Result<(), Fault>) {
    let mut client = ready(Dialect::Lmtp, offers);
    client.begin(message(3)).unwrap();
    let (mut events, mut output) = (Vec::new(), String::new());
    let mut cuts: Vec<usize> =
        cuts.iter().map(|&cut| cut.min(script.len())).chain([0, script.len()]).collect();
    cuts.sort_unstable();
    for pair in cuts.windows(2) {
        let received = client.receive(&script[pair[0]..pair[1]]);
        events.extend(told(&mut client));
        output.push_str(&sent(&mut client));
        if received.is_err() {
            return (events, output, received);
        }
    }
    (events, output, Ok(()))
}

proptest! {
    /// Whatever a server says, the same events and the same commands come of it, however its bytes arrive.
    #[test]
    fn pieces_do_not_matter(
        replies in proptest::collection::vec(prop_oneof![
            Just("250 x\r\n"), Just("250-x\r\n"), Just("354 x\r\n"), Just("450 x\r\n"), Just("550 x\n"), Just("421 x\r\n"), Just("junk\r\n"), Just("\r\n"),
        ], 0..12),
        cuts in proptest::collection::vec(0usize..90, 0..8),
        pipelining in any::<bool>(),
    ) {
        let offers = if pipelining { ALL } else { PLAIN };
        let script = replies.concat();
        let whole = play(offers, script.as_bytes(), &[]);
        prop_assert_eq!(play(offers, script.as_bytes(), &cuts), whole);
    }
}
