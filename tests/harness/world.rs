//! One test's own corner of the machine.

use ring::rand::{SecureRandom, SystemRandom};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// Whom the agent serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Started by root, with the uid of a spare system user.
    Host,
    /// With that uid.
    User(u32),
}

/// Somebody who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Uid and gid.
    pub uid: u32,
}

/// A directory with everything that an agent needs. Removed when dropped.
pub struct World {
    dir: tempfile::TempDir,
    pub(crate) mode: Mode,
    /// The agent's uid and gid.
    pub(crate) owner: (u32, u32),
}

/// The system user whose uid the host agents of tests take: every Debian has
/// it, and nothing runs as it.
pub(crate) const HOST_USER: &str = "games";

/// The gid of `_jsi` in the mount namespace of a test: no account has it.
const CLIENT_GID: u32 = 20_900;

impl World {
    pub(crate) fn new(mode: Mode) -> Self {
        // Root-owned and 0755 all the way up, as an installed program is.
        let base = if crate::is_root() { PathBuf::from("/var/lib") } else { std::env::temp_dir() };
        let dir = tempfile::Builder::new().prefix("jsi-tests.").tempdir_in(base).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let owner = match mode {
            Mode::User(uid) => (uid, uid),
            Mode::Host => {
                let user = nix::unistd::User::from_name(HOST_USER).unwrap();
                let user = user.expect("the system user of host agents exists");
                (user.uid.as_raw(), user.gid.as_raw())
            }
        };
        let world = Self { dir, mode, owner };
        world.make("bin", 0o755, false);
        world.make("etc", 0o755, mode != Mode::Host);
        world.make("policy", 0o755, mode != Mode::Host);
        let run_mode = if mode == Mode::Host { 0o755 } else { 0o700 };
        world.make("run", run_mode, true);
        for private in ["store", "log", "key"] {
            world.make(private, 0o700, true);
        }
        for program in ["jsi", "jsi-agent"] {
            world.install(&binaries().join(program), program);
        }
        // A requester that policy can name: jsi's parent, where it asks for a shell.
        world.install(Path::new("/bin/dash"), "shell");
        if crate::is_root() {
            crate::namespace::enter(dir_of(&world), world.owner.0);
        }
        world
    }

    fn make(&self, name: &str, mode: u32, owned: bool) {
        let path = self.dir.path().join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        if owned {
            self.give(&path);
        }
    }

    /// Gives a file to the agent's uid.
    pub fn give(&self, path: &Path) {
        if crate::is_root() {
            chown(path, Some(self.owner.0), Some(self.owner.1)).unwrap();
        }
    }

    /// Copies a program to `bin/<name>`: root-owned (by root), mode 0755. Another
    /// process writes it: a descriptor of ours that is open for writing could be
    /// inherited by what another test starts meanwhile (ETXTBSY).
    pub fn install(&self, from: &Path, name: &str) -> PathBuf {
        let to = self.bin(name);
        assert!(from.is_file(), "{} is not there: run contrib/build first", from.display());
        let mut install = std::process::Command::new("/usr/bin/install");
        let status = install.args(["-m", "0755", "--"]).arg(from).arg(&to).status();
        assert!(status.expect("install(1) runs").success(), "{} is not installed", to.display());
        to
    }

    /// Makes the installed `jsi` set-group-ID for the group `_jsi`, as a package
    /// installs it; gives the gid. By root, and before the agent starts.
    pub fn install_setgid_client(&self) -> u32 {
        crate::namespace::add_group(self.path(), "_jsi", CLIENT_GID);
        let jsi = self.bin("jsi");
        chown(&jsi, Some(0), Some(CLIENT_GID)).unwrap();
        // After the change of owner, which takes the bit away.
        fs::set_permissions(&jsi, fs::Permissions::from_mode(0o2755)).unwrap();
        CLIENT_GID
    }

    /// The gid that [`install_setgid_client`](Self::install_setgid_client) takes.
    #[must_use]
    pub fn client_gid(&self) -> u32 {
        CLIENT_GID
    }

    /// The agent's uid.
    #[must_use]
    pub fn owner_uid(&self) -> u32 {
        self.owner.0
    }

    /// Compiles a hostile program to `bin/<name>`.
    pub fn compile(&self, source: &str, name: &str) -> PathBuf {
        crate::compile(source, &self.bin(name))
    }

    /// Whom its agent serves.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The world's directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// An installed program.
    #[must_use]
    pub fn bin(&self, name: &str) -> PathBuf {
        self.dir.path().join("bin").join(name)
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("etc/agent.toml")
    }

    /// The agent socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("run/agent.sock")
    }

    /// The admin socket.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.dir.path().join("run/admin.sock")
    }

    /// Where policies are.
    #[must_use]
    pub fn policy_dir(&self) -> PathBuf {
        self.dir.path().join("policy")
    }

    /// Where stored secrets are.
    #[must_use]
    pub fn store_dir(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// Where the log is.
    #[must_use]
    pub fn log_dir(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// The store's age identity.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.dir.path().join("key/identity")
    }

    /// What the agent has said on stdout and stderr.
    #[must_use]
    pub fn said(&self) -> String {
        let said = fs::read(self.dir.path().join("agent.said")).unwrap_or_default();
        String::from_utf8_lossy(&said).into_owned()
    }

    /// The log's segments in order.
    #[must_use]
    pub fn segments(&self) -> Vec<PathBuf> {
        let mut found: Vec<_> = fs::read_dir(self.log_dir())
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "jsonl"))
            .collect();
        found.sort();
        found
    }

    /// Writes `policy/<name>.cedar`.
    pub fn write_policy(&self, name: &str, text: &str) -> PathBuf {
        let path = self.policy_dir().join(format!("{name}.cedar"));
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        if self.mode != Mode::Host {
            self.give(&path);
        }
        path
    }

    /// A directory that belongs to a peer.
    pub fn home(&self, peer: Peer) -> PathBuf {
        let path = self.dir.path().join(format!("home-{}", peer.uid));
        if !path.is_dir() {
            fs::create_dir(&path).unwrap();
            if crate::is_root() {
                chown(&path, Some(peer.uid), Some(peer.uid)).unwrap();
            }
        }
        path
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A test may have mounted a small file system there.
        for small in [self.log_dir(), self.store_dir()] {
            let _ = nix::mount::umount2(&small, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

fn dir_of(world: &World) -> &Path {
    world.dir.path()
}

/// Where the binaries under test are: `JSI_BIN_DIR`, else what contrib/build makes.
pub(crate) fn binaries() -> PathBuf {
    std::env::var_os("JSI_BIN_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/jsi/bin"),
        PathBuf::from,
    )
}

/// A secret made at run time: 32 letters and digits that stand nowhere else.
#[must_use]
pub fn random_secret() -> String {
    let mut bytes = [0u8; 32];
    SystemRandom::new().fill(&mut bytes).unwrap();
    let symbols = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz23456789";
    bytes.iter().map(|b| char::from(symbols[usize::from(*b) % symbols.len()])).collect()
}
