//! Whole processes: what a person in a shell waits for.

use crate::{Effort, Table, percentiles, timed};
use jsi_tests::{Host, Peer};
use std::process::{Command, Stdio};
use std::time::Duration;

/// `jsi get` beside `ssh-add -l` and a process that does nothing, alternating.
pub(crate) fn measure(host: &Host, effort: Effort, table: &mut Table) {
    let Some(mut ssh) = SshAgent::start(host) else {
        println!("not run: ssh-agent is not installed (Debian: openssh-client)");
        return;
    };
    let (mut gets, mut lists, mut nothings) = (vec![], vec![], vec![]);
    let mut get = Command::new(host.world.bin("jsi"));
    get.args(["get", "bench/one"]).env("JSI_AUTH_SOCK", host.world.socket());
    // A file younger than a second is hashed at every look, and those of this
    // world have just been written. No installed client is that young.
    std::thread::sleep(Duration::from_secs(2));
    table.row("jsi get: the first", "us", run(&mut get).as_secs_f64() * 1e6);
    for _ in 0..effort.processes {
        gets.push(run(&mut get));
        lists.push(run(ssh.client().arg("-l")));
        nothings.push(run(&mut Command::new("/bin/true")));
    }
    ssh.stop();
    for (what, times) in [("jsi get", gets), ("ssh-add -l", lists), ("/bin/true", nothings)] {
        let (median, p99) = percentiles(times);
        table.row(&format!("{what}: whole process, p50"), "us", median);
        table.row(&format!("{what}: whole process, p99"), "us", p99);
    }
    let get = table.value("jsi get: whole process, p50");
    let list = table.value("ssh-add -l: whole process, p50");
    table.row("jsi get / ssh-add -l (goal: 0.5)", "", get / list);
}

/// `jsi exec` beside the same command executed by `env`, alternating: what a
/// credential costs on top of what becoming a command costs anyway.
pub(crate) fn exec(host: &Host, effort: Effort, table: &mut Table) {
    let mut leased = Command::new(host.world.bin("jsi"));
    leased.args(["exec", "-e", "VALUE=bench/one", "--", "/bin/true"]);
    leased.env("JSI_AUTH_SOCK", host.world.socket());
    let mut plain = Command::new("/usr/bin/env");
    plain.args(["VALUE=x", "/bin/true"]);
    let (mut with, mut without) = (vec![], vec![]);
    for _ in 0..effort.processes {
        with.push(run(&mut leased));
        without.push(run(&mut plain));
    }
    for (what, times) in [("jsi exec true", with), ("env true", without)] {
        let (median, p99) = percentiles(times);
        table.row(&format!("{what}: whole process, p50"), "us", median);
        table.row(&format!("{what}: whole process, p99"), "us", p99);
    }
    let cost = table.value("jsi exec true: whole process, p50");
    let bare = table.value("env true: whole process, p50");
    table.row("jsi exec true - env true", "us", cost - bare);
    table.row("jsi exec true / env true", "", cost / bare);
}

fn run(command: &mut Command) -> Duration {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    timed(|| assert!(command.status().unwrap().success(), "{command:?}"))
}

/// An ssh-agent with one key.
struct SshAgent {
    child: std::process::Child,
    socket: std::path::PathBuf,
}

impl SshAgent {
    fn start(host: &Host) -> Option<Self> {
        let place = host.world.home(Peer { uid: 0 });
        let (socket, key) = (place.join("ssh.sock"), place.join("key"));
        let child = Command::new("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        let agent = Self { child, socket };
        jsi_tests::until("ssh-agent serves", Duration::from_secs(5), || {
            agent.socket.exists().then_some(())
        });
        let mut make = Command::new("ssh-keygen");
        make.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key);
        assert!(make.status().unwrap().success());
        assert!(agent.client().arg("-q").arg(&key).status().unwrap().success());
        Some(agent)
    }

    fn client(&self) -> Command {
        let mut client = Command::new("ssh-add");
        client.env("SSH_AUTH_SOCK", &self.socket);
        client
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for SshAgent {
    fn drop(&mut self) {
        self.stop();
    }
}
