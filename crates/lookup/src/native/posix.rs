//! POSIX regular expressions by the C library, the engine of Postfix's `regexp:` tables.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::{Mutex, PoisonError, RwLock};

use super::Group;
use crate::budget::{Halt, Pace};
use crate::turns::TURNS_MAX;

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
///
/// The C library lets no other thread use one while it searches, and cannot be stopped. So a long key is searched in pieces, each
/// with some of the places where a match may begin; and what may take long has a copy of its own, so that short keys
/// need not wait for it. And it keeps what it has learnt from each key, kilobytes for each byte where the expression has very many
/// states, until the compiled expression is freed: [`Self::forget`].
pub(crate) struct Posix {
    /// For what is done at once.
    first: RwLock<Compiled>,
    /// For the work of each turn, when it is first needed.
    others: [Mutex<Option<Compiled>>; TURNS_MAX],
    pattern: CString,
    bits: libc::c_int,
    /// A match begins where the key does.
    is_anchored: bool,
}

impl Posix {
    /// Compiles a pattern, that `table::measure` has nothing against.
    ///
    /// # Errors
    /// What the C library says about it, such as `Unmatched ( or \(`.
    pub(crate) fn compile(pattern: &[u8], flags: PosixFlags) -> Result<Self, String> {
        // A `|` behind a `^` may bring another beginning.
        let is_anchored =
            flags.extended && !flags.newline && pattern.first() == Some(&b'^') && !pattern.contains(&b'|');
        let Ok(pattern) = CString::new(pattern) else { return Err("NUL in the expression".to_owned()) };
        let mut bits = 0;
        for (wanted, bit) in [
            (flags.ignore_case, libc::REG_ICASE),
            (flags.newline, libc::REG_NEWLINE),
            (flags.extended, libc::REG_EXTENDED),
        ] {
            bits |= if wanted { bit } else { 0 };
        }
        let first = Compiled::new(&pattern, bits)?;
        Ok(Self { first: RwLock::new(first), others: Default::default(), pattern, bits, is_anchored })
    }

    /// Frees what was learnt from keys, but for what another thread uses just now.
    pub(crate) fn forget(&self) {
        for other in &self.others {
            if let Ok(mut other) = other.try_lock() {
                *other = None;
            }
        }
        // Out of memory: the old one goes on.
        if let Ok(fresh) = Compiled::new(&self.pattern, self.bits)
            && let Ok(mut first) = self.first.try_write()
        {
            *first = fresh;
        }
    }

    /// Searches a key (no NUL in it) and gives the groups 0 to `groups`.
    ///
    /// # Errors
    /// The engine gave up, for want of memory; or the pace does not allow more.
    pub(crate) fn search(
        &self,
        key: &[u8],
        groups: usize,
        pace: &mut Pace<'_>,
    ) -> Result<Option<Vec<Group>>, Halt> {
        let Ok(key) = CString::new(key) else { return Err(Halt::Engine("NUL in the key".to_owned())) };
        let end = key.as_bytes().len();
        if end <= SHORT_KEY_BYTES_MAX {
            return self.with_copy(pace, |compiled| compiled.search(&key, 0, groups));
        }
        let last = if self.is_anchored { 0 } else { end };
        let places = STEPS_AT_A_TIME.checked_div(end).unwrap_or(1).max(1);
        let mut start: usize = 0;
        while start <= last {
            pace.tick()?;
            let behind = start.saturating_add(places);
            let more = behind.min(last.saturating_add(1)).saturating_sub(start).saturating_sub(1);
            let found = self.with_copy(pace, |compiled| {
                let place = compiled.place(&key, start, more)?;
                place.map(|place| compiled.search(&key, place, groups)).transpose()
            })?;
            if let Some(found) = found {
                return Ok(found);
            }
            start = behind;
        }
        Ok(None)
    }

