//! What cleanup(8) does to a message: records in, records out. No I/O.
