//! A message as tests, fuzz targets and measurements of this project begin one. No program has this: it is behind the feature
//! `fixtures`.

use crate::options::{Arrival, Origin};

/// When the message came, and its queue ID: 23A5D9AA1F6, on a Sunday in November.
#[must_use]
pub fn arrival() -> Arrival {
    Arrival {
        queue_id: "23A5D9AA1F6".to_owned(),
        created: (1_795_386_300, 146_013),
        arrived: (1_795_386_300, 145_704),
        date: "Sun, 22 Nov 2026 22:25:00 +0000 (UTC)".to_owned(),
    }
}

/// From where the message came: localhost, port 44544.
#[must_use]
pub fn origin() -> Origin {
    Origin {
        client_name: "localhost".to_owned(),
        client_address: "127.0.0.1".to_owned(),
        client_port: "44544".to_owned(),
        address_family: 2,
        log_origin: "localhost[127.0.0.1]".to_owned(),
        protocol: "QMQP",
    }
}
