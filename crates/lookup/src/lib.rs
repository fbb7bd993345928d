//! Match lists and lookup tables: whom do we listen to?
