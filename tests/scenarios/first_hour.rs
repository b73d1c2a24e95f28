//! The first hour of the README, typed as it stands there by somebody who has
//! installed jsi and nothing else, and compared with what it says they see.
//!
//! Where another text is meant: `TRYCMD=dump cargo test -p jsi-tests --test
//! scenarios first_hour` shows what is said now.

use jsi_tests::{PEERS, Setup, needs_root};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

/// The section that is typed, up to the next one.
const HEADING: &str = "## The first hour\n";

#[test]
fn the_first_hour_of_the_readme_is_as_it_says() {
    needs_root!();
    // A user agent's world, with nothing of it made: init is part of the hour.
    let host = Setup::user(PEERS[0].uid).install();
    let home = host.world.home(PEERS[0]);
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let hour = readme.split_once(HEADING).expect("the README has a first hour").1;
    let hour = hour.split_once("\n## ").map_or(hour, |(hour, _)| hour);
    // trycmd runs what stands beside NAME.in in a copy of that.
    let place = host.world.path().join("hour");
    fs::create_dir_all(place.join("README.in")).unwrap();
    fs::write(place.join("README.md"), hour).unwrap();
    let secret = jsi_tests::random_secret();
    let env = place.join("README.in/.env");
    fs::write(&env, format!("DATABASE_URL=postgres://app:{secret}@localhost/orders\n")).unwrap();
    for path in [&env, &place.join("README.in")] {
        chown(path, Some(PEERS[0].uid), Some(PEERS[0].uid)).unwrap();
    }
    fs::set_permissions(&env, fs::Permissions::from_mode(0o600)).unwrap();
    let runtime = home.join("runtime");
    fs::create_dir(&runtime).unwrap();
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700)).unwrap();
    chown(&runtime, Some(PEERS[0].uid), Some(PEERS[0].uid)).unwrap();

    let _agent = Started(&host);
    let cases = trycmd::TestCases::new();
    for program in ["jsi", "jsi-agent"] {
        cases.register_bin(program, shell_running(&host, program));
    }
    cases.case(place.join("README.md"));
    cases.run();
    drop(cases);
    let said = fs::read_to_string(place.join("README.md")).unwrap();
    assert!(!said.contains(&secret), "no value is in a golden file");
}

/// The agent that the hour has started, ended with the test.
struct Started<'a>(&'a jsi_tests::Host);

impl Drop for Started<'_> {
    fn drop(&mut self) {
        let runtime = self.0.world.home(PEERS[0]).join("runtime");
        let script = "JSI_AGENT_PID=$(jsi status -o json | sed -n 's/.*\"pid\": \\([0-9]*\\).*/\\1/p' \
                      | head -n 1); export JSI_AGENT_PID; jsi-agent -k";
        let ended = self.0.shell(PEERS[0], script).env("XDG_RUNTIME_DIR", runtime);
        let ended = ended.env("JSI_AUTH_SOCK", "").run();
        assert!(ended.code == 0 || std::thread::panicking(), "the agent was not ended:\n{ended}");
    }
}

/// A bash that runs `program`: a person's commands have a shell above them, and
/// it is the shell that asks.
fn shell_running(host: &jsi_tests::Host, program: &str) -> std::path::PathBuf {
    let peer = PEERS[0];
    let wrapper = host.world.bin(&format!("typed-{program}"));
    let home = host.world.home(peer);
    let bin = host.world.path().join("bin");
    let text = format!(
        "#!/bin/sh\nexec /usr/bin/env -i PATH={bin}:/usr/bin:/bin HOME={home} LANG=C.UTF-8 \
         XDG_RUNTIME_DIR={home}/runtime /usr/bin/setpriv --reuid={uid} --regid={uid} --clear-groups \
         /bin/bash -c '\"$0\" \"$@\"; exit $?' {bin}/{program} \"$@\"\n",
        bin = bin.display(),
        home = home.display(),
        uid = peer.uid,
    );
    fs::write(&wrapper, text).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    wrapper
}
