//! Files of a few small pages, made here item by item: what a search does with each kind of item, and with each fault.

use std::cell::Cell;

use super::tests::{InMemory, VALUE_BYTES_MAX};
use super::{Database, Fault, Method};

const PAGE: usize = 512;
/// The kinds of pages.
const INTERNAL: u8 = 3;
const LEAF: u8 = 5;
const OVERFLOW: u8 = 7;
const HASH: u8 = 13;

const BROKEN_ITEM: Fault = Fault::Damaged("an item of a page is not within it");
const WRONG_TYPE: Fault = Fault::Damaged("a page has the wrong type");
const WRONG_ITEM: Fault = Fault::Damaged("an item of a page has the wrong type");
const WRONG_LENGTH: Fault = Fault::Damaged("a long item has a wrong length");
const NO_SUCH_PAGE: Fault = Fault::Damaged("it refers to a page that does not exist");

/// A file in memory, of a machine whose numbers begin with their low byte.
#[derive(Clone)]
struct Pages(Vec<u8>);

impl Pages {
    /// The first page, for as many pages as will be added.
    fn new(method: Method, magic: u32, kind: u8) -> Self {
        let mut meta = vec![0; PAGE];
        meta[12..16].copy_from_slice(&magic.to_le_bytes());
        (meta[16], meta[21], meta[25]) = (9, 2, kind);
        if method == Method::Hash {
            meta[92..96].copy_from_slice(&super::buckets::hash(b"%$sniglet^&\0").to_le_bytes());
        }
        Self(meta)
    }

    /// A tree whose root is page 1.
    fn tree() -> Self {
        let mut pages = Self::new(Method::Btree, 0x0005_3162, 9);
        pages.0[88] = 1;
        pages
    }

    /// Two buckets, pages 1 and 2.
    fn buckets() -> Self {
        let mut pages = Self::new(Method::Hash, 0x0006_1561, 8);
        (pages.0[72], pages.0[76], pages.0[96], pages.0[100]) = (1, 1, 1, 1);
        pages
    }

    /// Adds a page with these items.
    fn page(mut self, kind: u8, level: u8, next: u8, items: &[Vec<u8>]) -> Self {
        let number = (self.0.len() / PAGE) as u8;
        let mut page = vec![0; PAGE];
        (page[8], page[16], page[20], page[24], page[25]) = (number, next, items.len() as u8, level, kind);
        let mut end = PAGE;
        for (index, item) in items.iter().enumerate() {
            let at = end - item.len();
            page[at..end].copy_from_slice(item);
            page[26 + index * 2..28 + index * 2].copy_from_slice(&(at as u16).to_le_bytes());
            end = at;
        }
        self.0.extend(page);
        self.0[32] = number;
        self
    }

    /// Adds a page with a piece of a long key or value.
    fn piece(self, next: u8, bytes: &[u8]) -> Self {
        let mut pages = self.page(OVERFLOW, 0, next, &[]);
        let at = pages.0.len() - PAGE;
        pages.0[at + 22..at + 24].copy_from_slice(&(bytes.len() as u16).to_le_bytes());
        pages.0[at + 26..at + 26 + bytes.len()].copy_from_slice(bytes);
        pages
    }

    fn with(mut self, at: usize, byte: u8) -> Self {
        self.0[at] = byte;
        self
    }

    fn ask(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let method = if self.0[25] == 9 { Method::Btree } else { Method::Hash };
        let read = Cell::new(0);
        Database::open(InMemory { bytes: &self.0, read: &read }, method, VALUE_BYTES_MAX)?.find(key)
    }
}

/// An item of a leaf.
fn leaf(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_le_bytes()[..], &[kind], bytes].concat()
}

/// An item, in a leaf or behind the head of an internal one, that stands elsewhere.
fn elsewhere(kind: u8, page: u8, len: u16) -> Vec<u8> {
    let [low, high] = len.to_le_bytes();
    vec![0, 0, kind, 0, page, 0, 0, 0, low, high, 0, 0]
}

/// An entry of an internal page.
fn entry(kind: u8, page: u8, bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_le_bytes()[..], &[kind, 0, page, 0, 0, 0, 0, 0, 0, 0], bytes].concat()
}

/// An item of a hash page.
fn hashed(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [&[kind], bytes].concat()
}

fn found(value: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
    Ok(Some(value.to_vec()))
}

