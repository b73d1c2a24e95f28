//! A supervisor beside the command: for modes of `jsi exec` that have something
//! to do while the command runs.
//!
//! The command comes about as without one: a child of this process is `jsi
//! exec` again, asks for the credentials itself, and becomes the command, so
//! that leases are bound to the command and end with it, and no secret passes
//! through here. Only where values are to be taken out of the output does that
//! child tell them ([`link`]). It dies with this process ([`child`]).
//!
//! - [`streams`]: where the output goes, and whether the command gets a
//!   terminal; [`monitor`] then stands between, for the sake of job control.
//! - [`run`]: one life of the command.
//! - [`change`]: what happens when leases change.

mod change;
pub(crate) mod child;
mod job;
pub(crate) mod link;
pub(crate) mod monitor;
mod pump;
mod run;
mod screen;
mod streams;

use crate::alarm::{Alarm, boot_time};
use crate::failure::Failure;
use crate::files::{Orders, Reaper};
use crate::keep::Keeper;
use crate::redact::Secrets;
use crate::signals::{Came, Signals, die_of};
use crate::{output, session};
use change::Refresh;
use child::Recipe;
use job::{Change, Ended, stop_like};
use jsi_client::v1::Lease;
use link::Frame;
use nix::sys::signal::Signal;
use run::Run;
use screen::Screen;
use std::ffi::OsString;
use std::io;
use std::time::Duration;

/// What is forwarded or acted on. The others do what they do to any process.
const TAKEN: [Signal; 14] = [
    Signal::SIGCHLD,
    Signal::SIGCONT,
    Signal::SIGWINCH,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGALRM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGIO,
];
/// How long output that something else still writes is waited for once the
/// command has ended.
const DRAIN: Duration = Duration::from_secs(2);
/// How long the command may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(10);
/// So long nothing comes before what is held back is shown.
const IDLE: Duration = Duration::from_millis(50);

/// What is asked of a supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Modes {
    /// Leases are lengthened.
    pub(crate) renew: bool,
    /// What happens when a secret or its lease is replaced; `None`: nothing.
    pub(crate) watch: Option<OnChange>,
    /// Values are taken out of the output.
    pub(crate) redact: bool,
    /// The command is ended when a lease of it is revoked.
    pub(crate) end_on_revoke: bool,
    /// The command has files.
    pub(crate) files: bool,
}

/// How the command hears of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnChange {
    /// By a signal, once its files are as they should be.
    Signal(Signal),
    /// It is ended and started again.
    Restart,
}

impl Modes {
    /// There is something to do while the command runs.
    pub(crate) fn any(&self) -> bool {
        self.renew || self.watch.is_some() || self.redact
    }

    /// Leases are to be followed.
    fn follow(&self) -> bool {
        self.renew || self.watch.is_some() || self.end_on_revoke || self.files
    }
}

/// Runs the command under a supervisor: `arguments` are those of `jsi exec`.
/// Ends as the command ends.
pub(crate) fn supervise(modes: Modes, arguments: Vec<OsString>) -> Result<(), Failure> {
    let end = session::block_on(async {
        let mut supervisor = Supervisor::begin(modes, arguments)
            .map_err(|error| Failure::new(format!("cannot start a supervisor: {error}")))?;
        supervisor.serve().await.map_err(|error| Failure::new(format!("cannot go on: {error}")))
    })?;
    match end {
        Ended::Code(0) => Ok(()),
        Ended::Code(code) => Err(Failure::Quiet(code)),
        Ended::Signal(signal) => Err(Failure::Quiet(die_of(signal))),
    }
}

struct Supervisor {
    modes: Modes,
    recipe: Recipe,
    signals: Signals,
    screen: Option<Screen>,
    secrets: Secrets,
    run: Run,
    leases: Vec<Lease>,
    keeper: Option<Keeper>,
    reaper: Option<(Reaper, Orders)>,
    refresh: Option<Refresh>,
    /// A refresh is to follow the one that is under way.
    once_more: bool,
    /// The end of the command is not the end.
    restarting: bool,
    /// Restarts in a row of a command that did not live long.
    short_lives: u32,
    started: Duration,
    alarm: Alarm,
    idle_at: Option<Duration>,
    kill_at: Option<Duration>,
    start_at: Option<Duration>,
}

/// What happens next.
enum Event {
    Signal(Came),
    Frame(Option<Frame>),
    Refresh(Option<Frame>),
    News(crate::keep::News),
    Moved,
    Time,
}

impl Supervisor {
    fn begin(modes: Modes, arguments: Vec<OsString>) -> io::Result<Self> {
        let signals = Signals::take(&TAKEN)?;
        let (blocked, core) = (*signals.before(), child::no_core());
        let recipe = Recipe { arguments, blocked, core, secrets: modes.redact };
        let mut screen = Screen::of_stdin()?;
        let secrets = Secrets::new();
        let run = Run::start(&recipe, modes.redact, screen.as_mut(), &secrets)?;
        Ok(Self {
            modes,
            recipe,
            signals,
            screen,
            secrets,
            run,
            leases: Vec::new(),
            keeper: None,
            reaper: None,
            refresh: None,
            once_more: false,
            restarting: false,
            short_lives: 0,
            started: boot_time(),
            alarm: Alarm::new()?,
            idle_at: None,
            kill_at: None,
            start_at: None,
        })
    }

