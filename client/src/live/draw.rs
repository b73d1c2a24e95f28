//! The board as lines for a screen: none is wider than it, and there are no
//! more than it has.

use super::board::{Board, Row};
use crate::output::{Screen, fit, paint, width};
use crate::view;
use jsi_client::show_duration;
use jsi_client::v1::LeaseState;
use std::io::stdout;
use std::time::Duration;

/// Narrower than that, a lease takes two lines.
const TWO_LINES_BELOW: usize = 44;
/// `1h30m15s` and a little more.
const LEFT: usize = 9;
const BAR: std::ops::RangeInclusive<usize> = 5..=20;
/// The holder is shown where that much is left for it.
const HOLDER: usize = 14;
/// Less than that is near whatever the whole was.
const NEAR: Duration = Duration::from_secs(30);

/// Lines to be shown from the top of the screen.
pub(crate) fn draw(board: &Board, screen: Screen, now: Duration) -> Vec<String> {
    let columns = screen.columns.unwrap_or(80);
    let each = if columns < TWO_LINES_BELOW { 2 } else { 1 };
    let mut lines = vec![heading(board, screen, columns)];
    if !board.notice.is_empty() {
        let text = fit(&screen.shown(&board.notice), columns, screen.ellipsis());
        lines.push(paint(&stdout(), "33", &text));
    }
    let room = screen.lines.saturating_sub(lines.len());
    let rows = board.rows();
    let fits = room / each;
    // Where not all fit, the last line says how many do not.
    let shown = if rows.len() > fits { room.saturating_sub(1) / each } else { rows.len() };
    let widest = rows.iter().take(shown).map(|row| width(&row.lease.id)).max().unwrap_or(0);
    for row in rows.iter().take(shown) {
        lines.extend(self::row(row, screen, columns, widest, now));
    }
    if shown < rows.len() {
        let hidden = format!("{} more, for want of lines", rows.len() - shown);
        lines.push(paint(&stdout(), "2", &fit(&hidden, columns, screen.ellipsis())));
    }
    lines.truncate(screen.lines);
    lines
}

fn heading(board: &Board, screen: Screen, columns: usize) -> String {
    let live = board.live();
    let whose = if board.all { "everybody's " } else { "" };
    let plural = if live == 1 { "" } else { "s" };
    let mut text = format!("{live} {whose}lease{plural}");
    if !board.prefix.is_empty() {
        text.push_str(&format!(" of {}", screen.shown(&board.prefix)));
    }
    let hint = "q ends";
    let gap = columns.saturating_sub(width(&text) + hint.len());
    let text = if gap >= 2 {
        format!("{text}{}{hint}", " ".repeat(gap))
    } else {
        fit(&text, columns, screen.ellipsis())
    };
    paint(&stdout(), "1", &text)
}

fn row(row: &Row, screen: Screen, columns: usize, widest: usize, now: Duration) -> Vec<String> {
    let id = screen.shown(&row.lease.id);
    let dim = row.ended.is_some();
    let faded = |text: String| if dim { paint(&stdout(), "2", &text) } else { text };
    if columns < TWO_LINES_BELOW {
        let bar = columns.saturating_sub(LEFT + 3).clamp(1, *BAR.end());
        return vec![
            faded(fit(&id, columns, screen.ellipsis())),
            format!(" {} {}", gauge(row, screen, bar, now), state(row, columns - bar - 2, now)),
        ];
    }
    // The bar and the time first, then the ID, then the holder.
    let mut free = columns - LEFT - 2;
    let bar = (free / 4).clamp(*BAR.start(), *BAR.end());
    free -= bar + 2;
    let with_holder = free >= widest + 2 + HOLDER;
    let id_columns = if with_holder { widest } else { free.min(widest) };
    let mut id = fit(&id, id_columns, screen.ellipsis());
    id.push_str(&" ".repeat(id_columns.saturating_sub(width(&id))));
    let mut line = format!("{}  {}  ", faded(id), gauge(row, screen, bar, now));
    if with_holder {
        let room = free - widest - 2;
        line.push_str(&state(row, LEFT, now));
        line.push_str("  ");
        let holder = screen.shown(&view::holder(&row.lease));
        line.push_str(&faded(fit(&holder, room, screen.ellipsis())));
    } else {
        line.push_str(&state(row, LEFT + free - id_columns, now));
    }
    vec![line]
}

/// What is left in words, or what has become of it; padded to LEFT.
fn state(row: &Row, columns: usize, now: Duration) -> String {
    let text = match row.state() {
        Some(LeaseState::Active) if row.ended.is_none() => show_duration(row.left(now)),
        Some(LeaseState::Stuck) => "stuck".to_owned(),
        Some(LeaseState::Pending) => "pending".to_owned(),
        Some(LeaseState::Ending) => "ending".to_owned(),
        _ => match view::end_reason(&row.lease).as_str() {
            "" => "ended".to_owned(),
            why => why.replace('_', " "),
        },
    };
    let text = fit(&text, columns, "");
    let padded = format!("{text:LEFT$}");
    paint(&stdout(), colour(row, now), fit(&padded, columns, "").as_str())
}

