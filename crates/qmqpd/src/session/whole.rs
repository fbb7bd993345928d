//! A request that has come complete with the first read, as most do.

use qmqp::server::{Event, Limits, Server};

use intake::{Piece, Request};

/// Such a request: the protocol machine finds nothing wrong with it, and its end in it.
pub(super) struct Whole {
    bytes: Vec<u8>,
    limits: Limits,
}

impl Whole {
    /// Hands the bytes back if they are no such request.
    pub(super) fn new(bytes: Vec<u8>, limits: Limits) -> Result<Self, Vec<u8>> {
        if is_whole(&bytes, limits) { Ok(Self { bytes, limits }) } else { Err(bytes) }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

fn is_whole(bytes: &[u8], limits: Limits) -> bool {
    if !qmqp::server::is_all_there(bytes) {
        return false;
    }
    let (mut machine, mut input) = (Server::new(limits), bytes);
    loop {
        match machine.next(&mut input) {
            Ok(Some(Event::End)) => return true,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return false,
        }
    }
}

impl Request for Whole {
    fn bytes(&self) -> usize {
        self.bytes.len()
    }

    fn pieces(&self, take: &mut dyn FnMut(Piece<'_>)) {
        let (mut machine, mut input) = (Server::new(self.limits), self.bytes.as_slice());
        // It has been through this machine, and ended well.
        while let Ok(Some(event)) = machine.next(&mut input) {
            if let Some(piece) = piece_of(event) {
                take(piece);
            }
            if event == Event::End {
                break;
            }
        }
    }
}

/// What a back end hears of an event.
pub(super) const fn piece_of(event: Event<'_>) -> Option<Piece<'_>> {
    match event {
        Event::Content(bytes) => Some(Piece::Content(bytes)),
        Event::ContentEnd => Some(Piece::ContentEnd),
        Event::Sender(address) => Some(Piece::Sender(address)),
        Event::Recipient(address) => Some(Piece::Recipient(address)),
        Event::Begin { .. } | Event::ContentBegin { .. } | Event::End => None,
    }
}
