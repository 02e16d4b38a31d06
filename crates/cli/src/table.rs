//! Tables for people.

use std::io::{self, Write};

use anyhow::{Context, Error};

/// Prints rows below `titles`, each column as wide as its widest cell.
pub(crate) fn print<const N: usize>(titles: [&str; N], rows: &[[String; N]]) -> Result<(), Error> {
    io::stdout().lock().write_all(render(titles, rows).as_bytes()).context("writing to standard output")
}

fn render<const N: usize>(titles: [&str; N], rows: &[[String; N]]) -> String {
    let titles = titles.map(str::to_owned);
    let mut widths = [0; N];
    for row in std::iter::once(&titles).chain(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in std::iter::once(&titles).chain(rows) {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [["node-1".to_owned(), "é".to_owned()], ["n".to_owned(), "booted".to_owned()]];
        assert_eq!(render(["name", "state"], &rows), "name    state\nnode-1  é\nn       booted\n");
    }
}
