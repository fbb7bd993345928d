//! The parameters of delivery, as the modules want them.

use std::time::Duration;

use delivery::active::Limits;
use delivery::{routing, schedule, window};
use postfix::settings::Settings;

/// What the queue manager works by.
#[derive(Debug, Clone)]
pub struct ManagerSettings {
    /// Where addresses go.
    pub routing: routing::Settings,
    /// When a message is tried again.
    pub schedule: schedule::Settings,
    /// How many deliveries a destination stands.
    pub window: window::Settings,
    /// How many there are in all.
    pub limits: Limits,
    /// Messages in hand at the same time.
    pub messages_max: usize,
    /// Recipients of a delivery at most.
    pub recipients_per_delivery: usize,
    /// Between scans of the deferred queue.
    pub queue_run_delay: Duration,
    /// How long an agent that cannot be reached is left alone.
    pub transport_retry: Duration,
    /// Transports that wait for a flush.
    pub defer_transports: Vec<String>,
    /// `default_filter_nexthop`.
    pub filter_nexthop: String,
    /// `myhostname`.
    pub hostname: String,
    /// `mail_name`.
    pub mail_name: String,
    /// A report has only the headers of a message with more bytes; 0: no limit.
    pub bounce_size_max: u64,
    /// `soft_bounce`.
    pub soft_bounce: bool,
}

impl ManagerSettings {
    /// Those of main.cf.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self {
            routing: routing_settings(settings),
            schedule: schedule::Settings {
                minimal_backoff_secs: settings.minimal_backoff_time.as_secs(),
                maximal_backoff_secs: settings.maximal_backoff_time.as_secs(),
                lifetime_secs: settings.maximal_queue_lifetime.as_secs(),
                bounce_lifetime_secs: settings.bounce_queue_lifetime.as_secs(),
            },
            window: window::Settings {
                initial: count(settings.initial_destination_concurrency),
                limit: count(settings.default_destination_concurrency_limit),
                rest: settings.minimal_backoff_time,
                ..window::Settings::default()
            },
            limits: Limits {
                deliveries_max: size(settings.qmqpd_delivery_limit),
                recipients_max: size(settings.qmgr_message_recipient_limit),
            },
            messages_max: size(settings.qmgr_message_active_limit),
            recipients_per_delivery: size(settings.default_destination_recipient_limit),
            queue_run_delay: settings.queue_run_delay,
            transport_retry: settings.transport_retry_time,
            defer_transports: postfix::text::split_plain_list(&settings.defer_transports)
                .into_iter()
                .map(str::to_owned)
                .collect(),
            filter_nexthop: settings.default_filter_nexthop.clone(),
            hostname: settings.myhostname.clone(),
            mail_name: settings.mail_name.clone(),
            bounce_size_max: u64::try_from(settings.bounce_size_limit).unwrap_or(0),
            soft_bounce: settings.soft_bounce,
        }
    }

    /// Recipients of one delivery of a transport: virtual(8) takes one at a time, and a QMQP server all that a request holds.
    #[must_use]
    pub fn recipients_of(&self, transport: &str) -> usize {
        let wanted = match transport {
            "virtual" | "local" => 1,
            "qmqp" => 0,
            _ => self.recipients_per_delivery,
        };
        if wanted == 0 { RECIPIENTS_MAX } else { wanted.min(RECIPIENTS_MAX) }
    }
}

/// So many recipients of any length fit a request.
const RECIPIENTS_MAX: usize = 5000;

fn routing_settings(settings: &Settings) -> routing::Settings {
    let parents = postfix::text::split_plain_list(&settings.parent_domain_matches_subdomains);
    routing::Settings {
        hostname: settings.myhostname.clone(),
        local_transport: settings.local_transport.clone(),
        virtual_transport: settings.virtual_transport.clone(),
        relay_transport: settings.relay_transport.clone(),
        default_transport: settings.default_transport.clone(),
        relayhost: settings.relayhost.clone(),
        recipient_delimiter: settings.recipient_delimiter.clone(),
        empty_recipient: settings.empty_address_recipient.clone(),
        null_sender_key: settings.empty_address_relayhost_maps_lookup_key.clone(),
        percent_hack: settings.allow_percent_hack,
        swap_bangpath: settings.swap_bangpath,
        numeric_domain: settings.resolve_numeric_domain,
        min_user: settings.allow_min_user,
        parents_without_dot: parents.into_iter().any(|name| name == "transport_maps"),
        shows_table_name: settings.show_user_unknown_table_name,
    }
}

fn count<T: TryInto<u32>>(number: T) -> u32 {
    number.try_into().unwrap_or(u32::MAX)
}

fn size<T: TryInto<usize>>(number: T) -> usize {
    number.try_into().unwrap_or(usize::MAX)
}
