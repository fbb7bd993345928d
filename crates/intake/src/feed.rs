//! What a client sends goes through cleanup here, whichever way the message takes.

use cleanup::{Finished, Message, Outcome};
use daemon::log::{Log, Program};
use postfix::notice::Notice;

use super::Refusal;
use super::piece::Piece;

/// Where cleanup's records go.
pub(super) struct Sink<'a> {
    pub(super) content: &'a mut Vec<u8>,
    pub(super) recipients: &'a mut Vec<u8>,
    /// Mail filters are to see the recipients before tables make others of them.
    pub(super) is_for_filters: bool,
}

/// One piece through cleanup.
pub(super) fn feed(message: &mut Message, piece: Piece<'_>, sink: Sink<'_>) {
    let Sink { content, recipients, is_for_filters } = sink;
    match piece {
        Piece::Content(bytes) => message.content_bytes(bytes, content),
        Piece::ContentEnd => message.end_of_content(content),
        Piece::Sender(address) => message.sender(address, recipients),
        Piece::Recipient(address) if is_for_filters => message.recipient_for_filters(address, recipients),
        Piece::Recipient(address) => message.recipient(address, recipients),
    }
}

/// What cleanup says of a message, in the log and as a value.
pub(super) fn judge(outcome: Outcome, log: &Log) -> Result<Finished, Refusal> {
    let say = |notice: &Notice| log.notice(Program::Cleanup, notice);
    outcome.notices.iter().for_each(say);
    Ok(outcome.result?)
}
