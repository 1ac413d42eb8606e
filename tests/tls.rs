//! TLS: the scenarios of `tests/runtimes.rs` over it, on every runtime, against our job server and `gearmand --ssl`; what
//! is said when certificates or peers are wrong; and the layer itself on the virtual network.

#[path = "tls/certs.rs"]
mod certs;
#[path = "runtimes/kinds.rs"]
mod kinds;
#[path = "common/peers.rs"]
mod peers;
#[path = "runtimes/scenarios.rs"]
mod scenarios;
#[path = "tls/secured.rs"]
mod secured;

macro_rules! scenarios {
    ($($feature:literal $name:ident $kind:ty { $($scenario:ident)* })*) => { $(
        #[cfg(feature = $feature)]
        mod $name {
            $(
                #[test]
                fn $scenario() {
                    crate::scenarios::$scenario::<$kind>();
                }
            )*
        }
    )* };
}

macro_rules! on_all_runtimes {
    ($($scenario:ident)*) => {
        scenarios! {
            "blocking" blocking crate::kinds::blocking::Blocking { $($scenario)* }
            "mio" mio crate::kinds::mio::Mio { $($scenario)* }
            "smol" smol crate::kinds::smol::Smol { $($scenario)* }
            "tokio" tokio crate::kinds::tokio::Current { $($scenario)* }
            "tokio" tokio_threads crate::kinds::tokio::Threads { $($scenario)* }
        }
    };
}

on_all_runtimes! {
    a_job_goes_round
    a_job_goes_round_by_gearmand
    what_a_handler_says_arrives
    a_thousand_jobs_at_once
    a_thousand_jobs_at_once_by_gearmand
    big_payloads_cross_with_full_sockets
    big_payloads_cross_with_full_sockets_by_gearmand
    the_server_is_killed_and_comes_back
    gearmand_is_killed_and_comes_back
    an_abandoned_job_leaves_the_others_alone
    a_drain_finishes_what_runs
    a_drain_reports_what_is_not_done_in_time
    a_server_drains
    handles_outlive_what_they_belong_to
    requests_are_answered
    a_host_name_is_looked_up
    idle_means_idle
}
