//! What is found about the patterns of a match list, and where.

/// The pattern file and the line in it, of an item that is not in the parameter itself.
pub(crate) type PatternFileLine = Option<(String, usize)>;

/// Something that stops nothing, in one item or (with an empty one) in the whole list.
pub(crate) struct Finding {
    pub(crate) place: PatternFileLine,
    pub(crate) item: Vec<u8>,
    pub(crate) what: String,
    pub(crate) remedy: String,
}

impl Finding {
    pub(crate) const fn of_list(what: String, remedy: String) -> Self {
        Self { place: None, item: Vec::new(), what, remedy }
    }
}
