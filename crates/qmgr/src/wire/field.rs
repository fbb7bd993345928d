//! The fields of a frame.

use super::{FRAME_BYTES_MAX, InvalidFrame};

/// Appends fields.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    /// A frame of this kind, its length still to come.
    pub(super) fn new(kind: u8) -> Self {
        Self(vec![0, 0, 0, 0, kind])
    }

    pub(super) fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn flag(&mut self, flag: bool) {
        self.0.push(u8::from(flag));
    }

    pub(super) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        // What does not fit makes the frame too long, which `finish` finds.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&length.to_le_bytes());
        self.0.extend_from_slice(bytes);
    }

    /// A text that can be missing.
    pub(super) fn optional(&mut self, text: Option<&str>) {
        self.flag(text.is_some());
        if let Some(text) = text {
            self.bytes(text.as_bytes());
        }
    }

    /// The frame with its length.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, InvalidFrame> {
        let length = self.0.len().saturating_sub(4);
        if length > FRAME_BYTES_MAX {
            return Err(InvalidFrame::TooLong(length));
        }
        let number = u32::try_from(length).map_err(|_| InvalidFrame::TooLong(length))?;
        if let Some(place) = self.0.first_chunk_mut::<4>() {
            *place = number.to_le_bytes();
        }
        Ok(self.0)
    }
}

/// Takes fields.
#[derive(Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], InvalidFrame> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(InvalidFrame::Length)?;
        self.0 = rest;
        Ok(taken)
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], InvalidFrame> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(InvalidFrame::Length)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, InvalidFrame> {
        self.chunk::<1>().map(|[byte]| byte)
    }

    pub(super) fn number(&mut self) -> Result<u64, InvalidFrame> {
        self.chunk().map(u64::from_le_bytes)
    }

    pub(super) fn flag(&mut self) -> Result<bool, InvalidFrame> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(InvalidFrame::Field("flag")),
        }
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, InvalidFrame> {
        let length = u32::from_le_bytes(self.chunk()?);
        let length = usize::try_from(length).map_err(|_| InvalidFrame::Length)?;
        self.take(length).map(<[u8]>::to_vec)
    }

    pub(super) fn text(&mut self) -> Result<String, InvalidFrame> {
        String::from_utf8(self.bytes()?).map_err(|_| InvalidFrame::Field("text"))
    }

    pub(super) fn optional(&mut self) -> Result<Option<String>, InvalidFrame> {
        if self.flag()? { self.text().map(Some) } else { Ok(None) }
    }

    /// Nothing may follow.
    pub(super) const fn end(&self) -> Result<(), InvalidFrame> {
        if self.0.is_empty() { Ok(()) } else { Err(InvalidFrame::Length) }
    }
}
