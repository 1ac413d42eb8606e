//! TLS: the scenarios of `tests/runtimes.rs` over it, on every runtime, against our job server and `gearmand --ssl`; what
//! is said when certificates or peers are wrong; and the layer itself on the virtual network.

/// A builder with what TLS adds to it.
macro_rules! secured {
    (client $builder:expr) => {{
        let (tls, listener) = crate::secured::client();
        let builder = $builder.on_event(listener);
        match tls {
            Some(tls) => builder.tls(tls),
            None => builder,
        }
    }};
    ($kind:ident $builder:expr) => {{
        let builder = $builder;
        match crate::secured::$kind() {
            Some(tls) => builder.tls(tls),
            None => builder,
        }
    }};
}

#[path = "tls/admin.rs"]
mod admin;
#[path = "tls/certs.rs"]
mod certs;
#[path = "tls/faults.rs"]
mod faults;
#[path = "runtimes/kinds.rs"]
#[allow(dead_code, clippy::allow_attributes, reason = "tests/runtimes.rs uses more of them")]
mod kinds;
#[path = "common/peers.rs"]
mod peers;
#[path = "runtimes/pipe.rs"]
#[allow(dead_code, reason = "not all scenarios are run over TLS")]
mod pipe;
#[path = "runtimes/process.rs"]
#[allow(dead_code, clippy::allow_attributes, reason = "tests/runtimes.rs runs more of them")]
mod process;
#[path = "runtimes/scenarios.rs"]
#[allow(dead_code, clippy::allow_attributes, reason = "tests/runtimes.rs runs more of them")]
mod scenarios;
#[path = "tls/secured.rs"]
mod secured;
#[path = "runtimes/streams.rs"]
#[allow(dead_code, reason = "not all scenarios are run over TLS")]
mod streams;

macro_rules! scenarios {
    ($($feature:literal $name:ident $kind:ty { $($place:ident :: $scenario:ident)* })*) => { $(
        #[cfg(feature = $feature)]
        mod $name {
            $(
                #[test]
                fn $scenario() {
                    crate::$place::$scenario::<$kind>();
                }
            )*
        }
    )* };
}

macro_rules! on_all_runtimes {
    ($($place:ident :: $scenario:ident)*) => {
        scenarios! {
            "blocking" blocking crate::kinds::blocking::Blocking { $($place::$scenario)* }
            "mio" mio crate::kinds::mio::Mio { $($place::$scenario)* }
            "smol" smol crate::kinds::smol::Smol { $($place::$scenario)* }
            "tokio" tokio crate::kinds::tokio::Current { $($place::$scenario)* }
            "tokio" tokio_threads crate::kinds::tokio::Threads { $($place::$scenario)* }
        }
    };
}

on_all_runtimes! {
    scenarios::a_job_goes_round
    scenarios::a_job_goes_round_by_gearmand
    scenarios::what_a_handler_says_arrives
    scenarios::a_thousand_jobs_at_once
    scenarios::a_thousand_jobs_at_once_by_gearmand
    scenarios::big_payloads_cross_with_full_sockets
    scenarios::big_payloads_cross_with_full_sockets_by_gearmand
    scenarios::the_server_is_killed_and_comes_back
    scenarios::gearmand_is_killed_and_comes_back
    scenarios::an_abandoned_job_leaves_the_others_alone
    scenarios::a_drain_finishes_what_runs
    scenarios::a_drain_reports_what_is_not_done_in_time
    scenarios::a_server_drains
    scenarios::handles_outlive_what_they_belong_to
    scenarios::requests_are_answered
    scenarios::a_host_name_is_looked_up
    process::idle_means_idle
    faults::certificates_that_are_refused_are_named
    faults::clients_show_certificates_where_they_must
    faults::plain_and_tls_tell_each_other_apart
    faults::a_handshake_that_is_never_done_is_ended
    faults::a_listener_may_stay_plain
    faults::gearman_comes_by_stunnel
    faults::who_closes_only_his_own_side_is_answered
    faults::a_close_is_an_orderly_end_to_openssl
    over_streams::a_job_goes_round_by_a_unix_socket
    over_streams::big_payloads_cross_by_a_unix_socket
    over_streams::objects_join_client_worker_and_server
    over_streams::big_payloads_cross_by_objects
}

/// TLS over what is not TCP, where the server's name must be given: a path is none, nor is what the user calls a stream.
mod over_streams {
    use crate::certs::OURS;
    use crate::kinds::Kind;
    use crate::secured::use_client;
    use gearwheel::tls::ClientTls;

    fn name_the_server() {
        let tls = ClientTls::new(OURS.roots()).and_then(|tls| tls.server_name("localhost"));
        use_client(tls.expect("settings"));
    }

    macro_rules! named {
        ($($scenario:ident)*) => { $(
            pub(crate) fn $scenario<K: Kind>()
            where
                K::Server: 'static,
            {
                name_the_server();
                crate::streams::$scenario::<K>();
            }
        )* };
    }

    named! {
        a_job_goes_round_by_a_unix_socket
        big_payloads_cross_by_a_unix_socket
        objects_join_client_worker_and_server
        big_payloads_cross_by_objects
    }
}
