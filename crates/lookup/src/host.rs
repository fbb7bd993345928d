//! Client names against literal patterns, and the keys under which a table is asked for a name.
//!
//! Both sides are case-folded before they come here. Observed on Postfix 3.7.

/// How a domain stands for the hosts below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParentStyle {
    /// `example.com` matches `a.example.com` too, `.example.com` matches nothing: the list is named in
    /// parent_domain_matches_subdomains.
    Domain,
    /// `.example.com` matches `a.example.com`, `example.com` only itself.
    Dot,
}

/// Whether a literal pattern matches a client name.
pub(crate) fn matches(name: &[u8], pattern: &[u8], style: ParentStyle) -> bool {
    if name == pattern {
        return true;
    }
    let Some(front) = name.strip_suffix(pattern) else { return false };
    match style {
        ParentStyle::Domain => front.last() == Some(&b'.'),
        ParentStyle::Dot => !front.is_empty() && pattern.first() == Some(&b'.'),
    }
}

/// The keys under which a table is asked for a client name: the name, and if the table knows fixed keys, its parents.
pub(crate) fn keys(name: &[u8], fixed: bool, style: ParentStyle) -> Vec<&[u8]> {
    let mut keys = Vec::new();
    let mut entry = name;
    while !entry.is_empty() {
        keys.push(entry);
        let Some(dot) = entry.iter().skip(1).position(|&byte| byte == b'.') else { break };
        let skipped = match style {
            ParentStyle::Domain => dot.saturating_add(2),
            ParentStyle::Dot => dot.saturating_add(1),
        };
        if !fixed {
            break;
        }
        entry = entry.get(skipped..).unwrap_or_default();
    }
    keys
}

/// Whether a literal pattern could match some verified name. A verified name has letters, digits, `-`, `_` and
/// `.`, no dot at either end, and is not made of digits and dots alone.
pub(crate) fn could_match_a_name(pattern: &[u8], style: ParentStyle) -> bool {
    let domain = match (style, pattern.strip_prefix(b".")) {
        (ParentStyle::Domain, Some(_)) => return false,
        (ParentStyle::Dot, Some(domain)) => domain,
        (_, None) => pattern,
    };
    let name_bytes = |&byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    // A domain whose labels are all digits can still be the parent of a name, but no registry has one.
    !domain.is_empty()
        && domain.iter().all(name_bytes)
        && !domain.starts_with(b".")
        && !domain.ends_with(b".")
        && !domain.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_as_observed_on_postfix() {
        let name = b"a.example.com";
        for (pattern, domain, dot) in [
            (&b"a.example.com"[..], true, true),
            (b"example.com", true, false),
            (b"com", true, false),
            (b".example.com", false, true),
            (b".com", false, true),
            (b"xample.com", false, false),
            (b".a.example.com", false, false),
            (b"b.a.example.com", false, false),
        ] {
            assert_eq!(matches(name, pattern, ParentStyle::Domain), domain, "{pattern:?}");
            assert_eq!(matches(name, pattern, ParentStyle::Dot), dot, "{pattern:?}");
        }
    }

    #[test]
    fn table_keys() {
        let name = b"a.example.com";
        assert_eq!(keys(name, true, ParentStyle::Domain), [&b"a.example.com"[..], b"example.com", b"com"]);
        assert_eq!(keys(name, true, ParentStyle::Dot), [&b"a.example.com"[..], b".example.com", b".com"]);
        assert_eq!(keys(name, false, ParentStyle::Domain), [&b"a.example.com"[..]]);
        assert_eq!(keys(b"", true, ParentStyle::Domain), Vec::<&[u8]>::new());
        assert_eq!(keys(b"a.", true, ParentStyle::Domain), [&b"a."[..]]);
    }

    #[test]
    fn which_patterns_a_name_could_match() {
        for (pattern, domain, dot) in [
            (&b"example.com"[..], true, true),
            (b".example.com", false, true),
            (b"10.0.0.1", false, false),
            (b"127.", false, false),
            (b"10.0.0.0/8", false, false),
            (b"[::1]", false, false),
            (b"{a}", false, false),
            (b"unknown", true, true),
        ] {
            assert_eq!(could_match_a_name(pattern, ParentStyle::Domain), domain, "{pattern:?}");
            assert_eq!(could_match_a_name(pattern, ParentStyle::Dot), dot, "{pattern:?}");
        }
    }
}
