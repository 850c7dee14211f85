//! Tables that fit the terminal, and blocks of names and values.

use super::text;
use crate::printer::Style;

/// No column becomes narrower than this to make room for others.
const NARROWEST: usize = 8;
const GAP: usize = 2;

/// One cell: a line of text and how it looks.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A cell in a style.
    pub(crate) fn styled(text: impl AsRef<str>, style: Style) -> Self {
        Self {
            text: text::visible_line(text.as_ref()),
            style,
        }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(text, Style::Plain)
    }
}

#[derive(Debug)]
struct Column {
    name: &'static str,
    right: bool,
}

/// Rows under headings. A heading that begins with `>` aligns its column to the right.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table.
    pub(crate) fn new(headings: &[&'static str]) -> Self {
        let column = |heading: &&'static str| Column {
            name: heading.trim_start_matches('>'),
            right: heading.starts_with('>'),
        };
        Self {
            columns: headings.iter().map(column).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        debug_assert_eq!(N, self.columns.len());
        self.rows.push(cells.into());
    }

    /// Whether there are no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as lines, at most `width` columns wide if its columns can be made that narrow. Columns that are
    /// empty in every row are left out.
    pub(crate) fn lines(
        &self,
        width: Option<usize>,
        paint: impl Fn(Style, &str) -> String,
    ) -> Vec<String> {
        let used: Vec<usize> = (0..self.columns.len())
            .filter(|index| self.rows.iter().any(|row| !row[*index].text.is_empty()))
            .collect();
        let mut widths: Vec<usize> = used
            .iter()
            .map(|index| self.natural_width(*index))
            .collect();
        if let Some(width) = width {
            shrink(
                &mut widths,
                width.saturating_sub(GAP * used.len().saturating_sub(1)),
            );
        }
        let heading: Vec<Cell> = self
            .columns
            .iter()
            .map(|column| Cell::styled(column.name, Style::Dim))
            .collect();
        std::iter::once(&heading)
            .chain(&self.rows)
            .map(|row| {
                let mut line = String::new();
                for (position, (index, width)) in used.iter().zip(&widths).enumerate() {
                    let cell = &row[*index];
                    let cut = text::truncate(&cell.text, *width);
                    let padding = " ".repeat(width - text::width(&cut));
                    let painted = paint(cell.style, &cut);
                    line.push_str(&" ".repeat(if position == 0 { 0 } else { GAP }));
                    if self.columns[*index].right {
                        line.push_str(&padding);
                        line.push_str(&painted);
                    } else {
                        line.push_str(&painted);
                        line.push_str(&padding);
                    }
                }
                line.truncate(line.trim_end().len());
                line
            })
            .collect()
    }

    fn natural_width(&self, index: usize) -> usize {
        let cells = self.rows.iter().map(|row| text::width(&row[index].text));
        cells
            .max()
            .unwrap_or(0)
            .max(text::width(self.columns[index].name))
    }
}

/// Takes from the widest columns until all of them fit.
fn shrink(widths: &mut [usize], available: usize) {
    while widths.iter().sum::<usize>() > available {
        match widths.iter_mut().filter(|width| **width > NARROWEST).max() {
            Some(widest) => *widest -= 1,
            None => return,
        }
    }
}

/// Names and values, one pair a line.
#[derive(Debug, Default)]
pub(crate) struct Block {
    entries: Vec<(&'static str, String)>,
}

impl Block {
    /// An empty block.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds an entry, unless its value is empty.
    pub(crate) fn entry(&mut self, name: &'static str, value: impl AsRef<str>) -> &mut Self {
        let value = text::visible_lines(value.as_ref().trim_end());
        if !value.is_empty() {
            self.entries.push((name, value));
        }
        self
    }

    /// The block as lines. Long values are not cut: a person who asks for one thing wants all of it.
    pub(crate) fn lines(&self, paint: impl Fn(Style, &str) -> String) -> Vec<String> {
        let width = self
            .entries
            .iter()
            .map(|(name, _)| name.len())
            .max()
            .unwrap_or(0);
        let mut lines = Vec::new();
        for (name, value) in &self.entries {
            for (index, line) in value.lines().enumerate() {
                let name = if index == 0 { name } else { "" };
                let padding = " ".repeat(width - name.len() + GAP);
                lines.push(format!("{}{padding}{line}", paint(Style::Dim, name)));
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(_: Style, text: &str) -> String {
        text.to_owned()
    }

    fn table() -> Table {
        let mut table = Table::new(&["name", ">n", "unused", "reason"]);
        table.row([
            "summary".into(),
            "3".into(),
            "".into(),
            "a long reason to change it".into(),
        ]);
        table.row(["s".into(), "12".into(), "".into(), "\u{1b}[2J".into()]);
        table
    }

    #[test]
    fn columns_are_aligned_and_empty_ones_left_out() {
        assert_eq!(
            table().lines(None, plain),
            [
                "name      n  reason",
                "summary   3  a long reason to change it",
                "s        12  ␛[2J"
            ]
        );
    }

    #[test]
    fn the_widest_column_gives_way() {
        assert_eq!(
            table().lines(Some(27), plain),
            [
                "name      n  reason",
                "summary   3  a long reason…",
                "s        12  ␛[2J"
            ]
        );
        let narrow = table().lines(Some(5), plain);
        assert_eq!(narrow[1], "summary   3  a long…");
    }

    #[test]
    fn colour_does_not_move_columns() {
        let mut table = Table::new(&["a", "b"]);
        table.row([Cell::styled("x", Style::Good), "y".into()]);
        table.row(["long".into(), "y".into()]);
        let lines = table.lines(None, |_, text| format!("<{text}>"));
        assert_eq!(lines, ["<a>     <b>", "<x>     <y>", "<long>  <y>"]);
    }

    #[test]
    fn blocks_indent_further_lines() {
        let mut block = Block::new();
        block
            .entry("id", "1")
            .entry("empty", "")
            .entry("output", "two\nlines\n");
        assert_eq!(
            block.lines(plain),
            ["id      1", "output  two", "        lines"]
        );
    }
}
