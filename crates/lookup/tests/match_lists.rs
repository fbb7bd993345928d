//! Match lists as a whole. Unless a test says otherwise, its facts were observed on Postfix 3.7.11 with the same list and
//! client.

#![cfg(test)] // A helper that fails fails its test.

use lookup::{Client, ClientName, LookupError, Match, MatchList, OpenError, Options};
use postfix::notice::Notice;

const PARAMETER: &str = "qmqpd_authorized_clients";

/// Options with the list outside parent_domain_matches_subdomains.
fn dot_style() -> Options {
    Options { parent_domain_matches_subdomains: String::new(), ..Options::default() }
}

fn ask_with(
    options: &Options,
    list: &str,
    name: ClientName<'_>,
    address: &str,
) -> (Result<Match, LookupError>, Vec<String>) {
    let mut notices = Vec::new();
    let list = MatchList::open(PARAMETER, list, options, &mut notices).unwrap();
    let result = list.matches(&Client { name, address }, &mut notices);
    (result, notices.iter().map(|notice| format!("{}{}", notice.severity.prefix(), notice.text)).collect())
}

/// Asks for a client with a name.
fn ask(list: &str, name: &str, address: &str) -> Result<Match, LookupError> {
    let name = if name == "unknown" { ClientName::Unknown } else { ClientName::Verified(name) };
    ask_with(&Options::default(), list, name, address).0
}

fn unresolved(list: &str, address: &str) -> Match {
    ask_with(&Options::default(), list, ClientName::Unresolved, address).0.unwrap()
}

#[test]
fn literals_and_negation() {
    for (list, expected) in [
        ("", Match::No),
        ("127.0.0.2", Match::Yes),
        ("127.0.0.3, 127.0.0.2", Match::Yes),
        ("a.example.com", Match::Yes),
        ("A.EXAMPLE.com", Match::Yes),
        ("example.com", Match::Yes),
        (".example.com", Match::No),
        ("!127.0.0.2 127.0.0.0/8", Match::No),
        ("!!127.0.0.2", Match::Yes),
        ("127.0.0.0/8 !127.0.0.2", Match::Yes),
        ("!example.com 127.0.0.2", Match::No),
        ("unknown", Match::No),
        ("127. {127.0.0.2} 127.0.0.2;x 127.0.0.02 [fe80::1%lo]", Match::No),
        ("127.0.0.2 # the rest is not read !", Match::Yes),
        ("# nothing 127.0.0.2", Match::No),
    ] {
        assert_eq!(ask(list, "A.Example.com", "127.0.0.2"), Ok(expected), "{list}");
    }
    assert_eq!(ask("unknown", "unknown", "127.0.0.7"), Ok(Match::Yes));
    assert_eq!(ask("unknown", "unknown", "unknown"), Ok(Match::Yes));
    assert_eq!(ask("[::1]", "six.example.org", "::1"), Ok(Match::Yes));
}

#[test]
fn parents_by_the_setting() {
    let ask = |options: &Options, list: &str| {
        ask_with(options, list, ClientName::Verified("b.a.example.com"), "127.0.0.3").0.unwrap()
    };
    let parents =
        |text: &str| Options { parent_domain_matches_subdomains: text.to_owned(), ..Options::default() };
    for (setting, domain, dot) in [
        ("qmqpd_authorized_clients", Match::Yes, Match::No),
        ("QMQPD_authorized_clients", Match::Yes, Match::No),
        ("", Match::No, Match::Yes),
        ("!qmqpd_authorized_clients, static:x", Match::No, Match::Yes),
        ("inline:{qmqpd_authorized_clients=x}", Match::Yes, Match::No),
        ("static:x", Match::Yes, Match::No),
    ] {
        assert_eq!(ask(&parents(setting), "example.com"), domain, "{setting}");
        assert_eq!(ask(&parents(setting), ".example.com"), dot, "{setting}");
        assert_eq!(ask(&parents(setting), "inline:{com=x}"), domain, "{setting}");
        assert_eq!(ask(&parents(setting), "inline:{.com=x}"), dot, "{setting}");
    }
    let error = MatchList::open(PARAMETER, "x", &parents("fail:x"), &mut Vec::new()).unwrap_err();
    assert!(matches!(error, OpenError::ParentDomains(_)));
}

