//! Standard output and standard error that nobody reads, or that are full.

use std::fs::File;
use std::process::Stdio;

use testbed::trials::Trials;

use super::site::{Site, free_address, send};

pub(crate) fn add(trials: &mut Trials) {
    trials.add(
        "output::no_command_panics_where_nobody_listens_and_a_full_output_is_named",
        &[],
        no_command_panics_where_nobody_listens_and_a_full_output_is_named,
    );
}

/// A pipe that nobody reads any more, and a device that is always full.
fn closed_and_full() -> [Stdio; 2] {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    [writer.into(), File::options().write(true).open("/dev/full").unwrap().into()]
}

fn no_command_panics_where_nobody_listens_and_a_full_output_is_named() {
    let site = Site::new();
    let address = free_address();
    site.configure(&format!("qmqpd_listen = {address}\nqmqpd_authorized_clients = 127.0.0.1, all\n"));
    let _server = site.serve(&["-c", "etc"]);
    let commands: [&[&str]; 9] = [
        &["status", "-c", "etc"],
        &["check", "-c", "etc"],
        &["reload", "-c", "etc"],
        &["check", "-c", "nowhere"],
        &["serve", "-c", "nowhere"],
        &["status", "-c", "nowhere"],
        &["--help"],
        &["--version"],
        &["no-such-command"],
    ];
    for command in commands {
        for (kind, out) in closed_and_full().into_iter().enumerate() {
            let output = site.command(command).stdout(out).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!said.contains("panicked"), "{command:?}: {said}");
            let status = output.status.code();
            // clap prints help and version, and lets that be.
            if command.contains(&"etc") {
                assert_eq!(status, Some([0, 74][kind]), "{command:?}: {said}");
                let named = said.contains("its output cannot be written: No space left on device");
                assert_eq!(named, kind == 1, "{command:?}: {said}");
            }
        }
        for out in closed_and_full() {
            let status = site.command(command).stdout(Stdio::null()).stderr(out).status().unwrap();
            let expected =
                if command.contains(&"etc") || command[0].starts_with("--") { 0..=0 } else { 64..=78 };
            assert!(status.code().is_some_and(|code| expected.contains(&code)), "{command:?}: {status}");
        }
    }
    assert!(send(address).starts_with("KOk: queued as "));
}
