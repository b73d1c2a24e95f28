//! Rows and pairs, laid out for the width that there is. Where standard output
//! is no terminal nothing is shortened, wrapped or left out.

use super::screen::{Screen, fit, paint, width};
use std::io::stdout;

/// Between columns.
const GAP: usize = 2;
/// A column is not made narrower than that.
const NARROWEST: usize = 8;
/// With fewer columns than that, fields go on lines of their own.
const FEWEST: usize = 3;

/// Lays out rows under a heading, in columns as wide as they need to be. On a
/// narrow terminal the middle of what is long is left out, then whole columns
/// from the right; on a very narrow one each field takes a line. The first
/// column names the row and is never shortened.
pub(crate) fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let (text, left_out) = table_on(Screen::now(), heading, rows);
    if !left_out.is_empty() && super::stderr_is_terminal() {
        let note = format!("too narrow for {}; -o json has all", left_out.join(", "));
        super::note(&paint(&std::io::stderr(), "2", &note));
    }
    text
}

fn table_on<'a>(
    screen: Screen,
    heading: &[&'a str],
    rows: &[Vec<String>],
) -> (String, Vec<&'a str>) {
    let shown = |cell: &String| {
        if cell.is_empty() { "-".to_owned() } else { screen.shown(cell) }
    };
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(shown).collect()).collect();
    let natural: Vec<usize> = (0..heading.len())
        .map(|at| {
            let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| width(cell));
            cells.chain([width(heading[at])]).max().unwrap_or_default()
        })
        .collect();
    let Some(columns) = screen.columns else {
        return (lines(screen, heading, &rows, &natural), Vec::new());
    };
    let mut kept = heading.len();
    while kept >= FEWEST.min(heading.len()) {
        if let Some(widths) = widths(&natural[..kept], heading, columns) {
            let text = lines(screen, &heading[..kept], &rows, &widths);
            return (text, heading[kept..].to_vec());
        }
        kept -= 1;
        if kept == 0 {
            break;
        }
    }
    (stacked(heading, &rows, columns), Vec::new())
}

/// Widths that fit: what is widest gives way first, the first column never.
fn widths(natural: &[usize], heading: &[&str], columns: usize) -> Option<Vec<usize>> {
    let gaps = GAP * natural.len().saturating_sub(1);
    let mut widths = natural.to_vec();
    while widths.iter().sum::<usize>() + gaps > columns {
        let least = |at: usize| width(heading[at]).max(NARROWEST);
        let widest =
            (1..widths.len()).filter(|&at| widths[at] > least(at)).max_by_key(|&at| widths[at])?;
        widths[widest] -= 1;
    }
    Some(widths)
}

fn lines(screen: Screen, heading: &[&str], rows: &[Vec<String>], widths: &[usize]) -> String {
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut out = String::new();
        for (cell, &columns) in cells.zip(widths) {
            let cell = fit(cell, columns, screen.ellipsis());
            let fill = columns - width(&cell).min(columns) + GAP;
            out.push_str(&cell);
            out.extend(std::iter::repeat_n(' ', fill));
        }
        out.trim_end().to_owned()
    };
    let mut text = paint(&stdout(), "1", &line(&mut heading.iter().copied())) + "\n";
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
        text.push('\n');
    }
    text
}

/// One field a line, a blank line between rows.
fn stacked(heading: &[&str], rows: &[Vec<String>], columns: usize) -> String {
    let rows = rows.iter().map(|row| {
        let fields = heading.iter().zip(row).filter(|(_, cell)| *cell != "-");
        fields.map(|(name, cell)| named(name, cell, 0, Some(columns))).collect::<String>()
    });
    rows.collect::<Vec<_>>().join("\n")
}

/// Lays out names and values, one pair a line; pairs without a value are left
/// out. Long values go on below, as far in as they began.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> String {
    pairs_on(Screen::now(), pairs)
}

/// The same, set in by some columns.
pub(crate) fn indented_pairs(indent: usize, pairs: &[(&str, String)]) -> String {
    let screen = Screen::now();
    let columns = screen.columns.map(|columns| columns.saturating_sub(indent).max(1));
    let text = pairs_on(Screen { columns, ..screen }, pairs);
    text.lines().map(|line| format!("{:indent$}{line}\n", "")).collect()
}

fn pairs_on(screen: Screen, pairs: &[(&str, String)]) -> String {
    let names = pairs.iter().map(|(name, _)| width(name)).max().unwrap_or_default();
    let values = pairs.iter().filter(|(_, value)| !value.is_empty());
    values.map(|(name, value)| named(name, &screen.shown(value), names, screen.columns)).collect()
}

/// A name and a value behind it, or below it where little room is left.
fn named(name: &str, value: &str, names: usize, columns: Option<usize>) -> String {
    let names = names.max(width(name));
    let fill = " ".repeat(names - width(name) + GAP);
    let head = format!("{name}{fill}");
    match columns {
        Some(columns) if names + GAP + NARROWEST > columns => {
            format!("{}\n{}", name, wrapped("  ", 2, value, Some(columns)))
        }
        _ => wrapped(&head, names + GAP, value, columns),
    }
}

