//! The `flywheel` binary as a user meets it: its help, its errors, and what it sends to a server and prints.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod calculating;
mod calling;
mod deploying;
mod fake_server;
mod help;
mod importing;
mod pushing;
mod reading;
mod refusals;
mod run;
mod snapshot;
mod verifying;
