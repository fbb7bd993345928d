//! Whole configurations, with a host that is made up.

use proptest::prelude::*;

use super::*;
use crate::own_networks::InterfaceAddress;

fn facts() -> HostFacts<'static> {
    HostFacts {
        host_name: "mx.example.test".to_owned(),
        interfaces: vec![
            InterfaceAddress { address: "127.0.0.1".parse().unwrap(), prefix_len: 8 },
            InterfaceAddress { address: "192.0.2.9".parse().unwrap(), prefix_len: 24 },
        ],
        resolve: &|_| Vec::new(),
        first_line: &first_line,
        config_directory: "/p".to_owned(),
        process_name: "qmqpd".to_owned(),
        process_id: 42,
        service_name: "628".to_owned(),
        is_under_postfix: false,
    }
}

/// Files that a test may name.
fn first_line(path: &str) -> Result<Vec<u8>, String> {
    let line: &[u8] = match path {
        "/etc/mailname" => b"mail.example.test",
        "/blanks" => b"  Mail.Example.Test \t\r",
        "/nul" => b"a.test\0b",
        "/dollar" => b"$mydomain",
        "/empty" => b" ",
        "/two" => b"a.test b.test",
        "/latin1" => b"\xff",
        _ => return Err("No such file or directory".to_owned()),
    };
    Ok(line.to_vec())
}

pub(super) fn load_text(text: &str) -> Result<Loaded, LoadError> {
    load(&MainCf::parse("/p/main.cf", text.as_bytes()), &[], &facts())
}

fn with_options(text: &str, options: &[&str]) -> Result<Loaded, LoadError> {
    let options: Vec<_> =
        options.iter().map(|option| Override::parse(option, "command line").unwrap()).collect();
    load(&MainCf::parse("/p/main.cf", text.as_bytes()), &options, &facts())
}

fn whats(text: &str) -> Vec<String> {
    load_text(text).unwrap_err().errors.into_iter().map(|error| error.what).collect()
}

#[test]
fn an_empty_file_gives_the_defaults_of_level_0() {
    let loaded = load_text("").unwrap();
    let settings = &loaded.settings;
    assert_eq!(settings.qmqpd_timeout.as_secs(), 300);
    assert_eq!(settings.message_size_limit, 10_240_000);
    assert!(settings.append_dot_mydomain && !settings.smtputf8_enable);
    assert_eq!(settings.mynetworks, "127.0.0.0/8 192.0.2.0/24 ");
    assert_eq!(
        (settings.myhostname.as_str(), settings.mydomain.as_str()),
        ("mx.example.test", "example.test")
    );
    assert_eq!(settings.myorigin, "mx.example.test");
    assert_eq!(settings.syslog_name, "postfix");
    assert_eq!(
        loaded.legacy,
        LegacyDefaults {
            append_dot_mydomain: true,
            smtputf8_enable: true,
            mynetworks_style: true,
            chroot: true
        }
    );
    assert!(loaded.notices.is_empty() && loaded.unused.is_empty() && loaded.undefined.is_empty());
}

#[test]
fn the_level_selects_defaults() {
    let loaded = load_text("compatibility_level = 3.6\nmynetworks_style=host").unwrap();
    assert!(!loaded.settings.append_dot_mydomain && loaded.settings.smtputf8_enable);
    assert_eq!(loaded.settings.mynetworks, "127.0.0.1/32 192.0.2.9/32 ");
    assert_eq!(loaded.legacy, LegacyDefaults::default());
    assert_eq!(
        load_text("compatibility_level = 2").unwrap().settings.mynetworks_style,
        words::NetworksStyle::Host
    );
}

#[test]
fn a_level_ends_the_old_defaults_of_the_levels_below_it() {
    let legacy = |text: &str| load_text(text).unwrap().legacy;
    let first = LegacyDefaults { mynetworks_style: true, ..LegacyDefaults::default() };
    assert_eq!(legacy("compatibility_level = 1"), first);
    assert_eq!(legacy("compatibility_level = 2"), LegacyDefaults::default());
    for set in ["mynetworks = 127.0.0.0/8", "mynetworks_style = host"] {
        let text = format!("compatibility_level = 1\n{set}");
        assert_eq!(legacy(&text), LegacyDefaults::default(), "{set}");
    }
    let old = legacy("append_dot_mydomain = no");
    assert!(!old.append_dot_mydomain && old.smtputf8_enable && old.chroot);
    let old = legacy("smtputf8_enable = no");
    assert!(old.append_dot_mydomain && !old.smtputf8_enable);
}

