//! What name servers and hosts files say about a client.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use qmqpd::peer::Name;
use qmqpd::peer::fuzzing::{name_in_hosts, name_in_response, names_a_server, names_to_ask};

fuzz_target!(|data: &[u8]| {
    let client = IpAddr::from([192, 0, 2, 1]);
    let _ = names_a_server(data);
    let (host, resolv_conf) = fuzz::split_line(data);
    if let Some(names) = names_to_ask(host, resolv_conf) {
        let host = String::from_utf8_lossy(host);
        assert!(names.len() <= 1 + resolv_conf.len(), "more names than the search list has");
        // The longest name has no room for the root.
        assert!(host.len() > 253 || names.contains(&format!("{host}.")), "the name itself is not asked for");
        for name in names {
            assert!(name.starts_with(&*host) && name.ends_with('.') && name.len() <= 255, "{name:?}");
        }
    }
    for found in [name_in_response(data, client), name_in_hosts(data, client)].into_iter().flatten() {
        if let Name::Verified(name) = &found.name {
            assert!(name.len() <= 255 && name.parse::<IpAddr>().is_err());
            assert!(
                name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)),
                "{name:?}"
            );
        }
    }
});
