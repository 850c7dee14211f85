//! temp
pub(crate) struct Printer;
impl Printer { pub(crate) fn note(&self, m: &str) { eprintln!("{m}"); } }
