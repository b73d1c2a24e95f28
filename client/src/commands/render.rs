//! `jsi render`: a template filled in, in a file that lives as long as its
//! leases do.

mod stay;

use super::exec::files::{file_name, read};
use super::exec::target::Target;
use crate::failure::Failure;
use crate::files::{FileDir, Orders, Place, Reaper, orders};
use crate::obtain::{Obtained, Terms, obtain};
use crate::plan::{Item, Mode, Origin, Plan};
use crate::{output, session};
use jsi_client::v1::{Lease, binding};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// In which a command finds the path.
const VARIABLE: &str = "JSI_RENDERED";

#[derive(clap::Args)]
#[command(after_help = "\
Prints the path of the file and stays: renews the leases, fills the template in
anew when a secret is replaced, and removes the file when a lease ends or at
Ctrl-C. Put an & behind it to go on in the shell.
  jsi render app.yaml.tmpl -o /run/app/app.yaml

With --once the leases are the shell's that asks: the file stays until it exits.
  export KUBECONFIG=$(jsi render --once kube.yaml.tmpl)

With a command it becomes the command, and the file goes with that; the command
finds the path in $JSI_RENDERED.
  jsi render app.yaml.tmpl -- sh -c 'app --config $JSI_RENDERED'

${jsi:db/orders#password} stands for a field, ${jsi:db/orders|urlencode} for one
that goes through a filter, $${jsi: for itself; nothing else is changed.")]
pub(crate) struct Arguments {
    /// The template: any text with ${jsi:REF} in it
    #[arg(value_name = "TEMPLATE")]
    template: PathBuf,
    /// The file [default: one named after the template, in a directory of its own on memory]
    #[arg(short = 'o', long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Its permissions
    #[arg(long, value_name = "OCTAL", default_value = "600", value_parser = mode)]
    mode: u32,
    /// Its owner, in numbers; takes a privilege
    #[arg(long, value_name = "UID[:GID]", value_parser = owner)]
    owner: Option<(u32, Option<u32>)>,
    /// Do not stay; the file goes with the shell that asks
    #[arg(long, conflicts_with = "command")]
    once: bool,
    /// Let PATH be on a disk, where removed values may stay
    #[arg(long, requires = "output")]
    allow_disk: bool,
    /// How long, at most: 90s, 15m, 1h30m, 2d
    #[arg(long, value_name = "TIME", value_parser = super::renew::ttl, allow_hyphen_values = true)]
    ttl: Option<Duration>,
    /// Narrow every credential; keys are the issuer's
    #[arg(long, value_name = "KEY=VALUE", value_parser = crate::plan::scope)]
    scope: Vec<(String, String)>,
    /// Why, for the log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    note: String,
    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

fn mode(text: &str) -> Result<u32, &'static str> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("write it as 600 or 0640"),
    }
}

fn owner(text: &str) -> Result<(u32, Option<u32>), &'static str> {
    let number = |text: &str| text.parse().map_err(|_| "write it in numbers: 1000 or 1000:1000");
    match text.split_once(':') {
        Some((uid, gid)) => Ok((number(uid)?, Some(number(gid)?))),
        None => Ok((number(text)?, None)),
    }
}

/// A file to come, and what is to be in it.
struct Rendering {
    plan: Plan,
    terms: Terms,
    dir: FileDir,
    name: String,
    mode: u32,
    owner: Option<(u32, Option<u32>)>,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let mut rendering = Rendering::of(&arguments)?;
    let done = render(&mut rendering, &arguments);
    if done.is_err() {
        rendering.dir.remove();
    }
    done
}

fn render(rendering: &mut Rendering, arguments: &Arguments) -> Result<(), Failure> {
    let Some(program) = arguments.command.first() else {
        return if arguments.once { once(rendering) } else { stay::stay(rendering) };
    };
    let target = Target::find(program, std::env::var_os("PATH").as_deref())?;
    let mut command = target.command(&arguments.command, false);
    rendering.terms.target = Some(target.claim());
    let (_, path) = first(rendering, |_| Ok(std::process::id()))?;
    command.env(VARIABLE, path);
    Err(target.become_it(&mut command, &arguments.command))
}

/// Leased to the shell, and so is the file.
fn once(rendering: &mut Rendering) -> Result<(), Failure> {
    rendering.terms.binding = None;
    let (_, path) = first(rendering, |leases| {
        let bound = leases.first().and_then(bound_pid).filter(|pid| is_above(*pid));
        // Not told, or told as another namespace sees it.
        Ok(bound.unwrap_or_else(|| nix::unistd::getppid().as_raw().unsigned_abs()))
    })?;
    print(&path)
}

fn print(path: &Path) -> Result<(), Failure> {
    let mut line = path.as_os_str().as_bytes().to_vec();
    line.push(b'\n');
    output::to_stdout(&line)
}

/// `process 4711 (/bin/bash)`, as the agent says it.
fn bound_pid(lease: &Lease) -> Option<u32> {
    lease.binding.strip_prefix("process ")?.split(' ').next()?.parse().ok()
}

