//! master.cf.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postfix::child::Arguments;
use postfix::master_cf::{Defaults, MasterCf, Transport};
use postfix::settings::Endpoint;

fuzz_target!(|data: &[u8]| {
    let defaults = Defaults { process_limit: 100, chroot: false, disabled: "smtp.inet" };
    let file = MasterCf::parse("/etc/postfix/master.cf", data, &defaults);
    for service in file.services() {
        assert!(!service.command.is_empty());
        let _ = service.program();
        if let Transport::Inet(endpoint) = &service.transport {
            // What is shown is read back as the same place.
            assert_eq!(Endpoint::parse(&endpoint.to_string()).as_ref(), Ok(endpoint));
        }
        // A process that is started so must understand its arguments, or say why not.
        let _ = Arguments::parse(&service.arguments).map_err(|error| error.to_string());
    }
    for error in file.errors() {
        assert!(error.line.is_some() && !error.to_string().is_empty());
    }
    assert!(file.inet_services("qmqpd").count() <= file.services().len());
});