#[test]
fn a_leaf_has_the_values_that_were_not_deleted() {
    let items = [
        (leaf(1, b"a"), leaf(1, b"of a")),
        (leaf(0x81, b"b"), leaf(0x81, b"of b")),
        (leaf(0x81, b"c"), leaf(1, b"of c")),
        (leaf(1, b"d"), leaf(4, b"")),
        (leaf(1, b"e"), leaf(2, b"")),
        (leaf(1, b"f"), vec![200, 2, 1]),
        (leaf(1, b"g"), elsewhere(0x83, 1, 1)),
        (leaf(1, b"h"), leaf(1, b"")),
    ];
    let items: Vec<_> = items.into_iter().flat_map(|(key, value)| [key, value]).collect();
    let pages = Pages::tree().page(LEAF, 1, 0, &items);
    for (key, expected) in [
        (&b"a"[..], found(b"of a")),
        (b"b", Ok(None)),
        (b"c", found(b"of c")),
        (b"d", Err(Fault::Feature("it has values in other files"))),
        (b"e", Err(WRONG_ITEM)),
        (b"f", Err(BROKEN_ITEM)),
        (b"g", Ok(None)),
        (b"h", found(b"")),
        (b"", Ok(None)),
        (b"bb", Ok(None)),
        (b"i", Ok(None)),
    ] {
        assert_eq!(pages.ask(key), expected, "{}", key.escape_ascii());
    }
    // The last item is no pair.
    assert_eq!(Pages::tree().page(LEAF, 1, 0, &items[..1]).ask(b"a"), Ok(None));
    assert_eq!(Pages::tree().page(LEAF, 1, 0, &items[..3]).ask(b"b"), Ok(None));
    assert_eq!(Pages::tree().page(LEAF, 1, 0, &[]).ask(b"a"), Ok(None));
}

#[test]
fn a_tree_is_gone_down_by_keys_from_level_to_level() {
    let long = [&b"m"[..], &[b'x'; 599]].concat();
    let leaf_of = |key: &[u8]| [leaf(1, key), leaf(1, &[b"of ", key].concat())];
    let tree = |root: &[Vec<u8>]| {
        Pages::tree()
            .page(INTERNAL, 2, 0, root)
            .page(LEAF, 1, 0, &leaf_of(b"a"))
            .page(LEAF, 1, 0, &leaf_of(b"k"))
            .page(LEAF, 1, 0, &leaf_of(b"z"))
            .piece(6, &long[..PAGE - 26])
            .piece(0, &long[PAGE - 26..])
    };
    // The first entry stands for everything smaller, whatever its key.
    let first = entry(1, 2, b"zzz");
    let second = entry(1, 3, b"k");
    let third = |kind| entry(kind, 4, &elsewhere(3, 5, 600));
    for kind in [3, 0x83] {
        let pages = tree(&[first.clone(), second.clone(), third(kind)]);
        for key in [&b"a"[..], b"k", b"z"] {
            assert_eq!(pages.ask(key), found(&[b"of ", key].concat()));
        }
        for key in [&b"0"[..], b"j", b"l", &long, &long[..599], &[&long[..], b"y"].concat(), b"zz"] {
            assert_eq!(pages.ask(key), Ok(None), "{}", key.escape_ascii());
        }
    }
    let with_second = |second: Vec<u8>| tree(&[first.clone(), second]).ask(b"z");
    assert_eq!(with_second(entry(0x81, 4, b"k")), found(b"of z"));
    assert_eq!(with_second(entry(2, 4, b"k")), Err(WRONG_ITEM));
    // Two bytes before the end of the page.
    let cut = tree(&[first.clone(), second.clone()]).with(PAGE + 28, 0xfe).with(PAGE + 29, 1);
    assert_eq!(cut.ask(b"z"), Err(BROKEN_ITEM));
    assert_eq!(with_second(entry(1, 0, b"k")), Err(NO_SUCH_PAGE));
    assert_eq!(with_second(entry(1, 7, b"k")), Err(NO_SUCH_PAGE));
    // A key that goes on behind the end of its page.
    let mut beyond = entry(1, 4, b"k");
    beyond[1] = 3;
    assert_eq!(with_second(beyond), Err(BROKEN_ITEM));
    assert_eq!(tree(&[]).ask(b"a"), Err(BROKEN_ITEM));
    let pages = tree(&[first, second]);
    let (root_level, level) = (PAGE + 24, 2 * PAGE + 24);
    for (at, byte, fault) in [
        (root_level, 3, Fault::Damaged("a page has the wrong level")),
        (root_level, 1, WRONG_TYPE),
        (root_level, 0, WRONG_TYPE),
        (level, 2, Fault::Damaged("a page has the wrong level")),
        (level, 0, Fault::Damaged("a page has the wrong level")),
        (level + 1, INTERNAL, WRONG_TYPE),
        (level + 1, OVERFLOW, WRONG_TYPE),
        (level + 1, HASH, WRONG_TYPE),
        (level + 1, 4, WRONG_TYPE),
        (2 * PAGE + 8, 3, Fault::Damaged("a page has the number of another page")),
        (88, 0, NO_SUCH_PAGE),
        (88, 7, NO_SUCH_PAGE),
    ] {
        assert_eq!(pages.clone().with(at, byte).ask(b"a"), Err(fault), "byte {at}: {byte}");
    }
    assert_eq!(Pages::tree().page(LEAF, 2, 0, &leaf_of(b"a")).ask(b"a"), Err(WRONG_TYPE));
}

