//! The operations behind the API: the rules, without HTTP's forms. Each changes state in one transaction, with its
//! entry in the audit log, or not at all.

pub mod audit;
pub mod call_ids;
pub mod day_sums;
pub mod deploy;
pub mod experiments;
pub mod histograms;
pub mod logged_calls;
mod moments;
pub mod planning;
pub mod readout;
pub mod registry;
pub mod rehearse;
pub mod sent_events;
pub mod served;
pub mod summary;
pub mod trial;
