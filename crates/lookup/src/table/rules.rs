//! Ordered rules with `if … endif`: what `cidr:`, `regexp:` and `pcre:` have in common.

use postfix::text::system_words;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use postfix::notice::Notice;
use postfix::text::{LogicalLine, is_space, read_logical_lines, strip_braces};

use crate::options::Options;
use crate::syntax::{next_item, shown};
use crate::watch::Watched;

/// One step of a table.
pub(super) enum Step<M, C> {
    /// A rule that may give the result.
    Match(M),
    /// What follows, up to the matching `endif`, counts only if the condition holds.
    If(C),
    /// The end of the innermost open `if`.
    EndIf,
}

/// A step in its place.
enum Placed<M, C> {
    Match(M),
    /// With the step behind the matching `endif`; `None` if there is none.
    If(C, Option<usize>),
    EndIf,
}

/// The rules of a table in their order.
pub(super) struct Rules<M, C> {
    steps: Vec<Placed<M, C>>,
    /// Position and line number of each `if` that is still open.
    open: Vec<(usize, usize)>,
}

impl<M, C> Rules<M, C> {
    pub(super) const fn new() -> Self {
        Self { steps: Vec::new(), open: Vec::new() }
    }

    /// What may give the result, in order, whatever the conditions are.
    pub(super) fn matches(&self) -> impl Iterator<Item = &M> {
        self.steps.iter().filter_map(|step| match step {
            Placed::Match(rule) => Some(rule),
            Placed::If(..) | Placed::EndIf => None,
        })
    }

    /// The conditions, in order.
    pub(super) fn conditions(&self) -> impl Iterator<Item = &C> {
        self.steps.iter().filter_map(|step| match step {
            Placed::If(condition, _) => Some(condition),
            Placed::Match(_) | Placed::EndIf => None,
        })
    }

    /// How many `if`s are open.
    pub(super) const fn depth(&self) -> usize {
        self.open.len()
    }

    /// Appends a step. The reader has already refused an `endif` while no `if` is open.
    pub(super) fn push(&mut self, step: Step<M, C>, line: usize) {
        let here = self.steps.len();
        let placed = match step {
            Step::Match(rule) => Placed::Match(rule),
            Step::If(condition) => {
                self.open.push((here, line));
                Placed::If(condition, None)
            }
            Step::EndIf => {
                if let Some((start, _)) = self.open.pop()
                    && let Some(Placed::If(_, end)) = self.steps.get_mut(start)
                {
                    *end = Some(here.saturating_add(1));
                }
                Placed::EndIf
            }
        };
        self.steps.push(placed);
    }

    /// Warns of each `if` that was never closed. `place` gives the words for a line number.
    pub(super) fn finish(&mut self, place: impl Fn(usize) -> String, notices: &mut Vec<Notice>) {
        while let Some((_, line)) = self.open.pop() {
            notices.push(Notice::warning(format!("{}: IF has no matching ENDIF", place(line))));
        }
    }

    /// How many steps there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.steps.len()
    }

    /// Runs through the rules until one gives a result. A false condition without `endif` ends the search.
    pub(super) fn first<R, E>(
        &self,
        mut rule: impl FnMut(&M) -> Result<Option<R>, E>,
        mut condition: impl FnMut(&C) -> Result<bool, E>,
    ) -> Result<Option<R>, E> {
        let mut at = 0;
        while let Some(step) = self.steps.get(at) {
            at = at.saturating_add(1);
            match step {
                Placed::Match(inner) => {
                    if let Some(result) = rule(inner)? {
                        return Ok(Some(result));
                    }
                }
                Placed::If(inner, end) => {
                    if !condition(inner)? {
                        match end {
                            Some(end) => at = *end,
                            None => return Ok(None),
                        }
                    }
                }
                Placed::EndIf => {}
            }
        }
        Ok(None)
    }
}

/// Whether a line begins with a word of letters (in any case) that is not the beginning of a longer word, and what follows.
pub(super) fn keyword<'a>(line: &'a [u8], word: &str) -> Option<&'a [u8]> {
    let (front, rest) = line.split_at_checked(word.len())?;
    let ends = !rest.first().is_some_and(u8::is_ascii_alphanumeric);
    (ends && front.eq_ignore_ascii_case(word.as_bytes())).then_some(rest)
}

/// Takes `!` and white space off the front; says whether the number of `!` is odd.
pub(super) fn negations(text: &[u8]) -> (bool, &[u8]) {
    let mut negated = false;
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'!' {
            negated = !negated;
        } else if !is_space(byte) {
            break;
        }
        rest = after;
    }
    (negated, rest)
}

/// The lines of a table of rules: those of the file, or each `{…}` of an inline one.
pub(super) fn rule_lines(
    type_name: &str,
    name: &[u8],
    options: &Options,
    notices: &mut Vec<Notice>,
) -> Result<(Vec<LogicalLine>, Option<Watched>), String> {
    let path = shown(name);
    if name.first() != Some(&b'{') {
        let failed = |error: std::io::Error| format!("open {path}: {}", system_words(&error));
        let file = Watched::open(Path::new(OsStr::from_bytes(name))).map_err(failed)?;
        let contents = file.read(options.file_bytes_max).map_err(failed)?;
        return Ok((read_logical_lines(&path, &contents, notices), Some(file)));
    }
    let failed = |error: String| format!("{type_name} map: {error}");
    let mut rest = strip_braces(name).map_err(failed)?;
    let mut contents = Vec::new();
    while let Some(item) = next_item(&mut rest) {
        contents.extend_from_slice(strip_braces(item).map_err(failed)?);
        contents.push(b'\n');
    }
    Ok((read_logical_lines(&path, &contents, notices), None))
}
