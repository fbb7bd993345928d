//! Changes of envelope and headers.

use super::*;

/// The envelope around the content, what stands behind it, and the log, after these changes of a message.
fn changed(before: Before, edits: &[Edit]) -> (Vec<String>, Vec<String>, Vec<String>, Before) {
    let Before { mut finished, mut inspection, recipients, heard, content } = before;
    for edit in edits {
        inspection.edit(edit, false).unwrap();
    }
    inspection.change_envelope(&mut finished);
    let (envelope, added) = (shown(&finished.envelope), shown(inspection.added_recipients()));
    let lines = log(&mut inspection);
    (envelope, added, lines, Before { finished, inspection, recipients, heard, content })
}

fn added(edits: &[Edit]) -> (Vec<String>, Vec<String>) {
    let (_, added, lines, _) = changed(plain(), edits);
    (added, lines)
}

#[test]
fn recipients_are_added_in_their_complete_form() {
    for (edits, expected) in [
        (vec![add("d@x", "")], vec!["O d@x", "R d@x"]),
        (vec![add("<dave>", "")], vec!["O dave@mx.test", "R dave@mx.test"]),
        (vec![add("\"a b\"@x", "")], vec!["O a b@x", "R a b@x"]),
        (vec![add("d@x", ""), add("D@x", ""), add("e@x", "")], vec!["O d@x", "R d@x", "O e@x", "R e@x"]),
        (vec![add("a@x", "NOTIFY=NEVER")], vec!["A notify_flags=1", "O a@x", "R a@x"]),
        (
            vec![add("b@x", "  notify=success,failure  ORCPT=rfc822;c+2Bd@x")],
            vec!["A notify_flags=6", "A dsn_orig_rcpt=rfc822;c+d@x", "O b@x", "R b@x"],
        ),
        (vec![add("d@x", ""), delete("d@x")], vec![]),
        (vec![add("d@x", ""), delete("d@x"), add("d@x", "")], vec!["O d@x", "R d@x"]),
        (
            vec![add("d@x", "NOTIFY=DELAY"), add("e@x", ""), delete("d@x"), add("d@x", "NOTIFY=DELAY")],
            vec!["O e@x", "R e@x", "A notify_flags=8", "O d@x", "R d@x"],
        ),
        // The one who is left is still known.
        (vec![add("d@x", ""), add("e@x", ""), delete("e@x"), add("d@x", "")], vec!["O d@x", "R d@x"]),
    ] {
        let (found, lines) = added(&edits);
        assert_eq!((found, lines.len()), (expected.into_iter().map(str::to_owned).collect(), 0), "{edits:?}");
    }
}

#[test]
fn a_recipient_that_was_deleted_may_be_added_again_without_original_recipients_too() {
    let options = Options { enable_original_recipient: false, ..options() };
    let before = message(options, Book(&[]), "s@x", &["r@x"]);
    let (_, added, ..) = changed(before, &[add("d@x", ""), delete("d@x"), add("d@x", ""), add("r@x", "")]);
    assert_eq!(added, ["O d@x", "R d@x"]);
}

#[test]
fn what_makes_no_sense_about_a_recipient_is_told_and_left_out() {
    let from = "from Milter or header/body_checks";
    for (address, parameters, said, recipients) in [
        ("a@x", "NOTIFY=NEVER,DELAY", format!("Bad NOTIFY parameter {from}: \"NOTIFY=NEVER,DELAY\""), 1),
        ("a@x", "NOTIFY=NEVER NOTIFY=DELAY", format!("Bad NOTIFY parameter {from}: \"NOTIFY=DELAY\""), 1),
        ("a@x", "ORCPT=nothing", format!("Bad ORCPT parameter {from}: \"ORCPT=nothing\""), 1),
        ("a@x", "ORCPT=a;b ORCPT=a;c", format!("Bad ORCPT parameter {from}: \"ORCPT=a;c\""), 1),
        ("a@x", "SIZE=1", format!("ignoring ESMTP argument {from}: \"SIZE=1\""), 1),
        (
            "a@x, b@x",
            "",
            "Milter or header/body_checks request to add multi-recipient: \"a@x, b@x\"".into(),
            1,
        ),
        ("", "", "ignoring attempt from Milter to add null recipient".into(), 0),
    ] {
        let (_, added, lines, before) = changed(plain(), &[add(address, parameters)]);
        assert_eq!(lines, [format!("warning: ID: {said}")]);
        let count = added.iter().filter(|record| record.starts_with('R')).count();
        assert_eq!((count, before.inspection.added_count()), (recipients, recipients as u64), "{parameters}");
    }
}