#[test]
fn an_error_says_what_and_where_once() {
    let error = ConfigError {
        name: "x".to_owned(),
        file: String::new(),
        line: None,
        value: String::new(),
        what: "it is broken".to_owned(),
        remedy: String::new(),
        warnings: Vec::new(),
    };
    assert_eq!(error.to_string(), "it is broken");
    let warned = ConfigError { warnings: vec!["so it is".to_owned(), "very".to_owned()], ..error.clone() };
    assert_eq!(warned.to_string(), "it is broken: so it is: very");
    let silent = ConfigError { what: String::new(), file: "command line".to_owned(), ..warned.clone() };
    assert_eq!(silent.to_string(), "command line: so it is: very");
    let placed = ConfigError {
        file: "/p/main.cf".to_owned(),
        line: Some(3),
        what: "file /p/main.cf: it is broken".to_owned(),
        remedy: "mend it".to_owned(),
        ..error.clone()
    };
    assert_eq!(placed.to_string(), "/p/main.cf, line 3: it is broken; mend it");
    let both = LoadError { errors: vec![error, warned], notices: Vec::new() };
    assert_eq!(both.to_string(), "it is broken\nit is broken: so it is: very");
}

#[test]
fn defaults_of_other_parameters_are_visible_in_any_order() {
    let loaded =
        load_text("qmqpd_timeout = $qmqpd_error_delay\nmail_name = $myhostname/$process_name/$undefined")
            .unwrap();
    assert_eq!(loaded.settings.qmqpd_timeout.as_secs(), 1);
    assert_eq!(loaded.settings.mail_name, "mx.example.test/qmqpd/");
    assert_eq!(loaded.undefined.len(), 1);
    assert_eq!((loaded.undefined[0].name.as_str(), loaded.undefined[0].line), ("undefined", Some(2)));
}

#[test]
fn a_test_of_a_default_looks_at_what_it_expands_to() {
    assert_eq!(load_text("mail_name = ${mime_header_checks?x}:").unwrap().settings.mail_name, ":");
    assert_eq!(
        load_text("header_checks = regexp:/x\nmail_name = ${mime_header_checks?x}:")
            .unwrap()
            .settings
            .mail_name,
        "x:"
    );
}

#[test]
fn overrides_replace_the_file_and_are_expanded() {
    let loaded = with_options(
        "syslog_name = a\nqmqpd_error_delay = 9s",
        &[
            "syslog_name=postfix/$service_name",
            "qmqpd_error_delay = 0",
            "qmqpd_error_delay = 2m",
            "process_name=x",
        ],
    )
    .unwrap();
    assert_eq!(loaded.settings.syslog_name, "postfix/628");
    assert_eq!(loaded.settings.qmqpd_error_delay.as_secs(), 120);
    assert!(loaded.is_set("qmqpd_error_delay") && !loaded.is_set("qmqpd_timeout"));
    assert!(loaded.unused.is_empty());
    let error = with_options("", &["soft_bounce=1"]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "command line: bad boolean configuration: soft_bounce = 1; write yes or no"
    );
}

#[test]
fn host_names_depend_on_each_other_as_in_postfix() {
    let short = HostFacts { host_name: "vm".to_owned(), ..facts() };
    let load_short = |text: &str| load(&MainCf::parse("/p/main.cf", text.as_bytes()), &[], &short);
    let loaded = load_short("").unwrap().settings;
    assert_eq!((loaded.myhostname.as_str(), loaded.mydomain.as_str()), ("vm.localdomain", "localdomain"));
    let loaded = load_short("mydomain = a.test").unwrap().settings;
    assert_eq!(loaded.myhostname, "vm.a.test");
    let loaded = load_text("myhostname = h.$mydomain\nmydomain = b.test").unwrap().settings;
    assert_eq!(loaded.myhostname, "h.b.test");
    assert_eq!(whats("myhostname = h.$mydomain"), ["bad string length 0 < 1: mydomain = "]);
    assert_eq!(load_text("myhostname = h").unwrap().settings.mydomain, "localdomain");
}

