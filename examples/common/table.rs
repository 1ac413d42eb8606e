//! Tables for people: columns in line, numbers to the right.

use std::io::{self, Write};

/// A name that somebody else chose, as one word for a terminal: what would move the cursor is written out.
pub(crate) fn printable(name: &[u8]) -> String {
    let mut text = String::new();
    for character in String::from_utf8_lossy(name).chars() {
        if character.is_control() { text.extend(character.escape_default()) } else { text.push(character) }
    }
    text
}

/// Prints `rows` under `titles`. Columns whose title begins with a blank hold numbers.
pub(crate) fn print<const N: usize>(titles: [&str; N], rows: &[[String; N]]) -> io::Result<()> {
    let width = |column: usize| {
        let longest = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        longest.unwrap_or(0).max(titles[column].trim_start().len())
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: [&str; N]| {
        let mut line = String::new();
        for ((cell, title), &width) in cells.iter().zip(titles).zip(&widths) {
            match title.strip_prefix(' ') {
                Some(_) => line += &format!("{cell:>width$}  "),
                None => line += &format!("{cell:<width$}  "),
            }
        }
        line.truncate(line.trim_end().len());
        line
    };
    let mut out = io::stdout().lock();
    writeln!(out, "{}", line(titles.map(str::trim_start)))?;
    for row in rows {
        writeln!(out, "{}", line(std::array::from_fn(|column| row[column].as_str())))?;
    }
    Ok(())
}
