//! The page of limits names the test of each, and that test exists.

use std::collections::BTreeSet;
use std::fs;

use super::{root, sources};

/// The rows of the tables, cut into cells, the first of which is empty.
fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().filter(|line| line.starts_with("| ")).map(|line| line.split('|').collect())
}

/// What stands in backquotes in a cell.
fn quoted<'a>(row: &[&'a str], cell: usize) -> Vec<&'a str> {
    row[cell].split('`').skip(1).step_by(2).collect()
}

fn is_parameter(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

#[test]
fn each_limit_names_its_test() {
    let page = fs::read_to_string(root().join("docs/limits.md")).unwrap();
    let (limits, proofs) = page.split_once("\n## Which test shows it\n").unwrap();
    let shown: BTreeSet<&str> = rows(proofs).flat_map(|row| quoted(&row, 1)).collect();
    let named = rows(limits).flat_map(|row| quoted(&row, 1));
    let missing: Vec<&str> = named.filter(|word| is_parameter(word) && !shown.contains(word)).collect();
    assert!(missing.is_empty(), "docs/limits.md does not say which test shows {missing:?}");
    let tests: String =
        sources(&root().join("crates")).iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    for test in rows(proofs).flat_map(|row| quoted(&row, 2)).filter(|test| test.contains('_')) {
        let name = test.rsplit("::").next().unwrap_or(test);
        let is_there = tests.contains(&format!("fn {name}(")) || tests.contains(&format!("{name}\""));
        assert!(is_there, "docs/limits.md names a test that is not there: {test}");
    }
}
