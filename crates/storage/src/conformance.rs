//! What every backend must do, as a suite that each runs in its own tests.
//!
//! A backend names an async function that makes an empty store, together with whatever must live as long as it does:
//!
//! ```text
//! async fn open() -> (MyStore, TempDir) { … }
//!
//! mod state { flywheel_storage::state_conformance!(super::open); }
//! mod events { flywheel_storage::event_conformance!(super::open); }
//! ```
//!
//! Each case becomes a test with a store of its own.
#![expect(
    clippy::unwrap_used,
    reason = "a suite of tests: what fails here is to be seen here"
)]

pub mod activity;
pub mod calls;
pub mod feedback;
pub mod prompts;
pub mod prune;
pub mod resources;
pub mod samples;
pub mod summary;
pub mod transactions;

/// Makes a test of every case for a [`StateStore`](crate::StateStore).
#[macro_export]
macro_rules! state_conformance {
    ($open:path) => {
        $crate::conformance_cases! { $open;
            prompts {
                registering_twice_is_one_version
                ordinals_count_registrations
                versions_are_found_by_prefix
                prompts_are_listed_and_searched
                labels_move_between_versions
                scores_are_kept_newest_first
                any_text_survives
            }
            resources {
                models_are_replaced_and_keep_their_age
                retriever_indexes_change_state
                apps_are_replaced_and_keep_their_age
                manifests_are_kept_once
                newest_deployment_is_current
                uses_of_a_prompt_are_found
                experiments_are_replaced
                keys_are_revoked_once
            }
            transactions {
                audit_chain_verifies
                commits_raise_the_revision
                dropped_transaction_changes_nothing
                sessions_see_one_moment
                transactions_take_turns
            }
        }
    };
}

/// Makes a test of every case for an [`EventStore`](crate::EventStore).
#[macro_export]
macro_rules! event_conformance {
    ($open:path) => {
        $crate::conformance_cases! { $open;
            calls {
                calls_read_back_as_written
                append_is_idempotent
                apps_of_calls_are_found
                concurrent_appends_are_all_kept
                calls_are_found_by_a_part_of_their_id
                repeated_key_finds_the_first_call
                keyset_pages_neither_repeat_nor_skip
                every_filter_holds
                text_is_found_in_messages_and_output
                previews_are_short
            }
            feedback {
                feedback_reads_back_as_written
                repeated_feedback_changes_nothing
                an_id_means_something_on_its_call_only
                calls_are_found_by_their_feedback
                feedback_is_listed_in_pages_with_its_calls
            }
            activity {
                activity_is_counted_by_app_and_slot
            }
            summary {
                calls_are_summed_by_each_key
                summaries_cover_what_is_asked
                latest_feedback_counts
                deviations_of_large_values_are_exact
                sums_do_not_overflow
                ratings_are_summed_as_shares_of_their_scales
                what_was_not_timed_has_no_latency
                fallbacks_are_not_credited_to_the_arm
            }
            prune {
                prune_removes_what_is_older
                prune_shrinks_to_a_size
            }
        }
    };
}

/// Makes a test of each named case.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_cases {
    ($open:path; $($module:ident { $($case:ident)+ })+) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let (store, _kept) = $open().await;
                $crate::conformance::$module::$case(&store).await;
            }
        )+)+
    };
}
