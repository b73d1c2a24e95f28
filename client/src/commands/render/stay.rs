//! The file as long as this process lives: renewed, filled in anew, removed.

use super::Rendering;
use crate::failure::Failure;
use crate::files::{Orders, Reaper, orders};
use crate::keep::{Keeper, News};
use crate::obtain::{Obtained, obtain};
use crate::signals::{Signals, die_of};
use crate::{output, session};
use jsi_client::v1::{EndReason, Lease};
use nix::sys::signal::Signal;

/// What ends it.
const ENDING: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// How it came to an end.
enum End {
    Signal(Signal),
    Lease(Failure),
}

pub(super) fn stay(rendering: &Rendering) -> Result<(), Failure> {
    let end = session::block_on(async {
        let signals = Signals::take(&ENDING)
            .map_err(|error| Failure::new(format!("cannot take signals: {error}")))?;
        let agent = session::agent().await?;
        let obtained = obtain(&agent, &rendering.plan, &rendering.terms).await?;
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
        for lease in &staying.leases {
            let _ = agent.release(&lease.id).await; // the end of this process ends it anyway
        }
        signals.give_back();
        Ok(end)
    })?;
    match end {
        End::Signal(signal) => Err(Failure::Quiet(die_of(signal))),
        End::Lease(failure) => Err(failure),
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
        loop {
            let news = tokio::select! {
                came = signals.next() => match came {
                    Ok(came) => return End::Signal(came.signal),
                    Err(error) => return End::Lease(Failure::new(format!("no signals: {error}"))),
                },
                news = self.keeper.next() => news,
            };
            let end = match news {
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
                return End::Lease(failure);
            }
        }
    }

    fn renewed(&mut self, renewed: &Lease) -> Option<Failure> {
        for lease in self.orders.leases.iter_mut().filter(|lease| lease.id == renewed.id) {
            lease.until_ms = orders::until(renewed);
        }
        self.tell()
    }

    fn tell(&mut self) -> Option<Failure> {
        self.reaper.tell(&self.orders).err().map(|error| {
            Failure::new(format!("the process that removes the file is gone: {error}"))
        })
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
        self.remove();
        if again && self.render().await.is_ok() {
            return None;
        }
        Some(failure)
    }

    async fn render(&mut self) -> Result<(), Failure> {
        let agent = session::agent().await?;
        let obtained = obtain(&agent, &self.rendering.plan, &self.rendering.terms).await?;
        let (mut reaper_gone, old) = (None, self.leases.iter().map(|lease| lease.id.clone()));
        let old: Vec<String> = old.collect();
        let done = self.rendering.write(&obtained, |orders| {
            // The old file is still there, and still ends with the old leases.
            let mut both = orders.clone();
            both.files.extend(self.orders.files.iter().cloned());
            reaper_gone = self.reaper.tell(&both).err();
            self.orders = both;
            Ok(())
        });
        if let Some(error) = reaper_gone {
            return Err(Failure::new(format!(
                "the process that removes the file is gone: {error}"
            )));
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

    fn remove(&self) {
        self.rendering.dir.remove_file(&self.rendering.name);
        self.rendering.dir.remove();
    }
}

fn leases(obtained: &Obtained) -> Vec<Lease> {
    obtained.leases().map(|leased| leased.lease().clone()).collect()
}
