//! Leases as they change: followed across restarts of the agent, and shown as
//! lines or as a board that is drawn anew.

pub(crate) mod board;
pub(crate) mod draw;
pub(crate) mod follow;
pub(crate) mod lines;
pub(crate) mod tty;

use crate::failure::Failure;
use crate::output::Screen;
use crate::session;
use crate::signals::{Signals, die_of};
use board::Board;
use draw::draw;
use follow::{Follow, News};
use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use std::pin::pin;
use std::time::Duration;
use tty::{Key, Tty};

/// How often what is left is shown anew.
const TICK: Duration = Duration::from_secs(1);

/// Time that counts suspension too, as leases do. Only differences matter.
pub(crate) fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// What ends the board, stops it, or gives it another size.
const SIGNALS: [Signal; 7] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGTSTP,
    Signal::SIGWINCH,
    Signal::SIGCONT,
];

/// Shows the board until somebody ends it. Standard output is a terminal.
pub(crate) fn board(prefix: &str, all: bool) -> Result<(), Failure> {
    let ended = session::block_with_timers(async {
        // Before the terminal is touched: that there is no agent is said plainly.
        // And before signals are taken: while an agent that hangs is waited for,
        // they end this.
        let mut follow = Follow::start(prefix, all).await?;
        let signals = Signals::take(&SIGNALS).map_err(|error| no_signals(&error))?;
        let mut tty = Tty::enter()?;
        let mut board = Board::new(prefix, all);
        let result = show(&mut follow, &mut board, &mut tty, &signals).await;
        tty.leave();
        result
    })?;
    match ended {
        Ok(End::Key) => Ok(()),
        Ok(End::Signal(signal)) => Err(Failure::Quiet(die_of(signal))),
        Err(failure) => Err(failure),
    }
}

fn no_signals(error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot take signals: {error}"))
}

/// Why a board ended.
enum End {
    /// `q`.
    Key,
    /// A signal that ends programs.
    Signal(Signal),
}

async fn show(
    follow: &mut Follow,
    board: &mut Board,
    tty: &mut Tty,
    signals: &Signals,
) -> Result<End, Failure> {
    let mut tick = tokio::time::interval(TICK);
    loop {
        // Kept across ticks: an attempt to reconnect is not begun anew by them.
        let mut next = pin!(follow.next());
        let news = loop {
            tokio::select! {
                news = &mut next => break news,
                _ = tick.tick() => board.forget(now()),
                key = tty.key() => match key? {
                    Key::Quit => return Ok(End::Key),
                    Key::Other => {}
                },
                came = signals.next() => match came.map_err(|error| no_signals(&error))?.signal {
                    Signal::SIGTSTP => tty.stop()?,
                    // Another size, or the terminal is ours again.
                    Signal::SIGWINCH | Signal::SIGCONT => {}
                    signal => return Ok(End::Signal(signal)),
                },
            }
            tty.draw(&draw(board, Screen::now(), now()))?;
        };
        board.hear(news?, now());
        tty.draw(&draw(board, Screen::now(), now()))?;
    }
}

/// Follows and prints a line for each change.
pub(crate) fn print_lines(prefix: &str, all: bool, form: lines::Form) -> Result<(), Failure> {
    session::block_with_timers(async {
        let mut follow = Follow::start(prefix, all).await?;
        let mut tick = tokio::time::interval(TICK);
        loop {
            let mut next = pin!(follow.next());
            let news: News = loop {
                tokio::select! {
                    news = &mut next => break news?,
                    // Nobody may be reading any more, and no event may come.
                    _ = tick.tick() => if crate::output::stdout_is_gone() {
                        return Err(Failure::Quiet(1));
                    },
                }
            };
            lines::print(&news, form)?;
        }
    })?
}
