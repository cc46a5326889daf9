//! The shapes that data can take on stdout.

use std::str::FromStr;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Shape {
    #[default]
    Table,
    Compact,
    Markdown,
    Csv,
    Json,
    Jsonl,
    Yaml,
}

/// A shape and whether its columns are named, as Incus spells it: `csv`, `csv,header`,
/// `table,noheader`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) shape: Shape,
    pub(crate) header: bool,
}

impl Default for Format {
    fn default() -> Self {
        Self { shape: Shape::Table, header: true }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "write table, compact, markdown, csv, json, jsonl or yaml, with `,noheader` or `,header` \
     behind it if wanted"
)]
pub(crate) struct NotAFormat;

impl FromStr for Format {
    type Err = NotAFormat;

    fn from_str(text: &str) -> Result<Self, NotAFormat> {
        let (shape, header) = match text.split_once(',') {
            Some((shape, "header")) => (shape, Some(true)),
            Some((shape, "noheader")) => (shape, Some(false)),
            Some(_) => return Err(NotAFormat),
            None => (text, None),
        };
        let shape = match shape {
            "table" => Shape::Table,
            "compact" => Shape::Compact,
            "markdown" => Shape::Markdown,
            "csv" => Shape::Csv,
            "json" => Shape::Json,
            "jsonl" => Shape::Jsonl,
            "yaml" => Shape::Yaml,
            _ => return Err(NotAFormat),
        };
        // Scripts that read Incus's csv expect no header line.
        Ok(Self { shape, header: header.unwrap_or(shape != Shape::Csv) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_csv_has_no_header_unless_asked() {
        let header = |text: &str| text.parse::<Format>().map(|format| format.header);
        assert_eq!(header("table"), Ok(true));
        assert_eq!(header("csv"), Ok(false));
        assert_eq!(header("csv,header"), Ok(true));
        assert_eq!(header("compact,noheader"), Ok(false));
        assert_eq!(header("xml"), Err(NotAFormat));
        assert_eq!(header("csv,colour"), Err(NotAFormat));
    }
}
