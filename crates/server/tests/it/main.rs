//! The API in process: every test calls the router against a store of its own in a throw-away folder.

mod answer;
mod app;
mod authorisation;
mod deploy;
mod deploy_races;
mod requests;
mod rollback;
mod samples;
mod sources;
