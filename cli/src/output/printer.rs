//! The one way out. Data goes to stdout, talk to stderr; both lose their colour where it has no
//! place (a pipe, `NO_COLOR`, a dumb terminal).

use std::{
    io::{self, IsTerminal as _, Write as _},
    process,
};

use serde::Serialize;

use super::{
    Format, Listing,
    format::Shape,
    style::{HINT, WARNING},
};
use crate::failure::{Failure, Result};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    quiet: bool,
    /// Columns of the terminal that stdout is, if it is one.
    width: Option<u16>,
}

impl Printer {
    pub(crate) fn new(quiet: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let columns = || std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
        let width = terminal
            .then(|| crossterm::terminal::size().ok().map(|(columns, _)| columns))
            .flatten()
            .or_else(columns)
            .filter(|width| *width > 0);
        Self { quiet, width }
    }

    /// Whether someone may be watching what is said on stderr.
    pub(crate) fn live(self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }

    /// Data, as it is.
    pub(crate) fn data(self, text: &str) -> Result<()> {
        finish(anstream::stdout().lock().write_all(text.as_bytes()))
    }

    /// Data, and the end of its line.
    pub(crate) fn line(self, text: &str) -> Result<()> {
        self.data(&format!("{text}\n"))
    }

    /// Bytes that are nobody's text.
    pub(crate) fn bytes(self, bytes: &[u8]) -> Result<()> {
        let mut stdout = io::stdout().lock();
        finish(stdout.write_all(bytes).and_then(|()| stdout.flush()))
    }

    /// One object. A table of one object is YAML, as in Incus.
    pub(crate) fn object(self, format: Format, object: &impl Serialize) -> Result<()> {
        let text = match format.shape {
            Shape::Json => json_pretty(object)? + "\n",
            Shape::Jsonl => json(object)? + "\n",
            Shape::Table | Shape::Compact | Shape::Markdown | Shape::Csv | Shape::Yaml => {
                yaml(object)?
            }
        };
        self.data(&text)
    }

    pub(crate) fn listing(self, format: Format, listing: &Listing) -> Result<()> {
        self.data(&listing.render(format, self.width)?)
    }

    /// Talk: what was done, what goes on.
    pub(crate) fn say(self, text: &str) {
        if !self.quiet {
            self.talk(text);
        }
    }

    /// Talk that helps to go on.
    pub(crate) fn hint(self, text: &str) {
        self.say(&format!("{HINT}hint:{HINT:#} {text}"));
    }

    /// Said even when quiet is asked for.
    pub(crate) fn warn(self, text: &str) {
        self.talk(&format!("{WARNING}warning:{WARNING:#} {text}"));
    }

    pub(crate) fn failure(self, failure: &Failure, debug: bool) {
        self.talk(&failure.render(debug));
    }

    fn talk(self, text: &str) {
        // There is nobody left to tell that stderr is gone.
        let _ = writeln!(anstream::stderr().lock(), "{text}");
    }
}

/// A reader that has seen enough (`stapes log | head`) is no failure.
fn finish(written: io::Result<()>) -> Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => process::exit(0),
        Err(error) => Err(Failure::local("cannot write to stdout", &error)),
        Ok(()) => Ok(()),
    }
}

pub(crate) fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Failure::local("cannot write JSON", &error))
}

fn json_pretty(value: &impl Serialize) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|error| Failure::local("cannot write JSON", &error))
}

pub(crate) fn yaml(value: &impl Serialize) -> Result<String> {
    yaml_serde::to_string(value).map_err(|error| Failure::local("cannot write YAML", &error))
}
