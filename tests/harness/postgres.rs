//! A real PostgreSQL server of the test's own.

use crate::random_secret;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A server on a Unix socket; ended and removed when dropped.
pub struct Postgres {
    dir: tempfile::TempDir,
    programs: PathBuf,
    owner: (u32, u32),
    /// Password of the role `admin`.
    pub password: String,
}

impl Postgres {
    /// Starts one. `None`: PostgreSQL is not installed (Debian: `postgresql`).
    #[must_use]
    pub fn start() -> Option<Self> {
        let programs = installed()?;
        let dir = tempfile::Builder::new().prefix("jsi-pg.").tempdir().unwrap();
        let owner = if crate::is_root() {
            let user = nix::unistd::User::from_name("postgres").unwrap()?;
            (user.uid.as_raw(), user.gid.as_raw())
        } else {
            (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
        };
        let server = Self { dir, programs, owner, password: random_secret() };
        let at = server.dir.path();
        if crate::is_root() {
            chown(at, Some(owner.0), Some(owner.1)).unwrap();
        }
        std::fs::set_permissions(at, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let password_file = at.join("password");
        std::fs::write(&password_file, &server.password).unwrap();
        if crate::is_root() {
            chown(&password_file, Some(owner.0), Some(owner.1)).unwrap();
        }
        let data = at.join("data");
        server.run("initdb", |c| {
            c.arg("-D").arg(&data).args(["-U", "admin", "--auth-local=scram-sha-256"]);
            c.arg("--auth-host=reject").arg("--no-sync").arg(flag("--pwfile", &password_file));
        });
        std::fs::remove_file(&password_file).unwrap();
        let options = format!("-c listen_addresses='' -c unix_socket_directories={}", at.display());
        server.run("pg_ctl", |c| {
            c.arg("-D").arg(&data).arg("-l").arg(at.join("server.log"));
            c.args(["-w", "-o", &options, "start"]);
        });
        Some(server)
    }

    /// The directory of its socket: PGHOST.
    #[must_use]
    pub fn host(&self) -> &Path {
        self.dir.path()
    }

    /// One of its programs: `psql`.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    fn run(&self, program: &str, arguments: impl FnOnce(&mut Command)) {
        let mut command = Command::new(self.programs.join(program));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LANG", "C.UTF-8");
        command.current_dir(self.dir.path());
        if crate::is_root() {
            command.uid(self.owner.0).gid(self.owner.1);
        }
        arguments(&mut command);
        // Output goes to files that the server would otherwise keep open.
        let said = std::fs::File::create(self.dir.path().join(format!("{program}.said"))).unwrap();
        command.stdout(said.try_clone().unwrap()).stderr(said);
        let status = command.status().unwrap();
        let said = std::fs::read_to_string(self.dir.path().join(format!("{program}.said")));
        assert!(status.success(), "{program}: {}", said.unwrap());
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let data = self.dir.path().join("data");
        self.run("pg_ctl", |c| {
            c.arg("-D").arg(&data).args(["-w", "-m", "immediate", "stop"]);
        });
    }
}

/// The directory of the newest installed server's programs.
fn installed() -> Option<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .map(|entry| entry.unwrap().path().join("bin"))
        .filter(|bin| bin.join("initdb").is_file())
        .collect();
    found.sort();
    found.pop()
}

fn flag(name: &str, value: &Path) -> String {
    format!("{name}={}", value.display())
}