#[test]
fn a_long_value_is_made_of_full_pages_and_a_rest() {
    let room = PAGE - 26;
    let value: Vec<u8> = (0..room * 2 + 5).map(|number| number as u8).collect();
    let with_len = |len: usize| Pages::tree().page(LEAF, 1, 0, &[leaf(1, b"k"), elsewhere(3, 2, len as u16)]);
    let whole = |len: usize| {
        with_len(len).piece(3, &value[..room]).piece(4, &value[room..room * 2]).piece(0, &value[room * 2..])
    };
    let len = value.len();
    assert_eq!(whole(len).ask(b"k"), found(&value));
    assert_eq!(with_len(room).piece(0, &value[..room]).ask(b"k"), found(&value[..room]));
    assert_eq!(with_len(0).piece(0, b"").ask(b"k"), Err(WRONG_LENGTH));
    for wrong in [len - 1, len + 1, len - 5, room * 3 + 1] {
        assert_eq!(whole(wrong).ask(b"k"), Err(WRONG_LENGTH), "{wrong} bytes instead of {len}");
    }
    // A page before the last is not full, or more pages follow than there should be.
    let pages = with_len(room).piece(3, &value[..room - 1]).piece(0, &value[room - 1..room]);
    assert_eq!(pages.ask(b"k"), Err(WRONG_LENGTH));
    assert_eq!(with_len(room).piece(3, &value[..room]).piece(0, b"").ask(b"k"), Err(WRONG_LENGTH));
    assert_eq!(with_len(5).page(LEAF, 1, 0, &[]).ask(b"k"), Err(WRONG_TYPE));
    assert_eq!(with_len(5).ask(b"k"), Err(NO_SUCH_PAGE));
    let too_long = Fault::Damaged("a value is longer than the limit or the file");
    assert_eq!(with_len(4 * PAGE).piece(0, &value[..room]).ask(b"k"), Err(too_long));
}

#[test]
fn a_bucket_is_looked_through_to_the_end_of_its_chain() {
    // Keys of the second bucket.
    let keys: Vec<Vec<u8>> =
        (b'a'..=b'z').map(|letter| vec![letter]).filter(|key| super::buckets::hash(key) % 2 == 1).collect();
    let key = |index: usize| keys[index].as_slice();
    let items = |key: &[u8], value: Vec<u8>| [hashed(1, key), value];
    let long = [b'v'; 30];
    let pages = Pages::buckets()
        .page(HASH, 0, 0, &[])
        .page(HASH, 0, 3, &[items(key(0), hashed(1, b"first")), items(key(1), hashed(5, b""))].concat())
        .page(2, 0, 5, &[items(key(2), hashed(1, b"")), items(key(3), elsewhere(0, 4, 30))].concat())
        .piece(0, &long)
        .page(HASH, 0, 0, &[items(key(4), hashed(9, b"")), items(key(5), hashed(3, b"1234567"))].concat());
    // The kind of what stands elsewhere is its first byte here.
    let at = pages.0.len() - 3 * PAGE;
    let place = pages.0[at..at + PAGE].windows(12).position(|item| item == elsewhere(0, 4, 30)).unwrap();
    let pages = pages.with(at + place, 3);
    for (index, expected) in [
        (0, found(b"first")),
        (1, Err(Fault::Feature("it has values in other files"))),
        (2, found(b"")),
        (3, found(&long)),
        (4, Err(WRONG_ITEM)),
        (5, Err(Fault::Damaged("an item of a page is too short"))),
        (6, Ok(None)),
    ] {
        assert_eq!(pages.ask(key(index)), expected, "key {index}");
    }
    // A page of the chain that does not belong to a bucket, and one without a number.
    assert_eq!(pages.clone().with(3 * PAGE + 25, LEAF).ask(key(6)), Err(WRONG_TYPE));
    assert_eq!(pages.clone().with(3 * PAGE + 16, 6).ask(key(6)), Err(NO_SUCH_PAGE));
    assert_eq!(pages.clone().with(2 * PAGE + 27, 9).ask(key(6)), Err(BROKEN_ITEM));
    // An item without even a type.
    let empty = Pages::buckets().page(HASH, 0, 0, &[]).page(HASH, 0, 0, &[vec![], vec![]]);
    assert_eq!(empty.ask(key(0)), Err(WRONG_ITEM));
    let odd = Pages::buckets().page(HASH, 0, 0, &[]).page(HASH, 0, 0, &[hashed(1, key(0))]);
    assert_eq!(odd.ask(key(0)), Ok(None));
    // A chain that bites its tail.
    let endless = pages.with(5 * PAGE + 16, 3).ask(key(6));
    assert_eq!(endless, Err(Fault::Damaged("its pages form an endless chain")));
}

