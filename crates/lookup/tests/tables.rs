//! What tables, and lists of them, say about themselves: names, what they cost, which servers and files they need.

#![cfg(test)] // A helper that fails fails its test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lookup::{
    Client, ClientName, Keys, LookupError, Maps, Match, MatchList, Names, OpenError, Options, table,
};
use postfix::notice::Notice;

fn fixture(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/postmap").join(name).display().to_string()
}

fn open_with(options: &Options, item: &str) -> (Box<dyn table::Table>, Vec<String>) {
    let (type_name, name) = item.split_once(':').unwrap();
    let mut notices = Vec::new();
    let table = table::open(type_name, name, options, &mut notices).unwrap();
    (table, texts(&notices))
}

/// Opens a table; no server is asked for it.
fn open(item: &str) -> Box<dyn table::Table> {
    open_with(&Options { asks_at_open: false, ..Options::default() }, item).0
}

fn texts(notices: &[Notice]) -> Vec<String> {
    notices.iter().map(|notice| format!("{}{}", notice.severity.prefix(), notice.text)).collect()
}

fn ask(table: &dyn table::Table, key: &str) -> Result<Option<String>, table::TableError> {
    let mut call = table::Call { notices: &mut Vec::new(), deadline: None, budget: None };
    Ok(table.lookup(key.as_bytes(), &mut call)?.map(|value| String::from_utf8(value).unwrap()))
}

#[test]
fn each_table_is_called_as_it_is_written_and_says_what_it_is() {
    const FIXED: u8 = 1;
    const REMOTE: u8 = 2;
    const EXPRESSIONS: u8 = 4;
    const NAMES: u8 = 8;
    let hosts = fixture("hosts");
    let (lmdb, hash, btree) =
        (format!("lmdb:{hosts}"), format!("hash:{hosts}-hash"), format!("btree:{hosts}-btree"));
    for (item, expected) in [
        ("static:a", FIXED | NAMES),
        ("static:{a b}", FIXED | NAMES),
        ("fail:x", NAMES),
        ("environ:x", FIXED | NAMES),
        ("inline:{a.test=b}", FIXED | NAMES),
        ("inline:{10.0.0.1=b}", FIXED),
        ("cidr:{{10.0.0.0/8 x}}", 0),
        ("regexp:{{/a/ x}}", EXPRESSIONS | NAMES),
        ("pcre:{{/a/ x}}", EXPRESSIONS | NAMES),
        ("tcp:127.0.0.1:1", REMOTE | NAMES),
        ("socketmap:unix:/nowhere:x", REMOTE | NAMES),
        ("proxy:hash:/nowhere", REMOTE | NAMES),
        ("unionmap:{static:a}", FIXED | NAMES),
        ("unionmap:{cidr:{{10.0.0.0/8 x}}, inline:{10.0.0.1=b}}", 0),
        ("unionmap:{inline:{10.0.0.1=b}, cidr:{{10.0.0.0/8 x}}}", FIXED),
        ("unionmap:{cidr:{{10.0.0.0/8 x}}, static:a}", NAMES),
        ("unionmap:{static:a, tcp:127.0.0.1:1}", FIXED | REMOTE | NAMES),
        ("unionmap:{static:a, pcre:{{/a/ x}}}", FIXED | EXPRESSIONS | NAMES),
        // The others are asked for the answer of the first.
        ("pipemap:{cidr:{{10.0.0.0/8 x}}, static:a}", 0),
        ("pipemap:{static:a, cidr:{{10.0.0.0/8 x}}, tcp:127.0.0.1:1}", FIXED | REMOTE | NAMES),
        (&lmdb, FIXED | NAMES),
        (&hash, FIXED | NAMES),
        (&btree, FIXED | NAMES),
        // What cannot be opened may be anything.
        ("zz:x", NAMES),
    ] {
        for item in [item.to_owned(), format!("debug:{item}")] {
            let table = open(&item);
            assert_eq!(table.name(), item);
            let bit = |is: bool, bit| if is { bit } else { 0 };
            let found = bit(table.is_fixed(), FIXED)
                | bit(table.is_remote(), REMOTE)
                | bit(table.has_expressions(), EXPRESSIONS)
                | bit(table.could_know_a_name(), NAMES);
            assert_eq!(found, expected, "{item}");
        }
    }
    let cdb = open(&format!("cdb:{hosts}"));
    assert_eq!((cdb.name(), cdb.is_fixed()), (&*format!("cdb:{hosts}.cdb"), true));
}

