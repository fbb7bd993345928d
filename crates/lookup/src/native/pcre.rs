//! Perl-compatible regular expressions by PCRE2, the engine of Postfix's `pcre:` tables.

use std::ptr::{self, NonNull};

use super::Group;

/// How much backtracking one search may cost. PCRE2's own default is ten times as much, seconds of work.
const MATCH_LIMIT: u32 = 1_000_000;
/// How much memory one search may take, in KiB.
const HEAP_LIMIT_KIB: u32 = 16 << 10;

/// How a pattern is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PcreFlags(u32);

impl PcreFlags {
    /// What a `pcre:` table begins with: letters match in any case, a dot matches a newline too.
    pub(crate) const DEFAULT: Self = Self(pcre2_sys::PCRE2_CASELESS | pcre2_sys::PCRE2_DOTALL);

    /// Toggles the flag behind a letter; `None` if the letter means nothing. `X` is known, and PCRE2 has no
    /// such flag any more.
    pub(crate) const fn toggle(self, letter: u8) -> Option<Self> {
        let bit = match letter {
            b'i' => pcre2_sys::PCRE2_CASELESS,
            b'm' => pcre2_sys::PCRE2_MULTILINE,
            b's' => pcre2_sys::PCRE2_DOTALL,
            b'x' => pcre2_sys::PCRE2_EXTENDED,
            b'A' => pcre2_sys::PCRE2_ANCHORED,
            b'E' => pcre2_sys::PCRE2_DOLLAR_ENDONLY,
            b'U' => pcre2_sys::PCRE2_UNGREEDY,
            b'X' => 0,
            _ => return None,
        };
        Some(Self(self.0 ^ bit))
    }
}

/// A compiled expression with its limits.
pub(crate) struct Pcre {
    code: NonNull<pcre2_sys::pcre2_code_8>,
    limits: NonNull<pcre2_sys::pcre2_match_context_8>,
    groups: usize,
}

// SAFETY: both objects are owned here and belong to no thread.
unsafe impl Send for Pcre {}
// SAFETY: PCRE2 lets threads share compiled code and a match context as long as nobody changes them; nobody does.
unsafe impl Sync for Pcre {}

impl Pcre {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// Postfix's words: `error in regex at offset N: …`.
    pub(crate) fn compile(pattern: &[u8], flags: PcreFlags) -> Result<Self, String> {
        let (mut code, mut offset) = (0, 0);
        // SAFETY: pattern and length belong together; both numbers outlive the call; no context is given.
        let compiled = unsafe {
            pcre2_sys::pcre2_compile_8(
                pattern.as_ptr(),
                pattern.len(),
                flags.0,
                &raw mut code,
                &raw mut offset,
                ptr::null_mut(),
            )
        };
        let Some(compiled) = NonNull::new(compiled) else {
            return Err(format!("error in regex at offset {offset}: {}", words(code)));
        };
        // SAFETY: no general context is given; the result is checked.
        let limits = NonNull::new(unsafe { pcre2_sys::pcre2_match_context_create_8(ptr::null_mut()) });
        let Some(limits) = limits else {
            // SAFETY: made above, and given to nobody.
            unsafe { pcre2_sys::pcre2_code_free_8(compiled.as_ptr()) };
            return Err("out of memory".to_owned());
        };
        let mut groups: u32 = 0;
        // SAFETY: all pointers are live; PCRE2_INFO_CAPTURECOUNT writes a u32.
        unsafe {
            pcre2_sys::pcre2_set_match_limit_8(limits.as_ptr(), MATCH_LIMIT);
            pcre2_sys::pcre2_set_heap_limit_8(limits.as_ptr(), HEAP_LIMIT_KIB);
            pcre2_sys::pcre2_pattern_info_8(
                compiled.as_ptr(),
                pcre2_sys::PCRE2_INFO_CAPTURECOUNT,
                (&raw mut groups).cast(),
            );
        }
        Ok(Self { code: compiled, limits, groups: usize::try_from(groups).unwrap_or(0) })
    }

    /// How many groups the expression has, without the whole match.
    pub(crate) const fn groups(&self) -> usize {
        self.groups
    }

    /// Searches a key and gives all groups, beginning with the whole match.
    ///
    /// # Errors
    /// The engine gave up, in its own words; as a rule the key costs more backtracking than the limit allows.
    pub(crate) fn search(&self, key: &[u8]) -> Result<Option<Vec<Group>>, String> {
        // SAFETY: the code is live.
        let data =
            unsafe { pcre2_sys::pcre2_match_data_create_from_pattern_8(self.code.as_ptr(), ptr::null_mut()) };
        let Some(data) = NonNull::new(data) else { return Err("out of memory".to_owned()) };
        let data = MatchData(data);
        // SAFETY: key and length belong together; code, data and limits are live, and the data is this call's own.
        let code = unsafe {
            pcre2_sys::pcre2_match_8(
                self.code.as_ptr(),
                key.as_ptr(),
                key.len(),
                0,
                0,
                data.0.as_ptr(),
                self.limits.as_ptr(),
            )
        };
        match code {
            pcre2_sys::PCRE2_ERROR_NOMATCH => Ok(None),
            1.. => Ok(Some(data.groups(self.groups))),
            _ => Err(words(code)),
        }
    }
}

