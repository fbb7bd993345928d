//! `milter_header_checks` on headers that filters add.

use super::*;

/// What a rule makes of the header `X: y` that a filter adds: the headers then, the log, and the message.
fn ruled(book: Book) -> (Vec<String>, Vec<String>, Inspection) {
    let mut inspection = message(options(), book, "s@x", &["r@x"]).inspection;
    inspection.edit(&header("X", "y"), false).unwrap();
    let lines = log(&mut inspection);
    (headers(&inspection), lines, inspection)
}

/// The headers that were added.
fn headers(inspection: &Inspection) -> Vec<String> {
    let mut all = Vec::new();
    inspection.edits.pass().finish(&mut |records, _| all.extend(shown(&records)));
    all
}

macro_rules! book {
    ($rule:expr) => {
        Book(&[(Maps::MilterHeaderChecks, "X", $rule)])
    };
}

#[test]
fn every_action_says_what_it_does() {
    let end = "header X: y from localhost[127.0.0.1]; from=<s@x> to=<r@x> proto=QMQP";
    for (book, action, argument, left) in [
        (book!("WARN see this"), "warning", "see this", Some("N X: y")),
        (book!("info see this"), "info", "see this", Some("N X: y")),
        (book!("HOLD why"), "hold", "why", Some("N X: y")),
        (book!("DISCARD why"), "discard", "why", Some("N X: y")),
        (book!("FILTER smtp:next"), "filter", "smtp:next", Some("N X: y")),
        (book!("REDIRECT a@b"), "redirect", "a@b", Some("N X: y")),
        (book!("BCC a@b"), "bcc", "a@b", Some("N X: y")),
        (book!("STRIP why"), "strip", "why", None),
        (book!("REPLACE Z: new"), "replace", "Z: new", Some("N Z: new")),
    ] {
        let (headers, lines, inspection) = ruled(book);
        assert_eq!(lines, [format!("ID: milter-header-{action}: {end}: {argument}")]);
        assert_eq!(headers.first().map(String::as_str), left, "{action}");
        assert_eq!(inspection.is_held(), action == "hold");
        assert_eq!(inspection.is_discarded(), action == "discard");
        assert!(inspection.refusal().is_none());
        let copies = if action == "bcc" { vec!["O a@b", "R a@b"] } else { vec![] };
        assert_eq!(shown(inspection.added_recipients()), copies, "{action}");
    }
    for (book, left) in [(book!("DUNNO"), 1), (book!("ok"), 1), (book!("IGNORE"), 0), (Book(&[]), 1)] {
        let (headers, lines, _) = ruled(book);
        assert_eq!((headers.len(), lines.len()), (left, 0));
    }
    let (headers, lines, _) = ruled(book!("PREPEND Z: new"));
    assert_eq!(headers, ["N X: y"]);
    let warning = "warning: the milter_header/body_checks prepend action is not implemented";
    assert_eq!(lines, [format!("ID: milter-header-prepend: {end}: Z: new").as_str(), warning]);
}

#[test]
fn a_rule_that_makes_no_sense_is_told_and_changes_nothing() {
    let map = "milter_header_checks map";
    for (book, warning) in [
        (book!("FILTER"), format!("missing FILTER command argument in {map}")),
        (
            book!("FILTER next"),
            "bad FILTER command next in milter_header_checks -- need transport:destination".to_owned(),
        ),
        (book!("REDIRECT a"), format!("bad REDIRECT target \"a\" in {map} -- need user@domain")),
        (book!("BCC a"), format!("bad BCC address \"a\" in {map} -- need user@domain")),
        (book!("REPLACE"), format!("REPLACE action without text in {map}")),
        (
            book!("REPLACE x y"),
            format!("bad REPLACE header text \"x y\" in {map} -- need \"headername: headervalue\""),
        ),
        (book!("DELIVER it"), format!("unsupported command in {map}: DELIVER it")),
    ] {
        let (headers, lines, mut inspection) = ruled(book);
        assert_eq!((headers, lines), (vec!["N X: y".to_owned()], vec![format!("warning: {warning}")]));
        let mut finished = plain().finished;
        inspection.change_envelope(&mut finished);
        assert_eq!((finished.extracted.len(), inspection.added_count()), (0, 0), "{warning}");
    }
}

