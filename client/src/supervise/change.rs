//! What happens when leases begin, change and end.

use super::child::Task;
use super::job::Job;
use super::link::{Frame, Link};
use super::{GRACE, OnChange, Supervisor};
use crate::alarm::boot_time;
use crate::files::{FileDir, Orders, Reaper, orders};
use crate::keep::{Keeper, News};
use crate::redact::{Gap, LONGEST, SHORTEST};
use jsi_client::show_duration;
use jsi_client::v1::{EndReason, Lease};
use nix::sys::signal::Signal;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ChildStderr;
use std::time::Duration;
use zeroize::Zeroizing;

/// Who has lived so long has not failed.
const LONG: Duration = Duration::from_secs(10);

/// A child that fills the files in anew.
pub(super) struct Refresh {
    job: Job,
    link: Link,
    said: ChildStderr,
    leases: Vec<Lease>,
    orders: Option<Orders>,
    done: bool,
}

/// The next frame of a refresh that is under way.
pub(super) async fn frame(refresh: &mut Option<Refresh>) -> Option<Frame> {
    match refresh {
        Some(refresh) if !refresh.done => refresh.link.frames.next().await.ok().flatten(),
        _ => std::future::pending().await,
    }
}

impl Supervisor {
    /// Word from the child that becomes the command.
    pub(super) fn framed(&mut self, frame: Option<Frame>) -> io::Result<()> {
        match frame {
            None => self.run.is_linked = false,
            Some(Frame::Pid(pid)) => self.run.pid = Some(pid),
            Some(Frame::Lease(lease)) => self.leases.push(*lease),
            Some(Frame::Secret(label, value)) => self.secret(&label, value),
            Some(Frame::Failed { again }) => self.run.failed = Some(again),
            Some(Frame::Files(orders)) => match self.guard(orders) {
                Ok(()) => self.run.link.go()?,
                Err(failure) => {
                    // Not answered: the child gives everything back.
                    failure.report();
                    self.run.send(Signal::SIGTERM);
                }
            },
            Some(Frame::Ready) => {
                self.redact_anew();
                self.follow()?;
                self.restarting = false;
                self.run.failed = None;
                self.run.link.go()?;
            }
        }
        Ok(())
    }

    fn secret(&mut self, label: &str, value: Zeroizing<Vec<u8>>) {
        match self.secrets.add(label, value) {
            Some(Gap::Short) => self.say(&format!(
                "note: {label} is shorter than {SHORTEST} bytes, and is not taken out of the output"
            )),
            Some(Gap::Long) => self.say(&format!(
                "note: only the first {LONGEST} bytes of {label} are taken out of the output"
            )),
            None => {}
        }
    }

    fn redact_anew(&mut self) {
        if self.modes.redact {
            if !self.modes.follow() {
                // An agent of our own uid has looked at this process, and need not again.
                crate::session::hide();
            }
            let by = self.secrets.compile();
            self.run.pumps.iter_mut().for_each(|pump| pump.redact(by.clone()));
            lock_memory();
        }
    }

    /// Starts the process that removes the files when the command has ended.
    fn guard(&mut self, orders: Orders) -> Result<(), crate::failure::Failure> {
        let orders = Orders { watch: false, ..orders };
        let dir = FileDir::existing(Path::new(std::ffi::OsStr::from_bytes(&orders.path)))?;
        let pid = self.run.pid.unwrap_or_default();
        let reaper = Reaper::start(&dir, pid, &orders)?;
        self.reaper = Some((reaper, orders));
        Ok(())
    }

    fn follow(&mut self) -> io::Result<()> {
        match &self.keeper {
            Some(keeper) => keeper.keep(self.leases.clone(), Vec::new()),
            None if self.modes.follow() => {
                self.keeper = Some(Keeper::start(&self.leases, self.modes.renew)?);
            }
            None => {}
        }
        Ok(())
    }

    /// Word of the leases.
    pub(super) fn heard(&mut self, news: News) {
        if self.run.ended.is_some() || self.start_at.is_some() {
            return; // they end with the command
        }
        match news {
            News::Renewed(lease) => self.until(&lease.id, orders::until(&lease)),
            News::Trouble(what) => self.say(&format!("note: {what}")),
            News::Rotated(id) => {
                if self.modes.watch.is_some() {
                    self.say(&format!("note: the secret behind {id} was replaced"));
                    self.change();
                }
            }
            News::Last(id, left) => {
                let left = show_duration(left);
                self.say(&format!("note: {id} ends in {left} and cannot be lengthened"));
                if self.modes.watch.is_some() {
                    self.change();
                }
            }
            News::Ended(id, reason) => self.lease_ended(&id, reason),
        }
    }

    fn lease_ended(&mut self, id: &str, reason: EndReason) {
        self.until(id, 0); // its files go
        let word = reason.as_str_name().trim_start_matches("END_REASON_").to_lowercase();
        let word =
            if reason == EndReason::Unspecified { String::new() } else { format!(" ({word})") };
        match reason {
            EndReason::ProcessExited => {}
            EndReason::Revoked | EndReason::ApprovalWithdrawn | EndReason::HealthLost
                if self.modes.end_on_revoke =>
            {
                self.say(&format!("note: {id} has ended{word}: the command is ended"));
                self.terminate();
            }
            EndReason::Expired | EndReason::Unspecified | EndReason::AgentStopping
                if self.modes.watch.is_some() =>
            {
                self.say(&format!("note: {id} has ended{word}"));
                self.change();
            }
            _ => self.say(&format!("note: {id} has ended{word}; the command keeps what it read")),
        }
    }

