//! main.cf: lines, expansion, typed settings.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use postfix::main_cf::MainCf;
use postfix::settings::{self, HostFacts};

fuzz_target!(|data: &[u8]| {
    let file = MainCf::parse("/etc/postfix/main.cf", data);
    for entry in file.entries() {
        assert!(!entry.name.is_empty());
        assert_eq!(postfix::text::trim(&entry.value), entry.value);
        assert_eq!(file.get(&entry.name), Some(entry));
    }
    // What is in force, written anew, means the same.
    let mut written = Vec::new();
    for entry in file.entries() {
        written.extend_from_slice(entry.name.as_bytes());
        written.extend_from_slice(b" = ");
        written.extend_from_slice(&entry.value);
        written.push(b'\n');
    }
    let again = MainCf::parse("/etc/postfix/main.cf", &written);
    let values = |file: &MainCf| -> Vec<_> {
        file.entries().map(|entry| (entry.name.clone(), entry.value.clone())).collect()
    };
    assert_eq!(values(&again), values(&file));

    let host = HostFacts {
        host_name: "mx.example.test".to_owned(),
        interfaces: Vec::new(),
        resolve: &|_| vec![IpAddr::from([192, 0, 2, 1])],
        first_line: &|path| Ok(path.as_bytes().get(1..).unwrap_or_default().to_vec()),
        config_directory: "/etc/postfix".to_owned(),
        process_name: "qmqpd".to_owned(),
        process_id: 1,
        service_name: "qmqp".to_owned(),
        is_under_postfix: false,
    };
    // A survey goes on behind errors; a load is one without any.
    let survey = settings::survey(&file, &[], &host);
    match settings::load(&file, &[], &host) {
        Ok(_) => assert!(survey.errors.is_empty()),
        Err(error) => {
            assert!(!error.errors.is_empty());
            assert_eq!(error.errors, survey.errors);
            for error in &error.errors {
                let _ = error.to_string();
            }
        }
    }
});
