//! A name server for the tests: it answers from a table on 127.0.0.1:53 of our own network namespace.
