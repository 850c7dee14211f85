//! What Flywheel asks of a store, without SQL.
//!
//! Two kinds of data, two traits. **State** ([`StateStore`]) is small and transactional: prompts, models, manifests,
//! deployments, experiments, keys, the audit log. **Events** ([`EventStore`]) are large, append-only and idempotent by
//! id: calls and feedback. What experiments say of units ([`StatisticsStore`]) follows from them. Nothing above these traits may know which database is below.
//!
//! To add a repository: a file here with its trait, a method on [`StateSession`], the implementation in
//! `flywheel-storage-sql`, and a case in `conformance`, which every backend must pass.

pub mod audit;
pub mod deployments;
pub mod error;
pub mod events;
pub mod exact;
pub mod experiments;
pub mod keys;
pub mod models;
pub mod page;
pub mod prompts;
pub mod retrievers;
pub mod state;
pub mod statistics;
pub mod weeks;

#[cfg(feature = "conformance")]
pub mod conformance;

pub use error::{StorageError, StorageResult};
pub use events::{EventStore, NewEvent};
pub use state::{StateSession, StateStore, StateTransaction};
pub use statistics::StatisticsStore;