#[test]
fn all_errors_are_found_at_once() {
    let error = load_text(
        "oops\nqmqpd_timeout = 5 m\nsoft_bounce = maybe\nline_length_limit = 511\nmail_name = ${x\n\
         receive_override_options = no_milters, no_checks\nmail_owner =\nqmqpd_commit = jornal\n",
    )
    .unwrap_err();
    let whats: Vec<_> = error.errors.iter().map(|error| error.what.as_str()).collect();
    assert_eq!(
        whats,
        [
            "/p/main.cf, line 1: missing '=' after attribute name: \"oops\"",
            "parameter qmqpd_timeout: bad time value or unit: 5 m",
            "unknown qmqpd_commit value \"jornal\" in \"jornal\"",
            "unknown receive_override_options value \"no_checks\" in \"no_milters, no_checks\"",
            "invalid line_length_limit parameter value 511 < 512",
            "bad boolean configuration: soft_bounce = maybe",
            "dictionary mail_dict: macro processing error",
            "bad string length 0 < 1: mail_owner = ",
        ]
    );
    assert_eq!(error.errors[6].warnings, ["truncated macro reference: \"${x\""]);
    let shown: Vec<_> = error.errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown[0],
        "/p/main.cf, line 1: missing '=' after attribute name: \"oops\"; write \"name = value\"; a line \
         that continues the previous one begins with white space"
    );
    assert_eq!(
        shown[6],
        "/p/main.cf, line 5: mail_name = ${x: truncated macro reference: \"${x\"; write $name, ${name}, \
         ${name?{a}:{b}}, or $$ for a plain $"
    );
}

#[test]
fn bytes_that_are_not_utf8_are_refused_where_they_matter() {
    let file = MainCf::parse("/p/main.cf", b"mail_name = caf\xe9\nother = \xff\n# \xff\n");
    let error = load(&file, &[], &facts()).unwrap_err();
    assert_eq!(error.errors.len(), 1);
    assert_eq!(error.errors[0].line, Some(1));
    assert!(error.errors[0].what.contains("not UTF-8"));
}

#[test]
fn a_default_that_suffers_from_another_value_is_not_blamed() {
    assert_eq!(whats("compatibility_level = x"), ["malformed compatibility level syntax: \"x\""]);
    assert_eq!(whats("header_checks = ${").len(), 1);
    assert!(load_text("local_login_sender_maps = ${").is_ok());
}

#[test]
fn a_bomb_is_one_error_and_harms_no_other_value() {
    let mut text = String::from("a0 = 0123456789\nmail_name = $a40\nmail_owner = $a40\nmyorigin = b.test\n");
    for link in 1..=40 {
        text += &format!("a{link} = $a{0}$a{0}\n", link - 1);
    }
    let error = load_text(&text).unwrap_err();
    let names: Vec<_> = error.errors.iter().map(|error| error.name.as_str()).collect();
    assert_eq!(names, ["mail_name", "mail_owner"]);
    assert_eq!(
        error.errors[0].to_string(),
        "/p/main.cf, line 2: parameter mail_name: the value expands to more than 1048576 bytes, or takes too much \
         work to expand; refer to fewer or shorter values"
    );
}