impl Drop for Pcre {
    fn drop(&mut self) {
        // SAFETY: both are owned here and freed nowhere else.
        unsafe {
            pcre2_sys::pcre2_match_context_free_8(self.limits.as_ptr());
            pcre2_sys::pcre2_code_free_8(self.code.as_ptr());
        }
    }
}

/// The room for the result of one search.
struct MatchData(NonNull<pcre2_sys::pcre2_match_data_8>);

impl MatchData {
    /// The groups 0 to `last`, after a search that matched.
    fn groups(&self, last: usize) -> Vec<Group> {
        // SAFETY: the data is live and was made for an expression with this many groups; after a match PCRE2 has set
        // two offsets for each of them, PCRE2_UNSET where a group took no part.
        let offsets = unsafe {
            let pairs = usize::try_from(pcre2_sys::pcre2_get_ovector_count_8(self.0.as_ptr())).unwrap_or(0);
            let first = pcre2_sys::pcre2_get_ovector_pointer_8(self.0.as_ptr());
            std::slice::from_raw_parts(first, pairs.saturating_mul(2))
        };
        let pair = |pair: &[usize]| match *pair {
            [start, end] if start != pcre2_sys::PCRE2_UNSET && start <= end => Some((start, end)),
            _ => None,
        };
        offsets.chunks_exact(2).take(last.saturating_add(1)).map(pair).collect()
    }
}

impl Drop for MatchData {
    fn drop(&mut self) {
        // SAFETY: owned here and freed nowhere else.
        unsafe { pcre2_sys::pcre2_match_data_free_8(self.0.as_ptr()) };
    }
}

/// PCRE2's words for one of its error codes.
fn words(code: libc::c_int) -> String {
    let mut buffer = [0_u8; 256];
    // SAFETY: `buffer` has the length that is named.
    let len = unsafe { pcre2_sys::pcre2_get_error_message_8(code, buffer.as_mut_ptr(), buffer.len()) };
    match usize::try_from(len) {
        Ok(len) => String::from_utf8_lossy(buffer.get(..len).unwrap_or_default()).into_owned(),
        Err(_) => format!("unknown error {code}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_come_out() {
        let regex = Pcre::compile(b"^(a+)(b)?(c)$", PcreFlags::DEFAULT).unwrap();
        assert_eq!(regex.groups(), 3);
        assert_eq!(regex.search(b"AAc"), Ok(Some(vec![Some((0, 3)), Some((0, 2)), None, Some((2, 3))])));
        assert_eq!(regex.search(b"x"), Ok(None));
        let regex = Pcre::compile(b"a(b)?", PcreFlags::DEFAULT).unwrap();
        assert_eq!(regex.search(b"a"), Ok(Some(vec![Some((0, 1)), None])));
    }

    #[test]
    fn every_flag_letter_does_what_it_says() {
        let found = |pattern: &str, letters: &str, key: &str| {
            let flags = letters.bytes().try_fold(PcreFlags::DEFAULT, PcreFlags::toggle).unwrap();
            Pcre::compile(pattern.as_bytes(), flags).unwrap().search(key.as_bytes()).unwrap()
        };
        let is = |pattern, letters, key| found(pattern, letters, key).is_some();
        assert!(is("a", "", "A") && !is("a", "i", "A") && is("a", "ii", "A"));
        assert!(!is("^b", "", "a\nb") && is("^b", "m", "a\nb"));
        assert!(is("a.b", "", "a\nb") && !is("a.b", "s", "a\nb"));
        assert!(!is("a b", "x", "a b") && is("a b", "x", "ab"));
        assert!(is("b", "", "ab") && !is("b", "A", "ab"));
        assert!(is("a$", "", "a\n") && !is("a$", "E", "a\n"));
        assert_eq!(found("a+", "U", "aaa"), Some(vec![Some((0, 1))]));
        assert!(is("a", "X", "a"));
        assert_eq!(PcreFlags::DEFAULT.toggle(b'q'), None);
    }

    #[test]
    fn errors_have_words() {
        let error = Pcre::compile(b"a(b", PcreFlags::DEFAULT).err().unwrap();
        assert!(error.starts_with("error in regex at offset 3: missing "), "{error}");
    }

    #[test]
    fn a_key_that_explodes_is_stopped() {
        let regex = Pcre::compile(b"^(a+)+$", PcreFlags::DEFAULT).unwrap();
        let error = regex.search(format!("{}!", "a".repeat(200)).as_bytes()).unwrap_err();
        assert!(error.contains("limit"), "{error}");
    }
}