    async fn serve(&mut self) -> io::Result<Ended> {
        loop {
            if let Some(ended) = self.run.ended.filter(|_| self.run.is_drained()) {
                match self.after(ended)? {
                    Some(ended) => return Ok(ended),
                    None => continue,
                }
            }
            self.alarm.set(self.next_time())?;
            match self.next().await? {
                Event::Signal(came) => self.came(came)?,
                Event::Frame(frame) => self.framed(frame)?,
                Event::Refresh(frame) => self.refreshed(frame),
                Event::News(news) => self.heard(news),
                Event::Moved => self.moved(),
                Event::Time => self.time()?,
            }
        }
    }

    async fn next(&mut self) -> io::Result<Event> {
        let Self { signals, run, keeper, refresh, alarm, .. } = self;
        let Run { link, is_linked, pumps, keys, .. } = run;
        tokio::select! {
            biased;
            came = signals.next() => came.map(Event::Signal),
            frame = link.frames.next(), if *is_linked => frame.map(Event::Frame),
            news = heard(keeper) => Ok(Event::News(news)),
            frame = change::frame(refresh) => Ok(Event::Refresh(frame)),
            () = run::pumped(pumps) => Ok(Event::Moved),
            () = run::typed(keys) => Ok(Event::Moved),
            time = alarm.wait() => time.map(|()| Event::Time),
        }
    }

    fn next_time(&self) -> Option<Duration> {
        let times = [self.idle_at, self.kill_at, self.start_at, self.run.drain_until];
        times.into_iter().flatten().min()
    }

    fn time(&mut self) -> io::Result<()> {
        let now = boot_time();
        let due = |at: &mut Option<Duration>| at.take_if(|at| *at <= now).is_some();
        if due(&mut self.idle_at) {
            self.run.pumps.iter_mut().for_each(pump::Pump::idle);
        }
        if due(&mut self.kill_at) {
            self.run.send(Signal::SIGKILL);
        }
        if due(&mut self.run.drain_until) {
            self.run.pumps.iter_mut().for_each(pump::Pump::end);
        }
        if due(&mut self.start_at) {
            self.start()?;
        }
        Ok(())
    }

    /// Something was written or typed.
    fn moved(&mut self) {
        let held = self.run.pumps.iter().any(pump::Pump::is_held);
        self.idle_at = held.then(|| boot_time() + IDLE);
    }

    fn came(&mut self, came: Came) -> io::Result<()> {
        let ends = matches!(
            came.signal,
            Signal::SIGHUP | Signal::SIGINT | Signal::SIGQUIT | Signal::SIGTERM
        );
        if ends {
            self.restarting = false; // whoever sends it wants no other life
            if self.start_at.take().is_some() {
                // Between two lives there is nobody else to obey it.
                self.run.ended = Some(Ended::Signal(came.signal));
                return Ok(());
            }
        }
        match came.signal {
            Signal::SIGCHLD => return self.child_changed(),
            Signal::SIGWINCH => {
                self.run.resize();
                // Without a terminal of its own the command is in our group.
                if self.run.is_alone() || (came.by_kernel && !self.run.has_terminal()) {
                    return Ok(());
                }
            }
            Signal::SIGCONT => {
                self.resume();
                self.run.job.send(Signal::SIGCONT);
                return Ok(());
            }
            // A key on a terminal that the command has with us: it had it too.
            _ if came.by_kernel && !self.run.is_alone() => return Ok(()),
            _ => {}
        }
        self.run.send(came.signal);
        Ok(())
    }

    fn child_changed(&mut self) -> io::Result<()> {
        self.reap_refresh();
        while let Some(change) = self.run.job.change() {
            match change {
                Change::Ended(ended) => {
                    self.run.has_ended(ended, boot_time() + DRAIN);
                    self.kill_at = None;
                    break;
                }
                Change::Stopped(signal) => {
                    let signal = if self.run.is_alone() { Signal::SIGTSTP } else { signal };
                    if let Some(screen) = &mut self.screen {
                        screen.put_back();
                    }
                    stop_like(signal);
                    self.resume();
                    self.run.job.send(Signal::SIGCONT);
                }
            }
        }
        Ok(())
    }

    /// This process goes on after it was stopped.
    fn resume(&mut self) {
        if let Some(screen) = self.screen.as_mut().filter(|_| self.run.is_alone()) {
            let _ = screen.make_raw(); // it may be gone
        }
        self.run.resize();
    }

    /// What comes after the end of one life.
    fn after(&mut self, ended: Ended) -> io::Result<Option<Ended>> {
        self.reaper = None;
        if !self.restarting {
            if let Some(screen) = &mut self.screen {
                screen.put_back();
            }
            return Ok(Some(ended));
        }
        if self.start_at.is_some() {
            return Ok(None);
        }
        let failed = self.run.failed;
        if failed == Some(false) {
            return Ok(Some(ended)); // it would fail again
        }
        let wait = self.wait_before_start();
        self.run.ended = None;
        self.run.job = job::Job::new(0);
        self.start_at = Some(boot_time() + wait);
        Ok(None)
    }

    fn start(&mut self) -> io::Result<()> {
        self.run =
            Run::start(&self.recipe, self.modes.redact, self.screen.as_mut(), &self.secrets)?;
        self.started = boot_time();
        self.leases.clear();
        Ok(())
    }

    /// To a person, on a terminal that may be raw.
    fn say(&self, text: &str) {
        let raw = self.screen.as_ref().is_some_and(Screen::is_raw);
        if raw { output::note_raw(text) } else { output::note(text) }
    }
}

async fn heard(keeper: &mut Option<Keeper>) -> crate::keep::News {
    match keeper {
        Some(keeper) => keeper.next().await,
        None => std::future::pending().await,
    }
}
