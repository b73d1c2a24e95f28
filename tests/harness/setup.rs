//! What an agent of a test is told before it starts.

use crate::agent::Host;
use crate::world::{HOST_USER, Mode, World};
use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// Configuration and policies to come.
pub struct Setup {
    mode: Mode,
    agent: Vec<(String, String)>,
    limits: Vec<(String, String)>,
    more: String,
    descriptors: Option<u64>,
    mutant: Option<PathBuf>,
    through: Vec<String>,
    /// Arguments of jsi-agent besides `-D` and `--config`.
    pub(crate) args: Vec<String>,
    /// Environment of jsi-agent.
    pub(crate) env: Vec<(String, String)>,
}

impl Setup {
    /// A host agent: started by root, with a uid of its own.
    #[must_use]
    pub fn host() -> Self {
        Self::of(Mode::Host)
    }

    /// A user agent with that uid (a test that is not run by root: its own).
    #[must_use]
    pub fn user(uid: u32) -> Self {
        let own = nix::unistd::geteuid().as_raw();
        Self::of(Mode::User(if crate::is_root() { uid } else { own }))
    }

    fn of(mode: Mode) -> Self {
        Self {
            mode,
            agent: Vec::new(),
            limits: Vec::new(),
            more: String::new(),
            descriptors: None,
            mutant: None,
            through: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
        }
    }

    /// A key of `[agent]`, its value as TOML.
    #[must_use]
    pub fn agent(mut self, key: &str, value: &str) -> Self {
        self.agent.push((key.into(), value.into()));
        self
    }

    /// A key of `[limits]`, its value as TOML.
    #[must_use]
    pub fn limit(mut self, key: &str, value: &str) -> Self {
        self.limits.push((key.into(), value.into()));
        self
    }

    /// Text at the end of the configuration.
    #[must_use]
    pub fn text(mut self, toml: &str) -> Self {
        self.more.push_str(toml);
        self
    }

    /// RLIMIT_NOFILE of jsi-agent.
    #[must_use]
    pub fn descriptors(mut self, most: u64) -> Self {
        self.descriptors = Some(most);
        self
    }

    /// One more argument of jsi-agent.
    #[must_use]
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.into());
        self
    }

    /// One more variable of jsi-agent.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// A program, with arguments, that becomes jsi-agent.
    #[must_use]
    pub fn through(mut self, words: &[&str]) -> Self {
        self.through = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// The build whose checks can be disabled, with these left out (see
    /// [`crate::mutants`]).
    #[must_use]
    pub fn mutant(mut self, agent: PathBuf, without: &[&str]) -> Self {
        self.mutant = Some(agent);
        self.env("JSI_MUTANT", &without.join(","))
    }

    /// Makes the world, with a key, and starts nothing.
    #[must_use]
    pub fn install(self) -> Host {
        let world = World::new(self.mode);
        if let Some(agent) = &self.mutant {
            world.install(agent, "jsi-agent");
        }
        let config = world.config();
        std::fs::write(&config, self.toml(&world)).unwrap();
        std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o644)).unwrap();
        if world.mode != Mode::Host {
            world.give(&config);
        }
        let mut host = Host::new(world, self.args, self.env);
        host.descriptors = self.descriptors;
        host.through = self.through;
        host.make_identity();
        host
    }

    /// Makes the world with these policies (name, text) and starts the agent.
    #[must_use]
    pub fn start(self, policies: impl FnOnce(&World) -> Vec<(&'static str, String)>) -> Host {
        let mut host = self.install();
        for (name, text) in policies(&host.world) {
            host.world.write_policy(name, &text);
        }
        host.start();
        host
    }

    fn toml(&self, world: &World) -> String {
        let mut text = String::from("[agent]\n");
        let mut keys: Vec<(&str, String)> = vec![
            ("mode", if self.mode == Mode::Host { "\"host\"".into() } else { "\"user\"".into() }),
            ("socket", quoted(&world.socket())),
            ("admin_socket", quoted(&world.admin_socket())),
            ("policy_dir", quoted(&world.policy_dir())),
            ("store_dir", quoted(&world.store_dir())),
            ("log_dir", quoted(&world.log_dir())),
            ("identity", quoted(&world.identity())),
        ];
        if self.mode == Mode::Host {
            keys.push(("user", format!("\"{HOST_USER}\"")));
            keys.push(("genuine_clients", format!("[{}]", quoted(&world.bin("jsi")))));
        } else {
            keys.push(("enrolled_clients", format!("[{}]", quoted(&world.bin("jsi")))));
        }
        keys.retain(|(key, _)| !self.agent.iter().any(|(given, _)| given == key));
        for (key, value) in keys {
            writeln!(text, "{key} = {value}").unwrap();
        }
        for (key, value) in &self.agent {
            writeln!(text, "{key} = {value}").unwrap();
        }
        text.push_str("\n[limits]\n");
        for (key, value) in &self.limits {
            writeln!(text, "{key} = {value}").unwrap();
        }
        text + "\n" + &self.more
    }
}

fn quoted(path: &std::path::Path) -> String {
    format!("{:?}", path.display().to_string())
}