/// It is an ancestor of this process.
fn is_above(wanted: u32) -> bool {
    let mut pid = nix::unistd::getppid().as_raw().unsigned_abs();
    while pid > 1 {
        if pid == wanted {
            return true;
        }
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
        pid = parent.and_then(|parent| parent.parse().ok()).unwrap_or_default();
    }
    false
}

/// The file for the first time; its reaper waits for the process that
/// `process` names.
fn first(
    rendering: &Rendering,
    process: impl FnOnce(&[Lease]) -> Result<u32, Failure>,
) -> Result<(Reaper, PathBuf), Failure> {
    session::block_on(async {
        let agent = session::agent().await?;
        let obtained = obtain(&agent, &rendering.plan, &rendering.terms).await?;
        let leases: Vec<Lease> = obtained.leases().map(|leased| leased.lease().clone()).collect();
        let done = process(&leases).and_then(|process| {
            rendering.write(&obtained, |orders| {
                let orders = Orders { watch: true, ..orders.clone() };
                Reaper::start(&rendering.dir, process, &orders)
            })
        });
        if done.is_err() {
            obtained.give_back(&agent).await;
        }
        done
    })
}

impl Rendering {
    fn of(arguments: &Arguments) -> Result<Self, Failure> {
        let text = read(&arguments.template)?;
        let mut plan = Plan::default();
        let origin = Origin::Template(arguments.template.clone());
        plan.lay(vec![Item { name: VARIABLE.to_owned(), mode: Mode::File, text, origin }]);
        for want in plan.wants_mut() {
            want.ttl = arguments.ttl;
            want.scope.extend(arguments.scope.iter().cloned());
        }
        if plan.wants().next().is_none() {
            let shown = arguments.template.display();
            return Err(Failure::usage(format!("{shown} asks for no credential"))
                .advise("a field stands in it as ${jsi:db/orders#password}"));
        }
        let (dir, name) = place(arguments)?;
        let binding = Some(binding::Kind::Caller(binding::Unit {}));
        let terms = Terms { binding, note: arguments.note.clone(), ..Terms::default() };
        let Arguments { mode, owner, .. } = *arguments;
        Ok(Self { plan, terms, dir, name, mode, owner })
    }

    /// Writes the file. `guard` hears what is to be removed before it is there.
    fn write<T>(
        &self,
        obtained: &Obtained,
        guard: impl FnOnce(&Orders) -> Result<T, Failure>,
    ) -> Result<(T, PathBuf), Failure> {
        let new = self.dir.begin(&self.name, self.mode)?;
        if let Some((uid, gid)) = self.owner {
            new.give(uid, gid)?;
        }
        let node = new.node()?;
        let names = [self.name.clone(), new.temporary().to_owned()];
        let orders = Orders {
            path: self.dir.path().as_os_str().as_bytes().to_vec(),
            own: self.dir.is_own(),
            watch: false,
            leases: obtained
                .leases()
                .map(|leased| orders::Lease::of(leased.lease(), names.to_vec()))
                .collect(),
            files: names.iter().map(|name| orders::Named { name: name.clone(), node }).collect(),
        };
        let guarded = guard(&orders)?;
        let item = self.plan.items().first();
        let value = item.map(|item| obtained.value(item)).transpose()?.unwrap_or_default();
        Ok((guarded, new.commit(&value)?))
    }
}

fn place(arguments: &Arguments) -> Result<(FileDir, String), Failure> {
    let Some(path) = &arguments.output else {
        let name = file_name(&arguments.template).unwrap_or_else(|| "rendered".to_owned());
        return Ok((FileDir::fresh(&Place::choose(None, false)?)?, name));
    };
    let shown = path.display();
    if path.is_dir() {
        return Err(Failure::usage(format!("{shown} is a directory")));
    }
    let Some(name) = path.file_name() else {
        return Err(Failure::usage(format!("{shown} names no file")));
    };
    let name = name.to_str().ok_or_else(|| Failure::usage(format!("{shown} is not UTF-8")))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let place = Place::choose(Some(parent.unwrap_or(Path::new("."))), arguments.allow_disk)?;
    Ok((FileDir::at(place), name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_owners_are_read_and_others_refused() {
        assert_eq!((mode("600"), mode("0640")), (Ok(0o600), Ok(0o640)));
        assert!(mode("1777").is_err() && mode("8").is_err() && mode("").is_err());
        assert_eq!(owner("7"), Ok((7, None)));
        assert_eq!(owner("7:8"), Ok((7, Some(8))));
        assert!(owner("root").is_err() && owner("7:").is_err());
    }

    #[test]
    fn the_process_of_a_binding_is_found_among_the_ancestors_only() {
        let lease = |binding: &str| Lease { binding: binding.to_owned(), ..Lease::default() };
        assert_eq!(bound_pid(&lease("process 4711 (/bin/bash)")), Some(4711));
        assert_eq!(bound_pid(&lease("process 4711")), Some(4711));
        assert_eq!(bound_pid(&lease("connection")), None);
        assert!(is_above(nix::unistd::getppid().as_raw().unsigned_abs()));
        assert!(!is_above(std::process::id()));
    }
}