#[test]
fn sanity_checks_in_the_words_of_postfix() {
    for (text, what) in [
        ("myhostname = -x", "file /p/main.cf: parameter myhostname: bad parameter value: -x"),
        ("mydomain = 123", "file /p/main.cf: parameter mydomain: bad parameter value: 123"),
        ("syslog_facility = x", "file /p/main.cf: parameter syslog_facility: unrecognized value: x"),
        ("inet_protocols = ipv5", "unknown inet_protocols value \"ipv5\" in \"ipv5\""),
        ("mynetworks_style = net", "unknown mynetworks mask style value \"net\" in \"net\""),
        (
            "mynetworks_style = host, class",
            "bad mynetworks_style value: host, class; specify exactly one value",
        ),
        ("inet_interfaces = nowhere.test", "config variable inet_interfaces: host not found: nowhere.test"),
        (
            "inet_interfaces = 203.0.113.1",
            "parameter inet_interfaces: no local interface found for 203.0.113.1",
        ),
        (
            "default_verp_delimiters = x=",
            "file /p/main.cf: parameters default_verp_delimiters and verp_delimiter_filter: bad first VERP delimiter \
             character",
        ),
        (
            "verp_delimiter_filter = +",
            "file /p/main.cf: parameters default_verp_delimiters and verp_delimiter_filter: bad second VERP delimiter \
             character",
        ),
        (
            "disable_mime_input_processing = yes\nforce_mime_input_conversion = yes",
            "do not specify both disable_mime_input_processing=yes and force_mime_input_conversion=yes",
        ),
        (
            "relayhost = MX.example.test",
            "myhostname and relayhost parameter settings must not be identical: mx.example.test",
        ),
        (
            "myorigin = a.test, b.test",
            "myorigin parameter setting must not contain multiple values: a.test, b.test",
        ),
        (
            "maillog_file = /tmp/x",
            "maillog_file value '/tmp/x' does not match any prefix in /var, /dev/stdout",
        ),
        ("compatibility_level = x", "malformed compatibility level syntax: \"x\""),
        (
            "qmqpd_listen = 127.0.0.1",
            "parameter qmqpd_listen: garbage after numerical service in \"127.0.0.1\"",
        ),
    ] {
        let found = whats(text);
        assert!(found.contains(&what.to_owned()), "{text}: {found:?}");
    }
    let error = load_text("myhostname = -x").unwrap_err();
    assert_eq!(error.errors[0].warnings, ["valid_hostname: misplaced hyphen: -x"]);
    let loaded = load_text("maillog_file_permissions = 777").unwrap();
    assert_eq!(loaded.notices, [Notice::warning("ignoring bad permissions: maillog_file_permissions = 777")]);
}

#[test]
fn names_that_nothing_reads_are_listed() {
    let loaded = load_text(
        "mesage_size_limit = 1\nmy_nets = 192.0.2.0/24\nqmqpd_authorized_clients = $my_nets\nsmtpd_banner = x\n\
         slow_destination_rate_delay = 1s\nfor_master = 1\n",
    )
    .unwrap();
    let unused: Vec<_> = loaded.unused.iter().map(|name| (name.name.as_str(), name.line)).collect();
    assert_eq!(unused, [("for_master", Some(6)), ("mesage_size_limit", Some(1))]);
    assert_eq!(loaded.unused[1].suggestion, Some("message_size_limit"));
    let left: Vec<_> =
        loaded.unused_besides("-o syslog_name=$for_master").map(|name| name.name.as_str()).collect();
    assert_eq!(left, ["mesage_size_limit"]);
}

#[test]
fn filters_are_read_before_there_is_a_message() {
    let whats = |text: &str| match load_text(text) {
        Ok(_) => Vec::new(),
        Err(error) => error.errors.iter().map(|error| (error.line, error.what.clone())).collect::<Vec<_>>(),
    };
    assert_eq!(
        whats("non_smtpd_milters = inet:localhost:8891, { unix:private/x, default_action=accept }"),
        []
    );
    assert_eq!(
        whats("non_smtpd_milters = localhost:8891"),
        [(
            Some(1),
            "Milter service needs transport:endpoint instead of \"localhost:8891\"; transport is inet or unix".to_owned()
        )]
    );
    assert_eq!(whats("milter_protocol = 7\nnon_smtpd_milters = unix:x").len(), 1);
    // Postfix's cleanup(8) reads its own.
    assert_eq!(whats("qmqpd_submit = postfix\nnon_smtpd_milters = x"), []);
}

#[test]
fn listeners() {
    let loaded = load_text("qmqpd_listen = 127.0.0.1:628, [::1]:628 qmqp").unwrap();
    let shown: Vec<_> = loaded.settings.listen_endpoints().iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["127.0.0.1:628", "[::1]:628", "qmqp"]);
    assert_eq!(loaded.settings.message_bytes_max(), Some(10_240_000));
    assert_eq!(load_text("message_size_limit = -1").unwrap().settings.message_bytes_max(), None);
}

