//! `lmdb:` files of a few small pages, made here node by node: what is found in them, and what is said of a fault.

#![cfg(test)] // A helper that fails fails its test.

use lookup::{Options, table};
use postfix::notice::Notice;

const PAGE: usize = 512;
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
const OVERFLOW: u16 = 4;
const BIG_DATA: u16 = 1;
const CORRUPTED: &str = "MDB_CORRUPTED: Located page was wrong type";

#[derive(Clone)]
struct Pages(Vec<u8>);

impl Pages {
    /// Two meta pages of transactions 1 and 2; the tree of the newer one begins at page 2.
    fn new() -> Self {
        let mut pages = Self(vec![0; 2 * PAGE]);
        for number in [0, 1] {
            let at = number * PAGE + 16;
            pages.put(at, &0xBEEF_C0DE_u32.to_ne_bytes());
            pages.put(at + 4, &1_u32.to_ne_bytes());
            pages.put(at + 24, &(PAGE as u32).to_ne_bytes());
            pages.put(at + 112, &(2 + 1 - number as u64).to_ne_bytes());
            pages.put(at + 128, &(1 + number as u64).to_ne_bytes());
        }
        pages
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn with(mut self, at: usize, bytes: &[u8]) -> Self {
        self.put(at, bytes);
        self
    }

    /// Adds a page with these nodes.
    fn page(mut self, flags: u16, nodes: &[Vec<u8>]) -> Self {
        let at = self.0.len();
        self.0.resize(at + PAGE, 0);
        self.put(at + 10, &flags.to_ne_bytes());
        self.put(at + 12, &(16 + 2 * nodes.len() as u16).to_ne_bytes());
        let mut end = PAGE;
        for (index, node) in nodes.iter().enumerate() {
            end -= node.len();
            self.put(at + end, node);
            self.put(at + 16 + index * 2, &(end as u16).to_ne_bytes());
        }
        self
    }

    fn leaf(self, entries: &[(&str, &str)]) -> Self {
        let nodes: Vec<_> =
            entries.iter().map(|(key, value)| node(value.len() as u32, 0, key, value.as_bytes())).collect();
        self.page(LEAF, &nodes)
    }

    fn open(&self, options: &Options) -> Opened {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        std::fs::write(path.with_extension("lmdb"), &self.0).unwrap();
        let mut notices = Vec::new();
        let name = path.display().to_string();
        let table = table::open("lmdb", &name, options, &mut notices).unwrap();
        Opened { _dir: dir, name, table, notices }
    }

    /// The value, or what is said.
    fn ask(&self, key: &str) -> Result<Option<String>, String> {
        self.ask_with(&Options::default(), key)
    }

    fn ask_with(&self, options: &Options, key: &str) -> Result<Option<String>, String> {
        let mut opened = self.open(options);
        if let [Notice { text, .. }] = opened.notices.as_slice() {
            let start = format!("open database {}.lmdb: ", opened.name);
            return Err(text.strip_prefix(&start).unwrap().to_owned());
        }
        let mut call = table::Call { notices: &mut opened.notices, deadline: None, budget: None };
        let found = opened.table.lookup(key.as_bytes(), &mut call);
        let start = format!("error reading lmdb:{}: ", opened.name);
        found.map(|value| value.map(|value| String::from_utf8(value).unwrap())).map_err(|error| {
            assert!(error.temporary);
            opened.notices[0].text.strip_prefix(&start).unwrap().to_owned()
        })
    }
}

struct Opened {
    _dir: tempfile::TempDir,
    name: String,
    table: Box<dyn table::Table>,
    notices: Vec<Notice>,
}

/// A node: a number of 32 bits, flags, a key, and what stands behind it.
fn node(number: u32, flags: u16, key: &str, behind: &[u8]) -> Vec<u8> {
    let (low, high) = (number as u16, (number >> 16) as u16);
    let (first, second) = if cfg!(target_endian = "little") { (low, high) } else { (high, low) };
    let len = key.len() as u16;
    [&[first, second, flags, len].map(u16::to_ne_bytes).concat()[..], key.as_bytes(), behind].concat()
}

/// A node of a branch page.
fn below(number: u32, key: &str) -> Vec<u8> {
    node(number, 0, key, b"")
}

fn found(value: &str) -> Result<Option<String>, String> {
    Ok(Some(value.to_owned()))
}

fn corrupted() -> Result<Option<String>, String> {
    Err(CORRUPTED.to_owned())
}

#[test]
fn the_newer_of_two_states_counts_if_it_is_one() {
    let pages = Pages::new().leaf(&[("k", "new")]).leaf(&[("k", "old")]);
    assert_eq!(pages.ask("k"), found("new"));
    assert_eq!(pages.clone().with(16 + 128, &[3]).ask("k"), found("old"));
    let (first, second) = (16, PAGE + 16);
    assert_eq!(pages.clone().with(second, &[0]).ask("k"), found("old"), "the newer one is none");
    assert_eq!(pages.clone().with(first, &[0]).ask("k"), found("new"), "the older one is none");
    let invalid = Err("MDB_INVALID: File is not an LMDB file".to_owned());
    assert_eq!(pages.clone().with(first, &[0]).with(second, &[0]).ask("k"), invalid);
    assert_eq!(Pages(pages.0[..151].to_vec()).ask("k"), invalid);
    let version = Err("MDB_VERSION_MISMATCH: Database environment version mismatch".to_owned());
    assert_eq!(pages.clone().with(second + 4, &2_u32.to_ne_bytes()).ask("k"), version);
    let flags = Err("MDB_INCOMPATIBLE: Operation and DB incompatible, or DB flags changed".to_owned());
    assert_eq!(pages.clone().with(second + 76, &4_u16.to_ne_bytes()).ask("k"), flags);
    assert_eq!(pages.with(second + 112, &[0xff; 8]).ask("k"), Ok(None), "nothing is in it");
}

#[test]
fn pages_have_one_of_the_sizes_of_the_format() {
    for (size, is_known) in
        [(256, false), (512, true), (768, false), (4096, true), (32768, true), (65536, false)]
    {
        let small = Pages::new().leaf(&[("k", "v")]);
        let mut pages = Pages(vec![0; 3 * size.max(PAGE)]);
        pages.put(0, &small.0[..152]);
        pages.put(size, &small.0[PAGE..PAGE + 152]);
        for number in [0, size] {
            pages.put(number + 16 + 24, &(size as u32).to_ne_bytes());
        }
        // The node stands where it stood.
        pages.put(2 * size, &small.0[2 * PAGE..]);
        let expected =
            if is_known { found("v") } else { Err("MDB_INVALID: File is not an LMDB file".to_owned()) };
        assert_eq!(pages.ask("k"), expected, "{size}");
    }
}

#[test]
fn a_branch_leads_to_the_last_key_that_is_not_greater() {
    let pages = Pages::new()
        .page(BRANCH, &[below(3, "zzz"), below(4, "h"), below(5, "p")])
        .leaf(&[("a", "1"), ("g", "2")])
        .leaf(&[("h", "3"), ("o", "4")])
        .leaf(&[("p", "5"), ("z", "6")]);
    for (key, value) in [("a", "1"), ("g", "2"), ("h", "3"), ("o", "4"), ("p", "5"), ("z", "6")] {
        assert_eq!(pages.ask(key), found(value), "{key}");
    }
    for key in ["0", "b", "gg", "i", "oo", "q", "zz"] {
        assert_eq!(pages.ask(key), Ok(None), "{key}");
    }
    let root = |nodes: &[Vec<u8>]| Pages::new().page(BRANCH, nodes).leaf(&[("a", "1")]).ask("a");
    assert_eq!(root(&[below(3, "")]), found("1"));
    assert_eq!(root(&[]), corrupted());
    assert_eq!(root(&[below(2, "")]), corrupted(), "it leads to itself");
    assert_eq!(root(&[below(4, "")]), corrupted(), "behind the end");
    assert_eq!(root(&[node(3, 1, "", b"")]), corrupted(), "the number has 48 bits");
    assert_eq!(root(&[below(0x1_0003, "")]), corrupted());
}

#[test]
fn a_tree_has_no_more_levels_than_any_of_the_library() {
    let tree = |branches: u32| {
        let pages = (0..branches).fold(Pages::new(), |pages, at| pages.page(BRANCH, &[below(at + 3, "")]));
        pages.leaf(&[("k", "v")]).ask("k")
    };
    assert_eq!(tree(63), found("v"));
    assert_eq!(tree(64), corrupted());
}

#[test]
fn a_value_stands_beside_its_key_or_on_pages_of_its_own() {
    let value = "v".repeat(700);
    let big = |page: u64, len: u32, flags: u16| {
        Pages::new()
            .page(LEAF, &[node(2, 0, "a", b"of"), node(len, BIG_DATA, "b", &page.to_ne_bytes())])
            .page(flags, &[])
    };
    let with_value = |pages: Pages, len: usize| {
        let at = pages.0.len() - PAGE + 16;
        let mut pages = pages;
        pages.0.truncate(at);
        pages.0.extend(&value.as_bytes()[..len]);
        pages
    };
    assert_eq!(with_value(big(3, 700, OVERFLOW), 700).ask("b"), found(&value));
    assert_eq!(with_value(big(3, 700, OVERFLOW), 699).ask("b"), corrupted(), "cut short");
    assert_eq!(with_value(big(3, 700, LEAF), 700).ask("b"), corrupted());
    assert_eq!(with_value(big(3, 700, 0), 700).ask("b"), corrupted());
    for page in [4, 1 << 60, u64::MAX] {
        assert_eq!(with_value(big(page, 700, OVERFLOW), 700).ask("b"), corrupted(), "page {page}");
    }
    for (file_bytes_max, expected) in [(700, found(&value)), (699, corrupted())] {
        let options = Options { file_bytes_max, ..Options::default() };
        assert_eq!(with_value(big(3, 700, OVERFLOW), 700).ask_with(&options, "b"), expected);
    }
    // 65536 bytes and more need the upper half of the number.
    let long = "x".repeat(70_000);
    let mut pages = big(3, 70_000, OVERFLOW);
    pages.0.truncate(3 * PAGE + 16);
    pages.0.extend(long.as_bytes());
    assert_eq!(pages.ask("b"), found(&long));
    let leaf = |nodes: &[Vec<u8>]| Pages::new().page(LEAF, nodes).ask("k");
    assert_eq!(leaf(&[node(1, 0, "k", b"v")]), found("v"));
    assert_eq!(leaf(&[node(0, 0, "k", b"v")]), found(""));
    assert_eq!(leaf(&[node(2, 0, "k", b"v")]), corrupted(), "it goes on behind the page");
    assert_eq!(leaf(&[node(1, 2, "k", b"v")]), corrupted(), "a database in the database");
    assert_eq!(leaf(&[node(0, BIG_DATA, "k", b"1234567")]), corrupted(), "no whole number");
    let pages = Pages::new().leaf(&[("k", "v")]);
    assert_eq!(pages.clone().with(2 * PAGE + 10, &(LEAF | 0x20).to_ne_bytes()).ask("k"), corrupted());
    assert_eq!(pages.clone().with(2 * PAGE + 12, &17_u16.to_ne_bytes()).ask("k"), Ok(None), "no node");
    assert_eq!(pages.with(2 * PAGE + 12, &600_u16.to_ne_bytes()).ask("none"), corrupted(), "too many nodes");
}

#[test]
fn the_first_value_that_refuses_is_found_in_a_bounded_part() {
    let foreign = |pages: &Pages| {
        let found = pages.open(&Options::default()).table.foreign_entry();
        found.map(|(key, value)| (key, String::from_utf8(value).unwrap()))
    };
    let said = |key: &str, value: &str| Some((key.to_owned(), value.to_owned()));
    let pages = Pages::new()
        .page(BRANCH, &[below(3, ""), below(4, "h"), below(5, "p")])
        .leaf(&[("a", "OK")])
        .leaf(&[("h", "OK"), ("i\0", "REJECT"), ("j", "DEFER")])
        .leaf(&[("p", "554")]);
    assert_eq!(foreign(&pages), said("i", "REJECT"));
    let pages = pages.with(2 * PAGE + 12, &18_u16.to_ne_bytes());
    assert_eq!(foreign(&pages), None, "only the first page below is there");
    let big = node(6, BIG_DATA, "a", b"REJECT");
    assert_eq!(foreign(&Pages::new().page(LEAF, std::slice::from_ref(&big))), None);
    assert_eq!(foreign(&Pages::new().page(LEAF, &[big, node(3, 0, "b", b"554")])), said("b", "554"));
    assert_eq!(foreign(&Pages::new().page(BRANCH, &[below(2, ""), below(2, "")])), None, "it ends");
    assert_eq!(foreign(&Pages::new().with(PAGE + 16 + 112, &[0xff; 8])), None);
}