/// Text behind a head (of that many columns; it may be coloured), whose further
/// lines begin where its first one did.
pub(crate) fn hanging(head: &str, indent: usize, text: &str) -> String {
    let screen = Screen::now();
    wrapped(head, indent, &screen.shown(text), screen.columns)
}

fn wrapped(head: &str, indent: usize, text: &str, columns: Option<usize>) -> String {
    let Some(columns) = columns else { return format!("{head}{text}\n") };
    let room = columns.saturating_sub(indent).max(1);
    let mut out = head.to_owned();
    for (number, line) in broken(text, room).iter().enumerate() {
        if number > 0 {
            out.extend(std::iter::repeat_n(' ', indent));
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}

/// Breaks at spaces; a word that is wider than a line, where the line ends.
fn broken(text: &str, room: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        let gap = usize::from(!line.is_empty());
        if width(&line) + gap + width(word) <= room {
            line.extend(std::iter::repeat_n(' ', gap));
            line.push_str(word);
            continue;
        }
        if !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        for c in word.chars() {
            let mut longer = line.clone();
            longer.push(c);
            if width(&longer) > room && !line.is_empty() {
                lines.push(std::mem::replace(&mut line, c.to_string()));
            } else {
                line = longer;
            }
        }
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: Screen = Screen { columns: None, lines: 24, unicode: true, moves: false };

    fn at(columns: usize) -> Screen {
        Screen { columns: Some(columns), ..WIDE }
    }

    fn rows() -> Vec<Vec<String>> {
        let row = |id: &str, holder: &str| {
            vec![id.to_owned(), "active".to_owned(), holder.to_owned(), "environment".to_owned()]
        };
        vec![row("db/orders/abc", "/usr/lib/postgresql/17/bin/psql"), row("a/b", "/bin/sh")]
    }

    const HEADING: [&str; 4] = ["LEASE", "STATE", "HOLDER", "DELIVERY"];

    #[test]
    fn columns_are_as_wide_as_they_need_to_be() {
        let rows =
            vec![vec!["a".to_owned(), "bb".to_owned()], vec!["ccc".to_owned(), String::new()]];
        assert_eq!(table_on(WIDE, &["ID", "STATE"], &rows).0, "ID   STATE\na    bb\nccc  -\n");
    }

    #[test]
    fn nothing_is_shortened_where_there_is_no_terminal() {
        let (text, left_out) = table_on(WIDE, &HEADING, &rows());
        assert!(text.contains("/usr/lib/postgresql/17/bin/psql") && left_out.is_empty());
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_the_first_column_is_whole() {
        for columns in 20..120 {
            let (text, _) = table_on(at(columns), &HEADING, &rows());
            assert!(text.lines().all(|line| width(line) <= columns), "{columns}:\n{text}");
            assert!(text.contains("db/orders/abc"), "{columns}:\n{text}");
        }
    }

    #[test]
    fn what_is_long_gives_way_first_then_whole_columns_and_they_are_named() {
        let (text, left_out) = table_on(at(60), &HEADING, &rows());
        assert!(text.contains('…') && left_out.is_empty(), "{text}");
        let (text, left_out) = table_on(at(33), &HEADING, &rows());
        assert_eq!(left_out, ["DELIVERY"], "{text}");
        let (text, left_out) = table_on(at(20), &HEADING, &rows());
        assert!(left_out.is_empty() && text.contains("\nSTATE  active\n"), "{text}");
    }

    #[test]
    fn names_of_any_script_line_up() {
        let rows = vec![
            vec!["日本".to_owned(), "x".to_owned()],
            vec!["e\u{301}a".to_owned(), "x".to_owned()],
        ];
        assert_eq!(table_on(WIDE, &["N", "X"], &rows).0, "N     X\n日本  x\ne\u{301}a    x\n");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        for screen in [WIDE, at(30)] {
            for bad in ["\x1b[31m", "\u{9b}", "\u{202e}", "\u{2066}", "\n"] {
                let (text, _) = table_on(screen, &["A"], &[vec![bad.to_owned()]]);
                assert!(!text.trim_end().lines().nth(1).unwrap().contains(bad), "{text}");
                let pair = pairs_on(screen, &[("a", format!("x{bad}y"))]);
                assert!(!pair.trim_end().contains(bad), "{pair}");
            }
        }
    }

    #[test]
    fn long_values_go_on_where_they_began() {
        let value = "one two three four".to_owned();
        assert_eq!(
            pairs_on(at(16), &[("name", value.clone())]),
            "name  one two\n      three four\n"
        );
        assert_eq!(pairs_on(WIDE, &[("name", value)]), "name  one two three four\n");
        let digest = "ab".repeat(16);
        let text = pairs_on(at(20), &[("digest", digest.clone())]);
        assert!(text.lines().all(|line| width(line) <= 20), "{text}");
        assert!(text.split_whitespace().skip(1).collect::<String>() == digest);
        let text = pairs_on(at(14), &[("a-longer-name", "value".to_owned())]);
        assert_eq!(text, "a-longer-name\n  value\n");
    }
}
