//! The file as long as this process lives: renewed, filled in anew, removed.

use super::Rendering;
use crate::alarm::{Alarm, boot_time};
use crate::failure::Failure;
use crate::files::{Orders, Reaper};
use crate::keep::{Keeper, News};
use crate::obtain::{Obtained, obtain};
use crate::signals::{Signals, die_of};
use crate::{output, session};
use jsi_client::Agent;
use jsi_client::v1::{EndReason, Lease};
use nix::sys::signal::Signal;
use std::io;
use std::time::Duration;

/// What ends it.
const ENDING: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// How long giving back leases may take at the end.
const RELEASE: Duration = Duration::from_secs(2);

/// How it came to an end.
enum End {
    Signal(Signal),
    Lease(Failure),
}

pub(super) fn stay(rendering: &Rendering) -> Result<(), Failure> {
    let end = session::block_on(async {
        let agent = session::agent().await?;
        let obtained = obtain(&agent, &rendering.plan, &rendering.terms).await?;
        // Not before: while an agent that hangs is waited for, they end this.
        let signals = Signals::take(&ENDING)
            .map_err(|error| Failure::new(format!("cannot take signals: {error}")))?;
        let begun = Staying::begin(rendering, &obtained);
        let mut staying = match begun {
            Ok(staying) => staying,
            Err(failure) => {
                obtained.give_back(&agent).await;
                return Err(failure);
            }
        };
        drop(obtained);
        let end = staying.serve(&signals).await;
        staying.remove();
        give_back(&agent, &staying.leases).await;
        signals.give_back();
        Ok(end)
    })?;
    match end {
        End::Signal(signal) => Err(Failure::Quiet(die_of(signal))),
        End::Lease(failure) => Err(failure),
    }
}

/// The end of this process ends them anyway, so an agent that hangs is not
/// waited for.
async fn give_back(agent: &Agent, leases: &[Lease]) {
    let Ok(alarm) = Alarm::new() else { return };
    if alarm.set(Some(boot_time() + RELEASE)).is_err() {
        return;
    }
    let all = async {
        for lease in leases {
            let _ = agent.release(&lease.id).await;
        }
    };
    tokio::select! {
        () = all => {}
        _ = alarm.wait() => {}
    }
}

struct Staying<'a> {
    rendering: &'a Rendering,
    reaper: Reaper,
    orders: Orders,
    leases: Vec<Lease>,
    keeper: Keeper,
}

impl<'a> Staying<'a> {
    fn begin(rendering: &'a Rendering, obtained: &Obtained) -> Result<Self, Failure> {
        let ((reaper, orders), path) = rendering.write(obtained, |orders| {
            let reaper = Reaper::start(&rendering.dir, std::process::id(), orders)?;
            Ok((reaper, orders.clone()))
        })?;
        let leases = leases(obtained);
        let keeper = Keeper::start(&leases, true)
            .map_err(|error| Failure::new(format!("cannot watch over leases: {error}")))?;
        super::print(&path)?;
        Ok(Self { rendering, reaper, orders, leases, keeper })
    }

    async fn serve(&mut self, signals: &Signals) -> End {
        // What is under way is broken off by a signal: the agent may hang, and
        // what was granted meanwhile ends with this process.
        tokio::select! {
            biased;
            came = signals.next() => match came {
                Ok(came) => End::Signal(came.signal),
                Err(error) => End::Lease(Failure::new(format!("no signals: {error}"))),
            },
            failure = self.follow() => End::Lease(failure),
        }
    }

    /// Does what the leases ask for, until one is no more.
    async fn follow(&mut self) -> Failure {
        loop {
            let end = match self.keeper.next().await {
                News::Renewed(lease) => self.renewed(&lease),
                News::Rotated(id) => {
                    self.again(&format!("the secret behind {id} was replaced")).await
                }
                News::Last(id, _) => self.again(&format!("{id} cannot be lengthened")).await,
                News::Trouble(what) => {
                    output::note(&format!("note: {what}"));
                    None
                }
                News::Ended(id, reason) => self.ended(&id, reason).await,
            };
            if let Some(failure) = end {
                return failure;
            }
        }
    }

    fn renewed(&mut self, renewed: &Lease) -> Option<Failure> {
        self.orders.lasts(renewed);
        self.tell()
    }

    fn tell(&mut self) -> Option<Failure> {
        self.reaper.tell(&self.orders).err().map(|error| no_reaper(&error))
    }

    /// Once more, with a lease that has time; the file that is there stays
    /// where that fails.
    async fn again(&mut self, why: &str) -> Option<Failure> {
        match self.render().await {
            Ok(()) => {
                output::note(&format!("note: {why}; {} is filled in anew", self.rendering.name));
                None
            }
            Err(failure) => {
                output::note(&format!("note: {why}, and no other can be had:"));
                failure.report();
                None
            }
        }
    }

    /// A lease that ran out while the agent was away can be had again; what was
    /// taken away stays away.
    async fn ended(&mut self, id: &str, reason: EndReason) -> Option<Failure> {
        let word = reason.as_str_name().trim_start_matches("END_REASON_").to_lowercase();
        let failure = Failure::new(format!("{id} has ended ({word}); the file is removed"));
        let again = matches!(reason, EndReason::Expired | EndReason::Unspecified);
        self.remove_files();
        if again && self.render().await.is_ok() {
            return None;
        }
        Some(failure)
    }

    async fn render(&mut self) -> Result<(), Failure> {
        let agent = session::agent().await?;
        let obtained = obtain(&agent, &self.rendering.plan, &self.rendering.terms).await?;
        let (mut reaper_gone, mut new) = (None, None);
        let old: Vec<String> = self.leases.iter().map(|lease| lease.id.clone()).collect();
        let done = self.rendering.write(&obtained, |orders| {
            // The old file is still there, and goes too.
            let mut both = orders.clone();
            both.files.extend(self.orders.files.iter().cloned());
            reaper_gone = self.reaper.tell(&both).err();
            new = Some(orders.clone());
            Ok(())
        });
        if let (Ok(_), Some(new)) = (&done, new) {
            self.orders = new;
        }
        // The old file is no more, or the new one did not come to be.
        if let Some(failure) = reaper_gone.map(|error| no_reaper(&error)).or_else(|| self.tell()) {
            return Err(failure);
        }
        if let Err(failure) = done {
            obtained.give_back(&agent).await;
            return Err(failure);
        }
        self.leases = leases(&obtained);
        let kept = |id: &String| self.leases.iter().all(|lease| lease.id != *id);
        let released = old.into_iter().filter(kept).collect();
        self.keeper.keep(self.leases.clone(), released);
        Ok(())
    }

    fn remove_files(&self) {
        self.orders.files.iter().for_each(|file| self.rendering.dir.remove_file(file));
    }

    fn remove(&self) {
        self.remove_files();
        self.rendering.dir.remove();
    }
}

fn no_reaper(error: &io::Error) -> Failure {
    Failure::new(format!("the process that removes the file is gone: {error}"))
}

fn leases(obtained: &Obtained) -> Vec<Lease> {
    obtained.leases().map(|leased| leased.lease().clone()).collect()
}
