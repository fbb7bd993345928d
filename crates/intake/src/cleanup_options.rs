//! From main.cf to what our cleanup wants to know.

use std::net::IpAddr;

use postfix::compatibility::Release;
use postfix::milter_protocol::HEADER_BYTES_MAX;
use postfix::settings::Settings;
use postfix::settings::words::{AddressFormat, FixLineEndings};
use postfix::text::{split_list, split_plain_list, unescape};
use postfix::value::KeywordSet;

/// The options of our cleanup. `append_dot_mydomain_by_default` says that `append_dot_mydomain` is not set and it is on
/// for compatibility, which is worth a log line whenever it matters. `own_addresses` are those of this host.
#[must_use]
pub fn cleanup_options(
    settings: &Settings,
    append_dot_mydomain_by_default: bool,
    own_addresses: Vec<IpAddr>,
) -> cleanup::Options {
    let propagated = &settings.propagate_unmatched_extensions;
    let autodetect = &settings.smtputf8_autodetect_classes;
    cleanup::Options {
        myhostname: settings.myhostname.clone(),
        mail_name: settings.mail_name.clone(),
        myorigin: settings.myorigin.clone(),
        mydomain: settings.mydomain.clone(),
        line_length_limit: count(settings.line_length_limit),
        // Filters take no longer packets; Postfix cuts headers whether the filters see them or not.
        header_size_limit: if settings.non_smtpd_milters.is_empty() {
            count(settings.header_size_limit)
        } else {
            count(settings.header_size_limit).min(HEADER_BYTES_MAX)
        },
        header_address_token_limit: count(settings.header_address_token_limit),
        hopcount_limit: u32::try_from(settings.hopcount_limit).unwrap_or(u32::MAX),
        // Zero is "no limit".
        message_size_limit: settings.message_bytes_max().unwrap_or(0),
        mime_nesting_limit: count(settings.mime_nesting_limit),
        mime_boundary_length_limit: count(settings.mime_boundary_length_limit),
        disable_mime_input_processing: settings.disable_mime_input_processing,
        detect_8bit_encoding_header: settings.detect_8bit_encoding_header,
        replace_stray_cr_lf: settings.cleanup_replace_stray_cr_lf,
        fix_line_endings: match settings.qmqpd_fix_line_endings {
            FixLineEndings::Always => cleanup::FixLineEndings::Always,
            FixLineEndings::Never => cleanup::FixLineEndings::Never,
        },
        append_at_myorigin: settings.append_at_myorigin,
        append_dot_mydomain: settings.append_dot_mydomain,
        append_dot_mydomain_by_default,
        swap_bangpath: settings.swap_bangpath,
        allow_percent_hack: settings.allow_percent_hack,
        smtputf8_enable: settings.smtputf8_enable,
        smtputf8_autodetect: autodetect.contains("qmqpd") || autodetect.contains("all"),
        enable_original_recipient: settings.enable_original_recipient,
        duplicate_filter_limit: count(settings.duplicate_filter_limit),
        empty_address_recipient: settings.empty_address_recipient.clone(),
        always_bcc: settings.always_bcc.clone(),
        content_filter: settings.content_filter.clone(),
        delay_warning_time_seconds: settings.delay_warning_time.as_secs(),
        undisclosed_recipients_header: settings.undisclosed_recipients_header.clone(),
        message_drop_headers: split_list(&settings.message_drop_headers)
            .into_iter()
            .map(str::to_owned)
            .collect(),
        header_body_checks: !settings.receive_override_options.contains("no_header_body_checks"),
        message_reject_characters: unescape(settings.message_reject_characters.as_bytes()),
        message_strip_characters: unescape(settings.message_strip_characters.as_bytes()),
        strict_7bit_headers: settings.strict_7bit_headers,
        strict_8bitmime: settings.strict_8bitmime,
        strict_8bitmime_body: settings.strict_8bitmime_body,
        strict_mime_encoding_domain: settings.strict_mime_encoding_domain,
        non_empty_end_of_header_action: settings.non_empty_end_of_header_action,
        tls_required_header: settings.tls_required_enable,
        require_tls_header: settings.requiretls_enable && settings.requiretls_esmtp_header,
        since_3_10: settings.release() >= Release::new(3, 10),
        body_checks_size_limit: u64::try_from(settings.body_checks_size_limit).unwrap_or(0),
        log_external_addresses: settings.info_log_address_format == AddressFormat::External,
        force_mime_input_conversion: settings.force_mime_input_conversion,
        verp_delimiter_filter: settings.verp_delimiter_filter.clone(),
        address_mapping: !settings.receive_override_options.contains("no_address_mappings"),
        canonical_classes: classes(&settings.canonical_classes),
        sender_canonical_classes: classes(&settings.sender_canonical_classes),
        recipient_canonical_classes: classes(&settings.recipient_canonical_classes),
        masquerade_domains: split_plain_list(&settings.masquerade_domains)
            .into_iter()
            .map(str::to_owned)
            .collect(),
        masquerade_classes: classes(&settings.masquerade_classes),
        recipient_delimiter: settings.recipient_delimiter.clone(),
        owner_request_special: settings.owner_request_special,
        double_bounce_sender: settings.double_bounce_sender.clone(),
        propagates_canonical_extensions: propagated.contains("canonical"),
        propagates_virtual_extensions: propagated.contains("virtual"),
        virtual_alias_recursion_limit: count(settings.virtual_alias_recursion_limit),
        virtual_alias_expansion_limit: count(settings.virtual_alias_expansion_limit),
        virtual_alias_address_length_limit: count(settings.virtual_alias_address_length_limit),
        own_addresses,
        long_queue_ids: settings.enable_long_queue_ids,
    }
}

fn classes(words: &KeywordSet) -> cleanup::AddressClasses {
    cleanup::AddressClasses {
        envelope_sender: words.contains("envelope_sender"),
        envelope_recipient: words.contains("envelope_recipient"),
        header_sender: words.contains("header_sender"),
        header_recipient: words.contains("header_recipient"),
    }
}

/// A limit as a count of things in memory; a negative one is zero, as Postfix reads it.
fn count(limit: i64) -> usize {
    usize::try_from(limit).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use postfix::main_cf::MainCf;
    use postfix::own_networks::InterfaceAddress;
    use postfix::settings::{self, HostFacts};

    use super::*;

    /// What a main.cf without old defaults comes to is what our cleanup takes for its defaults, so that its own tests test those.
    #[test]
    fn the_defaults_of_cleanup_are_those_of_the_table() {
        let host = HostFacts {
            host_name: "localhost".to_owned(),
            interfaces: vec![InterfaceAddress { address: IpAddr::from([127, 0, 0, 1]), prefix_len: 8 }],
            resolve: &|_| Vec::new(),
            first_line: &|path| panic!("myorigin is no file: {path}"),
            config_directory: String::new(),
            process_name: "qmqpd".to_owned(),
            process_id: 1,
            service_name: "qmqp".to_owned(),
            is_under_postfix: true,
        };
        let loaded =
            settings::load(&MainCf::parse("main.cf", b"compatibility_level = 3.6"), &[], &host).unwrap();
        let options = cleanup_options(&loaded.settings, false, Vec::new());
        let of_the_table = format!("{options:#?}");
        let of_cleanup = format!("{:#?}", cleanup::Options::default());
        let differ: Vec<_> =
            of_the_table.lines().zip(of_cleanup.lines()).filter(|(table, own)| table != own).collect();
        assert!(differ.is_empty(), "the table's, and cleanup's own: {differ:?}");
        assert_eq!(of_the_table.lines().count(), of_cleanup.lines().count());
    }
}
