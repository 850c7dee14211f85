//! The HTTP server: the OpenAI door, our own API, authorisation and background jobs.
//!
//! [`router`] is the table of contents: every route with the permission it demands. Handlers in [`api`] and
//! [`openai`] extract, call one of [`operations`] and convert; the rules live in the operations.

pub mod api;
pub mod auth;
pub mod console;
pub mod context;
pub mod extract;
pub mod jobs;
pub mod listen;
pub mod openai;
pub mod openapi;
pub mod operations;
pub mod problem;
pub mod rate_limit;
pub mod respond;
pub mod router;
mod unread;

pub use context::{Context, ServerOptions};
