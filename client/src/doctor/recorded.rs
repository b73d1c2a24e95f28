//! Facts of a host that is as it should be, and of one that is not.

use super::facts::{
    Agent, Client, Configuration, Discipline, Disk, Facts, Feature, Host, Kind, Local, Operator,
    Place, Socket, SocketState, Step, StepState,
};
use jsi_client::v1::{Credential, CredentialClass, LimitUse, Resources, StatusResponse};

impl Facts {
    /// A host agent on a recent kernel; nothing is wrong.
    pub(super) fn recorded() -> Self {
        let features = [
            "pidfd",
            "so_peerpidfd",
            "pidfd_get_info",
            "pagemap_scan",
            "procmap_query",
            "memfd_secret",
            "landlock",
            "seccomp",
            "fs_verity",
            "so_passrights",
        ];
        let present = Feature { present: true, ..Feature::default() };
        Self {
            client: Client {
                version: "0.1.0".to_owned(),
                uid: 1000,
                exe: Some("/usr/bin/jsi".into()),
                in_path: Some("/usr/bin/jsi".into()),
                rlimit_memlock: 8 << 20,
                rlimit_nofile: 1 << 20,
                rlimit_core: 0,
            },
            socket: Socket {
                path: "/run/jsi/agent.sock".into(),
                origin: "the host agent's place".to_owned(),
                state: SocketState::Answers,
                ..Socket::default()
            },
            agent: Some(Agent {
                version: "0.1.0".to_owned(),
                uid: 900,
                via: "genuine client".to_owned(),
                assurance: 1,
                ..Agent::default()
            }),
            status: Operator::Answered(StatusResponse {
                version: "0.1.0".to_owned(),
                mode: "host".to_owned(),
                guarded_memory: "memfd_secret".to_owned(),
                limits: vec![LimitUse { name: "leases".to_owned(), used: 1, limit: 200_000 }],
                resources: Some(Resources {
                    memlock: 8 << 20,
                    descriptors: 1 << 19,
                    guarded_mapped: 16 << 10,
                    guarded_used: 4 << 10,
                    descriptors_kept: 64,
                }),
                ..StatusResponse::default()
            }),
            credentials: Operator::Answered(vec![Credential {
                name: "db/orders".to_owned(),
                owner: "dba".to_owned(),
                purpose: "orders".to_owned(),
                credential_class: CredentialClass::Dynamic.into(),
                ..Credential::default()
            }]),
            local: Some(Local {
                version: "0.1.0".to_owned(),
                kernel: features.map(|name| (name.to_owned(), present.clone())).into(),
                clock: Discipline {
                    synchronised: true,
                    max_error_us: 900,
                    ..Discipline::default()
                },
                configuration: Configuration::default(),
            }),
            local_error: String::new(),
            host: Host {
                kernel: "6.18.44".to_owned(),
                ptrace_scope: Some(1),
                suid_dumpable: Some(0),
                core_pattern: "core".to_owned(),
                user_namespaces: Some(true),
                clock_source: "tsc".to_owned(),
                time_daemon: "chrony".to_owned(),
                now: 1_800_000_000,
                since_boot: 5000,
                memory_available: Some(4 << 30),
                ..Host::default()
            },
            places: vec![Place {
                what: "log".to_owned(),
                path: "/var/lib/jsi/log".into(),
                steps: vec![Step {
                    path: "/var/lib/jsi/log".into(),
                    state: StepState::Found {
                        uid: 900,
                        gid: 900,
                        mode: 0o700,
                        kind: Kind::Directory,
                    },
                }],
            }],
            disks: vec![Disk {
                what: "log".to_owned(),
                path: "/var/lib/jsi/log".into(),
                free: 1 << 36,
                size: 1 << 38,
                free_inodes: 1 << 20,
                inodes: 1 << 22,
                read_only: false,
            }],
        }
    }

    /// The same host with everything wrong that an answering agent allows.
    pub(super) fn spoil(&mut self) {
        if let Some(agent) = &mut self.agent {
            agent.version = "0.0.9".to_owned();
            agent.via = "direct".to_owned();
            agent.advisory = true;
            agent.reasons = vec!["the identity key file /k is readable by uid 1000".to_owned()];
        }
        if let Operator::Answered(status) = &mut self.status {
            status.locked = true;
            status.log_fault = "no space left".to_owned();
            status.leases_stuck = 1;
            status.notices = vec!["something".to_owned()];
            status.guarded_memory = "mlock".to_owned();
            status.limits = vec![LimitUse { name: "leases".to_owned(), used: 1, limit: 1 }];
            status.resources =
                Some(Resources { memlock: 1, descriptors: 1, ..Resources::default() });
            status.started_at = Some(prost_types::Timestamp { seconds: 1_900_000_000, nanos: 0 });
        }
        self.credentials = Operator::Answered(vec![Credential::default()]);
        if let Some(local) = &mut self.local {
            local.kernel.values_mut().for_each(|feature| feature.present = false);
            local.clock.synchronised = false;
        }
        self.host.kernel = "4.19.0".to_owned();
        self.host.ptrace_scope = Some(0);
        self.host.suid_dumpable = Some(1);
        self.host.core_pattern = "|/usr/bin/handler".to_owned();
        self.host.hibernation = true;
        self.host.swap = vec!["/dev/sda2".to_owned()];
        self.client.in_path = Some("/tmp/jsi".into());
        for place in &mut self.places {
            place.steps[0].state =
                StepState::Found { uid: 7, gid: 7, mode: 0o777, kind: Kind::Directory };
        }
        for disk in &mut self.disks {
            disk.free = 0;
        }
    }
}
