//! One suite, run on SQLite files and on a PostgreSQL server.
#![expect(
    clippy::expect_used,
    clippy::tests_outside_test_module,
    reason = "an integration test is a test module"
)]

mod suite;

/// Runs each case on both engines, each time on an empty database.
macro_rules! on_both_engines {
    ($($module:ident::$case:ident,)*) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                let database = crate::suite::database::sqlite().await;
                crate::suite::$module::$case(database.db.clone()).await;
                database.db.close().await;
            })*
        }

        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                let database = crate::suite::database::postgres().await;
                crate::suite::$module::$case(database.db.clone()).await;
                database.remove().await;
            })*
        }
    };
}

on_both_engines! {
    database::every_statement_is_valid,
    database::a_dropped_transaction_leaves_no_trace,
    access::a_setup_secret_makes_one_admin_only,
    access::sessions_and_tokens_end_and_go_with_their_user,
    tenants::ids_and_networks_are_unique_however_many_are_made_at_once,
    tenants::a_tenant_changes_and_goes,
    containers::found_by_id_name_and_prefix_within_a_scope,
    containers::lists_have_pages_and_filters,
    containers::wanted_and_seen_do_not_overwrite_each_other,
    containers::a_quota_holds_however_many_ask_at_once,
    containers::addresses_and_ports_belong_to_one_container,
    objects::volumes_know_who_mounts_them,
    objects::images_are_names_of_digests,
    records::events_are_numbered_without_gaps,
    records::the_audit_trail_is_read_backwards,
    records::price_books_have_one_currency_and_one_begin,
    records::usage_is_added_once_and_exactly,
    records::usage_streams_by_tenant_and_hour,
    money::contracts_begin_once_and_get_one_end,
    money::statements_are_numbered_without_gaps_and_kept_as_they_were_issued,
    money::hours_are_provisional_until_every_host_was_rolled_up,
    money::usage_is_in_the_statement_or_late_however_they_meet,
    money::what_is_taken_away_late_comes_off_hours_that_have_it,
    budgets::a_budget_is_one_s_own_and_changes_with_its_marks,
    budgets::a_threshold_is_marked_once_and_its_webhook_waits_until_it_is_taken,
    outbox::additions_are_gathered_once_and_add_up,
    outbox::what_is_taken_away_counts_below_zero_and_what_lacks_something_is_partial,
    outbox::an_event_keeps_its_bytes_until_it_is_taken,
}
