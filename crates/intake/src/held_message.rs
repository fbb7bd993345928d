//! A message that waits for mail filters: its records, to be read as often as there are filters, and once more for the
//! queue file.

use std::collections::VecDeque;
use std::io;

use cleanup::milter::Headers;
use postfix::queue_file::POINTER_RECORD_BYTES;

use super::spill_buffer::{RecordReader, SpillBuffer, TemporaryFiles};

/// The content of a message, and what filters have made of it so far.
#[derive(Debug, Default)]
pub(super) struct HeldMessage {
    /// Records as cleanup wrote them; with a place for a From: header.
    pub(super) content: SpillBuffer,
    /// Where the headers end in them.
    pub(super) header_bytes: u64,
    /// Our own Received: header, which comes first.
    pub(super) received: Vec<u8>,
    /// Where the place is, and what goes there.
    pub(super) from: Option<(u64, Vec<u8>)>,
    /// The body of a filter that takes the place of the one in `content`.
    pub(super) body: Option<SpillBuffer>,
}

/// A part of the content.
#[derive(Debug)]
pub(super) enum Part {
    /// The records of a header, and whether filters see it.
    Header(Vec<u8>, bool),
    /// There are no more headers.
    EndOfHeaders,
    /// Records of the body.
    Body(Vec<u8>),
}

/// One walk through the content.
pub(super) struct Walk<'a> {
    held: &'a HeldMessage,
    files: &'a TemporaryFiles,
    reader: RecordReader<'a>,
    /// `None` behind the headers.
    headers: Option<Headers>,
    /// How many bytes of `held.content` were read.
    offset: u64,
    parts: VecDeque<Part>,
}

impl HeldMessage {
    /// Begins at the first header; `headers` are the changes that all of them pass.
    pub(super) fn walk<'a>(&'a self, mut headers: Headers, files: &'a TemporaryFiles) -> Walk<'a> {
        let mut parts = VecDeque::new();
        headers
            .hidden(&self.received, &mut |records, is_seen| parts.push_back(Part::Header(records, is_seen)));
        let reader = self.content.records();
        Walk { held: self, files, reader, headers: Some(headers), offset: 0, parts }
    }
}

impl Walk<'_> {
    /// The next part; `None` behind the last.
    pub(super) async fn next(&mut self) -> io::Result<Option<Part>> {
        loop {
            if let Some(part) = self.parts.pop_front() {
                return Ok(Some(part));
            }
            if self.headers.is_some() && self.offset >= self.held.header_bytes {
                self.end_headers();
                continue;
            }
            let Some(records) = self.reader.next(self.files).await? else {
                if self.headers.is_none() {
                    return Ok(None);
                }
                self.end_headers();
                continue;
            };
            self.take(records);
        }
    }

    fn end_headers(&mut self) {
        let Self { headers, parts, held, .. } = self;
        if let Some(headers) = headers.take() {
            headers.finish(&mut |records, is_seen| parts.push_back(Part::Header(records, is_seen)));
        }
        self.parts.push_back(Part::EndOfHeaders);
        if let Some(body) = &held.body {
            self.reader = body.records();
        }
    }

    /// Takes whole records. Those of a new body are all body.
    fn take(&mut self, records: Vec<u8>) {
        if self.headers.is_none() {
            self.parts.push_back(Part::Body(records));
            return;
        }
        let start = self.offset;
        self.offset = start.saturating_add(records.len() as u64);
        let at = |offset: u64| {
            usize::try_from(offset.saturating_sub(start)).unwrap_or(usize::MAX).min(records.len())
        };
        let (in_headers, in_body) = records.split_at(at(self.held.header_bytes));
        let Self { headers: Some(headers), parts, held, .. } = self else { return };
        let mut sink = |records, is_seen| parts.push_back(Part::Header(records, is_seen));
        match &held.from {
            Some((slot, from)) if *slot >= start && at(*slot) < in_headers.len() => {
                let (before, rest) = in_headers.split_at(at(*slot));
                headers.records(before, &mut sink);
                headers.records(from, &mut sink);
                headers.records(rest.get(POINTER_RECORD_BYTES..).unwrap_or_default(), &mut sink);
            }
            _ => headers.records(in_headers, &mut sink),
        }
        if self.offset >= self.held.header_bytes {
            let in_body = in_body.to_vec();
            self.end_headers();
            if self.held.body.is_none() && !in_body.is_empty() {
                self.parts.push_back(Part::Body(in_body));
            }
        }
    }
}
