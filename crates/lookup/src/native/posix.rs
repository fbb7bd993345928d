//! POSIX regular expressions by the C library, the engine of Postfix's `regexp:` tables.

use std::ffi::CString;
use std::mem::MaybeUninit;

use super::Group;

/// How a pattern is to be read. The defaults are those of a `regexp:` table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PosixFlags {
    /// Letters match in any case.
    pub(crate) ignore_case: bool,
    /// `^` and `$` match at newlines, `.` does not.
    pub(crate) newline: bool,
    /// Extended syntax; else basic.
    pub(crate) extended: bool,
}

/// A compiled expression.
pub(crate) struct Posix {
    // Boxed: the C library may keep pointers into it.
    compiled: Box<libc::regex_t>,
}

// SAFETY: the structure owns everything that it points to, and nothing in it belongs to a thread.
unsafe impl Send for Posix {}
// SAFETY: POSIX lets threads call regexec() on one compiled expression at the same time.
unsafe impl Sync for Posix {}

impl Posix {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// What the C library says about it, such as `Unmatched ( or \(`.
    pub(crate) fn compile(pattern: &[u8], flags: PosixFlags) -> Result<Self, String> {
        let Ok(pattern) = CString::new(pattern) else { return Err("NUL in the expression".to_owned()) };
        let mut bits = 0;
        for (wanted, bit) in [
            (flags.ignore_case, libc::REG_ICASE),
            (flags.newline, libc::REG_NEWLINE),
            (flags.extended, libc::REG_EXTENDED),
        ] {
            bits |= if wanted { bit } else { 0 };
        }
        let mut compiled = Box::new(MaybeUninit::<libc::regex_t>::zeroed());
        // SAFETY: `compiled` points to room for one regex_t, and `pattern` ends with NUL.
        let code = unsafe { libc::regcomp(compiled.as_mut_ptr(), pattern.as_ptr(), bits) };
        // SAFETY: all bytes are set: to zero above, and by regcomp().
        let compiled = unsafe { compiled.assume_init() };
        if code != 0 {
            // After an error there is nothing to free.
            return Err(words(code, &compiled));
        }
        Ok(Self { compiled })
    }

    /// Searches a key (no NUL in it) and gives the groups 0 to `groups`.
    ///
    /// # Errors
    /// The engine gave up, for want of memory.
    pub(crate) fn search(&self, key: &[u8], groups: usize) -> Result<Option<Vec<Group>>, String> {
        let Ok(key) = CString::new(key) else { return Err("NUL in the key".to_owned()) };
        let mut places = vec![libc::regmatch_t { rm_so: -1, rm_eo: -1 }; groups.saturating_add(1)];
        // SAFETY: the expression was compiled by regcomp(), `key` ends with NUL, and `places` has room for as many
        // places as are named.
        let code = unsafe {
            libc::regexec(&raw const *self.compiled, key.as_ptr(), places.len(), places.as_mut_ptr(), 0)
        };
        match code {
            0 => Ok(Some(places.into_iter().map(group).collect())),
            libc::REG_NOMATCH => Ok(None),
            _ => Err(words(code, &self.compiled)),
        }
    }
}

impl Drop for Posix {
    fn drop(&mut self) {
        // SAFETY: compiled by regcomp() and freed nowhere else.
        unsafe { libc::regfree(&raw mut *self.compiled) };
    }
}

fn group(place: libc::regmatch_t) -> Group {
    Some((usize::try_from(place.rm_so).ok()?, usize::try_from(place.rm_eo).ok()?))
}

/// The C library's words for one of its error codes.
fn words(code: libc::c_int, compiled: &libc::regex_t) -> String {
    let mut buffer = [0_u8; 256];
    // SAFETY: `buffer` has the length that is named; regerror() ends what it writes with NUL.
    unsafe { libc::regerror(code, &raw const *compiled, buffer.as_mut_ptr().cast(), buffer.len()) };
    let end = buffer.iter().position(|&byte| byte == 0).unwrap_or(buffer.len());
    String::from_utf8_lossy(buffer.get(..end).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: PosixFlags = PosixFlags { ignore_case: true, newline: false, extended: true };

    #[test]
    fn groups_come_out() {
        let regex = Posix::compile(b"^(a+)(b)?(c)$", FLAGS).unwrap();
        assert_eq!(regex.search(b"AAc", 3), Ok(Some(vec![Some((0, 3)), Some((0, 2)), None, Some((2, 3))])));
        assert_eq!(regex.search(b"x", 3), Ok(None));
    }

    #[test]
    fn the_longest_alternative_wins() {
        let regex = Posix::compile(b"a|ab|abc", FLAGS).unwrap();
        assert_eq!(regex.search(b"abcd", 0), Ok(Some(vec![Some((0, 3))])));
    }

    #[test]
    fn errors_have_words() {
        assert_eq!(Posix::compile(b"(", FLAGS).err(), Some("Unmatched ( or \\(".to_owned()));
        assert!(Posix::compile(b"a\0b", FLAGS).is_err());
    }

    #[test]
    fn threads_share_an_expression() {
        let regex = Posix::compile(b"^([a-z]+)[.]example$", FLAGS).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        assert!(regex.search(b"mail.example", 1).unwrap().is_some());
                        assert!(regex.search(b"mail.example.org", 1).unwrap().is_none());
                    }
                });
            }
        });
    }
}
