//! The agent against scripted servers.

mod dns;
mod hostile;
mod qmqp;
mod smtp;
mod world;