#[test]
fn a_failure_names_the_table_that_was_asked() {
    for (item, temporary) in [("fail:x", true), ("zz:x", true), ("unionmap:{fail:x}", true)] {
        for item in [item.to_owned(), format!("debug:{item}")] {
            let expected = Err(table::TableError { table: item.clone(), temporary });
            assert_eq!(ask(open(&item).as_ref(), "k"), expected);
        }
    }
}

#[test]
fn keys_that_never_match_are_remarked_on_through_other_tables() {
    let remark = |key: &str| {
        format!(
            "the key \"{key}.test\" never matches, since lookups are in lower case; write \"{}.test\"",
            key.to_lowercase()
        )
    };
    for (item, keys) in [
        ("inline:{a.test=x}", &[][..]),
        ("inline:{A.test=x,B.test=x}", &["A", "B"]),
        ("debug:inline:{A.test=x}", &["A"]),
        ("unionmap:{inline:{A.test=x},inline:{B.test=x}}", &["A", "B"]),
        ("pipemap:{inline:{A.test=x},inline:{B.test=x}}", &["A"]),
    ] {
        let expected: Vec<String> = keys.iter().map(|key| remark(key)).collect();
        assert_eq!(open(item).remarks(), expected, "{item}");
    }
}

#[test]
fn values_that_refuse_are_found_through_other_tables() {
    let access = fixture("access");
    for (item, expected) in [
        ("static:REJECT".to_owned(), None),
        ("pcre:{{/a/ REJECT}}".to_owned(), None),
        ("tcp:127.0.0.1:1".to_owned(), None),
        ("inline:{a.test=OK}".to_owned(), None),
        ("inline:{a.test=REJECT}".to_owned(), Some("a.test")),
        ("cidr:{{10.0.0.0/8 REJECT}}".to_owned(), Some("10.0.0.0/8")),
        (format!("cdb:{access}"), Some("late.example.com")),
        (format!("lmdb:{access}"), Some("late.example.com")),
        ("unionmap:{static:a, inline:{a.test=REJECT}}".to_owned(), Some("a.test")),
        ("pipemap:{inline:{a.test=REJECT}}".to_owned(), None),
    ] {
        for item in [item.clone(), format!("debug:{item}")] {
            let found = open(&item).foreign_entry();
            let expected = expected.map(|key| (key.to_owned(), b"REJECT".to_vec()));
            let found = found.map(|(key, value)| (key, value.strip_suffix(b"\0").unwrap_or(&value).to_vec()));
            assert_eq!(found, expected, "{item}");
        }
    }
}

#[test]
fn a_change_of_the_file_is_seen_through_other_tables() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let name = path.display().to_string();
    for type_name in ["texthash", "cidr", "regexp", "pcre"] {
        std::fs::write(&path, "").unwrap();
        let items = ["", "debug:", "unionmap:{static:a ", "pipemap:{static:a "].map(|before| {
            format!("{before}{type_name}:{name}{}", if before.ends_with(' ') { "}" } else { "" })
        });
        let tables = items.map(|item| open(&item));
        for table in &tables {
            assert_eq!(table.changed(), None, "{}", table.name());
        }
        std::fs::write(&path, "# longer\n").unwrap();
        for table in &tables {
            assert_eq!(table.changed(), Some(name.clone()), "{}", table.name());
        }
    }
    for item in
        ["static:a", "fail:x", "environ:x", "inline:{a=b}", "cidr:{{10.0.0.0/8 x}}", "pcre:{{/a/ x}}", "zz:x"]
    {
        assert_eq!(open(item).changed(), None, "{item}");
    }
}

#[test]
fn a_table_that_was_missing_is_changed_when_its_file_comes() {
    let dir = tempfile::tempdir().unwrap();
    for (type_name, suffix) in [
        ("texthash", ""),
        ("cidr", ""),
        ("pcre", ""),
        ("regexp", ""),
        ("cdb", ".cdb"),
        ("lmdb", ".lmdb"),
        ("hash", ".db"),
        ("btree", ".db"),
    ] {
        let path = dir.path().join(format!("of-{type_name}"));
        let file = PathBuf::from(format!("{}{suffix}", path.display()));
        let table = open(&format!("debug:{type_name}:{}", path.display()));
        assert_eq!(table.changed(), None, "{type_name}");
        std::fs::write(&file, "x").unwrap();
        assert_eq!(table.changed(), Some(file.display().to_string()), "{type_name}");
    }
}

