//! Expansion of `$name`, `${name?…:…}`, relational expressions and `$$` in values of main.cf.
//!
//! The rules and the texts of the errors are those of Postfix 3.7, seen with postconf(1) and running daemons. Two
//! bounds are our own, because nesting alone allows a value to double a hundred times: an expanded value has at most
//! [`VALUE_BYTES_MAX`] bytes, and takes at most [`WORK_BYTES_MAX`] bytes of text to look at. The operands of a
//! relational expression count towards the nesting limit; in Postfix they do not, and a cycle through them overflows its
//! stack. The functions of 3.11 (`${domain_to_ascii{…}}`, `${domain_to_utf8{…}}`) are understood whatever release is
//! followed; 3.7 refuses them. Observed on 3.12.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::compatibility::Level;
use crate::text::{is_name_byte, printable};

/// Longest expanded value, in bytes.
pub const VALUE_BYTES_MAX: usize = 1 << 20;

/// How many bytes may be scanned to expand one value, the same text counted each time.
pub const WORK_BYTES_MAX: usize = 4 << 20;

/// References may nest this deep.
const NESTING_MAX: usize = 100;

/// Why a value cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// Postfix logs this text as a warning, then [`MACRO_ERROR`] as the fatal error.
    #[error("{0}")]
    Syntax(String),
    /// A number in a comparison does not fit 64 bits. Fatal in Postfix as it is.
    #[error("mac_exp_eval: bad conversion: {0}")]
    Conversion(String),
    /// The value would exceed [`VALUE_BYTES_MAX`], or the work [`WORK_BYTES_MAX`].
    #[error("the value expands to more than {VALUE_BYTES_MAX} bytes, or takes too much work to expand")]
    TooLarge,
}

/// What Postfix dies with after the warning about a syntax error.
pub const MACRO_ERROR: &str = "dictionary mail_dict: macro processing error";

/// What a name stands for.
#[derive(Debug, Clone)]
pub struct NameValue<'a> {
    /// The text before expansion.
    pub text: Cow<'a, [u8]>,
    /// It is the parameter's default. `${name?…}` then asks whether the *expanded* default is empty; for a value that
    /// was set it asks about the raw text, as in Postfix.
    pub is_default: bool,
}

/// Where names are looked up: a name without value and one with an empty value both expand to nothing.
pub trait Names {
    /// What `name` stands for.
    fn find(&self, name: &[u8]) -> Option<NameValue<'_>>;
}

/// Expands `value`.
///
/// # Errors
/// The syntax is wrong, references nest too deeply (or in a circle), or the result would be too large.
pub fn expand(value: &[u8], names: &dyn Names) -> Result<Vec<u8>, ExpandError> {
    let mut expander = Expander { names, work_left: WORK_BYTES_MAX, out: Vec::new(), level: 0 };
    expander.value(value)?;
    Ok(expander.out)
}

/// The names that `value` refers to, in order, repeated if they are. It also finds names in parts that an evaluation
/// would not reach, and stays silent about syntax errors.
pub fn references(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = value;
    std::iter::from_fn(move || {
        loop {
            let at = memchr::memchr(b'$', rest)?;
            rest = tail(rest, at.saturating_add(1));
            if rest.first() == Some(&b'$') {
                rest = tail(rest, 1);
                continue;
            }
            let bracketed = matches!(rest.first(), Some(b'{' | b'('));
            let start = if bracketed { skip_blanks(tail(rest, 1)) } else { rest };
            let name = head(start, run(start, is_name_byte));
            let is_call = bracketed && skip_blanks(tail(start, name.len())).first() == Some(&b'{');
            if !name.is_empty() && !is_call {
                return Some(name);
            }
        }
    })
}

struct Expander<'e> {
    names: &'e dyn Names,
    work_left: usize,
    out: Vec<u8>,
    level: usize,
}

fn syntax<T>(text: String) -> Result<T, ExpandError> {
    Err(ExpandError::Syntax(text))
}

fn shown(text: &[u8]) -> String {
    printable(text, true)
}

