//! Perl-compatible regular expressions by PCRE2, the engine of Postfix's `pcre:` tables.

use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use super::{Group, Ticker};
use crate::budget::{Halt, Pace};

/// How much backtracking one search may cost from one place of the key: PCRE2's own default, and Postfix's.
const MATCH_LIMIT: u32 = 10_000_000;
/// The same for a search without looks at the clock.
const UNWATCHED_MATCH_LIMIT: u32 = 600;
/// The longest key of such a search, so that it ends in a few milliseconds, wherever it begins to match.
const UNWATCHED_KEY_BYTES_MAX: usize = 512;
/// How much memory one search may take, in KiB.
const HEAP_LIMIT_KIB: u32 = 16 << 10;
/// After how many items of the pattern the clock is looked at. One item takes a time that grows with the key.
const CALLOUTS_PER_TICK: u32 = 32;

// The library's functions that pcre2-sys does not declare. The block that a callout gets is not looked into.
unsafe extern "C" {
    fn pcre2_set_callout_8(
        context: *mut pcre2_sys::pcre2_match_context_8,
        callout: Option<unsafe extern "C" fn(*mut libc::c_void, *mut libc::c_void) -> libc::c_int>,
        data: *mut libc::c_void,
    ) -> libc::c_int;
}

/// The version and date of PCRE2, as the linked library states them: `10.46 2025-08-27`. Empty if it does not.
#[must_use]
pub fn pcre2_version() -> String {
    // SAFETY: without a buffer, the library only returns how many bytes it would write.
    let needed = unsafe { pcre2_sys::pcre2_config_8(pcre2_sys::PCRE2_CONFIG_VERSION, ptr::null_mut()) };
    let mut text = vec![0_u8; usize::try_from(needed).unwrap_or(0)];
    if !text.is_empty() {
        // SAFETY: the buffer has room for the bytes that the library has just said that it writes.
        unsafe { pcre2_sys::pcre2_config_8(pcre2_sys::PCRE2_CONFIG_VERSION, text.as_mut_ptr().cast()) };
    }
    String::from_utf8_lossy(postfix::text::until_nul(&text)).into_owned()
}

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

/// A compiled expression, twice: as it is, and with a look at the clock before each of its items, which costs a quarter
/// more.
pub(crate) struct Pcre {
    plain: Code,
    watched: Code,
    /// For the first of the two.
    limits: Limits<'static>,
    groups: usize,
}

impl Pcre {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// Postfix's words: `error in regex at offset N: …`.
    pub(crate) fn compile(pattern: &[u8], flags: PcreFlags) -> Result<Self, String> {
        let plain = Code::compile(pattern, flags.0)?;
        let watched = Code::compile(pattern, flags.0 | pcre2_sys::PCRE2_AUTO_CALLOUT)?;
        let limits = Limits::new(UNWATCHED_MATCH_LIMIT).map_err(|halt| halt.to_string())?;
        Ok(Self { groups: plain.groups(), plain, watched, limits })
    }

    /// How many groups the expression has, without the whole match.
    pub(crate) const fn groups(&self) -> usize {
        self.groups
    }

    /// Searches a key and gives all groups, beginning with the whole match.
    ///
    /// # Errors
    /// The engine gave up, in its own words; or the pace does not allow more.
    pub(crate) fn search(&self, key: &[u8], pace: &mut Pace<'_>) -> Result<Option<Vec<Group>>, Halt> {
        if pace.turn().is_none() && key.len() <= UNWATCHED_KEY_BYTES_MAX {
            match self.plain.search(key, &self.limits) {
                Err(pcre2_sys::PCRE2_ERROR_MATCHLIMIT) => {}
                found => return found.map_err(|code| Halt::Engine(words(code))),
            }
        }
        let limits = Limits::new(MATCH_LIMIT)?;
        let ticker = Ticker::new(pace, CALLOUTS_PER_TICK);
        limits.watch(&ticker);
        let found = self.watched.search(key, &limits);
        match ticker.halt() {
            Some(halt) => Err(halt),
            None => found.map_err(|code| Halt::Engine(words(code))),
        }
    }
}

/// What the library made of a pattern.
struct Code(NonNull<pcre2_sys::pcre2_code_8>);

