//! Reading the configuration: every call fails once, from the first to the last.

use std::path::Path;
use std::process::{Command, Output};

use super::record;
use testbed::peers::Peer;
use testbed::postfix::{scratch, write_config};
use testbed::program;
use testbed::strace::{Fault, injected};
use testbed::trials::Trials;

pub(crate) fn add(trials: &mut Trials) {
    for (call, error) in
        [("openat", "EIO"), ("openat", "EMFILE"), ("read", "EIO"), ("statx", "EACCES"), ("socket", "EMFILE")]
    {
        trials.add(&format!("configuration::{call}::{error}"), &[Peer::Strace], move || every(call, error));
    }
}

/// Numbers for `when`, which lives as long as the program.
const WHEN: [&str; 96] = [
    "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18", "19",
    "20", "21", "22", "23", "24", "25", "26", "27", "28", "29", "30", "31", "32", "33", "34", "35", "36",
    "37", "38", "39", "40", "41", "42", "43", "44", "45", "46", "47", "48", "49", "50", "51", "52", "53",
    "54", "55", "56", "57", "58", "59", "60", "61", "62", "63", "64", "65", "66", "67", "68", "69", "70",
    "71", "72", "73", "74", "75", "76", "77", "78", "79", "80", "81", "82", "83", "84", "85", "86", "87",
    "88", "89", "90", "91", "92", "93", "94", "95", "96",
];

fn every(call: &'static str, error: &'static str) {
    let dir = scratch("configuration");
    let table = dir.path().join("table");
    std::fs::write(&table, "192.0.2.1 ok\n").unwrap();
    let main_cf = format!(
        "compatibility_level = 3.6\nqueue_directory = {0}\nqmqpd_authorized_clients = texthash:{1}\nqmqpd_listen = 127.0.0.1:7628\n",
        dir.path().display(),
        table.display()
    );
    let config = write_config(dir.path(), &main_cf, "");
    std::fs::remove_file(config.join("master.cf")).unwrap();
    let trace = dir.path().join("trace");
    let mut complained = 0;
    for when in WHEN {
        let fault = Fault { call, error, when };
        let output = check(&fault, &trace, &config);
        if injected(&trace) == 0 {
            break;
        }
        let said =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(!said.contains("panicked"), "{fault}: {said}");
        let code = output.status.code();
        // 127 is the dynamic linker's, which opens files before us.
        assert!(matches!(code, Some(0 | 1 | 75 | 78 | 127)), "{fault}: {code:?}, {said}");
        if code != Some(0) {
            assert!(!said.trim().is_empty(), "{fault}: exit {code:?} without a word");
            complained += usize::from(code != Some(127));
        }
        let outcome = match code {
            Some(0) => "the check goes on without it",
            Some(127) => "the dynamic linker gives up",
            _ => "the check says what cannot be read, and fails",
        };
        record::note("qmqpd check", &fault, 1, outcome);
    }
    assert!(complained > 0, "no failure of {call} is ever told");
}

fn check(fault: &Fault, trace: &Path, config: &Path) -> Output {
    let mut command: Command = fault.command(trace);
    // The fewer libraries are looked for in vain before the program begins, the better.
    command.env_remove("LD_LIBRARY_PATH");
    command.arg(program::qmqpd()).arg("check").arg("-c").arg(config);
    command.output().expect("strace(1)")
}