/// The child process has a variable whose value has a `=`, as `A=b=c` has.
#[test]
fn environ_knows_the_variables_of_the_process() {
    const VARIABLE: &str = "QMQPD_TEST_OF_ENVIRON";
    if std::env::var_os(VARIABLE).is_none() {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "environ_knows_the_variables_of_the_process"])
            .env(VARIABLE, "b=c")
            .env("qmqpd_test", "small")
            .output()
            .unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
        return;
    }
    let table = open("environ:x");
    assert_eq!(ask(table.as_ref(), VARIABLE), Ok(Some("b=c".to_owned())));
    assert_eq!(ask(table.as_ref(), "QMQPD_TEST"), Ok(None));
    for key in ["", "=", "QMQPD_TEST_OF_ENVIRON=b"] {
        assert_eq!(ask(table.as_ref(), key), Ok(None), "{key}");
    }
    let folded = open_with(&Options { fold_keys: true, ..Options::default() }, "environ:x").0;
    assert_eq!(ask(folded.as_ref(), "QMQPD_TEST"), Ok(Some("small".to_owned())));
}

/// Observed on Postfix 3.7.
#[test]
fn a_random_table_has_all_its_values_sooner_or_later() {
    let found = |name: &str| {
        let table = open(name);
        let ask = |_| ask(table.as_ref(), "k").unwrap().unwrap();
        (0..1000).map(ask).collect::<std::collections::BTreeSet<String>>().into_iter().collect::<Vec<_>>()
    };
    for (name, values) in [
        ("randmap:{a}", &["a"][..]),
        ("randmap:{a, b c,,d}", &["a", "b", "c", "d"]),
        ("randmap:{{a b}, c}", &["c", "{a b}"]),
        ("randmap:{{a}b c}", &["c", "{a}b"]),
        ("randmap:{\"a b\"}", &["\"a", "b\""]),
    ] {
        assert_eq!(found(name), values, "{name}");
    }
    for name in ["randmap:{}", "randmap:{,}", "randmap:a", "randmap:{a}x", "randmap:{a"] {
        let (_, notices) = open_with(&Options::default(), name);
        assert_eq!(notices, [format!("error: bad syntax: \"{name}\"; need \"randmap:{{value...}}\"")]);
    }
}

#[test]
fn tables_are_nested_as_deep_as_the_bound_and_no_deeper() {
    let options = Options { nesting_max: 2, ..Options::default() };
    let open = |name: &str| table::open("debug", name, &options, &mut Vec::new());
    assert!(open("debug:static:x").is_ok());
    assert!(open("unionmap:{static:x}").is_ok());
    for name in ["debug:debug:static:x", "debug:debug:debug:static:x", "unionmap:{debug:static:x}"] {
        let error = open(name).err();
        assert!(matches!(error, Some(OpenError::Nesting { nesting_max: 2, .. })), "{name}: {error:?}");
    }
}

#[test]
fn a_type_that_is_not_supported_comes_with_what_to_write_instead() {
    for (type_name, way_out) in [
        ("unix", "; write the entries into a texthash: file"),
        ("internal", "; write the entries into a texthash: file"),
        ("zz", ""),
    ] {
        let (_, notices) = open_with(&Options::default(), &format!("{type_name}:x"));
        assert_eq!(notices, [format!("error: unsupported dictionary type: {type_name}{way_out}")]);
    }
}

