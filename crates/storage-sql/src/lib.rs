//! SQLite behind the storage traits of `flywheel-storage`.
//!
//! One file holds state and events. One connection writes, taken in turn by state transactions and by groups of
//! events; a few read-only connections read, each from one consistent moment. [`SqliteStore`] implements both
//! [`flywheel_storage::StateStore`] and [`flywheel_storage::EventStore`].

mod sqlite;

pub use sqlite::{Durability, SqliteOptions, SqliteStore, inspect};
