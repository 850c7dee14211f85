//! Providers: their wire formats, and the simulated one for demo and tests.

pub mod anthropic;
pub mod azure;
pub mod format;
pub mod openai;
pub mod simulated;
