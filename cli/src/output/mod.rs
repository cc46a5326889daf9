//! What the program says: data on stdout, talk on stderr.

pub(crate) mod diff;
pub(crate) mod format;
pub(crate) mod listing;
pub(crate) mod printer;
pub(crate) mod progress;
pub(crate) mod style;
pub(crate) mod table;

pub(crate) use format::Format;
pub(crate) use listing::Listing;
pub(crate) use printer::Printer;