#[test]
fn errors_end_the_evaluation_but_only_when_they_are_reached() {
    assert_eq!(ask("127.0.0.1 127.0.0.1/8", "localhost", "127.0.0.1"), Ok(Match::Yes));
    let (result, notices) = ask_with(
        &Options::default(),
        "127.0.0.1/8 127.0.0.1",
        ClientName::Verified("localhost"),
        "127.0.0.1",
    );
    let reason =
        "non-null host address bits in \"127.0.0.1/8\", perhaps you should use \"127.0.0.0/8\" instead";
    assert_eq!(
        result,
        Err(LookupError::Pattern { parameter: PARAMETER.to_owned(), reason: reason.to_owned() })
    );
    assert_eq!(notices, [format!("warning: {PARAMETER}: {reason}")]);
    // Patterns of the other family are not even read.
    assert_eq!(ask("127.0.0.1/8 [::1]", "six.example.org", "::1"), Ok(Match::Yes));
}

#[test]
fn broken_tables_and_files_are_logged_at_the_start_and_at_each_lookup() {
    for (item, type_and_name, reason) in [
        ("cidr:/nonexistent", "cidr:/nonexistent", "open /nonexistent: No such file or directory"),
        (
            "texthash:/nonexistent",
            "texthash:/nonexistent",
            "open database /nonexistent: No such file or directory",
        ),
        (
            "lmdb:/nonexistent",
            "lmdb:/nonexistent",
            "open database /nonexistent.lmdb: No such file or directory",
        ),
        ("/nonexistent", "non-existent:/nonexistent", "open file /nonexistent: No such file or directory"),
        (
            "!/proc/self",
            "non-existent:/proc/self",
            "open file /proc/self: Not a regular file but a directory",
        ),
        ("pcre:/dev/tty", "pcre:/dev/tty", "open /dev/tty: Not a regular file but a device"),
        ("zz:x", "zz:x", "unsupported dictionary type: zz"),
        ("static:{a", "static:{a", "bad static:name syntax: missing '}' in \"{a\""),
    ] {
        let name = ClientName::Verified("a.example.com");
        let (result, notices) = ask_with(&Options::default(), item, name, "127.0.0.2");
        let table = type_and_name.to_owned();
        assert_eq!(result, Err(LookupError::Table { parameter: PARAMETER.to_owned(), table }));
        assert_eq!(
            notices,
            [
                format!("error: {reason}"),
                format!("warning: {type_and_name} is unavailable. {reason}"),
                format!("warning: {PARAMETER}: {type_and_name}: table lookup problem"),
            ]
        );
        let fatal = Options { daemon_table_open_error_is_fatal: true, ..Options::default() };
        let error = MatchList::open(PARAMETER, item, &fatal, &mut Vec::new()).unwrap_err();
        assert_eq!(error, OpenError::Table { reason: reason.to_owned() });
    }
}

#[test]
fn an_ipv6_address_without_brackets_is_a_table_and_the_log_says_what_to_write() {
    let (result, notices) = ask_with(&Options::default(), "2001:db8::1", ClientName::Unknown, "2001:db8::1");
    assert!(result.is_err());
    assert_eq!(notices[0], "error: unsupported dictionary type: 2001");
    assert!(notices[1].ends_with("write the IPv6 address as [2001:db8::1]"), "{}", notices[1]);
    let error = MatchList::open(PARAMETER, "::1", &Options::default(), &mut Vec::new()).unwrap_err();
    let words = "expecting \"type:name\" form instead of \"::1\"; write an IPv6 address in brackets: [::1]";
    assert!(error.to_string().ends_with(words), "{error}");
}

#[test]
fn what_is_fatal() {
    for list in ["!", "127.0.0.1 ! 10.0.0.1", "!!", "hash:", ":x"] {
        assert!(MatchList::open(PARAMETER, list, &Options::default(), &mut Vec::new()).is_err(), "{list}");
    }
}

