//! The QMQP protocol: bytes in, events out. No I/O.