#[test]
fn deleted_recipients_go_with_what_belongs_to_them() {
    let before = || message(options(), Book(&[]), "s@x", &["a@x", "user", "a@x", "b@x"]);
    for (edits, left) in [
        (vec![], vec!["a@x", "user@mx.test", "b@x"]),
        (vec![delete("<a@x>")], vec!["user@mx.test", "b@x"]),
        // As it was named, in the same case.
        (vec![delete("user"), delete("A@x")], vec!["a@x", "b@x"]),
        (vec![delete("user@mx.test"), delete("none@x")], vec!["a@x", "user@mx.test", "b@x"]),
        (vec![delete("a@x"), delete("b@x"), delete("user")], vec![]),
    ] {
        let (.., before) = changed(before(), &edits);
        let mut kept = Vec::new();
        let count = before.inspection.keep_recipients(&before.recipients, &mut kept);
        let expected: Vec<String> = left.iter().map(|address| format!("R {address}")).collect();
        let records = shown(&kept);
        let found: Vec<String> = records.iter().filter(|record| record.starts_with('R')).cloned().collect();
        assert_eq!((count, found), (left.len() as u64, expected), "{edits:?}");
        assert_eq!(records.len(), 3 * left.len(), "{records:?}");
    }
    let (.., lines, _) = changed(plain(), &[delete("a@x, b@x")]);
    assert_eq!(lines, ["warning: ID: Milter request to drop multi-recipient: \"a@x, b@x\""]);
}

#[test]
fn automatic_recipients_can_be_deleted() {
    let options = Options { always_bcc: "archive@x".to_owned(), ..options() };
    let before =
        |edits: &[Edit]| changed(message(options.clone(), Book(&[]), "s@x", &["r@x"]), edits).3.finished;
    let kept = before(&[]);
    assert_eq!(shown(&kept.extracted), ["A notify_flags=1", "O archive@x", "R archive@x"]);
    assert_eq!(kept.counts.recipients, 1);
    let gone = before(&[delete("archive@x")]);
    assert_eq!((gone.extracted.len(), gone.counts.recipients), (0, 0));
}

#[test]
fn a_new_sender_takes_the_place_of_the_old_one() {
    let old = shown(&plain().finished.envelope);
    let at = old.iter().position(|record| record == "S s@x").unwrap();
    for (edits, expected) in [
        (vec![], vec!["S s@x"]),
        (vec![from("new@x", "")], vec!["S new@x"]),
        (vec![from("<new>", "")], vec!["S new@mx.test"]),
        (vec![from("<>", "")], vec!["S "]),
        (vec![from("", "")], vec!["S "]),
        (vec![from("one@x", ""), from("two@x", "")], vec!["S two@x"]),
        (
            vec![from("new@x", "RET=HDRS ENVID=ab+2Bc")],
            vec!["A envelope_id=ab+c", "A ret_flags=2", "S new@x"],
        ),
        (vec![from("new@x", "ret=full"), from("b@x", "ENVID=a+20b+09")], {
            vec!["A envelope_id=a b\t", "A ret_flags=1", "S b@x"]
        }),
    ] {
        let (envelope, _, lines, before) = changed(plain(), &edits);
        let expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
        let end = at + expected.len();
        assert_eq!((&envelope[at..end], lines.len()), (expected.as_slice(), 0), "{edits:?}");
        assert_eq!((&envelope[..at], &envelope[end..]), (&old[..at], &old[at + 1..]));
        // Copies that a sender brings with it come behind it.
        let offset = before.finished.sender_copies.envelope_offset;
        assert_eq!(shown(&before.finished.envelope[..offset]), envelope[..end]);
    }
}

#[test]
fn what_makes_no_sense_about_a_sender_is_told_and_left_out() {
    for parameter in ["RET=ALL", "ENVID=a+", "ENVID=a+0D", "ENVID=a+7F", "SIZE=1", "RET"] {
        let (envelope, _, lines, _) = changed(plain(), &[from("new@x", parameter)]);
        let line = format!("warning: Ignoring bad ESMTP parameter \"{parameter}\" in SMFI_CHGFROM request");
        assert_eq!(lines, [line]);
        let known = |record: &&String| record.contains("ret_flags") || record.contains("envelope_id");
        assert_eq!(envelope.iter().filter(known).count(), 0, "{parameter}");
    }
    let (envelope, _, lines, _) = changed(plain(), &[from("one@x, two@x", "")]);
    assert_eq!(lines, ["warning: ID: Milter request to add multi-sender: \"one@x, two@x\""]);
    assert!(envelope.contains(&"S one@x".to_owned()));
}

const COPIES: Book = Book(&[
    (Maps::SenderBcc, "one@x", "copy1@x"),
    (Maps::SenderBcc, "two@x", "copy2@x"),
    (Maps::VirtualAlias, "alias@x", "d1@x, d2@x"),
    (Maps::VirtualAlias, "broken@x", "fail"),
]);

