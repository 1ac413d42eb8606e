//! One set of scenarios, each run on every runtime that is enabled, over real sockets: against the runtime's own job server,
//! and where it says so against gearmand.

#![cfg(any(feature = "blocking", feature = "mio", feature = "smol", feature = "tokio"))]

/// What `tests/tls.rs`, which runs the same scenarios, tells each builder.
macro_rules! secured {
    ($kind:ident $builder:expr) => {
        $builder
    };
}

#[cfg(any(feature = "smol", feature = "tokio"))]
#[path = "runtimes/futures.rs"]
mod futures;
#[path = "runtimes/gathering.rs"]
mod gathering;
#[path = "runtimes/kinds.rs"]
mod kinds;
#[path = "common/peers.rs"]
mod peers;
#[path = "runtimes/pipe.rs"]
mod pipe;
#[path = "runtimes/process.rs"]
mod process;
#[path = "runtimes/room.rs"]
mod room;
#[path = "runtimes/scenarios.rs"]
mod scenarios;
#[path = "runtimes/streams.rs"]
mod streams;
#[path = "runtimes/unread.rs"]
mod unread;

/// What `tests/tls.rs`, which runs the same scenarios, puts before gearmand.
mod secured {
    pub(crate) fn gearmand() -> Option<crate::peers::Gearmand> {
        crate::peers::Gearmand::start()
    }
}

macro_rules! scenarios {
    ($($feature:literal $name:ident $kind:ty { $($scenario:ident)* })*) => { $(
        #[cfg(feature = $feature)]
        mod $name {
            $(
                #[test]
                fn $scenario() {
                    #[allow(unused_imports, reason = "a runtime may need but one")]
                    use crate::{gathering::*, process::*, room::*, scenarios::*, streams::*, unread::*};
                    $scenario::<$kind>();
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
    a_background_job_whose_handle_is_dropped_at_once_runs
    jobs_that_are_gone_are_not_given_out
    what_a_handler_says_arrives
    a_thousand_jobs_at_once
    a_thousand_jobs_at_once_by_gearmand
    big_payloads_cross_with_full_sockets
    big_payloads_cross_with_full_sockets_by_gearmand
    a_peer_that_writes_before_it_reads_blocks_nobody
    the_server_is_killed_and_comes_back
    gearmand_is_killed_and_comes_back
    a_slow_reader_slows_nobody_else
    who_closes_one_side_gets_the_answers_to_what_was_asked_before
    large_jobs_are_submitted_as_room_comes
    room_is_waited_for_though_nothing_is_outstanding
    all_who_wait_for_room_get_some
    parts_of_a_result_are_sent_as_room_comes
    who_waits_to_send_a_part_hears_that_the_job_is_gone
    a_result_in_many_parts_needs_little_room
    who_waits_for_room_hears_of_the_end
    a_server_that_comes_or_is_to_go_makes_room
    a_user_who_does_not_read_loses_only_his_job
    a_client_that_pauses_reads_as_its_user_does
    what_came_before_a_write_failed_is_read_by_whoever_pauses
    submissions_that_wait_leave_in_time
    submissions_that_wait_leave_with_the_last_handle
    a_set_of_jobs_has_one_deadline
    joined_jobs_get_their_own_events
    joined_jobs_get_their_own_events_by_gearmand
    who_asks_and_goes_is_served
    callers_who_come_and_go_leave_nobody_waiting
    events_are_told_whoever_moves_the_bytes
    an_abandoned_job_leaves_the_others_alone
    a_drain_finishes_what_runs
    a_drain_reports_what_is_not_done_in_time
    two_drains_are_one_too_many
    a_server_drains
    a_server_that_drains_in_vain_says_how_many_jobs_were_waited_for
    a_server_keeps_what_is_queued
    a_delay_counts_from_the_wall_time
    handles_outlive_what_they_belong_to
    requests_are_answered
    nobody_there_is_an_outcome
    a_host_name_is_looked_up
    idle_means_idle
    a_full_table_of_descriptors_keeps_connections_waiting
    signals_interrupt_nothing
    a_job_goes_round_by_a_unix_socket
    a_thousand_jobs_at_once_by_a_unix_socket
    big_payloads_cross_by_a_unix_socket
    a_unix_server_is_killed_and_comes_back
    a_unix_server_drains_and_takes_its_file_away
    a_path_that_cannot_be_had_is_named
    a_server_listens_in_several_places
    a_socket_that_was_passed_stays_open_for_others
    a_pair_of_sockets_joins_client_worker_and_server
    objects_join_client_worker_and_server
    big_payloads_cross_by_objects
    a_stream_that_cannot_be_served_comes_back
    a_connection_that_cannot_be_made_says_why
    a_connection_that_is_never_made_is_given_up
    an_object_that_panics_ends_its_connection_alone
    who_knocks_at_a_full_server_is_let_in_when_another_goes
}

// The blocking runtime has a thread for each connection, and is not for crowds.
macro_rules! crowds {
    ($($scenario:ident)*) => {
        scenarios! {
            "mio" mio_crowds crate::kinds::mio::Mio { $($scenario)* }
            "smol" smol_crowds crate::kinds::smol::Smol { $($scenario)* }
            "tokio" tokio_crowds crate::kinds::tokio::Current { $($scenario)* }
        }
    };
}

crowds! {
    two_thousand_idle_connections
}
