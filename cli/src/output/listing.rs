//! A list of things in any format: the objects as the daemon gave them, and how they look in columns.

use serde_json::Value;

use super::{
    Format,
    format::Shape,
    printer::{json, yaml},
    table,
};
use crate::failure::{Failure, Result};

#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) headers: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
    /// For the formats that programs read.
    pub(crate) objects: Vec<Value>,
}

impl Listing {
    pub(crate) fn new(headers: &[&str]) -> Self {
        let headers = headers.iter().map(|header| (*header).to_owned()).collect();
        Self { headers, ..Self::default() }
    }

    pub(crate) fn push(&mut self, row: Vec<String>, object: Value) {
        debug_assert_eq!(row.len(), self.headers.len(), "{:?}", self.headers);
        self.rows.push(row);
        self.objects.push(object);
    }

    /// By the column of this title (any case), or by the first one.
    pub(crate) fn sort(&mut self, title: Option<&str>) -> Result<()> {
        let column = match title {
            None => 0,
            Some(title) => {
                let found = self.headers.iter().position(|name| name.eq_ignore_ascii_case(title));
                found.ok_or_else(|| {
                    Failure::usage(format!("there is no column `{title}` to sort by"))
                        .fact(format!("These are shown: {}.", self.headers.join(", ")))
                })?
            }
        };
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        order.sort_by(|a, b| self.rows[*a].get(column).cmp(&self.rows[*b].get(column)));
        self.rows = order.iter().map(|index| std::mem::take(&mut self.rows[*index])).collect();
        self.objects = order.iter().map(|index| self.objects[*index].take()).collect();
        Ok(())
    }

    pub(crate) fn limit(&mut self, most: Option<usize>) {
        let most = most.unwrap_or(usize::MAX);
        self.rows.truncate(most);
        self.objects.truncate(most);
    }

    /// `width` is the terminal's, `None` when nobody limits it.
    pub(crate) fn render(&self, format: Format, width: Option<u16>) -> Result<String> {
        Ok(match format.shape {
            Shape::Table => table::grid(self, format.header, width),
            Shape::Compact => table::compact(self, format.header, width),
            Shape::Markdown => table::markdown(self),
            Shape::Csv => self.csv(format.header)?,
            Shape::Json => {
                let text = serde_json::to_string_pretty(&self.objects)
                    .map_err(|error| Failure::local("cannot write JSON", &error))?;
                text + "\n"
            }
            Shape::Jsonl => {
                self.objects.iter().map(|object| Ok(json(object)? + "\n")).collect::<Result<_>>()?
            }
            Shape::Yaml => yaml(&self.objects)?,
        })
    }

    fn csv(&self, header: bool) -> Result<String> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let names = header.then_some(&self.headers);
        for record in names.into_iter().chain(&self.rows) {
            writer
                .write_record(record)
                .map_err(|error| Failure::local("cannot write CSV", &error))?;
        }
        let bytes =
            writer.into_inner().map_err(|error| Failure::local("cannot write CSV", &error))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
