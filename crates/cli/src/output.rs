//! How values become text that a person reads: tables, times, costs, differences.

pub(crate) mod amounts;
pub(crate) mod difference;
pub(crate) mod record;
pub(crate) mod table;
pub(crate) mod text;
