//! A pipe transport with real commands.

use std::cell::RefCell;
use std::time::Duration;

use delivery::outcome::Fate;

use super::*;
use crate::fixtures::{queue_file, request};

const LINES: &[&str] = &["Subject: x", "Delivered-To: Loop@e.com", "", ".dot", "From me"];

fn agent(words: &[&str]) -> PipeAgent {
    let words: Vec<&str> = ["user=u"].iter().chain(words).copied().collect();
    PipeAgent {
        attributes: Attributes::parse(&words).unwrap(),
        surroundings: Surroundings {
            environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
            directory: "/".into(),
            time_limit: Duration::from_secs(60),
        },
        recipient_delimiter: String::new(),
        soft_bounce: false,
    }
}

/// What was reported, and what was logged.
fn delivered(agent: &PipeAgent, request: &Request, file: &File) -> (Vec<Outcome>, Vec<String>, Finished) {
    let mut outcomes = Vec::new();
    let log = RefCell::new(Vec::new());
    let finished = agent.deliver(
        request,
        file,
        &mut |each| {
            assert_eq!((each.number, each.index), (request.number, outcomes.len()));
            outcomes.push(each.outcome);
        },
        &|notice| log.borrow_mut().push(notice.text),
    );
    (outcomes, log.into_inner(), finished)
}

fn reason(words: &[&str], recipients: &[&str]) -> (Fate, String, String) {
    let (outcomes, _, finished) = delivered(&agent(words), &request(recipients), &queue_file(LINES));
    assert_eq!(finished, Finished::well(7));
    assert_eq!(outcomes.len(), recipients.len());
    let first = &outcomes[0];
    assert!(outcomes.iter().all(|each| each == first), "all share the fate");
    (first.fate, first.status.to_string(), first.reason.clone())
}

#[test]
fn a_success_is_logged_for_each_recipient_word_for_word() {
    let agent = agent(&["argv=sh", "-c", "cat >/dev/null; echo $$0 $$*", "${recipient}"]);
    let request = request(&["a@e.com", "b@e.com"]);
    let (outcomes, log, _) = delivered(&agent, &request, &queue_file(LINES));
    assert!(outcomes.iter().all(|each| each.fate == Fate::Sent));
    for (line, address) in log.iter().zip(["a@e.com", "b@e.com"]) {
        let (begin, rest) = line.split_once(" delay=").unwrap();
        assert_eq!(begin, format!("1C835288: to=<{address}>, relay=myprog,"));
        let end = ", dsn=2.0.0, status=sent (delivered via myprog service (a@e.com b@e.com))";
        assert!(rest.ends_with(end), "{line}");
        assert_eq!(rest.split_once("delays=").unwrap().1.split('/').count(), 4, "{line}");
    }
    assert_eq!(log.len(), 2);
}

#[test]
fn the_command_gets_the_message_as_the_flags_say() {
    let text = |words: &[&str], sender: &str| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("got");
        let argv = ["argv=sh".to_owned(), "-c".to_owned(), format!("cat >{}", path.display())];
        let words: Vec<&str> = words.iter().copied().chain(argv.iter().map(String::as_str)).collect();
        let mut request = request(&["bob@e.com"]);
        request.recipients[0].original = b"all@e.com".to_vec();
        request.sender = sender.as_bytes().to_vec();
        let (outcomes, ..) = delivered(&agent(&words), &request, &queue_file(LINES));
        assert_eq!(outcomes[0].fate, Fate::Sent, "{outcomes:?}");
        std::fs::read_to_string(path).unwrap()
    };
    let plain = "Subject: x\nDelivered-To: Loop@e.com\n\n.dot\nFrom me\n";
    assert_eq!(text(&[], "s@e.com"), plain);
    assert_eq!(
        text(&["flags=DOR"], "s@e.com"),
        format!("Return-Path: <s@e.com>\nX-Original-To: all@e.com\nDelivered-To: bob@e.com\n{plain}")
    );
    assert_eq!(
        text(&["flags=B.>", "eol=\\r\\n"], "s@e.com"),
        "Subject: x\r\nDelivered-To: Loop@e.com\r\n\r\n..dot\r\n>From me\r\n\r\n"
    );
    assert!(text(&["flags=R"], "").starts_with("Return-Path: <MAILER-DAEMON>\n"));
    assert!(text(&["flags=R", "null_sender="], "").starts_with("Return-Path: <>\n"));
    let from = text(&["flags=F"], "s@e.com");
    let line = from.lines().next().unwrap();
    assert!(line.starts_with("From s@e.com  ") && line.len() == "From s@e.com  ".len() + 24, "{line}");
}

