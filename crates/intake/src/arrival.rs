//! What cleanup wants to know of a message beside its bytes.

use cleanup::Arrival;
use spool::Timestamp;

use crate::date::DateFormat;

/// Its name, empty while it has none, and its times.
pub(super) fn arrival_of(
    queue_id: String,
    created: Timestamp,
    arrived: Timestamp,
    dates: &DateFormat,
) -> Arrival {
    Arrival {
        queue_id,
        created: (created.seconds, created.microseconds),
        arrived: (arrived.seconds, arrived.microseconds),
        date: dates.rfc5322(arrived.seconds),
    }
}
