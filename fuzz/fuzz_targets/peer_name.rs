//! What name servers and hosts files say about a client.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use qmqpd::peer::Name;
use qmqpd::peer::fuzzing::{name_in_hosts, name_in_response, names_a_server};

fuzz_target!(|data: &[u8]| {
    let client = IpAddr::from([192, 0, 2, 1]);
    let _ = names_a_server(data);
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
