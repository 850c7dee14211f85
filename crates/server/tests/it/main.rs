//! The API in process: every test calls the router against a store of its own in a throw-away folder.
#![expect(
    clippy::unwrap_used,
    reason = "clippy knows tests by their attribute, not the functions beside them"
)]

mod answer;
mod app;
mod assignment;
mod audit;
mod authorisation;
mod bad_input;
mod calls;
mod changed_weights;
mod chat;
mod clock_set_back;
mod console;
mod contract;
mod covariates;
mod deploy;
mod deploy_races;
mod epochs;
mod experiment_pages;
mod experiments;
mod feedback;
mod feedback_list;
mod holdouts;
mod keys;
mod models;
mod openapi;
mod reading_modes;
mod readouts;
mod registry;
mod rehearse;
mod requests;
mod retention;
mod rollback;
mod samples;
mod sources;
mod stopped_arms;
mod store_full;
mod totals;
mod weekly;
