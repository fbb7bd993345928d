//! How large a POSIX expression becomes, before the C library is given it.
//!
//! The library repeats what an interval or a `+` stands behind, and calls itself for what lies one in the other: it has
//! no limits, and runs out of memory or of its stack. It takes a time and memory that grow with the square of the key, or worse, for an
//! expression that refers back to what it has matched, and cannot be stopped.

/// Groups and repetitions, as often as they are repeated.
const PARTS_MAX: u64 = 1000;
/// Groups in groups; as many as PCRE2 allows.
const DEPTH_MAX: usize = 250;
/// Everything, as often as it is repeated.
const SIZE_MAX: u64 = 100_000;

/// What an expression, or a part of it, becomes.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    all: u64,
    parts: u64,
}

impl Size {
    const ONE: Self = Self { all: 1, parts: 0 };

    const fn and(self, other: Self) -> Self {
        Self { all: self.all.saturating_add(other.all), parts: self.parts.saturating_add(other.parts) }
    }

    /// So many copies, with so many parts besides.
    const fn times(self, copies: u64, parts: u64) -> Self {
        Self {
            all: self.all.saturating_mul(copies).saturating_add(parts),
            parts: self.parts.saturating_mul(copies).saturating_add(parts),
        }
    }
}

/// What has been read of one group.
#[derive(Debug, Default)]
struct Open {
    /// All but the last item.
    before: Size,
    /// The last item, which a repetition is about.
    last: Size,
}

impl Open {
    const fn item(&mut self, item: Size) {
        self.before = self.before.and(self.last);
        self.last = item;
    }

    const fn repeat(&mut self, copies: u64, parts: u64) {
        self.last = self.last.times(copies, parts);
    }
}

/// How many groups an expression has that the C library accepts: opening parentheses outside brackets. The library counts
/// them too, but keeps the number to itself.
///
/// # Errors
/// It must not be given to the library; in words.
pub(crate) fn measure(pattern: &[u8], extended: bool) -> Result<usize, String> {
    let mut groups: usize = 0;
    let mut open = vec![Open::default()];
    let mut rest = pattern;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let escaped = byte == b'\\';
        let sign = match (escaped, rest.first()) {
            (true, Some(&next)) => {
                rest = rest.get(1..).unwrap_or_default();
                next
            }
            _ => byte,
        };
        let depth = open.len();
        let Some(innermost) = open.last_mut() else { break };
        // A sign means something with a backslash in basic syntax, and without one in extended syntax.
        let is_sign = escaped != extended;
        match sign {
            b'1'..=b'9' if escaped => {
                return Err(format!(
                    "\\{} refers back to a group, which can use all memory and time; write the rule \
                     into a pcre: table",
                    char::from(sign)
                ));
            }
            b'(' if is_sign => {
                groups = groups.saturating_add(1);
                open.push(Open::default());
                if depth > DEPTH_MAX {
                    return Err(format!("more than {DEPTH_MAX} groups one in the other"));
                }
            }
            b')' if is_sign && depth > 1 => {
                let Some(Open { before, last }) = open.pop() else { break };
                if let Some(outer) = open.last_mut() {
                    outer.item(before.and(last).times(1, 1));
                }
            }
            b'*' if !escaped => innermost.repeat(1, 1),
            b'?' if is_sign => innermost.repeat(1, 1),
            b'+' if is_sign => innermost.repeat(2, 1),
            b'{' if is_sign => match interval(rest) {
                Some((copies, parts, behind)) => {
                    innermost.repeat(copies, parts);
                    rest = behind;
                }
                None => innermost.item(Size::ONE),
            },
            b'[' if !escaped => {
                rest = behind_brackets(rest);
                innermost.item(Size::ONE);
            }
            _ => innermost.item(Size::ONE),
        }
        let size = open.iter().fold(Size::default(), |size, open| size.and(open.before).and(open.last));
        if size.parts > PARTS_MAX {
            return Err(format!(
                "more than {PARTS_MAX} groups and repetitions, counting those that are repeated"
            ));
        }
        if size.all > SIZE_MAX {
            return Err(format!("more than {SIZE_MAX} characters, counting those that are repeated"));
        }
    }
    Ok(groups)
}

/// What `m}`, `m,}` or `m,n}` makes of an item: the number of copies, what is new besides, and what follows. A backslash
/// may stand before the closing brace.
fn interval(text: &[u8]) -> Option<(u64, u64, &[u8])> {
    let end = text.iter().position(|&byte| byte == b'}')?;
    let (inside, behind) = (text.get(..end)?, text.get(end.saturating_add(1)..)?);
    let inside = std::str::from_utf8(inside.strip_suffix(b"\\").unwrap_or(inside)).ok()?;
    let number = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u64>().ok() };
    let (least, most) = match inside.split_once(',') {
        None => (number(inside)?, number(inside)?),
        Some((least, "")) => return Some((number(least)?.saturating_add(1), 1, behind)),
        Some((least, most)) => (number(least)?, number(most)?),
    };
    Some((most.max(1), most.saturating_sub(least), behind))
}

/// What follows a bracket expression whose `[` is already taken off.
fn behind_brackets(text: &[u8]) -> &[u8] {
    let mut rest = text.strip_prefix(b"^").unwrap_or(text);
    rest = rest.strip_prefix(b"]").unwrap_or(rest);
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, rest.first()) {
            (b']', _) => return rest,
            (b'[', Some(&class @ (b':' | b'.' | b'='))) => {
                let end = rest.windows(2).skip(1).position(|pair| pair == [class, b']']);
                rest = end.and_then(|end| rest.get(end.saturating_add(3)..)).unwrap_or_default();
            }
            _ => {}
        }
    }
    rest
}
