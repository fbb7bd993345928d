//! How fast it is. The programs are in `bin`: `race` (make bench), `floor`, which takes part in it, and `instructions`
//! (make bench-check). README.md says how to use them.

pub mod cases;