#[test]
fn a_page_of_zeros_is_believed_beside_twenty_keys_and_not_beside_more() {
    let (mut other, mut blank) = (Vec::new(), Vec::new());
    for number in 0..100_u8 {
        let key = vec![number];
        if super::buckets::hash(&key) % 2 == 1 { &mut other } else { &mut blank }.push(key);
    }
    let items = |keys: &[Vec<u8>]| -> Vec<_> {
        keys.iter().flat_map(|key| [hashed(1, key), hashed(1, b"v")]).collect()
    };
    let pages =
        |count: usize| {
            let mut pages = Pages::buckets()
                .page(HASH, 0, 0, &[])
                .page(HASH, 0, 3, &items(&other[..15]))
                .page(HASH, 0, 0, &items(&other[15..count]));
            pages.0[PAGE..2 * PAGE].fill(0);
            pages
        };
    assert_eq!(pages(20).ask(&blank[0]), Ok(None));
    assert_eq!(pages(21).ask(&blank[0]), Err(Fault::Damaged("a page was never written")));
    for count in [20, 21] {
        assert_eq!(pages(count).ask(&other[17]), found(b"v"));
    }
    assert_eq!(pages(20).with(2 * PAGE + 25, LEAF).ask(&blank[0]), Err(WRONG_TYPE));
}

#[test]
fn pages_have_one_of_the_sizes_of_the_format_and_are_all_there() {
    for (bits, is_known) in [(8, false), (9, true), (10, true), (16, true), (17, false)] {
        let size = 1_usize << bits;
        let mut file = Pages::tree().0;
        file[20..24].copy_from_slice(&(size as u32).to_le_bytes());
        file[32] = 1;
        file.resize(2 * size.max(PAGE), 0);
        let at = size.max(PAGE);
        (file[at + 8], file[at + 24], file[at + 25]) = (1, 1, LEAF);
        let expected = if is_known { Ok(None) } else { Err(Fault::NoDatabase) };
        assert_eq!(Pages(file).ask(b"k"), expected, "{size}");
    }
    let sound = Pages::tree().page(LEAF, 1, 0, &[]);
    assert_eq!(sound.clone().with(20, 2).ask(b"k"), Err(Fault::NoDatabase), "no power of two");
    let missing = Fault::Damaged("some of its pages are missing");
    assert_eq!(sound.clone().with(32, 2).ask(b"k"), Err(missing.clone()));
    for more in [1, 511] {
        let file = [sound.0.clone(), vec![0; more]].concat();
        assert_eq!(Pages(file).ask(b"k"), Err(missing.clone()), "{more} bytes more");
    }
    // Whole pages behind the last are room for more.
    assert_eq!(Pages([sound.0.clone(), vec![0; PAGE]].concat()).ask(b"k"), Ok(None));
    assert_eq!(Pages(sound.0[..PAGE - 1].to_vec()).ask(b"k"), Err(Fault::NoDatabase));
    assert_eq!(Pages(sound.0[..PAGE].to_vec()).with(32, 0).ask(b"k"), Err(NO_SUCH_PAGE));
}
