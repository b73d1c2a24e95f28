//! How the agent is.

use super::Pipeline;
use super::start::KEPT_FREE;
use crate::clock::WallTime;
use crate::config::{Config, Mode, opens_by_itself};
use crate::connection::{AcceptLimits, Connection};
use crate::delivery::{Failure, Resources, StatusReport};
use crate::lease::Filter;
use crate::log::LeaseState;
use crate::memory::{Guard, Shield};
use crate::policy::Action;
use crate::process::{Settings, descriptor_limit, memlock_limit};
use std::sync::Arc;

/// What does not change while the agent runs.
pub(super) struct About {
    pub(super) pid: u32,
    pub(super) attestor_pid: u32,
    pub(super) launcher_pid: u32,
    pub(super) started: WallTime,
    pub(super) advisory: Vec<String>,
    pub(super) guarded_memory: &'static str,
    pub(super) settings: Settings,
    pub(super) accepting: Arc<AcceptLimits>,
    pub(super) shield: Arc<Shield>,
    pub(super) guard: Guard,
}

impl About {
    /// The settings that differ and that only a new start can change.
    pub(super) fn needs_restart(&self, old: &Config, new: &Config) -> Vec<String> {
        let changed = [
            ("mode", old.mode != new.mode),
            ("user", old.run_as != new.run_as),
            ("socket", old.socket != new.socket),
            ("admin_socket", old.admin_socket != new.admin_socket),
            ("admin_group", old.admin_gid != new.admin_gid),
            ("store_dir", old.store_dir != new.store_dir),
            ("log_dir", old.log_dir != new.log_dir),
            ("identity", old.identity != new.identity),
            ("reflection", old.reflection != new.reflection),
        ];
        let named = changed.into_iter().filter(|(_, differs)| *differs);
        named.map(|(name, _)| format!("RESTART_REQUIRED: {name} keeps its old value")).collect()
    }
}

impl Pipeline {
    pub(super) async fn report(&self, on: &Connection) -> Result<StatusReport, Failure> {
        self.administer(on, Action::Administer).await?;
        let force = self.in_force();
        let about = &self.about;
        let limits = force.config.limits;
        let leases = self.engine.list(&Filter::default());
        let stuck = leases.iter().filter(|view| view.state == LeaseState::Stuck).count();
        let live = leases.iter().filter(|view| view.state == LeaseState::Active).count();
        let head = self.log.head();
        let mut notices = force.policies.warnings().to_vec();
        for info in force.catalogue.stored("") {
            notices.extend(info.fault.map(|fault| format!("{}: {fault}", info.name)));
        }
        notices.extend(force.jwt.values().filter_map(|issuer| issuer.fault()));
        if stuck > 0 {
            notices.push(format!("{stuck} leases are stuck: their backend refused to revoke them"));
        }
        Ok(StatusReport {
            pid: about.pid,
            attestor_pid: about.attestor_pid,
            launcher_pid: about.launcher_pid,
            started: about.started,
            locked: self.why_locked(),
            lock: self.lock_report().await,
            advisory: about.advisory.clone(),
            mode: match force.config.mode {
                Mode::Host => "host",
                Mode::User => "user",
            },
            leases_active: live,
            leases_stuck: stuck,
            policies: force.policies.len(),
            credentials: force.catalogue.names().len(),
            log_records: head.size,
            log_head: head.root.clone(),
            log_fault: self.log.fault(),
            limits: vec![
                ("connections", about.accepting.open().into(), about.accepting.most().into()),
                ("leases", live as u64, limits.leases.into()),
            ],
            socket: force.config.socket.display().to_string(),
            guarded_memory: about.guarded_memory,
            notices,
            policy_dir: force.config.policy_dir.display().to_string(),
            log_dir: force.config.log_dir.display().to_string(),
            places: force.config.places(),
            resources: self.resources(),
            identity_kind: if opens_by_itself(&force.config.identity) {
                "key file"
            } else {
                "encrypted"
            },
        })
    }

    fn resources(&self) -> Resources {
        let bytes = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let (mapped, used) = self.about.guard.usage();
        Resources {
            // A limit that the kernel does not tell is shown as none at all.
            memlock: memlock_limit().unwrap_or(0),
            descriptors: descriptor_limit().unwrap_or(0),
            descriptors_kept: KEPT_FREE,
            guarded_mapped: bytes(mapped),
            guarded_used: bytes(used),
        }
    }
}
