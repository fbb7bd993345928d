//! What a `regexp:` table keeps of the keys that it was asked about. The only test of its program: it looks at the memory of
//! the process.

use lookup::{Options, table};

/// The C library makes a state for nearly each byte of such keys, and keeps them all: some 15 MB for each key, and as much again
/// for the thread that takes over when it takes long.
#[test]
fn the_states_of_an_expression_are_not_kept_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rules");
    std::fs::write(&path, "/^[ab]*a.{200}c/ x\n").unwrap();
    let mut notices = Vec::new();
    let table = table::open("regexp", path.to_str().unwrap(), &Options::default(), &mut notices).unwrap();
    let memory = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    };
    let before = memory();
    let mut number = 42_u64;
    let mut most = 0;
    for _ in 0..25 {
        let key: Vec<u8> = (0..3000)
            .map(|_| {
                number =
                    number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                if number >> 63 == 0 { b'a' } else { b'b' }
            })
            .collect();
        let mut call = table::Call { notices: &mut notices, deadline: None, budget: None };
        assert!(matches!(table.lookup(&key, &mut call), Ok(None)));
        most = most.max(memory().saturating_sub(before));
    }
    assert!(most < 300_000_000, "{most} bytes more than before");
}
