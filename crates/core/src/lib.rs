//! The domain of Flywheel: identities, prompts and their rendering, manifests, assignment, calls and feedback.
//!
//! Nothing here does I/O, reads a clock or draws a random number; time and entropy arrive as arguments. What is here
//! therefore means the same in the server, in the command line and in a test.

pub mod assignment;
pub mod audit;
pub mod call;
pub mod deployment;
pub mod diff;
pub mod experiment;
pub mod feedback;
pub mod hash;
pub mod key;
pub mod manifest;
pub mod metric;
pub mod model;
pub mod name;
pub mod plan;
pub mod postprocess;
pub mod preflight;
pub mod prompt;
pub mod prompt_file;
pub mod redaction;
pub mod retriever;
#[cfg(feature = "schema")]
pub mod schema;
pub mod template;
pub mod tools;

pub use hash::ContentHash;
pub use manifest::{Manifest, ManifestId};
pub use name::{AppName, EnvironmentName, ModelName, PromptName};
pub use prompt::{PromptContent, PromptVersionId};