#[test]
fn tables_are_asked_for_the_name_and_the_address() {
    let (name, address) = ("a.example.com", "127.0.0.2");
    for (list, expected) in [
        ("inline:{127.0.0.2=REJECT}", Match::Yes),
        ("!inline:{127.0.0.2=x} static:x", Match::No),
        ("inline:{example.com=x}", Match::Yes),
        ("inline:{.example.com=x}", Match::No),
        ("inline:{A.example.com=x}", Match::No),
        ("cidr:{{127.0.0.0/29 x}}", Match::Yes),
        ("cidr:{{!127.0.0.0/29 x}}", Match::No),
        ("regexp:{{/^127[.]/ x}}", Match::Yes),
        ("regexp:{{/^example/ x}}", Match::No),
        ("regexp:{{/^a[.]example/ x}}", Match::Yes),
        ("pipemap:{inline:{com=y},inline:{y=z}}", Match::Yes),
    ] {
        assert_eq!(ask(list, name, address), Ok(expected), "{list}");
    }
}

#[test]
fn files_of_patterns() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let inner = write("inner", "127.0.0.3\n");
    let outer = write("outer", &format!("# comment\r\n127.0.0.1,\t!127.0.0.2\r\n\r\n{inner}\r\n"));
    let asked = |list: &str, address: &str| ask(list, "unknown", address).unwrap();
    assert_eq!(asked(&outer, "127.0.0.1"), Match::Yes);
    assert_eq!(asked(&outer, "127.0.0.2"), Match::No);
    assert_eq!(asked(&outer, "127.0.0.3"), Match::Yes);
    assert_eq!(asked(&format!("!{outer} 127.0.0.0/8"), "127.0.0.3"), Match::No);
    assert_eq!(asked(&format!("!{outer}"), "127.0.0.2"), Match::Yes);
    // As in 3.12, not in 3.7: indented comments, and lines that go on.
    let newer = write("newer", "127.0.0.4\n  # comment\n  127.0.0.5\n");
    assert_eq!(asked(&newer, "127.0.0.4"), Match::Yes);
    assert_eq!(asked(&newer, "127.0.0.5"), Match::Yes);
    // Ours: a file that includes itself is refused instead of read for ever.
    let path = dir.path().join("loop");
    std::fs::write(&path, format!("{}\n", path.display())).unwrap();
    let error =
        MatchList::open(PARAMETER, path.to_str().unwrap(), &Options::default(), &mut Vec::new()).unwrap_err();
    assert!(matches!(error, OpenError::Nesting { .. }));
}

#[test]
fn a_change_of_an_included_file_or_a_table_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let (patterns, table) = (dir.path().join("patterns"), dir.path().join("table"));
    std::fs::write(&patterns, "127.0.0.1\n").unwrap();
    std::fs::write(&table, "127.0.0.1 x\n").unwrap();
    let text = format!("{} texthash:{}", patterns.display(), table.display());
    let open = || MatchList::open(PARAMETER, &text, &Options::default(), &mut Vec::new()).unwrap();
    let list = open();
    assert_eq!(list.changed(), None);
    std::fs::write(&patterns, "127.0.0.1 127.0.0.2\n").unwrap();
    assert_eq!(list.changed(), Some(patterns.display().to_string()));
    let list = open();
    std::fs::write(&table, "127.0.0.1 longer\n").unwrap();
    assert_eq!(list.changed(), Some(format!("texthash:{}(0,lock|utf8_request)", table.display())));
}