#[test]
fn lists_know_the_servers_and_files_of_their_tables() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    std::fs::write(&path, "a.test x\n").unwrap();
    let file = format!("texthash:{}", path.display());
    let (options, mut notices) = (Options::default(), Vec::new());
    let with_server = "static:a, unionmap:{tcp:maps.test:7, static:a}, socketmap:inet:192.0.2.1:9:x";
    let servers = [("maps.test".to_owned(), 7), ("192.0.2.1".to_owned(), 9)];
    let lists: Vec<_> = [with_server, "static:a", "", &file]
        .iter()
        .map(|text| {
            (
                MatchList::open("debug_peer_list", text, &options, &mut notices).unwrap(),
                Names::open("mydestination", text, &options, &mut notices).unwrap(),
                Maps::open("canonical_maps", Keys::Addresses, text, &options, &mut notices).unwrap(),
                Maps::open("header_checks", Keys::Lines, text, &options, &mut notices).unwrap(),
            )
        })
        .collect();
    for (at, (list, names, addresses, lines)) in lists.iter().enumerate() {
        let remote = [list.is_remote(), names.is_remote(), addresses.is_remote(), lines.is_remote()];
        assert_eq!(remote, [at == 0; 4]);
        let expected = if at == 0 { &servers[..] } else { &[] };
        for found in
            [list.inet_servers(), names.inet_servers(), addresses.inet_servers(), lines.inet_servers()]
        {
            assert_eq!(found, expected);
        }
        assert_eq!([list.is_empty(), addresses.is_empty(), lines.is_empty()], [at == 2; 3]);
        let changed = [list.changed(), names.changed(), addresses.changed(), lines.changed()];
        assert_eq!(changed, [const { None }; 4]);
    }
    std::fs::write(&path, "a.test longer\n").unwrap();
    for (at, (list, names, addresses, lines)) in lists.iter().enumerate() {
        let expected = |flags: &str| (at == 3).then(|| format!("{file}(0,{flags})"));
        assert_eq!(list.changed(), expected("lock|utf8_request"));
        assert_eq!(names.changed(), expected("lock|utf8_request"));
        assert_eq!(addresses.changed(), expected("lock|fold_fix|utf8_request"));
        assert_eq!(lines.changed(), expected("lock"));
    }
    assert_eq!(notices, []);
}

#[test]
fn lists_know_whether_they_have_expressions() {
    let (options, mut notices) = (Options::default(), Vec::new());
    for (text, expected) in [("static:a", false), ("static:a, debug:pcre:{{/a/ x}}", true)] {
        let names = Names::open("mydestination", text, &options, &mut notices).unwrap();
        let maps = Maps::open("header_checks", Keys::Lines, text, &options, &mut notices).unwrap();
        assert_eq!((names.has_expressions(), maps.has_expressions()), (expected, expected));
    }
}

#[test]
fn a_comment_behind_items_is_warned_of() {
    let mut notices = Vec::new();
    let text = "10.0.0.1 #and this 10.0.0.2 and much more text";
    let list = MatchList::open("debug_peer_list", text, &Options::default(), &mut notices).unwrap();
    let words = "#comment after other text is not allowed: #and this 10.0.0.2 and mu...";
    assert_eq!(notices, [Notice::warning(format!("debug_peer_list: {words}"))]);
    let client = Client { name: ClientName::Unknown, address: "10.0.0.2" };
    assert_eq!(list.matches(&client, &mut notices), Ok(Match::No));
}

#[test]
fn files_of_patterns_include_others_as_deep_as_the_bound() {
    let dir = tempfile::tempdir().unwrap();
    let path = |number: usize| dir.path().join(number.to_string()).display().to_string();
    for number in 0..3 {
        std::fs::write(path(number), format!("{}\n", path(number + 1))).unwrap();
    }
    std::fs::write(path(3), "10.0.0.1\n").unwrap();
    let options = Options { nesting_max: 3, ..Options::default() };
    let open = |number| MatchList::open("debug_peer_list", &path(number), &options, &mut Vec::new());
    let client = Client { name: ClientName::Unknown, address: "10.0.0.1" };
    assert_eq!(open(1).unwrap().matches(&client, &mut Vec::new()), Ok(Match::Yes));
    let expected =
        OpenError::Nesting { parameter: "debug_peer_list".to_owned(), what: path(3), nesting_max: 3 };
    assert_eq!(open(0).err(), Some(expected));
}

/// A server is tried again each second, unless the time of the whole lookup would be over then.
#[test]
fn the_time_of_a_whole_lookup_is_the_option() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap().to_string();
    drop(listener);
    let options = Options { lookup_deadline: Some(Duration::from_millis(500)), ..Options::default() };
    let (item, refused) =
        (format!("tcp:{place}"), format!("warning: connect to TCP map {place}: Connection refused"));
    let mut notices = Vec::new();
    let names = Names::open("mydestination", &item, &options, &mut notices).unwrap();
    let failed = LookupError::Table { parameter: "mydestination".to_owned(), table: item.clone() };
    assert_eq!(names.contains(b"a.test", &mut notices), Err(failed));
    assert_eq!(texts(&notices), [refused, format!("warning: mydestination: {item}: table lookup problem")]);
}
