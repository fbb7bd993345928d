//! Mailboxes of real users in temporary directories. As root another user gets the mail, else the one who runs the tests.

use std::cell::RefCell;
use std::os::unix::fs::MetadataExt as _;

use delivery::outcome::Fate;
use lookup::{Keys, Options};
use rustix::process::{getegid, geteuid};

use super::*;
use crate::fixtures::{queue_file, request};

const LINES: &[&str] = &["Subject: x", "Delivered-To: loop@v.example", "", "From me", ".dot"];

fn maps(parameter: &'static str, text: &str) -> Maps {
    Maps::open(parameter, Keys::Addresses, text, &Options::default(), &mut Vec::new()).unwrap()
}

/// A user who may have mail: not root.
fn user() -> (u32, u32) {
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    if user == 0 { (60_001, 60_002) } else { (user, group) }
}

fn agent(base: &Path) -> MaildirAgent {
    let (user, group) = user();
    if geteuid().is_root() {
        std::os::unix::fs::chown(base, Some(user), Some(group)).unwrap();
    }
    MaildirAgent {
        base: base.to_owned(),
        mailboxes: maps(
            "virtual_mailbox_maps",
            "inline:{bob@v.example=bob/, loop@v.example=loop/, file@v.example=file, up@v.example=a/../../b/, \
             @catchall.example=all/}",
        ),
        user_ids: maps("virtual_uid_maps", &format!("static:{user}")),
        group_ids: maps("virtual_gid_maps", &format!("static:{group}")),
        user_id_min: 100,
        file_bytes_max: 51_200_000,
        recipient_delimiter: "+".to_owned(),
        shows_original_recipient: true,
        host: "vm".to_owned(),
        soft_bounce: false,
    }
}

fn delivered(agent: &MaildirAgent, request: &Request, file: &File) -> (Vec<Outcome>, Vec<String>) {
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
    assert_eq!(finished, Finished::well(request.number));
    (outcomes, log.into_inner())
}

fn mails(path: &Path) -> Vec<PathBuf> {
    let new = std::fs::read_dir(path.join("new")).into_iter().flatten();
    new.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_message_arrives_with_its_headers_as_the_user() {
    let base = tempfile::tempdir().unwrap();
    let agent = agent(base.path());
    let mut request = request(&["bob+x@v.example", "any@catchall.example", "a b@catchall.example"]);
    request.recipients[0].original = b"all@v.example".to_vec();
    let (outcomes, log) = delivered(&agent, &request, &queue_file(LINES));
    assert!(outcomes.iter().all(|each| each.fate == Fate::Sent), "{log:?}");
    let found = mails(&base.path().join("bob"));
    assert_eq!(
        std::fs::read_to_string(&found[0]).unwrap(),
        "Return-Path: <alice@sender.example>\nX-Original-To: all@v.example\nDelivered-To: bob+x@v.example\n\
         Subject: x\nDelivered-To: loop@v.example\n\nFrom me\n.dot\n"
    );
    let metadata = found[0].metadata().unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), user());
    let texts =
        mails(&base.path().join("all")).into_iter().map(|path| std::fs::read_to_string(path).unwrap());
    let quoted = "Delivered-To: \"a b\"@catchall.example\n";
    assert_eq!(texts.filter(|text| text.contains(quoted)).count(), 1);
    let (begin, rest) = log[0].split_once(" delay=").unwrap();
    assert_eq!(begin, "1C835288: to=<bob+x@v.example>, orig_to=<all@v.example>, relay=virtual,");
    assert!(rest.ends_with(", dsn=2.0.0, status=sent (delivered to maildir)"), "{log:?}");
}

/// The words are Postfix's, where it has some.
#[test]
fn what_cannot_be_delivered_says_why() {
    let base = tempfile::tempdir().unwrap();
    let mut agent = agent(base.path());
    let tried = |agent: &MaildirAgent, address: &str| {
        let (outcomes, log) = delivered(agent, &request(&[address]), &queue_file(LINES));
        let outcome = &outcomes[0];
        (format!("{} {} {}", outcome.word, outcome.status, outcome.reason), log.join("\n"))
    };
    let (outcome, _) = tried(&agent, "nobody@v.example");
    assert_eq!(outcome, "bounced 5.1.1 unknown user: \"nobody@v.example\"");
    let (outcome, _) = tried(&agent, "loop@v.example");
    assert_eq!(outcome, "bounced 5.4.6 mail forwarding loop for loop@v.example");
    for (address, words) in [
        (
            "file@v.example",
            "mailbox file in virtual_mailbox_maps is a file: this server delivers into Maildirs only",
        ),
        ("up@v.example", "mailbox a/../../b/ in virtual_mailbox_maps: .. is refused"),
    ] {
        let (outcome, log) = tried(&agent, address);
        assert_eq!(outcome, "deferred 4.3.5 mail system configuration error");
        assert!(log.starts_with(&format!("recipient {address}: {words}")), "{log}");
    }
    agent.file_bytes_max = 20;
    let (outcome, _) = tried(&agent, "bob@v.example");
    assert_eq!(outcome, "deferred 4.2.2 maildir delivery failed: error writing message: File too large");
    agent.user_ids = maps("virtual_uid_maps", "static:99");
    let (outcome, log) = tried(&agent, "bob@v.example");
    assert_eq!(outcome, "deferred 4.3.5 mail system configuration error");
    assert!(log.contains("bad uid 99 in virtual_uid_maps: virtual_minimum_uid is 100"), "{log}");
    agent.user_ids = maps("virtual_uid_maps", "");
    assert!(tried(&agent, "bob@v.example").1.contains("not found in virtual_uid_maps"));
    agent.user_ids = maps("virtual_uid_maps", "static:vmail");
    assert!(tried(&agent, "bob@v.example").1.contains("bad value vmail in virtual_uid_maps: write a number"));
    assert!(mails(&base.path().join("bob")).is_empty());
    agent.mailboxes = maps("virtual_mailbox_maps", "fail:x");
    let (outcome, _) = tried(&agent, "bob@v.example");
    assert!(outcome.starts_with("deferred 4.3.0 mail system configuration error: "), "{outcome}");
    assert!(outcome.contains("virtual_mailbox_maps"), "{outcome}");
    agent.mailboxes = maps("virtual_mailbox_maps", "");
    agent.soft_bounce = true;
    assert!(tried(&agent, "bob@v.example").0.starts_with("SOFTBOUNCE 4.1.1 unknown user"));
}

#[test]
fn a_directory_that_the_user_may_not_write_is_tried_again() {
    let base = tempfile::tempdir().unwrap();
    let agent = MaildirAgent { base: "/proc/1".into(), ..agent(base.path()) };
    let (outcomes, _) = delivered(&agent, &request(&["bob@v.example"]), &queue_file(LINES));
    assert_eq!((outcomes[0].fate, outcomes[0].status.to_string()), (Fate::Deferred, "4.2.0".into()));
    assert!(outcomes[0].reason.starts_with("maildir delivery failed: create maildir file /proc/1/bob/tmp/"));
}
