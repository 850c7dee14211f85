//! Tables that fit the terminal, and blocks of names and values.

use super::text;
use crate::printer::Style;

/// No column becomes narrower than this to make room for others.
const NARROWEST: usize = 8;
/// Of prose, this much is kept before other columns are left out.
const NARROWEST_PROSE: usize = 16;
const GAP: usize = 2;

/// One cell: a line of text and how it looks.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    /// What stands there where room is scarce.
    short: Option<String>,
    style: Style,
}

impl Cell {
    /// A cell in a style.
    pub(crate) fn styled(text: impl AsRef<str>, style: Style) -> Self {
        Self {
            text: text::visible_line(text.as_ref()),
            short: None,
            style,
        }
    }

    /// The same with a shorter text for where room is scarce.
    pub(crate) fn or_short(mut self, short: &str) -> Self {
        self.short = Some(text::visible_line(short));
        self
    }

    fn shown(&self, short: bool) -> &str {
        let shorter = self.short.as_deref().filter(|_| short);
        shorter.unwrap_or(&self.text)
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
    /// Whether a beginning of its texts is still worth reading.
    prose: bool,
}

/// Rows under headings. A heading that begins with `>` aligns its column to the right; one that begins with `~` is of
/// prose, which may be cut.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    given_up: &'static [&'static str],
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table.
    pub(crate) fn new(headings: &[&'static str]) -> Self {
        let column = |heading: &&'static str| Column {
            name: heading.trim_start_matches(['>', '~']),
            right: heading.starts_with('>'),
            prose: heading.starts_with('~'),
        };
        Self {
            columns: headings.iter().map(column).collect(),
            given_up: &[],
            rows: Vec::new(),
        }
    }

    /// Names the columns that are left out where the terminal is too narrow for all, the first of them first.
    pub(crate) fn giving_up(mut self, columns: &'static [&'static str]) -> Self {
        self.given_up = columns;
        self
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
        let mut used: Vec<usize> = (0..self.columns.len())
            .filter(|index| self.rows.iter().any(|row| !row[*index].text.is_empty()))
            .collect();
        let mut short = false;
        let mut widths = self.widths(&used, short);
        if let Some(width) = width
            && total(&widths) > width
        {
            short = true;
            let least = |used: &[usize]| total(&self.least_widths(used));
            for name in self.given_up {
                if least(&used) <= width {
                    break;
                }
                used.retain(|index| self.columns[*index].name != *name);
            }
            widths = self.widths(&used, short);
            let gaps = GAP * used.len().saturating_sub(1);
            shrink(
                &mut widths,
                &self.least_widths(&used),
                width.saturating_sub(gaps),
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
                    let cut = text::truncate(cell.shown(short), *width);
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

    /// How wide columns are if nothing in them is cut.
    fn widths(&self, used: &[usize], short: bool) -> Vec<usize> {
        let natural = |index: &usize| {
            let cells = self.rows.iter();
            let cells = cells.map(|row| text::width(row[*index].shown(short)));
            let heading = text::width(self.columns[*index].name);
            cells.max().unwrap_or(0).max(heading)
        };
        used.iter().map(natural).collect()
    }

    /// How narrow columns may become before others are left out for them.
    fn least_widths(&self, used: &[usize]) -> Vec<usize> {
        let is_declared = self.columns.iter().any(|column| column.prose);
        let least = |(index, width): (&usize, usize)| match is_declared {
            true if self.columns[*index].prose => width.min(NARROWEST_PROSE),
            true => width,
            false => width.min(NARROWEST),
        };
        let widths = self.widths(used, true).into_iter();
        used.iter().zip(widths).map(least).collect()
    }
}

/// How wide a line with columns of these widths is.
fn total(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1)
}

/// Takes from the widest columns until all of them fit: first what they can spare, then down to the narrowest.
fn shrink(widths: &mut [usize], least: &[usize], available: usize) {
    while widths.iter().sum::<usize>() > available {
        let spare = |(width, least): &(&mut usize, &usize)| **width > **least;
        let columns = widths.iter_mut().zip(least);
        if let Some((widest, _)) = columns.filter(spare).max_by_key(|(width, _)| **width) {
            *widest -= 1;
            continue;
        }
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
    fn the_least_important_columns_are_left_out_first() {
        let id = "0197f2a0-0000-7000-8000-1a2b3c4d5e6f";
        let mut table = Table::new(&["call", "app", "unit", "~output"]).giving_up(&["unit", "app"]);
        table.row([
            Cell::from(id).or_short("1a2b3c4d5e6f"),
            "support-summarizer".into(),
            "user_101".into(),
            "Two payments, one of which is to go back.".into(),
        ]);
        let row = |width| table.lines(Some(width), plain)[1].clone();
        assert!(row(120).starts_with(id), "{}", row(120));
        for (width, expected) in [
            (
                90,
                "1a2b3c4d5e6f  support-summarizer  user_101  Two payments, one of which is to go back.",
            ),
            (
                60,
                "1a2b3c4d5e6f  support-summarizer  user_101  Two payments, o…",
            ),
            (
                59,
                "1a2b3c4d5e6f  support-summarizer  Two payments, one of whi…",
            ),
            (40, "1a2b3c4d5e6f  Two payments, one of whic…"),
            (20, "1a2b3c4d…  Two paym…"),
        ] {
            let found = row(width);
            assert_eq!(found, expected);
            assert!(text::width(&found) <= width);
        }
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