    /// The files of a lease live so long, in milliseconds since boot.
    fn until(&mut self, id: &str, until_ms: u64) {
        let Some((reaper, orders)) = &mut self.reaper else { return };
        for lease in orders.leases.iter_mut().filter(|lease| lease.id == id) {
            lease.until_ms = until_ms;
        }
        if reaper.tell(orders).is_err() {
            self.reaper = None; // it was killed; the next one sweeps
            self.say("note: the process that removes the files is gone");
        }
    }

    /// The command is to have other values.
    fn change(&mut self) {
        match self.modes.watch {
            Some(OnChange::Restart) if !self.restarting => {
                self.restarting = true;
                self.terminate();
            }
            None | Some(OnChange::Restart) => {}
            Some(OnChange::Signal(_)) if self.refresh.is_some() => self.once_more = true,
            Some(OnChange::Signal(signal)) => match self.start_refresh() {
                Ok(true) => {}
                Ok(false) => self.run.send(signal),
                Err(error) => {
                    self.say(&format!("note: the files cannot be filled in anew: {error}"));
                }
            },
        }
    }

    fn terminate(&mut self) {
        self.run.send(Signal::SIGTERM);
        self.run.send(Signal::SIGCONT);
        self.kill_at = Some(boot_time() + GRACE);
    }

    /// `false`: there are no files.
    fn start_refresh(&mut self) -> io::Result<bool> {
        let (Some((_, orders)), Some(pid)) = (&self.reaper, self.run.pid) else { return Ok(false) };
        let directory = String::from_utf8_lossy(&orders.path).into_owned();
        let mut link = Link::new()?;
        let task = Task::Refresh { pid, directory: &directory };
        let mut child = self.recipe.start_aside(&task, &mut link)?;
        let Some(said) = child.stderr.take() else { return Ok(false) };
        let job = Job::new(child.id());
        self.refresh =
            Some(Refresh { job, link, said, leases: Vec::new(), orders: None, done: false });
        Ok(true)
    }

    /// Word from a refresh.
    pub(super) fn refreshed(&mut self, frame: Option<Frame>) {
        let Some(mut refresh) = self.refresh.take() else { return };
        match frame {
            Some(Frame::Lease(lease)) => refresh.leases.push(*lease),
            Some(Frame::Secret(label, value)) => self.secret(&label, value),
            Some(Frame::Files(orders)) => {
                // New values are looked for before the command can have them.
                self.redact_anew();
                let orders = Orders { watch: false, ..orders };
                let told = self.reaper.as_mut().map(|(reaper, _)| reaper.tell(&orders));
                if matches!(told, Some(Ok(()))) && refresh.link.go().is_ok() {
                    refresh.orders = Some(orders);
                }
            }
            Some(Frame::Ready) => {
                if let Some(orders) = refresh.orders.take() {
                    self.replace(&refresh.leases, orders);
                    let _ = refresh.link.go(); // it has done its work
                    if let Some(OnChange::Signal(signal)) = self.modes.watch {
                        self.say(&format!("note: the files are filled in anew; {signal} is sent"));
                        self.run.send(signal);
                    }
                }
            }
            Some(Frame::Pid(_)) | Some(Frame::Failed { .. }) => {}
            None => refresh.done = true,
        }
        self.refresh = Some(refresh);
    }

    /// The leases of the files are others; the old ones are given back.
    fn replace(&mut self, new: &[Lease], orders: Orders) {
        let Some((_, old)) = &mut self.reaper else { return };
        let of_files = std::mem::replace(old, orders).leases;
        let replaced = |lease: &Lease| of_files.iter().any(|old| old.id == lease.id);
        let released: Vec<String> = self
            .leases
            .iter()
            .filter(|lease| replaced(lease) && new.iter().all(|new| new.id != lease.id))
            .map(|lease| lease.id.clone())
            .collect();
        self.leases.retain(|lease| !replaced(lease));
        self.leases.extend(new.iter().cloned());
        if let Some(keeper) = &self.keeper {
            keeper.keep(self.leases.clone(), released);
        }
    }

    /// The refresh may have ended.
    pub(super) fn reap_refresh(&mut self) {
        let Some(refresh) = &mut self.refresh else { return };
        let Some(super::Change::Ended(ended)) = refresh.job.change() else { return };
        if ended != super::Ended::Code(0) {
            let mut why = Vec::new();
            let _ = (&mut refresh.said).take(4096).read_to_end(&mut why); // it has ended
            let why = String::from_utf8_lossy(&why).trim_end().replace('\n', "\r\n");
            // The old files stay, as long as their leases live.
            if let Some((reaper, orders)) = &mut self.reaper {
                let _ = reaper.tell(orders); // told again when something changes
            }
            self.refresh = None;
            self.say(&format!("note: the files could not be filled in anew: {why}"));
        }
        self.refresh = None;
        if std::mem::take(&mut self.once_more) {
            self.change();
        }
    }

    /// How long to wait before the command is started again.
    pub(super) fn wait_before_start(&mut self) -> Duration {
        if boot_time().saturating_sub(self.started) > LONG {
            self.short_lives = 0;
            return Duration::ZERO;
        }
        self.short_lives += 1;
        crate::keep::back_off(self.short_lives - 1)
    }
}

/// What is looked for by is not to be swapped out, where that is allowed.
fn lock_memory() {
    use nix::sys::mman::{MlockAllFlags, mlockall};
    let _ = mlockall(MlockAllFlags::MCL_CURRENT); // a limit that is low is common
}