#[test]
fn a_new_sender_brings_its_copies_the_last_first() {
    let copies = |edits: &[Edit]| {
        let (.., before) = changed(message(options(), COPIES, "s@x", &["r@x"]), edits);
        (shown(before.inspection.new_sender_copies()), before.inspection.added_count())
    };
    let of = |number: u8| {
        ["A notify_flags=1".to_owned(), format!("O copy{number}@x"), format!("R copy{number}@x")]
    };
    assert_eq!(copies(&[]), (vec![], 0));
    assert_eq!(copies(&[from("one@x", "")]), (of(1).to_vec(), 1));
    assert_eq!(copies(&[from("one@x", ""), from("two@x", "")]), ([of(2), of(1)].concat(), 2));
    let deleted = [from("one@x", ""), from("two@x", ""), delete("copy1@x")];
    assert_eq!(copies(&deleted), (of(2).to_vec(), 1));
    assert_eq!(copies(&[from("one@x", ""), add("a@x", "")]).1, 2);
}

#[test]
fn an_added_recipient_passes_the_tables() {
    let (_, added, lines, before) =
        changed(message(options(), COPIES, "s@x", &["r@x"]), &[add("alias@x", "ORCPT=rfc822;o@x")]);
    let each =
        |to: &str| ["A dsn_orig_rcpt=rfc822;o@x".to_owned(), "O alias@x".to_owned(), format!("R {to}")];
    assert_eq!((added, lines.len()), ([each("d1@x"), each("d2@x")].concat(), 0));
    assert!(before.inspection.refusal().is_none());
    let (.., lines, before) = changed(message(options(), COPIES, "s@x", &["r@x"]), &[add("broken@x", "")]);
    assert_eq!(before.inspection.refusal(), Some(&Refusal::Write));
    let line =
        "ID: virtual_alias_maps map lookup problem for broken@x -- message not accepted, try again later";
    assert_eq!(lines.last(), Some(&format!("warning: {line}")), "{lines:?}");
}

#[test]
fn changes_of_an_envelope_are_bounded() {
    // 64 bytes for each beside its text.
    let half = "x".repeat(512 * 1024 - 64);
    let mut inspection = plain().inspection;
    assert_eq!(inspection.edit(&delete(&half), false), Ok(()));
    assert_eq!(inspection.edit(&delete(&half), false), Ok(()));
    assert_eq!(inspection.edit(&delete(""), false), Err(LimitExceeded));
    let mut inspection = plain().inspection;
    assert_eq!(inspection.edit(&from("a@x", &"y ".repeat(512 * 1024)), false), Err(LimitExceeded));
    assert_eq!(inspection.edit(&add("a@x", &"y ".repeat(512 * 1024)), false), Err(LimitExceeded));
    assert_eq!(inspection.added_count(), 0);
}

#[test]
fn what_stood_around_the_content_moves_into_it() {
    let (.., before) = changed(plain(), &[]);
    assert_eq!((before.finished.received.len(), before.finished.from), (0, None));
}

#[test]
fn send_options_follow_the_changes() {
    let sent = |autodetect, utf8, edits: &[Edit]| {
        let options = Options { smtputf8_autodetect: autodetect, smtputf8_enable: utf8, ..options() };
        changed(message(options, Book(&[]), "s@x", &["r@x"]), edits).3.finished.counts.send_options
    };
    let (plain, utf8) = (header("X", "y"), header("X", "\u{e9}"));
    let sender = from("\u{e9}@x", "");
    for (edits, detected, silent) in [
        (vec![], 0, 0),
        (vec![plain.clone()], 0, 0),
        (vec![utf8.clone()], 3, 2),
        (vec![utf8.clone(), plain], 3, 2),
        (vec![sender.clone()], 5, 4),
        (vec![add("\u{e9}@x", "")], 1, 0),
        (vec![sender, utf8], 7, 6),
    ] {
        assert_eq!(sent(true, true, &edits), detected, "{edits:?}");
        assert_eq!(sent(false, true, &edits), silent, "{edits:?}");
        assert_eq!(sent(true, false, &edits), 0, "{edits:?}");
    }
}

#[test]
fn changes_of_headers_are_counted() {
    let mut inspection = plain().inspection;
    assert!(inspection.edits.is_empty());
    for count in 1..=3 {
        inspection.edit(&header("X", "y"), false).unwrap();
        assert_eq!((inspection.edits.len(), inspection.edits.is_empty()), (count, false));
    }
    inspection.edit(&add("a@x", ""), false).unwrap();
    assert_eq!(inspection.edits.len(), 3);
    let large = header("X", &"y".repeat(1024 * 1024));
    assert_eq!(inspection.edit(&large, false), Err(LimitExceeded));
}