// SAFETY: the object is owned here and belongs to no thread.
unsafe impl Send for Code {}
// SAFETY: PCRE2 lets threads share compiled code as long as it is not changed, and it never is.
unsafe impl Sync for Code {}

impl Code {
    fn compile(pattern: &[u8], options: u32) -> Result<Self, String> {
        let (mut code, mut offset) = (0, 0);
        // SAFETY: pattern and length belong together; both numbers outlive the call; no context is given.
        let compiled = unsafe {
            pcre2_sys::pcre2_compile_8(
                pattern.as_ptr(),
                pattern.len(),
                options,
                &raw mut code,
                &raw mut offset,
                ptr::null_mut(),
            )
        };
        NonNull::new(compiled)
            .map(Self)
            .ok_or_else(|| format!("error in regex at offset {offset}: {}", words(code)))
    }

    fn groups(&self) -> usize {
        let mut groups: u32 = 0;
        // SAFETY: the code is live; PCRE2_INFO_CAPTURECOUNT writes a u32.
        unsafe {
            pcre2_sys::pcre2_pattern_info_8(
                self.0.as_ptr(),
                pcre2_sys::PCRE2_INFO_CAPTURECOUNT,
                (&raw mut groups).cast(),
            );
        }
        usize::try_from(groups).unwrap_or(0)
    }

    /// The groups, or the library's code for why there is no answer.
    fn search(&self, key: &[u8], limits: &Limits<'_>) -> Result<Option<Vec<Group>>, libc::c_int> {
        // SAFETY: the code is live.
        let data =
            unsafe { pcre2_sys::pcre2_match_data_create_from_pattern_8(self.0.as_ptr(), ptr::null_mut()) };
        let data = MatchData(NonNull::new(data).ok_or(pcre2_sys::PCRE2_ERROR_NOMEMORY)?);
        // SAFETY: key and length belong together; code, data and limits are live, and the data is this call's own; what a
        // callout gets lives as long as the limits.
        let code = unsafe {
            pcre2_sys::pcre2_match_8(
                self.0.as_ptr(),
                key.as_ptr(),
                key.len(),
                0,
                0,
                data.0.as_ptr(),
                limits.context.as_ptr(),
            )
        };
        match code {
            pcre2_sys::PCRE2_ERROR_NOMATCH => Ok(None),
            1.. => Ok(Some(data.groups())),
            _ => Err(code),
        }
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        // SAFETY: owned here and freed nowhere else.
        unsafe { pcre2_sys::pcre2_code_free_8(self.0.as_ptr()) };
    }
}

/// The limits of one search, and who looks at the clock meanwhile.
struct Limits<'a> {
    context: NonNull<pcre2_sys::pcre2_match_context_8>,
    watched_by: PhantomData<&'a ()>,
}

// SAFETY: the object is owned here and belongs to no thread.
unsafe impl Send for Limits<'static> {}
// SAFETY: PCRE2 lets threads share a match context as long as it is not changed; one without a ticker is not changed
// when it has been made.
unsafe impl Sync for Limits<'static> {}

impl<'a> Limits<'a> {
    fn new(match_limit: u32) -> Result<Self, Halt> {
        // SAFETY: no general context is given; the result is checked.
        let context = NonNull::new(unsafe { pcre2_sys::pcre2_match_context_create_8(ptr::null_mut()) });
        let context = context.ok_or_else(|| Halt::Engine("out of memory".to_owned()))?;
        // SAFETY: the context is live.
        unsafe {
            pcre2_sys::pcre2_set_match_limit_8(context.as_ptr(), match_limit);
            pcre2_sys::pcre2_set_heap_limit_8(context.as_ptr(), HEAP_LIMIT_KIB);
        }
        Ok(Self { context, watched_by: PhantomData })
    }

    fn watch(&self, ticker: &'a Ticker<'_, '_>) {
        // SAFETY: the context is live; the ticker outlives it, as the lifetimes say, and `callout` is given nothing else.
        unsafe {
            pcre2_set_callout_8(
                self.context.as_ptr(),
                Some(callout),
                ptr::from_ref(ticker).cast_mut().cast(),
            );
        }
    }
}

impl Drop for Limits<'_> {
    fn drop(&mut self) {
        // SAFETY: owned here and freed nowhere else.
        unsafe { pcre2_sys::pcre2_match_context_free_8(self.context.as_ptr()) };
    }
}