/// Lines made of what means something to the parser, so that loads get deep.
fn line() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "myhostname",
        "mydomain",
        "mynetworks",
        "qmqpd_timeout",
        "soft_bounce",
        "a",
        "b",
        "syslog_name",
        "message_size_limit",
        "mynetworks_style",
        "inet_interfaces",
        "qmqpd_submit",
        "compatibility_level",
    ]);
    let word = prop::sample::select(vec![
        "$a",
        "$b$b",
        "${a?{$b}:{x}}",
        "$mydomain",
        "$myhostname",
        "yes",
        "1",
        "300s",
        "{",
        "}",
        "$",
        "é",
        ",",
        "${{$a} == {$b}?",
        " ",
        "3.6",
        "host",
        "$$",
    ]);
    (name, prop::collection::vec(word, 0..6))
        .prop_map(|(name, words)| format!("{name} = {}\n", words.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_panic(input in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = load(&MainCf::parse("/p/main.cf", &input), &[], &facts());
    }

    #[test]
    fn every_load_ends(lines in prop::collection::vec(line(), 0..20)) {
        match load_text(&lines.concat()) {
            Ok(_) => {}
            Err(error) => prop_assert!(!error.errors.is_empty() && !error.to_string().is_empty()),
        }
    }
}

#[test]
fn a_survey_goes_on_behind_the_errors() {
    let text = "soft_bounce = maybe\nno equals sign\nqmqpd_timeout = 7s\nmyhostname = -\n\
                mail_name = ${x\ncanonical_maps = hash:x\nqmqpd_tiemout = 1";
    let found = survey(&MainCf::parse("/p/main.cf", text.as_bytes()), &[], &facts());
    let lines: BTreeSet<_> = found.errors.iter().filter_map(|error| error.line).collect();
    assert_eq!(lines, BTreeSet::from([1, 2, 4, 5]), "{:?}", found.errors);
    let loaded = found.loaded.unwrap();
    assert_eq!(loaded.settings.qmqpd_timeout.as_secs(), 7);
    assert!(!loaded.settings.soft_bounce, "a default stands in");
    assert_eq!(loaded.settings.myhostname, "mx.example.test");
    assert!(loaded.is_set("soft_bounce"));
    assert_eq!(
        loaded.unused.iter().map(|unknown| unknown.name.as_str()).collect::<Vec<_>>(),
        ["qmqpd_tiemout"]
    );
}

#[test]
fn myorigin_may_be_the_first_line_of_a_file() {
    for (value, domain) in [
        ("/etc/mailname", "mail.example.test"),
        ("$x/mailname", "mail.example.test"),
        ("/blanks", "Mail.Example.Test"),
        ("/nul", "a.test"),
        ("/dollar", "$mydomain"),
        // Not absolute: a domain, as ever.
        ("etc/mailname", "etc/mailname"),
    ] {
        let loaded = load_text(&format!("x = /etc\nmyorigin = {value}\nmail_name = $myorigin\n")).unwrap();
        assert_eq!(loaded.settings.myorigin, domain, "{value}");
        assert_eq!(loaded.settings.mail_name, value.replace("$x", "/etc"), "others see the path");
    }
    for (value, what) in [
        ("/nowhere", "/nowhere: cannot open file: No such file or directory"),
        ("/empty", "myorigin file /empty is empty"),
        ("/latin1", "myorigin file /latin1 is not UTF-8 text"),
        ("/two", "myorigin parameter setting must not contain multiple values: a.test b.test"),
    ] {
        let LoadError { errors, .. } = load_text(&format!("\nmyorigin = {value}\n")).unwrap_err();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert_eq!((errors[0].what.as_str(), errors[0].line), (what, Some(2)));
    }
}

#[test]
fn names_that_other_values_make_parameters_of_are_used() {
    let text = "smtpd_restriction_classes = insiders, outsiders\ninsiders = permit\noutsiders = reject\n\
                virtual_alias_maps = proxy:ldap:accounts, mysql:/etc/postfix/m.cf\naccounts_server_host = ldap.test\n\
                accounts_search_base = x\nmailbox_command = /usr/bin/procmail -a \"$EXTENSION\"\n\
                luser_relay = $user@else.test\nsmtpd_reject_footer = $client_address\nm_user = x\n";
    let loaded = load_text(text).unwrap();
    let names = |unknown: &[UnknownName]| unknown.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&loaded.unused), ["m_user"]);
    assert_eq!(names(&loaded.undefined), [""; 0]);
    assert_eq!(loaded.unused_besides("-o x=pgsql:m").count(), 0);
}
