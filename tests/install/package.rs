//! The Debian package: built by cargo-deb, installed, upgraded, removed, purged.

use crate::machine::{Machine, binaries, difference, top};
use crate::{PERMIT, end_agent};
use jsi_tests::{needs_root, not_run};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Two versions of the package, `jsi_1.deb` and `jsi_2.deb`, in one directory.
/// `None`: they cannot be built here; why was recorded.
pub(crate) fn packages() -> Option<&'static Path> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match BUILT.get_or_init(build) {
        Ok(directory) => Some(directory),
        Err(why) => {
            not_run(module_path!(), line!(), why);
            None
        }
    }
}

fn build() -> Result<PathBuf, String> {
    let directory = top().join("target/jsi/deb-tests");
    let next = directory.join("next");
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&next).unwrap();
    // The second version does the same, and its bytes are others.
    for name in ["jsi", "jsi-agent"] {
        let mut bytes = std::fs::read(binaries().join(name)).unwrap();
        bytes.extend(b"next");
        std::fs::write(next.join(name), bytes).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(next.join(name), mode).unwrap();
    }
    for (number, bin) in [(1, binaries()), (2, next.clone())] {
        let mut build = Command::new(top().join("contrib/deb/build"));
        build.args(["--version", &format!("0.1.{number}-1")]).env("JSI_BIN_DIR", bin);
        let out = build.output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        if !out.status.success() {
            // Without a registry there is no cargo-deb; all else is a fault.
            let unreachable = ["Could not resolve", "download of", "failed to fetch", "registry"];
            let why = format!("cargo-deb cannot be installed here: {said}");
            assert!(unreachable.iter().any(|part| said.contains(part)), "{said}");
            return Err(why);
        }
        let made = String::from_utf8_lossy(&out.stdout).lines().last().unwrap().to_owned();
        std::fs::rename(top().join(made), directory.join(format!("jsi_{number}.deb"))).unwrap();
    }
    Ok(directory)
}

#[test]
fn a_package_installs_serves_upgrades_and_goes_without_a_trace() {
    needs_root!();
    let Some(packages) = packages() else { return };
    let machine = Machine::with_packages(packages);
    let before = machine.listing();
    machine.does("dpkg --install /mnt/debs/jsi_1.deb");
    let modes =
        machine.does("stat -c '%a %U:%G' /usr/bin/jsi /usr/bin/jsi-agent /var/lib/jsi/identity");
    assert_eq!(modes, "2755 root:_jsi\n755 root:root\n600 jsi:jsi\n");

    machine.does("jsi-agent >/dev/null");
    machine.does(PERMIT);
    let got = machine.as_user("jsi get db/orders");
    assert_eq!(got.text.trim(), "s3cret-of-the-tests", "{got}");
    let who = machine.as_user("jsi whoami");
    assert!(who.text.contains("mode 2755") && who.text.contains("genuine client"), "{who}");

    // A shell that holds a lease while the package is upgraded below it.
    machine.does(
        "(exec setpriv --reuid 20001 --regid 20001 --clear-groups /bin/sh -c '
           jsi get db/orders >/dev/null; echo HELD; sleep 600; exit' >/run/held 2>&1) & disown -a
         for i in $(seq 100); do grep -q HELD /run/held && break; sleep 0.1; done",
    );
    let lease =
        machine.does("jsi leases --all -o json | grep -o 'db/orders/[a-z2-7]*' | head -n 1");
    let former = machine.does("sha256sum </usr/bin/jsi");
    machine.does("echo '# mine' >>/etc/jsi/client.toml; dpkg --install /mnt/debs/jsi_2.deb");
    assert_eq!(machine.does("stat -c %a:%G /usr/bin/jsi"), "2755:_jsi\n");
    assert!(machine.does("cat /etc/jsi/clients.sha256").contains(&former[..64]));
    assert!(machine.does("cat /etc/jsi/client.toml").contains("# mine"), "a conffile is kept");
    let got = machine.as_user("jsi get db/orders");
    assert_eq!(got.text.trim(), "s3cret-of-the-tests", "the new client, the old agent: {got}");
    machine.does(&end_agent("USR2"));
    machine.does("jsi-agent >/dev/null");
    let live = machine.does("jsi leases --all -o json");
    assert!(live.contains(lease.trim()), "{lease} lives on: {live}");
    machine.does("jsi audit verify");

    machine.does(&end_agent("TERM"));
    machine.does("dpkg --remove jsi; test -s /var/lib/jsi/identity; test -e /etc/jsi/agent.toml");
    // A key and secrets that were kept are taken up again.
    machine.does(
        "dpkg --install /mnt/debs/jsi_2.deb; jsi-agent >/dev/null; jsi secret ls | grep db/orders",
    );
    machine.does(&end_agent("TERM"));
    machine.does("dpkg --purge jsi");
    assert_eq!(difference(&before, &machine.listing()), [""; 0]);
    machine.does(
        "! getent passwd jsi && ! getent group _jsi && ! dpkg-statoverride --list /usr/bin/jsi",
    );
}

#[test]
fn lintian_finds_no_fault_in_the_package() {
    needs_root!();
    if !Path::new("/usr/bin/lintian").exists() {
        not_run(module_path!(), line!(), "install lintian");
        return;
    }
    let Some(packages) = packages() else { return };
    let mut lintian = Command::new("/usr/bin/lintian");
    let out = lintian.args(["--fail-on", "error", "--"]).arg(packages.join("jsi_1.deb"));
    let out = out.env_remove("LD_LIBRARY_PATH").output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    println!("{said}");
    assert!(out.status.success(), "{said}");
}
