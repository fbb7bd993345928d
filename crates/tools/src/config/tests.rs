//! The command against directories that a test makes.

use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Program {
    #[command(flatten)]
    args: Args,
}

/// What is printed, and the complaints.
fn output(main_cf: &str, options: &[&str]) -> (String, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("main.cf"), main_cf).unwrap();
    let directory = directory.path().to_str().unwrap();
    let program = Program::try_parse_from(["config", "-c", directory].iter().chain(options)).unwrap();
    let mut out = Vec::new();
    let complaints = show(&program.args, &mut out).unwrap();
    (String::from_utf8(out).unwrap(), complaints)
}

#[test]
fn named_values_are_printed_as_postconf_prints_them() {
    let main_cf = "mail_name = My $myhostname\nmyhostname = h.test\nown = 1\n";
    let names = ["qmqpd_timeout", "mail_name", "own", "content_filter"];
    assert_eq!(
        output(main_cf, &names),
        ("qmqpd_timeout = 300s\nmail_name = My $myhostname\nown = 1\ncontent_filter =\n".to_owned(), vec![])
    );
    assert_eq!(output(main_cf, &["-x", "mail_name"]).0, "mail_name = My h.test\n");
    assert_eq!(output(main_cf, &["-d", "mail_name"]).0, "mail_name = Postfix\n");
    assert_eq!(output(main_cf, &["-n"]).0, "mail_name = My $myhostname\nmyhostname = h.test\nown = 1\n");
}

#[test]
fn the_full_list_has_every_row() {
    let (text, complaints) = output("", &[]);
    assert_eq!(text.lines().count(), PARAMETERS.len());
    assert!(text.lines().is_sorted() && complaints.is_empty());
}

#[test]
fn json_says_where_a_value_comes_from() {
    let (text, _) = output("\nsoft_bounce = yes\n", &["--json", "soft_bounce", "max_use"]);
    let rows: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(rows[0]["value"], "yes");
    assert_eq!(rows[0]["line"], 2);
    assert_eq!(rows[0]["kind"], "yes or no");
    assert_eq!((&rows[1]["set"], &rows[1]["value"]), (&false.into(), &"100".into()));
}

#[test]
fn complaints_name_what_is_wrong() {
    let (text, complaints) =
        output("oops\na = ${\n", &["-x", "a", "mesage_size_limit", "smtpd_banner", "zzzzzz"]);
    assert_eq!(text, "");
    assert!(complaints[0].ends_with(
        "main.cf, line 1: missing '=' after attribute name: \"oops\"; write \"name = value\"; a line \
         that continues the previous one begins with white space"
    ));
    assert_eq!(
        complaints.get(1..).unwrap(),
        [
            "a = ${: truncated macro reference: \"${\"",
            "mesage_size_limit: unknown parameter; did you mean message_size_limit?",
            "smtpd_banner: another program of Postfix reads this parameter; see postconf(1)",
            "zzzzzz: unknown parameter",
        ]
    );
}

#[test]
fn explain_tells_all_about_a_parameter() {
    let (text, complaints) = output("", &["--explain", "qmqpd_timeout", "milter_header_checks"]);
    assert_eq!(
        text,
        "qmqpd_timeout: time, 1s or more\ndefault: 300s\ntakes effect\nTime limit for each single read from or \
         write to a client.\n\nmilter_header_checks: list\ndefault: empty\ntakes effect\nTables with rules for headers produced by mail filters.\n"
    );
    assert!(complaints.is_empty());
    let (text, complaints) = output("", &["--explain", "smtp_tls_CApath", "process_id", "smtp_tls_CApth"]);
    assert_eq!(
        text,
        "smtp_tls_CApath: another program of Postfix reads this parameter; see postconf(1)\n\nprocess_id: each program sets \
         this for itself; main.cf cannot\n"
    );
    assert_eq!(complaints, ["smtp_tls_CApth: unknown parameter; did you mean smtp_tls_CApath?"]);
}

#[test]
fn a_directory_without_main_cf_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::try_parse_from(["config", "-c", directory.path().to_str().unwrap()]).unwrap();
    let failure = show(&program.args, &mut Vec::new()).unwrap_err();
    assert!(failure.to_string().starts_with("cannot open /") && failure.to_string().contains("No such file"));
}
