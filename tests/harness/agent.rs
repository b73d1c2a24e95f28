//! A running agent: started in the foreground, ended by pid.

use crate::world::{Mode, World};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::OpenOptions;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A world and the agent in it.
pub struct Host {
    /// Where everything is.
    pub world: World,
    args: Vec<String>,
    env: Vec<(String, String)>,
    /// RLIMIT_NOFILE of the agent; `None`: the test's own.
    pub(crate) descriptors: Option<u64>,
    /// What becomes the agent when it is started.
    pub(crate) through: Vec<String>,
    broker: Option<Child>,
    others: Vec<u32>,
}

/// The agent's processes.
#[derive(Clone, Copy, Debug)]
pub struct Pids {
    /// Sockets, policy, secrets.
    pub broker: u32,
    /// Reads /proc.
    pub attestor: u32,
    /// Starts helpers.
    pub launcher: u32,
}

impl Host {
    pub(crate) fn new(world: World, args: Vec<String>, env: Vec<(String, String)>) -> Self {
        Self {
            world,
            args,
            env,
            descriptors: None,
            through: Vec::new(),
            broker: None,
            others: Vec::new(),
        }
    }

    /// `jsi-agent` with the world's configuration and the uid that starts it.
    #[must_use]
    pub fn agent_command(&self) -> Command {
        let agent = self.world.bin("jsi-agent");
        let mut command = match self.descriptors {
            None => Command::new(agent),
            Some(most) => {
                // Becomes the agent, with that soft and hard limit.
                let mut command = Command::new("/usr/bin/prlimit");
                command.arg(format!("--nofile={most}:{most}")).arg("--").arg(agent);
                command
            }
        };
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LANG", "C.UTF-8")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(self.world.path())
            .stdin(Stdio::null());
        if let (Mode::User(uid), true) = (self.world.mode, crate::is_root()) {
            command.uid(uid).gid(uid);
        }
        command
    }

    pub(crate) fn make_identity(&self) {
        let mut init = self.agent_command();
        if self.world.mode == Mode::Host {
            let (uid, gid) = self.world.owner;
            init.uid(uid).gid(gid);
        }
        // What init would make beside the identity is not used: this world has its own.
        let scratch = self.world.path().join("key/init");
        init.args(["init", "--no-passphrase", "--config-dir"]).arg(scratch);
        let out = init.arg("--identity").arg(self.world.identity()).output().unwrap();
        assert!(
            out.status.success(),
            "jsi-agent init: {}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
    }

    /// Starts the agent and waits until it serves; gives the time that took.
    pub fn start(&mut self) -> Duration {
        let begun = Instant::now();
        let mut child = self.spawn();
        let sockets = [self.world.socket(), self.world.admin_socket()];
        crate::until("the agent serves its sockets", Duration::from_secs(20), || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the agent ended at start ({status}):\n{}", self.world.said());
            }
            sockets.iter().all(|path| UnixStream::connect(path).is_ok()).then_some(())
        });
        let took = begun.elapsed();
        self.broker = Some(child);
        let pids = self.pids();
        self.others = vec![pids.attestor, pids.launcher];
        took
    }

    /// Starts the agent, which is expected to refuse; gives its exit code and words.
    #[must_use]
    pub fn start_refused(&mut self) -> (i32, String) {
        let mut child = self.spawn();
        let status = wait_for_end(&mut child, Duration::from_secs(10));
        let Some(status) = status else {
            self.broker = Some(child);
            panic!("the agent started where it should have refused:\n{}", self.world.said());
        };
        (status.code().unwrap_or(-1), self.world.said())
    }

    fn spawn(&self) -> Child {
        let said = self.world.path().join("agent.said");
        let out = OpenOptions::new().create(true).append(true).open(said).unwrap();
        let mut command = self.agent_command();
        if let [program, words @ ..] = self.through.as_slice() {
            let mut through = Command::new(program);
            through.args(words).arg(command.get_program()).args(command.get_args()).env_clear();
            through.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
            through.current_dir(self.world.path()).stdin(Stdio::null());
            command = through;
        }
        command.arg("-D").arg("--config").arg(self.world.config()).args(&self.args);
        command.stdout(out.try_clone().unwrap()).stderr(out);
        command.spawn().expect("jsi-agent starts")
    }

    /// The three processes: the broker's children tell themselves apart by name.
    #[must_use]
    pub fn pids(&self) -> Pids {
        let broker = self.broker.as_ref().expect("the agent runs").id();
        let children = || {
            let path = format!("/proc/{broker}/task/{broker}/children");
            let text = std::fs::read_to_string(path).unwrap_or_default();
            text.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<u32>>()
        };
        crate::until("attestor and launcher run", Duration::from_secs(5), || {
            let named = |part: &str| {
                children().into_iter().find(|pid| {
                    let comm = std::fs::read_to_string(format!("/proc/{pid}/comm"));
                    comm.unwrap_or_default().contains(part)
                })
            };
            Some(Pids { broker, attestor: named("attest")?, launcher: named("launch")? })
        })
    }

    /// Sends the broker a signal.
    pub fn signal(&self, signal: Signal) {
        let broker = self.broker.as_ref().expect("the agent runs").id();
        kill(pid(broker), signal).unwrap();
    }

    /// Waits for the broker's end and checks that the two others end with it.
    pub fn wait(&mut self) -> ExitStatus {
        let mut child = self.broker.take().expect("the agent runs");
        let status = wait_for_end(&mut child, Duration::from_secs(20));
        let Some(status) = status else {
            self.broker = Some(child);
            panic!("the agent did not end:\n{}", self.world.said());
        };
        for other in std::mem::take(&mut self.others) {
            crate::until("no process of the agent is left", Duration::from_secs(5), || {
                gone(other).then_some(())
            });
        }
        status
    }

    /// SIGTERM, and the end of all three.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    /// SIGKILL for the broker, and the end of all three.
    pub fn crash(&mut self) -> ExitStatus {
        self.signal(Signal::SIGKILL);
        self.wait()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let Some(mut child) = self.broker.take() else { return };
        let _ = kill(pid(child.id()), Signal::SIGCONT);
        let _ = kill(pid(child.id()), Signal::SIGTERM);
        if wait_for_end(&mut child, Duration::from_secs(5)).is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            println!("--- what the agent said\n{}", self.world.said());
        }
    }
}

fn wait_for_end(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if begun.elapsed() > limit {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn gone(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

fn pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap())
}
