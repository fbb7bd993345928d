//! Finds rows by name, and suggests names for misspelt ones.

use super::kind::Parameter;
use super::other::other_names;
use super::table;

/// The row of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Parameter> {
    table::PARAMETERS.iter().find(|parameter| parameter.name == name)
}

/// The known name that looks most like `name`, if one looks much like it.
#[must_use]
pub fn suggestion(name: &str) -> Option<&'static str> {
    let limit = (name.chars().count() / 4).clamp(1, 3);
    let own = table::PARAMETERS.iter().map(|parameter| parameter.name);
    own.chain(other_names())
        .filter(|known| known.len().abs_diff(name.len()) <= limit)
        .map(|known| (edit_distance(name, known), known))
        .filter(|&(distance, _)| distance <= limit)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, known)| known)
}

/// How many letters must be inserted, removed, replaced or swapped with their neighbour to turn one word into the other.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut above: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    let mut previous = '\0';
    for (at, letter) in left.chars().enumerate() {
        let mut next = vec![at.saturating_add(1)];
        for (column, &other) in right.iter().enumerate() {
            let cell = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX);
            let replaced = cell(&row, column).saturating_add(usize::from(letter != other));
            let removed = cell(&row, column.saturating_add(1)).saturating_add(1);
            let inserted = cell(&next, column).saturating_add(1);
            let swapped = match column.checked_sub(1) {
                Some(before) if at > 0 && right.get(before) == Some(&letter) && previous == other => {
                    cell(&above, before).saturating_add(1)
                }
                _ => usize::MAX,
            };
            next.push(replaced.min(removed).min(inserted).min(swapped));
        }
        above = std::mem::replace(&mut row, next);
        previous = letter;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::kind::Kind;
    use super::*;
    use crate::value::Bounds;

    #[test]
    fn names_are_unique_and_documented() {
        let mut names: Vec<_> = table::PARAMETERS.iter().map(|parameter| parameter.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        for parameter in table::PARAMETERS {
            assert!(parameter.doc.len() > 20 && parameter.doc.trim().ends_with('.'), "{}", parameter.name);
            assert!(
                !other_names().any(|other| other == parameter.name),
                "{} is in both lists",
                parameter.name
            );
        }
    }

    #[test]
    fn misspelt_names_find_their_model() {
        assert_eq!(suggestion("qmqpd_authorised_clients"), Some("qmqpd_authorized_clients"));
        assert_eq!(suggestion("mesage_size_limit"), Some("message_size_limit"));
        assert_eq!(suggestion("myhostnmae"), Some("myhostname"));
        assert_eq!(suggestion("smtpd_relay_restriction"), Some("smtpd_relay_restrictions"));
        assert_eq!(suggestion("my_own_list"), None);
        // One letter in four may be wrong, and three in all.
        assert_eq!(suggestion("relayhots"), Some("relayhost"));
        assert_eq!(suggestion("rleayhots"), Some("relayhost"));
        assert_eq!(suggestion("erlayhots_x"), None);
        assert_eq!(suggestion("qmqpd_auhtorised_cleints"), Some("qmqpd_authorized_clients"));
        assert_eq!(suggestion("qmqpd_auhtorised_cleintx"), None);
    }

    #[test]
    fn kinds_in_words() {
        let words = |name| find(name).unwrap().kind_in_words();
        assert_eq!(words("qmqpd_timeout"), "time, 1s or more");
        assert_eq!(words("line_length_limit"), "number of bytes, 512 or more");
        assert_eq!(words("default_verp_delimiters"), "text of 2 bytes");
        assert_eq!(words("soft_bounce"), "yes or no");
        assert_eq!(words("mynetworks_style"), "one of: class, subnet, host");
    }

    #[test]
    fn distances() {
        for (left, right, distance) in [
            ("ab", "ba", 1),
            ("xab", "xba", 1),
            ("abc", "bca", 2),
            ("abcd", "badc", 2),
            ("aab", "aba", 1),
            ("abab", "baba", 2),
            ("ca", "abc", 3),
            ("abc", "acx", 2),
            ("aa", "bb", 2),
            ("ab", "bx", 2),
            ("xb", "ba", 2),
        ] {
            assert_eq!(edit_distance(left, right), distance, "{left} {right}");
        }
    }

    #[test]
    fn our_own_parameters_are_known_as_such() {
        let own = |name| find(name).unwrap().is_own();
        assert!(own("qmqpd_commit") && own("qmqpd_session_deadline"));
        assert!(!own("qmqpd_timeout") && !own("qmqpd_authorized_clients") && !own("soft_bounce"));
    }

    #[test]
    fn bounds_of_texts_in_words() {
        let words =
            |bounds| Parameter { kind: Kind::Text(bounds), ..*find("myhostname").unwrap() }.kind_in_words();
        assert_eq!(words(Bounds::at_least(1)), "text, not empty");
        assert_eq!(words(Bounds::at_least(2)), "text, 2 bytes or more");
        assert_eq!(words(Bounds::between(2, 2)), "text of 2 bytes");
        assert_eq!(words(Bounds::between(1, 2)), "text, 1 bytes to 2 bytes");
        assert_eq!(words(Bounds::at_most(9)), "text, at most 9 bytes");
        assert_eq!(words(Bounds::NONE), "text");
    }

    proptest! {
        #[test]
        fn distance_is_a_distance(left in "[ab_]{0,8}", right in "[ab_]{0,8}") {
            prop_assert_eq!(edit_distance(&left, &right), edit_distance(&right, &left));
            prop_assert_eq!(edit_distance(&left, &right) == 0, left == right);
            prop_assert!(edit_distance(&left, &right) <= left.len().max(right.len()));
        }
    }
}
