//! What cleanup wants to know of a message beside its bytes.

use cleanup::{Arrival, Origin};
use spool::Timestamp;

use crate::client::Client;
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

/// The client that it came from.
pub(super) fn origin_of(client: &Client) -> Origin {
    Origin {
        client_name: client.name.clone(),
        client_address: client.address.clone(),
        client_port: client.port.clone(),
        address_family: client.family,
        log_origin: client.shown.clone(),
        protocol: "QMQP",
    }
}