/// The first 20 bytes, as Postfix quotes what it stumbled over.
fn shown20(text: &[u8]) -> String {
    shown(text.get(..20).unwrap_or(text))
}

fn tail(text: &[u8], from: usize) -> &[u8] {
    text.get(from..).unwrap_or_default()
}

fn head(text: &[u8], len: usize) -> &[u8] {
    text.get(..len).unwrap_or(text)
}

/// How many bytes at the start of `text` satisfy the test.
fn run(text: &[u8], test: impl Fn(u8) -> bool) -> usize {
    text.iter().take_while(|&&byte| test(byte)).count()
}

fn skip_blanks(text: &[u8]) -> &[u8] {
    tail(text, run(text, |byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')))
}

/// The text inside the braces that `text` begins with, and what follows them and white space.
fn curly(text: &[u8]) -> Result<(&[u8], &[u8]), ExpandError> {
    match crate::text::balanced_len(text) {
        Some(len) => Ok((head(tail(text, 1), len.saturating_sub(2)), skip_blanks(tail(text, len)))),
        None => syntax(format!("unbalanced {{}} in attribute expression: \"{}\"", shown(text))),
    }
}

impl Expander<'_> {
    fn nested<T>(
        &mut self,
        text: &[u8],
        act: impl FnOnce(&mut Self) -> Result<T, ExpandError>,
    ) -> Result<T, ExpandError> {
        if self.level > NESTING_MAX {
            return syntax(format!("unreasonable macro call nesting: \"{}\"", shown(text)));
        }
        self.level = self.level.saturating_add(1);
        let result = act(self)?;
        self.level = self.level.saturating_sub(1);
        Ok(result)
    }

    fn literal(&mut self, text: &[u8]) -> Result<(), ExpandError> {
        if text.is_empty() {
            return Ok(());
        }
        self.nested(text, |this| {
            if this.out.len().saturating_add(text.len()) > VALUE_BYTES_MAX {
                return Err(ExpandError::TooLarge);
            }
            this.out.extend_from_slice(text);
            Ok(())
        })
    }

    fn value(&mut self, whole: &[u8]) -> Result<(), ExpandError> {
        // One more, so that empty values are not free.
        let work = whole.len().saturating_add(1);
        self.work_left = self.work_left.checked_sub(work).ok_or(ExpandError::TooLarge)?;
        let mut rest = whole;
        while let Some(dollar) = memchr::memchr(b'$', rest) {
            self.literal(head(rest, dollar))?;
            rest = tail(rest, dollar.saturating_add(1));
            let expression = match rest.first() {
                Some(b'$') => {
                    self.literal(b"$")?;
                    rest = tail(rest, 1);
                    continue;
                }
                Some(&open @ (b'(' | b'{')) => {
                    let close = if open == b'(' { b')' } else { b'}' };
                    let Some(len) = bracketed_len(tail(rest, 1), open, close) else {
                        return syntax(format!("truncated macro reference: \"{}\"", shown(whole)));
                    };
                    let inside = head(tail(rest, 1), len);
                    rest = tail(rest, len.saturating_add(2));
                    inside
                }
                _ => {
                    let name = head(rest, run(rest, is_name_byte));
                    rest = tail(rest, name.len());
                    name
                }
            };
            if expression.is_empty() {
                return syntax(format!("empty macro name: \"{}\"", shown(whole)));
            }
            self.nested(expression, |this| this.expression(expression))?;
        }
        self.literal(rest)
    }

    /// What stands between the brackets of `${…}`, or the name of a plain `$name`.
    fn expression(&mut self, text: &[u8]) -> Result<(), ExpandError> {
        let start = skip_blanks(text);
        if start.first() == Some(&b'{') {
            let (truth, rest) = self.relation(start)?;
            return match rest.split_first() {
                None if truth => self.literal(b"true"),
                None => Ok(()),
                Some((b'?', choice)) => self.if_true(truth, choice),
                Some((b':', choice)) => self.if_false(truth, choice),
                Some(_) => syntax(format!("\"?\" or \":\" expected at: \"...}}>>>{}\"", shown20(rest))),
            };
        }
        let name = head(start, run(start, is_name_byte));
        let rest = tail(start, name.len());
        match skip_blanks(rest).split_first() {
            None => match self.names.find(name) {
                Some(found) => self.value(&found.text),
                None => Ok(()),
            },
            Some((b'?', choice)) => {
                let truth = self.is_set(name)?;
                self.if_true(truth, choice)
            }
            Some((b':', choice)) => {
                let truth = self.is_set(name)?;
                self.if_false(truth, choice)
            }
            Some((b'{', _)) => self.call(name, skip_blanks(rest)),
            Some(_) => {
                let before = head(text, text.len().saturating_sub(rest.len()));
                syntax(format!(
                    "attribute name syntax error at: \"...{}>>>{}\"",
                    shown(before),
                    shown20(rest)
                ))
            }
        }
    }

    /// `name{text}`: a function of the expanded text.
    fn call(&mut self, name: &[u8], argument: &[u8]) -> Result<(), ExpandError> {
        let Some(function) = FUNCTIONS.iter().find(|function| function.name.as_bytes() == name) else {
            return syntax(format!(
                "unknown function \"{}\" at\"...>>>{}{}\"",
                shown(name),
                shown(name),
                shown20(argument)
            ));
        };
        let (inner, rest) = curly(argument)?;
        if !rest.is_empty() {
            return syntax(format!("unexpected input at: \"...{}}}>>>{}\"", shown(inner), shown20(rest)));
        }
        let value = self.operand(crate::text::trim(inner))?;
        let text = shown(&value);
        match (function.apply)(&text) {
            Some(result) => self.literal(result.as_bytes()),
            None => syntax(format!("bad domain argument in: '{}{{{text}}}'", function.name)),
        }
    }

    fn is_set(&mut self, name: &[u8]) -> Result<bool, ExpandError> {
        match self.names.find(name) {
            None => Ok(false),
            Some(found) if found.is_default => Ok(!self.operand(&found.text)?.is_empty()),
            Some(found) => Ok(!found.text.is_empty()),
        }
    }

    /// Behind the `?`: `{a}`, `{a}:{b}`, `{a}:b`, or free text.
    fn if_true(&mut self, truth: bool, choice: &[u8]) -> Result<(), ExpandError> {
        let start = skip_blanks(choice);
        if start.first() != Some(&b'{') {
            return if truth { self.value(choice) } else { Ok(()) };
        }
        let (yes, rest) = curly(start)?;
        if truth {
            self.value(yes)?;
        }
        match rest.split_first() {
            None => Ok(()),
            Some((b':', no)) => self.if_false(truth, no),
            Some(_) => syntax(format!("\":\" expected at: \"...{}}}>>>{}\"", shown(yes), shown20(rest))),
        }
    }

    /// Behind the `:`: `{b}` or free text.
    fn if_false(&mut self, truth: bool, choice: &[u8]) -> Result<(), ExpandError> {
        let start = skip_blanks(choice);
        if start.first() != Some(&b'{') {
            return if truth { Ok(()) } else { self.value(choice) };
        }
        let (no, rest) = curly(start)?;
        if !truth {
            self.value(no)?;
        }
        if rest.is_empty() {
            return Ok(());
        }
        syntax(format!("unexpected input at: \"...{}}}>>>{}\"", shown(no), shown20(rest)))
    }

    /// `{left} op {right}`: whether it holds, and what follows.
    fn relation<'t>(&mut self, text: &'t [u8]) -> Result<(bool, &'t [u8]), ExpandError> {
        const OPERATORS: &str = "\"==\" or \"!=\"\" or \"<\"\" or \"<=\"\" or \">=\"\" or \">\"";
        let (left, rest) = curly(text)?;
        let operator = head(rest, run(rest, |byte| b"<>!=?+-*/~&|%".contains(&byte)));
        let holds: fn(Ordering) -> bool = match operator {
            b"==" => Ordering::is_eq,
            b"!=" => Ordering::is_ne,
            b"<" => Ordering::is_lt,
            b"<=" => Ordering::is_le,
            b">" => Ordering::is_gt,
            b">=" => Ordering::is_ge,
            _ => {
                return syntax(format!(
                    "{OPERATORS} expected at: \"...{}}}>>>{}\"",
                    shown(left),
                    shown20(rest)
                ));
            }
        };
        let rest = tail(rest, operator.len());
        let suffix = head(rest, run(rest, |byte| byte.is_ascii_alphanumeric()));
        if !suffix.is_empty() && suffix != b"level" {
            let (operator, suffix) = (shown(operator), shown(suffix));
            return syntax(format!("bad operator suffix at: \"...{operator}>>>{suffix}\""));
        }
        let rest = tail(rest, suffix.len());
        let right = skip_blanks(rest);
        if right.first() != Some(&b'{') {
            return syntax(format!(
                "\"{{expression}}\" expected at: \"...{{{}}} {}>>>{}\"",
                shown(left),
                shown(operator),
                shown20(rest)
            ));
        }
        let (right, rest) = curly(right)?;
        let (left, right) = (self.operand(left)?, self.operand(right)?);
        let order = if suffix.is_empty() { compare(&left, &right)? } else { compare_levels(&left, &right)? };
        Ok((holds(order), rest))
    }

    fn operand(&mut self, text: &[u8]) -> Result<Vec<u8>, ExpandError> {
        let outer = std::mem::take(&mut self.out);
        let result = self.nested(text, |this| this.value(text));
        let operand = std::mem::replace(&mut self.out, outer);
        result.map(|()| operand)
    }
}

