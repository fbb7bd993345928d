//! See qmqp-send(1).

fn main() {}
