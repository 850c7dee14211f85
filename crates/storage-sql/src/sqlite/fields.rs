//! Reading and writing single values: what a column holds and what the domain makes of it.

use std::error::Error;
use std::fmt::Write as _;
use std::str::FromStr;

use flywheel_core::ContentHash;
use flywheel_storage::{StorageError, StorageResult};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row, Sqlite, Type};

type Source = Box<dyn Error + Send + Sync>;

/// A row of a table, whose columns are read by name. What cannot be read is named with table, column and key.
#[derive(Clone, Copy)]
pub(super) struct Fields<'r> {
    row: &'r SqliteRow,
    table: &'static str,
    key: &'static [&'static str],
}

impl<'r> Fields<'r> {
    pub(super) fn new(
        row: &'r SqliteRow,
        table: &'static str,
        key: &'static [&'static str],
    ) -> Self {
        Self { row, table, key }
    }

    /// A value as the database has it.
    pub(super) fn raw<T>(&self, column: &'static str) -> StorageResult<T>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite>,
    {
        self.row
            .try_get(column)
            .map_err(|error| self.inconsistent(column, Some(error.into())))
    }

    /// A text.
    pub(super) fn text(&self, column: &'static str) -> StorageResult<String> {
        self.raw(column)
    }

    /// A text that may be absent.
    pub(super) fn optional_text(&self, column: &'static str) -> StorageResult<Option<String>> {
        self.raw(column)
    }

    /// A number that is not negative.
    pub(super) fn count(&self, column: &'static str) -> StorageResult<u64> {
        Ok(unsigned(self.raw(column)?))
    }

    /// A number that is not negative, and may be absent.
    pub(super) fn optional_count(&self, column: &'static str) -> StorageResult<Option<u64>> {
        Ok(self.raw::<Option<i64>>(column)?.map(unsigned))
    }

    /// A number that is not negative and fits 32 bits.
    pub(super) fn small_count(&self, column: &'static str) -> StorageResult<u32> {
        u32::try_from(self.raw::<i64>(column)?)
            .map_err(|error| self.inconsistent(column, Some(error.into())))
    }

    /// Yes or no.
    pub(super) fn flag(&self, column: &'static str) -> StorageResult<bool> {
        Ok(self.raw::<i64>(column)? != 0)
    }

    /// A number. SQLite keeps what is no number as NULL.
    pub(super) fn number(&self, column: &'static str) -> StorageResult<f64> {
        Ok(self.raw::<Option<f64>>(column)?.unwrap_or(f64::NAN))
    }

    /// A moment.
    pub(super) fn time(&self, column: &'static str) -> StorageResult<Timestamp> {
        self.moment(column, self.raw(column)?)
    }

    /// A moment that may be absent.
    pub(super) fn optional_time(&self, column: &'static str) -> StorageResult<Option<Timestamp>> {
        let microseconds: Option<i64> = self.raw(column)?;
        microseconds
            .map(|microseconds| self.moment(column, microseconds))
            .transpose()
    }

    fn moment(&self, column: &'static str, microseconds: i64) -> StorageResult<Timestamp> {
        Timestamp::from_microsecond(microseconds)
            .map_err(|error| self.inconsistent(column, Some(error.into())))
    }

    /// A name, a hash: whatever is read from text.
    pub(super) fn parsed<T>(&self, column: &'static str) -> StorageResult<T>
    where
        T: FromStr,
        T::Err: Error + Send + Sync + 'static,
    {
        self.parse(column, self.raw(column)?)
    }

    /// A name or a hash that may be absent.
    pub(super) fn optional_parsed<T>(&self, column: &'static str) -> StorageResult<Option<T>>
    where
        T: FromStr,
        T::Err: Error + Send + Sync + 'static,
    {
        let text: Option<&str> = self.raw(column)?;
        text.map(|text| self.parse(column, text)).transpose()
    }

    fn parse<T>(&self, column: &'static str, text: &str) -> StorageResult<T>
    where
        T: FromStr,
        T::Err: Error + Send + Sync + 'static,
    {
        text.parse()
            .map_err(|error: T::Err| self.inconsistent(column, Some(error.into())))
    }

    /// One of the values of an enumeration, as records spell it.
    pub(super) fn spelled<T: DeserializeOwned>(&self, column: &'static str) -> StorageResult<T> {
        serde_json::from_value(Value::String(self.raw(column)?))
            .map_err(|error| self.inconsistent(column, Some(error.into())))
    }

    /// A document.
    pub(super) fn json<T: DeserializeOwned>(&self, column: &'static str) -> StorageResult<T> {
        serde_json::from_str(self.raw(column)?)
            .map_err(|error| self.inconsistent(column, Some(error.into())))
    }

    /// A document that may be absent.
    pub(super) fn optional_json<T: DeserializeOwned>(
        &self,
        column: &'static str,
    ) -> StorageResult<Option<T>> {
        let text: Option<&str> = self.raw(column)?;
        text.map(|text| {
            serde_json::from_str(text)
                .map_err(|error| self.inconsistent(column, Some(error.into())))
        })
        .transpose()
    }

    /// A hash kept as its bytes, which may be absent.
    pub(super) fn optional_hash_bytes(
        &self,
        column: &'static str,
    ) -> StorageResult<Option<ContentHash>> {
        let bytes: Option<&[u8]> = self.raw(column)?;
        bytes
            .map(|bytes| self.parse(column, &hexadecimal(bytes)))
            .transpose()
    }

    /// The error for a column that cannot be read.
    pub(super) fn inconsistent(
        &self,
        column: &'static str,
        source: Option<Source>,
    ) -> StorageError {
        let key: Vec<String> = self
            .key
            .iter()
            .map(|column| self.row.try_get_unchecked(*column).unwrap_or_default())
            .collect();
        StorageError::Inconsistent {
            table: self.table,
            column,
            row: key.join("/"),
            source,
        }
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// A document as it is kept.
pub(super) fn document<T: Serialize>(value: &T) -> StorageResult<String> {
    serde_json::to_string(value).map_err(unwritable)
}

/// A text as it stands within JSON.
pub(super) fn as_in_json(text: &str) -> String {
    let quoted = Value::String(text.to_owned()).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// A value of an enumeration as records spell it.
pub(super) fn spelling<T: Serialize>(value: &T) -> StorageResult<String> {
    match serde_json::to_value(value).map_err(unwritable)? {
        Value::String(text) => Ok(text),
        other => Ok(other.to_string()),
    }
}

fn unwritable(error: serde_json::Error) -> StorageError {
    StorageError::Refused {
        context: "writing a document".to_owned(),
        source: Box::new(error),
    }
}

/// The moment as it is kept: finer parts are lost, so they are dropped before anything is hashed or answered.
pub(super) fn kept(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

/// A number as the database keeps it; what does not fit becomes the largest that does.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number as the domain knows it.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
