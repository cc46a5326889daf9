//! Tables that fit: cells wrap inside their column when the terminal is narrower than the table.
//!
//! The frame is the one that Incus's users know. A pipe has no width, so nothing is wrapped there.

use comfy_table::{Cell, ContentArrangement, Table, presets};

use super::Listing;

pub(crate) fn grid(listing: &Listing, header: bool, width: Option<u16>) -> String {
    let mut table = build(listing, header, width);
    table.load_style(presets::ASCII_FULL_CONDENSED);
    end(&table)
}

/// No frame: two blanks between columns.
pub(crate) fn compact(listing: &Listing, header: bool, width: Option<u16>) -> String {
    let mut table = build(listing, header, width);
    table.load_style(presets::NOTHING);
    end(&table)
}

pub(crate) fn markdown(listing: &Listing) -> String {
    let mut table = build(listing, true, None);
    table.load_style(presets::ASCII_MARKDOWN);
    end(&table)
}

fn build(listing: &Listing, header: bool, width: Option<u16>) -> Table {
    let mut table = Table::new();
    match width {
        Some(width) => {
            table.set_content_arrangement(ContentArrangement::Dynamic);
            table.set_width(width);
        }
        None => {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
    }
    if header {
        table.set_header(listing.headers.iter().map(|name| Cell::new(name.to_uppercase())));
    }
    for row in &listing.rows {
        table.add_row(row);
    }
    table
}

fn end(table: &Table) -> String {
    let mut text: String = table.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
    if table.is_empty() && table.header().is_none() {
        text.clear();
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn listing() -> Listing {
        let mut listing = Listing::new(&["name", "state", "ipv4", "type", "snapshots"]);
        for (name, state, ipv4) in [
            ("web", "RUNNING", "10.4.0.17 (eth0)\n192.168.122.45 (eth1)"),
            ("数据库", "STOPPED", ""),
            ("a-rather-long-instance-name", "RUNNING", "10.4.0.200 (eth0)"),
        ] {
            let row = [name, state, ipv4, "CONTAINER", "0"].map(str::to_owned).to_vec();
            listing.push(row, Value::Null);
        }
        listing
    }

    fn widest(text: &str) -> usize {
        text.lines().map(console_width).max().unwrap_or(0)
    }

    /// The test's own measure: the wide characters that it uses take two columns.
    fn console_width(line: &str) -> usize {
        line.chars().map(|c| if c as u32 > 0x2e80 { 2 } else { 1 }).sum()
    }

    #[test]
    fn tables_fit_the_terminal() {
        for width in [60, 80, 120] {
            let text = grid(&listing(), true, Some(width));
            assert!(widest(&text) <= usize::from(width), "{width}\n{text}");
            insta::assert_snapshot!(format!("grid_{width}"), text);
        }
        insta::assert_snapshot!("compact_80", compact(&listing(), true, Some(80)));
    }

    #[test]
    fn a_pipe_gets_every_row_unbroken() {
        let text = grid(&listing(), true, None);
        assert!(text.contains("a-rather-long-instance-name"));
    }
}