#[test]
fn a_rejection_is_permanent_unless_its_code_says_otherwise() {
    for (book, refusal, warnings) in [
        (book!("REJECT"), "5.7.1 message content rejected", 0),
        (book!("REJECT no"), "5.7.1 no", 0),
        (book!("REJECT 4.1.2 later"), "4.1.2 later", 0),
        (book!("REJECT 2.0.0 fine"), "4.0.0 fine", 1),
    ] {
        let (_, lines, inspection) = ruled(book);
        let text = refusal.to_owned();
        let expected =
            if text.starts_with('4') { Refusal::Defer { text } } else { Refusal::Content { text } };
        assert_eq!(inspection.refusal(), Some(&expected));
        assert!(!inspection.goes_on());
        let end = "header X: y from localhost[127.0.0.1]; from=<s@x> to=<r@x> proto=QMQP";
        assert_eq!(lines[warnings..], [format!("ID: milter-header-reject: {end}: {refusal}")]);
        let warning = "warning: bad DSN action in 2.0.0 fine -- need 4.x.x or 5.x.x";
        assert!(lines[..warnings].iter().all(|line| line == warning) && lines.len() == warnings + 1);
    }
}

#[test]
fn a_table_that_fails_refuses_the_message_for_now() {
    let (headers, lines, inspection) = ruled(book!("fail"));
    assert_eq!((headers.len(), inspection.refusal()), (0, Some(&Refusal::Write)));
    let problem =
        "warning: ID: milter_header_checks map lookup problem -- message not accepted, try again later";
    assert_eq!(lines, ["warning: the table is gone", problem]);
}

#[test]
fn what_rules_decide_stands_behind_the_content() {
    for (book, record) in [(book!("FILTER a:b"), "L a:b"), (book!("REDIRECT a@b"), "> a@b")] {
        let (.., mut inspection) = ruled(book);
        let mut finished = plain().finished;
        inspection.change_envelope(&mut finished);
        assert_eq!(shown(&finished.extracted).concat(), record);
    }
}

#[test]
fn no_rule_looks_behind_one_that_decides_and_none_at_what_goes() {
    let both = |first: Edit, rule: &'static [(Maps, &'static str, &'static str)]| {
        let mut inspection = message(options(), Book(rule), "s@x", &["r@x"]).inspection;
        inspection.edit(&first, false).unwrap();
        inspection.edit(&header("X", "y"), false).unwrap();
        (headers(&inspection), log(&mut inspection).len())
    };
    const OVER: &[(Maps, &str, &str)] =
        &[(Maps::MilterHeaderChecks, "A", "REDIRECT a@b"), (Maps::MilterHeaderChecks, "X", "STRIP")];
    assert_eq!(both(header("A", "b"), OVER), (vec!["N A: b".to_owned(), "N X: y".to_owned()], 1));
    assert_eq!(both(header("B", "b"), OVER), (vec!["N B: b".to_owned()], 1));
    const HELD: &[(Maps, &str, &str)] = &[(Maps::MilterHeaderChecks, "", "HOLD")];
    assert_eq!(both(header("A", "b"), HELD).1, 1);
    let goes = Edit::ChangeHeader { instance: 1, name: b"X".to_vec(), value: Vec::new() };
    const STRIP: &[(Maps, &str, &str)] = &[(Maps::MilterHeaderChecks, "", "STRIP")];
    assert_eq!(both(goes, STRIP), (vec![], 1));
}

#[test]
fn the_log_shows_the_beginning_of_a_header() {
    let mut inspection = message(options(), book!("WARN"), "s@x", &["r@x"]).inspection;
    inspection.edit(&header("X", &"y".repeat(300)), false).unwrap();
    let shown = format!("header X: {} from localhost", "y".repeat(197));
    assert!(log(&mut inspection)[0].contains(&shown));
}