fn colour(row: &Row, now: Duration) -> &'static str {
    match row.state() {
        _ if row.ended.is_some() => "2",
        Some(LeaseState::Stuck) => "1;31",
        Some(LeaseState::Active) => {
            let left = row.left(now);
            let share = |of: u32| left * of < row.whole;
            if left <= NEAR || share(5) {
                "31"
            } else if share(2) {
                "33"
            } else {
                "32"
            }
        }
        _ => "33",
    }
}

/// A bar of that many columns: the share of the whole that is left.
fn gauge(row: &Row, screen: Screen, columns: usize, now: Duration) -> String {
    let share = if row.ended.is_some() || row.whole.is_zero() {
        0.0
    } else {
        (row.left(now).as_secs_f64() / row.whole.as_secs_f64()).clamp(0.0, 1.0)
    };
    paint(&stdout(), colour(row, now), &bar(share, columns, screen.unicode))
}

fn bar(share: f64, columns: usize, unicode: bool) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let steps = if unicode { 8 } else { 1 };
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of some columns"
    )]
    let filled = (share * (columns * steps) as f64).ceil() as usize;
    let whole = (filled / steps).min(columns);
    if !unicode {
        return "#".repeat(whole) + &"-".repeat(columns - whole);
    }
    let mut text = "█".repeat(whole);
    if whole < columns && !filled.is_multiple_of(steps) {
        text.push(EIGHTHS[filled % steps]);
    }
    let rest = columns.saturating_sub(width(&text));
    text + &"░".repeat(rest)
}

#[cfg(test)]
mod tests {
    use super::super::board::tests::{changed, lease};
    use super::super::follow::News;
    use super::*;
    use jsi_client::v1::lease_event::Kind;

    fn screen(columns: usize, lines: usize) -> Screen {
        Screen { columns: Some(columns), lines, unicode: true, moves: true }
    }

    fn board(count: usize) -> Board {
        let mut board = Board::new("db/", false);
        for number in 0..count {
            let id = format!("db/orders/toyssrurpyx5hwiwtwbctzk{number:03}");
            let left = 60 * (number as u64 + 1);
            board
                .hear(changed(Kind::Present, lease(&id, LeaseState::Active, left)), Duration::ZERO);
        }
        board
    }

    #[test]
    fn no_line_is_wider_than_the_screen_and_no_more_are_shown_than_it_has() {
        let mut board = board(30);
        board.hear(News::Gone("it was stopped by somebody".to_owned()), Duration::ZERO);
        for columns in (10..=20).chain([30, 43, 44, 60, 80, 120, 200]) {
            for lines in [1, 2, 5, 12, 24, 80] {
                let drawn = draw(&board, screen(columns, lines), Duration::from_secs(5));
                assert!(drawn.len() <= lines, "{columns}x{lines}: {}", drawn.len());
                for line in &drawn {
                    assert!(width(line) <= columns, "{columns}: {line:?}");
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let drawn = draw(&board(30), screen(80, 12), Duration::ZERO);
        assert_eq!(drawn.len(), 12);
        assert_eq!(drawn[11], "20 more, for want of lines");
        let drawn = draw(&board(5), screen(80, 6), Duration::ZERO);
        assert_eq!(drawn.len(), 6, "all fit: {drawn:?}");
        assert!(!drawn[5].contains("more"));
    }

    #[test]
    fn a_lease_has_its_bar_its_time_and_its_holder() {
        let drawn = draw(&board(1), screen(120, 5), Duration::from_secs(30));
        assert!(
            drawn[1].starts_with("db/orders/toyssrurpyx5hwiwtwbctzk000  ██████████░"),
            "{}",
            drawn[1]
        );
        assert!(drawn[1].contains("  30s "), "{}", drawn[1]);
        assert!(drawn[1].contains("/usr/bin/psql (pid 4711, uid 1000)"), "{}", drawn[1]);
        let narrow = draw(&board(1), screen(20, 5), Duration::from_secs(30));
        assert_eq!(narrow[1], "db/orders/…wbctzk000");
        assert_eq!(narrow[2].trim_end(), " ████░░░░ 30s");
    }

    #[test]
    fn bars_are_as_long_as_what_is_left() {
        assert_eq!(bar(1.0, 4, true), "████");
        assert_eq!(bar(0.0, 4, true), "░░░░");
        assert_eq!(bar(0.6, 4, true), "██▌░");
        assert_eq!(bar(0.001, 4, true), "▏░░░");
        assert_eq!(bar(0.5, 4, false), "##--");
        assert_eq!(bar(1.0, 0, false), "");
    }

    #[test]
    fn a_screen_without_such_characters_gets_ascii() {
        let ascii = Screen { unicode: false, ..screen(60, 5) };
        let drawn = draw(&board(2), ascii, Duration::ZERO);
        assert!(drawn.iter().all(|line| line.is_ascii()), "{drawn:?}");
        assert!(drawn[1].contains("####"));
    }

    #[test]
    fn the_nearer_the_end_the_redder() {
        let board = board(10);
        let row = board.rows().last().unwrap(); // 600 seconds
        for (now, wanted) in [(0, "32"), (400, "33"), (500, "31"), (599, "31")] {
            assert_eq!(colour(row, Duration::from_secs(now)), wanted, "{now}");
        }
    }
}