/// Called by the library before each item of a watched pattern.
unsafe extern "C" fn callout(_block: *mut libc::c_void, data: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `Limits::watch` gives nothing but a ticker, which is live and is used by this thread alone.
    let ticker = unsafe { &*data.cast::<Ticker<'_, '_>>() };
    if ticker.goes_on() { 0 } else { pcre2_sys::PCRE2_ERROR_CALLOUT }
}

/// The room for the result of one search.
struct MatchData(NonNull<pcre2_sys::pcre2_match_data_8>);

impl MatchData {
    /// All groups, after a search that matched.
    fn groups(&self) -> Vec<Group> {
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
        offsets.chunks_exact(2).map(pair).collect()
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

    const OVER: fn() -> Pace<'static> = || Pace::Quick { until: None };

    fn quick() -> Pace<'static> {
        Pace::Quick { until: std::time::Instant::now().checked_add(std::time::Duration::from_secs(600)) }
    }

    impl Pcre {
        fn find(&self, key: &[u8]) -> Result<Option<Vec<Group>>, Halt> {
            self.search(key, &mut quick())
        }
    }

    #[test]
    fn groups_come_out() {
        let regex = Pcre::compile(b"^(a+)(b)?(c)$", PcreFlags::DEFAULT).unwrap();
        assert_eq!(regex.groups(), 3);
        assert_eq!(regex.find(b"AAc"), Ok(Some(vec![Some((0, 3)), Some((0, 2)), None, Some((2, 3))])));
        assert_eq!(regex.find(b"x"), Ok(None));
        let regex = Pcre::compile(b"a(b)?", PcreFlags::DEFAULT).unwrap();
        assert_eq!(regex.find(b"a"), Ok(Some(vec![Some((0, 1)), None])));
    }

    #[test]
    fn every_flag_letter_does_what_it_says() {
        let found = |pattern: &str, letters: &str, key: &str| {
            let flags = letters.bytes().try_fold(PcreFlags::DEFAULT, PcreFlags::toggle).unwrap();
            Pcre::compile(pattern.as_bytes(), flags).unwrap().find(key.as_bytes()).unwrap()
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
        let key = format!("{}!", "a".repeat(200));
        assert_eq!(regex.search(key.as_bytes(), &mut OVER()), Err(Halt::TooLong));
    }

    /// What backtracks little from each place of a key can still do so from a hundred thousand places.
    #[test]
    fn a_long_key_is_stopped_wherever_its_time_goes() {
        let end = |pattern: &[u8], piece: &str| {
            let key = piece.repeat(100_000 / piece.len());
            let regex = Pcre::compile(pattern, PcreFlags::DEFAULT).unwrap();
            regex.search(key.as_bytes(), &mut OVER())
        };
        // `.(bat` is there, so that the library must look.
        let names = format!("{}.bat", "name=".repeat(20_000));
        let blanks = format!("{}x", " ".repeat(100_000));
        for (pattern, key) in [(&br"name=[^>]*\.(com|exe)t"[..], names), (br"\s+$", blanks)] {
            let regex = Pcre::compile(pattern, PcreFlags::DEFAULT).unwrap();
            assert_eq!(regex.search(key.as_bytes(), &mut OVER()), Err(Halt::TooLong));
        }
        // One item takes all the time.
        assert_eq!(end(b"x++[yz]", "x"), Err(Halt::TooLong));
    }

    #[test]
    fn a_long_key_has_the_same_groups_as_a_short_one() {
        for pattern in [&br"(x+)(y)?z"[..], br"(?<=x)(y+)(z)", br"\bfoo(.*?)bar\b", br"^x(*COMMIT)y|z$"] {
            let regex = Pcre::compile(pattern, PcreFlags::DEFAULT).unwrap();
            for key in ["xxyz", "xyyzz", "a foo b bar", "xz", "yz", "xy", ""] {
                let limits = Limits::new(MATCH_LIMIT).unwrap();
                let mut pace = quick();
                let ticker = Ticker::new(&mut pace, 1);
                limits.watch(&ticker);
                let watched = regex.watched.search(key.as_bytes(), &limits).unwrap();
                assert_eq!(regex.find(key.as_bytes()), Ok(watched), "{key}");
            }
        }
    }
}
