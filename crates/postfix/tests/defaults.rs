//! The defaults of the parameter table are those of `postconf -d`.

use std::collections::BTreeMap;

use postfix::main_cf::MainCf;
use postfix::own_networks::InterfaceAddress;
use postfix::parameter::{DefaultValue, find, table::PARAMETERS};
use postfix::settings::{self, HostFacts, UnknownName};

/// `postconf -d` of Debian's Postfix 3.7.11, with an empty main.cf; the parameters of our table only, without those that
/// depend on the host.
const POSTCONF: &str = include_str!("data/postconf-3.7.11-debian.txt");

/// Parameters that `postconf -d` of 3.7 does not list, and the release that brought each.
const NOT_LISTED: [(&str, &str); 10] = [
    ("default_cache_db_type", "btree"),                // 3.11
    ("force_mime_input_conversion", "no"),             // 3.9
    ("maillog_file_permissions", "0600"),              // 3.9
    ("non_bdb_custom_mapping", ""),                    // 3.11
    ("non_bdb_migration_level", "disable"),            // 3.11
    ("non_empty_end_of_header_action", "fix_quietly"), // 3.11
    ("requiretls_esmtp_header", "yes"),                // 3.11
    ("socketmap_max_query_size", "10000"),             // 3.12
    ("socketmap_max_reply_size", "100000"),            // 3.10
    ("virtual_maps", ""),                              // an old name, not listed any more
];

/// All of it, but for what depends on the host.
const ALL_OF_POSTCONF: &str = include_str!("data/postconf-d-3.7.11-debian.txt");

fn postconf() -> BTreeMap<&'static str, &'static str> {
    POSTCONF
        .lines()
        .filter_map(|line| line.split_once(" ="))
        .map(|(name, value)| (name, value.trim()))
        .collect()
}

#[test]
fn every_default_of_postfix_is_ours() {
    assert_eq!(postconf().len(), POSTCONF.lines().count());
    for (name, value) in postconf() {
        let parameter = find(name).unwrap_or_else(|| panic!("{name} has no row"));
        assert_eq!(parameter.default, DefaultValue::Text(value), "{name}");
    }
}

#[test]
fn a_main_cf_of_all_defaults_has_neither_unused_nor_undefined_names() {
    let host = HostFacts {
        host_name: "mx.example.test".to_owned(),
        interfaces: vec![InterfaceAddress { address: [127, 0, 0, 1].into(), prefix_len: 8 }],
        resolve: &|_| Vec::new(),
        first_line: &|_| Ok(Vec::new()),
        config_directory: "/etc/postfix".to_owned(),
        process_name: "qmqpd".to_owned(),
        process_id: 1,
        service_name: "628".to_owned(),
        is_under_postfix: false,
    };
    assert!(ALL_OF_POSTCONF.lines().count() > 1_000);
    let loaded = settings::load(&MainCf::parse("main.cf", ALL_OF_POSTCONF.as_bytes()), &[], &host).unwrap();
    let names = |unknown: &[UnknownName]| -> Vec<_> { unknown.iter().map(|it| it.name.clone()).collect() };
    assert_eq!((names(&loaded.unused), names(&loaded.undefined)), (vec![], vec![]));
    // Each name by itself, where no default of another one refers to it.
    for line in ALL_OF_POSTCONF.lines() {
        let survey = settings::survey(&MainCf::parse("main.cf", line.as_bytes()), &[], &host);
        let loaded = survey.loaded.unwrap();
        assert_eq!((names(&loaded.unused), names(&loaded.undefined)), (vec![], vec![]), "{line}");
    }
}

#[test]
fn every_row_has_its_model() {
    let postconf = postconf();
    for parameter in PARAMETERS.iter().filter(|parameter| !parameter.is_own()) {
        match parameter.default {
            DefaultValue::Computed(_) => {}
            DefaultValue::Text(text) => {
                let not_listed = NOT_LISTED.iter().find(|(name, _)| *name == parameter.name);
                let not_listed = not_listed.map(|&(_, value)| value);
                let model = postconf.get(parameter.name).copied().or(not_listed);
                assert_eq!(model, Some(text), "{}", parameter.name);
            }
        }
    }
}
