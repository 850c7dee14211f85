//! Errors of a store. What is not found is `None`, never an error.

/// The result of asking a store.
pub type StorageResult<T> = Result<T, StorageError>;

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// It cannot be reached, is locked, or has no room: the same request may succeed later.
    #[error("the store is unavailable: {context}")]
    Unavailable {
        /// What was being done.
        context: String,
        /// What the database said.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// A search was given up: it would have kept others waiting.
    #[error("the search took longer than {longest:?}")]
    TooLong {
        /// How long one may take.
        longest: std::time::Duration,
    },
    /// It holds something that cannot be read.
    #[error("the store is inconsistent: table `{table}`, column `{column}`, row `{row}`")]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's key.
        row: String,
        /// Why it cannot be read.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// It was written by a release that this one does not know.
    #[error("the store has schema version {found}, this release knows up to {known}")]
    NewerSchema {
        /// The version found.
        found: i64,
        /// The newest version this release knows.
        known: i64,
    },
    /// The database refused a statement, which is a defect of ours.
    #[error("the store refused a statement: {context}")]
    Refused {
        /// What was being done.
        context: String,
        /// What the database said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StorageError {
    /// The error and everything that caused it, in one line for the log.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        text
    }
}
