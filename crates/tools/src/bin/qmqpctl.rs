//! See qmqpctl(1).

fn main() {}