/// Not Postfix's: it answers as if the client had no name.
#[test]
fn a_name_that_cannot_be_resolved_leaves_the_answer_open_where_it_matters() {
    for (list, address, expected) in [
        // Addresses alone decide.
        ("10.0.0.0/8", "10.0.0.1", Match::Yes),
        ("10.0.0.0/8", "11.0.0.1", Match::No),
        ("10.0.0.0/8 cidr:{{11.0.0.0/8 x}}", "12.0.0.1", Match::No),
        ("inline:{10.0.0.1=x}", "11.0.0.1", Match::No),
        ("!10.0.0.1 10.0.0.0/8", "10.0.0.1", Match::No),
        // A plain pattern for names could have let the client in.
        ("example.com", "10.0.0.1", Match::Undetermined),
        ("inline:{a.example=x}", "10.0.0.1", Match::Undetermined),
        ("regexp:{{/example/ x}}", "10.0.0.1", Match::Undetermined),
        ("example.com !10.0.0.1 10.0.0.0/8", "10.0.0.1", Match::Undetermined),
        // It makes no difference for one whose address lets it in.
        ("example.com 10.0.0.0/8", "10.0.0.1", Match::Yes),
        ("10.0.0.0/8 !example.com", "10.0.0.1", Match::Yes),
        // A refusal by name could have come first.
        ("!example.com 10.0.0.0/8", "10.0.0.1", Match::Undetermined),
        ("!example.com 10.0.0.0/8", "11.0.0.1", Match::No),
        ("!inline:{a.example=x} static:x", "11.0.0.1", Match::Undetermined),
        ("!cidr:{{12.0.0.0/8 x}} static:x", "11.0.0.1", Match::Yes),
        // `unknown` is what the client is called for now.
        ("unknown", "10.0.0.1", Match::Yes),
        ("!unknown 10.0.0.0/8", "10.0.0.1", Match::Undetermined),
        ("!unknown 10.0.0.0/8", "11.0.0.1", Match::No),
        ("!example.com unknown", "10.0.0.1", Match::Undetermined),
        // Patterns that no name can match.
        (".example.com 127. 10.0.0 [::1]x", "10.0.0.1", Match::No),
    ] {
        assert_eq!(unresolved(list, address), expected, "{list} {address}");
    }
    let (result, _) = ask_with(&dot_style(), ".example.com", ClientName::Unresolved, "10.0.0.1");
    assert_eq!(result, Ok(Match::Undetermined));
}

/// A name that is still being looked up is no name yet, not even `unknown`, and no table hears of it.
#[test]
fn a_name_that_is_not_known_yet_is_waited_for_only_where_it_matters() {
    for (list, address, expected) in [
        ("10.0.0.0/8", "10.0.0.1", Match::Yes),
        ("10.0.0.0/8", "11.0.0.1", Match::No),
        ("example.com inline:{a.example=x} 10.0.0.0/8", "10.0.0.1", Match::Yes),
        ("unknown", "10.0.0.1", Match::Undetermined),
        ("!unknown 10.0.0.0/8", "10.0.0.1", Match::Undetermined),
        ("example.com", "10.0.0.1", Match::Undetermined),
    ] {
        let (answer, _) = ask_with(&Options::default(), list, ClientName::Pending, address);
        assert_eq!(answer, Ok(expected), "{list} {address}");
    }
    let mut notices = Vec::new();
    let list = MatchList::open(PARAMETER, "debug:inline:{10.0.0.1=x}", &Options::default(), &mut notices);
    let client = Client { name: ClientName::Pending, address: "10.0.0.1" };
    assert_eq!(list.unwrap().matches(&client, &mut notices), Ok(Match::Yes));
    assert_eq!(notices.len(), 1, "asked once, by the address: {notices:?}");
}

/// Patterns in front of a table that asks a server are as quick as if it were not there.
#[test]
fn a_remote_table_is_asked_only_when_its_turn_comes() {
    for (list, address, expected) in [
        ("10.0.0.1 tcp:127.0.0.1:1", "10.0.0.1", Ok(Some(Match::Yes))),
        ("!10.0.0.1 tcp:127.0.0.1:1", "10.0.0.1", Ok(Some(Match::No))),
        ("tcp:127.0.0.1:1 10.0.0.1", "10.0.0.1", Ok(None)),
        ("10.0.0.1 tcp:127.0.0.1:1", "11.0.0.1", Ok(None)),
        ("unionmap:{inline:{10.0.0.1=x},tcp:127.0.0.1:1}", "10.0.0.1", Ok(None)),
    ] {
        let mut notices = Vec::new();
        let list = MatchList::open(PARAMETER, list, &Options::default(), &mut notices).unwrap();
        let client = Client { name: ClientName::Unknown, address };
        assert!(list.is_remote());
        assert_eq!(list.matches_at_once(&client, 0, &mut notices), expected, "{list:?} {address}");
    }
}

