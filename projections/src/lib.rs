//! The read models: everything that is asked and not decided.
//!
//! [`Views`] folds the log. What is true now is in memory and served as snapshots; what was (the
//! timelines, ended operations, past states) is indexed beside it. All of it is derived: it can be
//! deleted at any time and comes back from the log.
//!
//! Architecture Invariant: nothing here writes to the log, and a record that cannot be taken stops
//! the views where they are; none is ever skipped.

mod checkpoint;
mod feed;
mod follow;
mod index;
mod live;
mod operations;
mod past;
mod recalled;
mod rows;
mod state;
mod status;
mod store;
mod subject;
mod timeline;
mod told;
mod verify;
mod views;

pub use feed::{Change, Entry, HIDDEN};
pub use follow::{Followed, Following};
pub use operations::OperationView;
pub use past::AsOf;
pub use recalled::Recalled;
pub use status::{Behind, Blocked, QueryError, Status};
pub use subject::{InProject, Subject};
pub use timeline::{OperationFilter, PAGE_MAX, Page, Tenure};
pub use told::Told;
pub use verify::{Counts, Verified, digest};
pub use views::{OpenError, Options, Views};
