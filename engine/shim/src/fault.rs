//! What went wrong, and while doing what.

use std::{borrow::Cow, io};

/// A failed step: what was being done, and what the kernel said.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {error}")]
pub struct Fault {
    pub doing: Cow<'static, str>,
    pub error: io::Error,
}

pub type Result<T> = std::result::Result<T, Fault>;

impl Fault {
    pub fn new(doing: impl Into<Cow<'static, str>>, error: impl Into<io::Error>) -> Self {
        Self { doing: doing.into(), error: error.into() }
    }

    /// With a text of our own instead of the kernel's.
    pub fn because(doing: impl Into<Cow<'static, str>>, why: &str) -> Self {
        Self::new(doing, io::Error::other(why))
    }

    /// The kernel's number for it; 0 when the kernel was not asked.
    #[must_use]
    pub fn errno(&self) -> i32 {
        self.error.raw_os_error().unwrap_or(0)
    }
}

/// Says what was being done when it failed.
pub trait Doing<T> {
    /// # Errors
    /// The same, with the words.
    fn doing(self, words: impl Into<Cow<'static, str>>) -> Result<T>;
    /// # Errors
    /// The same, with words that are made only then.
    fn doing_with(self, words: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, words: impl Into<Cow<'static, str>>) -> Result<T> {
        self.map_err(|error| Fault::new(words, error))
    }

    fn doing_with(self, words: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Fault::new(words(), error))
    }
}