#[test]
fn verbose_evaluation_logs_what_postfix_logs() {
    let mut notices = Vec::new();
    let list = MatchList::open("debug_peer_list", "10.0.0.1 inline:{x=y}", &Options::default(), &mut notices)
        .unwrap();
    let client = Client { name: ClientName::Verified("A.example"), address: "10.0.0.2" };
    assert_eq!(list.matches_verbosely(&client, 2, &mut notices), Ok(Match::No));
    assert_eq!(
        notices,
        [
            "match_hostname: debug_peer_list: a.example ~? 10.0.0.1",
            "match_hostaddr: debug_peer_list: 10.0.0.2 ~? 10.0.0.1",
            "match_hostname: debug_peer_list: a.example ~? inline:{x=y}(0,lock|utf8_request)",
            "match_hostname: debug_peer_list: lookup inline:{x=y} a.example: notfound",
            "match_hostname: debug_peer_list: lookup inline:{x=y} example: notfound",
            "match_hostaddr: debug_peer_list: 10.0.0.2 ~? inline:{x=y}(0,lock|utf8_request)",
            "match_list_match: A.example: no match",
            "match_list_match: 10.0.0.2: no match",
        ]
        .map(Notice::info)
    );
    // One that matches is not said to match nothing, and without verbosity nothing is said.
    notices.clear();
    let client = Client { name: ClientName::Verified("A.example"), address: "10.0.0.1" };
    assert_eq!(list.matches_verbosely(&client, 1, &mut notices), Ok(Match::Yes));
    assert_eq!(notices.len(), 2, "{notices:?}");
    for address in ["10.0.0.1", "10.0.0.2"] {
        list.matches(&Client { address, ..client }, &mut notices).unwrap();
    }
    assert_eq!(notices.len(), 2, "{notices:?}");
}

proptest::proptest! {
    /// An open answer never hides a certain one, and a certain one never depends on the name.
    #[test]
    fn a_certain_answer_for_an_unresolved_client_holds_for_every_name(
        picks in proptest::collection::vec(0_usize..14, 1..6),
        name_pick in 0_usize..5,
    ) {
        let items = [
            "10.0.0.1", "!10.0.0.1", "10.0.0.0/8", "!10.0.0.0/8", "a.example", "!a.example", "example", "!example",
            "inline:{b.example=x}", "!inline:{b.example=x}", "cidr:{{10.0.0.1 x}}", "!unknown", "!static:x", "c.test",
        ];
        let list: Vec<&str> = picks.iter().map(|&pick| items[pick]).collect();
        let list = list.join(" ");
        for open in [ClientName::Unresolved, ClientName::Pending] {
            let certain = ask_with(&Options::default(), &list, open, "10.0.0.1").0.unwrap();
            if certain != Match::Undetermined {
                let name = ["a.example", "b.example", "c.test", "z.test", "unknown"][name_pick];
                proptest::prop_assert_eq!(ask(&list, name, "10.0.0.1"), Ok(certain), "{} {} {:?}", list, name, open);
            }
        }
    }

    #[test]
    fn no_list_and_no_client_make_it_panic(
        list in "[!a-z0-9.:, {}=*#\\[\\]]{0,40}",
        name in ".{0,20}",
        address in "[0-9a-f:.]{0,20}",
    ) {
        let mut notices = Vec::new();
        if let Ok(list) = MatchList::open(PARAMETER, &list, &Options::default(), &mut notices) {
            for name in [ClientName::Verified(&name), ClientName::Unresolved] {
                // tcp: and socketmap: ask whoever listens; this must not depend on that.
                if !list.is_remote() {
                    let _ = list.matches(&Client { name, address: &address }, &mut notices);
                }
            }
        }
    }
}