#[test]
fn the_end_of_the_command_decides() {
    let shell = |script: &'static str| reason(&["argv=sh", "-c", script], &["a@e.com", "b@e.com"]);
    assert_eq!(shell("exit 67"), (Fate::Bounced, "5.1.1".into(), "user unknown".into()));
    assert_eq!(
        shell("echo out; exit 75"),
        (Fate::Deferred, "4.3.0".into(), "temporary failure. Command output: out".into())
    );
    assert_eq!(shell("echo 5.7.1 no; exit 75"), (Fate::Bounced, "5.7.1".into(), "no".into()));
    assert_eq!(
        shell("kill -9 $$$$"),
        (Fate::Deferred, "4.3.0".into(), "Command died with signal 9: \"sh\"".into())
    );
}

#[test]
fn a_command_that_is_missing_is_tried_again() {
    let (fate, status, reason) = reason(&["argv=/no/such/filter"], &["a@e.com"]);
    assert_eq!((fate, status.as_str()), (Fate::Deferred, "4.3.0"));
    assert_eq!(
        reason,
        "temporary failure. Command output: pipe: fatal: cannot run /no/such/filter: No such file or directory"
    );
}

#[test]
fn at_the_time_limit_the_mail_is_returned() {
    let mut agent = agent(&["argv=sleep", "1000"]);
    agent.surroundings.time_limit = Duration::from_secs(1);
    let (outcomes, ..) = delivered(&agent, &request(&["a@e.com"]), &queue_file(LINES));
    assert_eq!(outcomes[0].fate, Fate::Bounced);
    assert_eq!(outcomes[0].reason, "Command time limit exceeded: \"sleep\"");
    agent.soft_bounce = true;
    let (outcomes, ..) = delivered(&agent, &request(&["a@e.com"]), &queue_file(LINES));
    assert_eq!((outcomes[0].fate, outcomes[0].word), (Fate::Deferred, "SOFTBOUNCE"));
}

#[test]
fn what_cannot_be_given_to_the_command_is_not() {
    // None of these runs it.
    let argv = ["argv=/no/such/filter"];
    let with = |flag: &'static str| [&[flag][..], &argv].concat();
    assert_eq!(
        reason(&with("size=293"), &["a@e.com"]),
        (Fate::Bounced, "5.2.3".into(), "message too large".into())
    );
    assert_eq!(
        reason(&with("flags=D"), &["a@e.com", "b@e.com"]),
        (Fate::Deferred, "4.3.5".into(), "mail system configuration error".into())
    );
    assert_eq!(
        reason(&with("flags=D"), &["loop@E.com"]),
        (Fate::Bounced, "5.4.6".into(), "mail forwarding loop for loop@E.com".into())
    );
}

#[test]
fn a_damaged_queue_file_is_put_aside_without_an_outcome() {
    let file = queue_file(&["Subject: x", "a line"]);
    file.set_len(19).unwrap();
    let (outcomes, log, finished) = delivered(&agent(&["argv=cat"]), &request(&["a@e.com"]), &file);
    assert_eq!((outcomes.len(), finished.is_content_damaged), (0, true));
    assert!(log[0].contains("1C835288: damaged at offset"), "{log:?}");
}
