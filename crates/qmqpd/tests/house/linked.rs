//! What the programs are linked with.

use std::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_qmqpd");

/// The tests, and the program that is shipped, have the same PCRE2: .cargo/config.toml asks for the one in Cargo.lock, unless
/// the build asks for the system's.
#[test]
fn the_program_has_the_pcre2_that_was_asked_for() {
    let is_own = match std::env::var("PCRE2_SYS_STATIC").as_deref() {
        Ok("1") => true,
        Ok("0") => false,
        other => {
            panic!("PCRE2_SYS_STATIC is {other:?}: .cargo/config.toml sets it for cargo, 0 is the system's")
        }
    };
    // The dynamic linker reads this name in the program.
    let name = b"libpcre2-8.so";
    let program = std::fs::read(PROGRAM).unwrap();
    let is_linked = program.windows(name.len()).any(|bytes| bytes == name);
    assert_ne!(is_own, is_linked, "own: {is_own}, linked with the system's: {is_linked}");
    let version = Command::new(PROGRAM).arg("--version").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let pcre2 = version.lines().nth(1).and_then(|line| line.strip_prefix("PCRE2 10."));
    assert!(pcre2.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())), "{version}");
}