/// A function that values can call.
struct Function {
    name: &'static str,
    apply: fn(&str) -> Option<Cow<'_, str>>,
}

/// What is in the form that is asked for already stays as it is, whether it is a domain or not.
const FUNCTIONS: [Function; 2] = [
    Function {
        name: "domain_to_ascii",
        apply: |text| match text.is_ascii() && !text.is_empty() {
            true => Some(Cow::Borrowed(text)),
            false => has_labels(text)
                .then(|| idna::domain_to_ascii_cow(text.as_bytes(), idna::AsciiDenyList::EMPTY).ok())
                .flatten(),
        },
    },
    Function {
        name: "domain_to_utf8",
        apply: |text| match text.is_ascii() {
            false => Some(Cow::Borrowed(text)),
            true => {
                let (domain, is_good) = idna::domain_to_unicode(text);
                (has_labels(text) && is_good.is_ok()).then_some(Cow::Owned(domain))
            }
        },
    },
];

/// Whether no label of a domain is empty; a dot at its end does not count.
fn has_labels(domain: &str) -> bool {
    domain.strip_suffix('.').unwrap_or(domain).split('.').all(|label| !label.is_empty())
}

/// How many bytes stand before the bracket that closes, where only this kind of bracket nests.
fn bracketed_len(text: &[u8], open: u8, close: u8) -> Option<usize> {
    let mut depth = 1_usize;
    text.iter().position(|&byte| {
        if byte == open {
            depth = depth.saturating_add(1);
        } else if byte == close {
            depth = depth.saturating_sub(1);
        }
        depth == 0
    })
}

/// By number if both sides are all digits, otherwise by bytes.
fn compare(left: &[u8], right: &[u8]) -> Result<Ordering, ExpandError> {
    let is_number = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    if !(is_number(left) && is_number(right)) {
        return Ok(left.cmp(right));
    }
    let number =
        |text: &[u8]| crate::value::parse_integer(text).ok_or_else(|| ExpandError::Conversion(shown(text)));
    Ok(number(left)?.cmp(&number(right)?))
}

fn compare_levels(left: &[u8], right: &[u8]) -> Result<Ordering, ExpandError> {
    let level = |text: &[u8]| Level::parse(&shown(text)).map_err(|bad| ExpandError::Syntax(bad.to_string()));
    Ok(level(left)?.cmp(&level(right)?))
}

#[cfg(test)]
mod tests;
