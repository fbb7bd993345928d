//! Parameters of Postfix that this server does not read: known by name, so that a check does not call them misspelt.
//!
//! The names are those of `postconf -d` of 3.7 and those that 3.12 adds, and old ones that their defaults still refer to.

/// The names, in alphabetical order, separated by white space.
const NAMES: &str = include_str!("other.txt");

/// How the parameters end that exist once for each delivery service or restriction class of a site.
const SUFFIXES: [&str; 17] = [
    "_delivery_slot_cost",
    "_delivery_slot_discount",
    "_delivery_slot_loan",
    "_destination_concurrency_failed_cohort_limit",
    "_destination_concurrency_limit",
    "_destination_concurrency_negative_feedback",
    "_destination_concurrency_positive_feedback",
    "_destination_rate_delay",
    "_destination_recipient_limit",
    "_extra_recipient_limit",
    "_initial_destination_concurrency",
    "_minimum_delivery_slots",
    "_recipient_limit",
    "_recipient_refill_delay",
    "_recipient_refill_limit",
    "_time_limit",
    "_transport_rate_delay",
];

/// Parameters whose values are templates: the program that reads them, or a shell, puts something in the place of each
/// `$name` when it uses them (observed: `postconf -x` leaves these as they are).
const TEMPLATES: [&str; 9] = [
    "command_execution_directory",
    "default_rbl_reply",
    "forward_path",
    "luser_relay",
    "mailbox_command",
    "postscreen_expansion_filter",
    "postscreen_reject_footer",
    "smtpd_expansion_filter",
    "smtpd_reject_footer",
];

/// Whether `$name` in the value of this parameter is no reference to another parameter.
pub(crate) fn is_template(name: &str) -> bool {
    TEMPLATES.contains(&name)
}

/// The names, without those that a site makes up.
pub fn other_names() -> impl Iterator<Item = &'static str> {
    NAMES.split_ascii_whitespace()
}

/// Whether another program of Postfix reads a parameter of this name.
#[must_use]
pub fn is_read_by_other_programs(name: &str) -> bool {
    other_names().any(|other| other == name) || SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_and_sorted() {
        assert!(other_names().is_sorted() && other_names().count() > 700);
        assert!(is_read_by_other_programs("smtpd_relay_restrictions"));
        assert!(is_read_by_other_programs("slow_destination_concurrency_limit"));
        assert!(is_read_by_other_programs("slow_transport_rate_delay"));
        assert!(
            is_read_by_other_programs("smtp_tls_CApath")
                && is_read_by_other_programs("2bounce_notice_recipient")
        );
        assert!(!is_read_by_other_programs("qmqpd_timeout") && !is_read_by_other_programs("my_list"));
    }
}