    /// Works with the copy that no other thread uses for long.
    fn with_copy<T>(
        &self,
        pace: &Pace<'_>,
        work: impl FnOnce(&Compiled) -> Result<T, String>,
    ) -> Result<T, Halt> {
        // Nothing that is done under these locks panics.
        let Some(copy) = pace.turn().and_then(|turn| self.others.get(turn)) else {
            let first = self.first.read().unwrap_or_else(PoisonError::into_inner);
            return work(&first).map_err(Halt::Engine);
        };
        let mut copy = copy.lock().unwrap_or_else(PoisonError::into_inner);
        if copy.is_none() {
            *copy = Compiled::new(&self.pattern, self.bits).ok();
        }
        let compiled = copy.as_ref().ok_or_else(|| Halt::Engine("out of memory".to_owned()))?;
        work(compiled).map_err(Halt::Engine)
    }
}

/// What the C library made of a pattern.
struct Compiled {
    // Boxed: the C library may keep pointers into it.
    regex: Box<libc::regex_t>,
}

// SAFETY: the structure owns everything that it points to, and nothing in it belongs to a thread.
unsafe impl Send for Compiled {}
// SAFETY: POSIX lets threads call regexec() on one compiled expression at the same time, and re_search() takes the same lock.
unsafe impl Sync for Compiled {}

// The C library's function that the libc crate does not declare: regexec() for some places alone.
unsafe extern "C" {
    fn re_search(
        regex: *mut libc::regex_t,
        key: *const libc::c_char,
        len: libc::c_int,
        start: libc::c_int,
        more: libc::c_int,
        groups: *mut libc::c_void,
    ) -> libc::c_int;
}

/// For regexec(): the key begins and ends where the first place says; what is before is there, too.
const REG_STARTEND: libc::c_int = 1 << 2;

impl Compiled {
    fn new(pattern: &CStr, bits: libc::c_int) -> Result<Self, String> {
        let mut regex = Box::new(MaybeUninit::<libc::regex_t>::zeroed());
        // SAFETY: `regex` points to room for one regex_t, and `pattern` ends with NUL.
        let code = unsafe { libc::regcomp(regex.as_mut_ptr(), pattern.as_ptr(), bits) };
        // SAFETY: all bytes are set: to zero above, and by regcomp().
        let regex = unsafe { regex.assume_init() };
        if code != 0 {
            // After an error there is nothing to free.
            return Err(words(code, &regex));
        }
        Ok(Self { regex })
    }

    /// The groups 0 to `groups` of the first match that begins at `start` or later.
    fn search(&self, key: &CStr, start: usize, groups: usize) -> Result<Option<Vec<Group>>, String> {
        let (Ok(start), Ok(end)) = (start.try_into(), key.to_bytes().len().try_into()) else {
            return Err(TOO_LONG.to_owned());
        };
        let mut places = vec![libc::regmatch_t { rm_so: start, rm_eo: end }; groups.saturating_add(1)];
        // SAFETY: the expression was compiled by regcomp(), start and end lie within `key`, and `places` has room for as
        // many places as are named.
        let code = unsafe {
            libc::regexec(
                &raw const *self.regex,
                key.as_ptr(),
                places.len(),
                places.as_mut_ptr(),
                REG_STARTEND,
            )
        };
        match code {
            0 => Ok(Some(places.into_iter().map(group).collect())),
            libc::REG_NOMATCH => Ok(None),
            _ => Err(words(code, &self.regex)),
        }
    }

