//! Numbers, page headers and items, in the byte order of the machine that wrote the file.

use super::fault::Fault;

/// Which byte of a number comes first in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Little,
    Big,
}

impl Order {
    pub(super) fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        })
    }

    pub(super) fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        })
    }
}

/// What every page begins with; behind it stand the offsets of the items, or the bytes of a long key or value.
pub(super) const HEADER_BYTES: usize = 26;

/// What a page is for, as its header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Keys and values of a bucket. Older files have them unsorted; that makes no difference to a reader that looks at all.
    Hash,
    /// Keys that lead to pages further down.
    Internal,
    /// Keys and values in order.
    Leaf,
    /// A piece of a key or value that is too long for a page among others.
    Overflow,
}

/// One page as it was read.
#[derive(Debug)]
pub(super) struct Page {
    bytes: Vec<u8>,
    order: Order,
    kind: Kind,
}

impl Page {
    /// Takes the bytes of page `number` if its header says that they are that.
    pub(super) fn new(bytes: Vec<u8>, order: Order, number: u32) -> Result<Self, Fault> {
        let kind = match bytes.get(25) {
            Some(2 | 13) => Kind::Hash,
            Some(3) => Kind::Internal,
            Some(5) => Kind::Leaf,
            Some(7) => Kind::Overflow,
            _ => return Err(Fault::Damaged("a page has the wrong type")),
        };
        if order.u32(&bytes, 8) != Some(number) {
            return Err(Fault::Damaged("a page has the number of another page"));
        }
        Ok(Self { bytes, order, kind })
    }

    /// The page, if it is of this kind.
    pub(super) fn of(self, kind: Kind) -> Result<Self, Fault> {
        if self.kind == kind { Ok(self) } else { Err(Fault::Damaged("a page has the wrong type")) }
    }

    pub(super) const fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) const fn order(&self) -> Order {
        self.order
    }

    /// How far above the leaves of a tree it stands; leaves are 1.
    pub(super) fn level(&self) -> u8 {
        self.bytes.get(24).copied().unwrap_or_default()
    }

    /// The page behind it, if any.
    pub(super) fn next(&self) -> Option<u32> {
        self.order.u32(&self.bytes, 16).filter(|&number| number != 0)
    }

    /// How many items it has.
    pub(super) fn items(&self) -> usize {
        self.order.u16(&self.bytes, 20).map_or(0, usize::from)
    }

    /// Where the item begins: behind all offsets.
    fn offset(&self, index: usize) -> Option<usize> {
        let offset =
            usize::from(self.order.u16(&self.bytes, index.checked_mul(2)?.checked_add(HEADER_BYTES)?)?);
        let offsets_end = self.items().checked_mul(2)?.checked_add(HEADER_BYTES)?;
        (index < self.items() && offset >= offsets_end).then_some(offset)
    }

    /// An item of a hash page: it ends where the one before it begins, and the first one at the end of the page.
    pub(super) fn bounded_item(&self, index: usize) -> Option<&[u8]> {
        let end = match index.checked_sub(1) {
            Some(before) => self.offset(before)?,
            None => self.bytes.len(),
        };
        self.bytes.get(self.offset(index)?..end)
    }

    /// An item of a page of a tree, and everything behind it: such items know their own lengths.
    pub(super) fn item(&self, index: usize) -> Option<&[u8]> {
        self.bytes.get(self.offset(index)?..)
    }

    /// The piece of a long key or value on an overflow page.
    pub(super) fn piece(&self) -> Option<&[u8]> {
        let len = usize::from(self.order.u16(&self.bytes, 22)?);
        self.bytes.get(HEADER_BYTES..)?.get(..len)
    }
}

/// A key or value: in the page, or on overflow pages of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Datum<'a> {
    Here(&'a [u8]),
    Elsewhere {
        /// The first overflow page.
        page: u32,
        /// Bytes altogether.
        len: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(items: u16, offsets: &[u16], order: Order) -> Page {
        let u16 = |number: u16| match order {
            Order::Little => number.to_le_bytes(),
            Order::Big => number.to_be_bytes(),
        };
        let mut bytes = vec![0; 64];
        bytes[25] = 13;
        bytes[20..22].copy_from_slice(&u16(items));
        for (index, &offset) in offsets.iter().enumerate() {
            bytes[26 + index * 2..28 + index * 2].copy_from_slice(&u16(offset));
        }
        Page::new(bytes, order, 0).unwrap()
    }

    #[test]
    fn items_stay_within_the_page_and_behind_the_offsets() {
        for order in [Order::Little, Order::Big] {
            let page = page(4, &[60, 50, 50, 33], order);
            assert_eq!(page.bounded_item(0), Some(&[0; 4][..]));
            assert_eq!(page.bounded_item(1).map(<[u8]>::len), Some(10));
            assert_eq!(page.bounded_item(2).map(<[u8]>::len), Some(0));
            assert_eq!(page.bounded_item(3), None, "it would begin among the offsets");
            assert_eq!(page.bounded_item(4), None);
            assert_eq!(page.item(1).map(<[u8]>::len), Some(14));
        }
        assert_eq!(page(2, &[40, 50], Order::Little).bounded_item(1), None, "they grow from the end");
        assert_eq!(page(2, &[65, 50], Order::Little).bounded_item(0), None, "beyond the end");
    }

    #[test]
    fn a_page_is_what_its_header_says() {
        let mut bytes = vec![0; 64];
        assert!(Page::new(bytes.clone(), Order::Little, 0).is_err(), "a page of zeros has no type");
        bytes[25] = 5;
        assert!(Page::new(bytes.clone(), Order::Little, 1).is_err(), "it is page 0");
        assert!(Page::new(bytes, Order::Little, 0).unwrap().of(Kind::Hash).is_err());
    }
}