    /// Where the first match begins that begins at `start` or at one of the `more` places behind.
    fn place(&self, key: &CStr, start: usize, more: usize) -> Result<Option<usize>, String> {
        let (Ok(len), Ok(start), Ok(more)) =
            (key.to_bytes().len().try_into(), start.try_into(), more.try_into())
        else {
            return Err(TOO_LONG.to_owned());
        };
        // SAFETY: the expression was compiled by regcomp(), whose structure is that of re_search(); it is changed only under
        // the lock in it, and not at all where no groups are asked for; `key` has the length that is named, and all
        // places lie in it.
        let place = unsafe {
            re_search((&raw const *self.regex).cast_mut(), key.as_ptr(), len, start, more, ptr::null_mut())
        };
        match place {
            0.. => Ok(usize::try_from(place).ok()),
            -1 => Ok(None),
            _ => Err("out of memory".to_owned()),
        }
    }
}

impl Drop for Compiled {
    fn drop(&mut self) {
        // SAFETY: compiled by regcomp() and freed nowhere else.
        unsafe { libc::regfree(&raw mut *self.regex) };
    }
}

/// The longest key that is searched in one go, half a millisecond at the worst.
const SHORT_KEY_BYTES_MAX: usize = 600;
/// How many bytes are looked at without a look at the clock: each place where a match may begin can cost the whole key.
const STEPS_AT_A_TIME: usize = 300_000;
const TOO_LONG: &str = "the key is too long";

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

    fn quick() -> Pace<'static> {
        Pace::Quick { until: std::time::Instant::now().checked_add(std::time::Duration::from_secs(600)) }
    }

    impl Posix {
        fn find(&self, key: &[u8], groups: usize) -> Result<Option<Vec<Group>>, Halt> {
            self.search(key, groups, &mut quick())
        }
    }

    const FLAGS: PosixFlags = PosixFlags { ignore_case: true, newline: false, extended: true };

    #[test]
    fn groups_come_out() {
        let regex = Posix::compile(b"^(a+)(b)?(c)$", FLAGS).unwrap();
        assert_eq!(regex.find(b"AAc", 3), Ok(Some(vec![Some((0, 3)), Some((0, 2)), None, Some((2, 3))])));
        assert_eq!(regex.find(b"x", 3), Ok(None));
    }

    #[test]
    fn the_longest_alternative_wins() {
        let regex = Posix::compile(b"a|ab|abc", FLAGS).unwrap();
        assert_eq!(regex.find(b"abcd", 0), Ok(Some(vec![Some((0, 3))])));
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
                        assert!(regex.find(b"mail.example", 1).unwrap().is_some());
                        assert!(regex.find(b"mail.example.org", 1).unwrap().is_none());
                    }
                });
            }
        });
    }

    #[test]
    fn a_long_key_is_stopped() {
        let regex = Posix::compile(b"x+y", FLAGS).unwrap();
        let key = "x".repeat(100_000);
        assert_eq!(regex.search(key.as_bytes(), 0, &mut Pace::Quick { until: None }), Err(Halt::TooLong));
    }

    /// In pieces or in one go: what stands before the place of a match counts.
    #[test]
    fn a_long_key_has_the_same_groups_as_a_short_one() {
        for pattern in [
            &b"^(x*)y"[..],
            b"^b|(y)z",
            b"\\bfoo(.)",
            b"(yz?)$",
            b"(^|z)a*(foo)",
            b"^nothing",
            b"nothing",
            b"y*",
            b"$",
        ] {
            for newline in [false, true] {
                let regex = Posix::compile(pattern, PosixFlags { newline, ..FLAGS }).unwrap();
                for (before, key) in ["yz", "xfoo foo1", "zfoo", "\nbyz\n", "", "b", "y"]
                    .iter()
                    .flat_map(|key| ["", "x", "-", "\n"].map(|before| (before, key)))
                {
                    let key = format!("{}{key}", before.repeat(2000));
                    let whole = regex.first.read().unwrap();
                    let whole = whole.search(&CString::new(key.as_str()).unwrap(), 0, 1).unwrap();
                    let words = format!("{} {newline} {before:?} {}", pattern.escape_ascii(), key.trim());
                    assert_eq!(regex.find(key.as_bytes(), 1), Ok(whole), "{words}");
                }
            }
        }
    }
}
