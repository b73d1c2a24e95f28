//! Files that the command is to have: `--file` and `--template`.

use crate::failure::Failure;
use crate::files::{FileDir, Orders, Place, orders};
use crate::obtain::Obtained;
use crate::output;
use crate::plan::{Assignment, Item, Mode, Origin, Others, Plan, Text, assignment, is_variable};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use zeroize::Zeroizing;

/// Longest template, in bytes.
const LONGEST_TEMPLATE: u64 = 1024 * 1024;
/// Ends of the names of templates, which their files do without.
const ENDS: [&str; 5] = ["tmpl", "tpl", "template", "j2", "jsi"];

#[derive(clap::Args)]
pub(super) struct FileFlags {
    /// Put the same into a file on memory that goes with the command or its lease; NAME
    /// becomes its path
    #[arg(long = "file", value_name = "NAME=REF", value_parser = assignment)]
    file: Vec<Assignment>,
    /// Put a file with ${jsi:REF} in it, filled in, there too; NAME becomes its path
    #[arg(long = "template", value_name = "NAME=FILE", value_parser = template)]
    template: Vec<(String, PathBuf)>,
    /// Where files go [default: the first of $XDG_RUNTIME_DIR, /run/user/UID, /dev/shm that
    /// is on memory]
    #[arg(long, value_name = "DIR")]
    file_dir: Option<PathBuf>,
    /// Let --file-dir be on a disk, where removed values may stay
    #[arg(long, requires = "file_dir")]
    allow_disk: bool,
}

fn template(given: &str) -> Result<(String, PathBuf), String> {
    match given.split_once('=') {
        Some((name, path)) if is_variable(name) && !path.is_empty() => {
            Ok((name.to_owned(), path.into()))
        }
        Some((name, _)) if !is_variable(name) => Err(format!("{name:?} is no name for a variable")),
        _ => Err("write it as NAME=config.yaml.tmpl".to_owned()),
    }
}

impl FileFlags {
    /// What they name.
    pub(super) fn items(&self) -> Result<Vec<Item>, Failure> {
        let files = self.file.iter().map(|given| given.item(Mode::File, "--file"));
        let templates = self.template.iter().map(|(name, path)| {
            let (text, origin) = (read(path)?, Origin::Template(path.clone()));
            Ok(Item { name: name.clone(), mode: Mode::File, text, origin })
        });
        files.chain(templates).collect()
    }

    /// Where the files go; asked for before any credential is.
    pub(super) fn place(&self, plan: &Plan) -> Result<Option<Place>, Failure> {
        if plan.items().iter().all(|item| item.mode != Mode::File) {
            return Ok(None);
        }
        Place::choose(self.file_dir.as_deref(), self.allow_disk).map(Some)
    }
}

/// A template, from its file.
pub(in crate::commands) fn read(path: &Path) -> Result<Text, Failure> {
    let shown = path.display();
    let fault =
        |error: std::io::Error| Failure::new(format!("cannot read the template {shown}: {error}"));
    let file = std::fs::File::open(path).map_err(fault)?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(LONGEST_TEMPLATE + 1).read_to_end(&mut bytes).map_err(fault)?;
    if bytes.len() as u64 > LONGEST_TEMPLATE {
        return Err(Failure::new(format!("the template {shown} is longer than 1 MiB")));
    }
    Text::parse(&bytes, Others::Kept, |_| false).map_err(|error| {
        let before = bytes.get(..error.at).unwrap_or_default();
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let column = before.rsplit(|b| *b == b'\n').next().map_or(0, <[u8]>::len) + 1;
        Failure::usage(format!("{shown}:{line}:{column}: {error}"))
    })
}

/// What the files of a plan are called, in the order of its items.
pub(super) fn names(plan: &Plan) -> Vec<(&Item, String)> {
    let mut named: Vec<(&Item, String)> = Vec::new();
    for item in plan.items().iter().filter(|item| item.mode == Mode::File) {
        let plain = match &item.origin {
            Origin::Template(path) => file_name(path).unwrap_or_else(|| item.name.clone()),
            _ => item.name.clone(),
        };
        let taken = named.iter().any(|(_, other)| *other == plain);
        named.push((item, if taken { format!("{}-{plain}", item.name) } else { plain }));
    }
    named
}

/// `config.yaml` for `some/where/config.yaml.tmpl`.
pub(in crate::commands) fn file_name(template: &Path) -> Option<String> {
    let cut = template.extension().is_some_and(|end| ENDS.iter().any(|known| end == *known));
    let name = if cut { template.file_stem() } else { template.file_name() };
    Some(name?.to_str()?.to_owned())
}

/// Makes the files, once `guard` has seen to it that they will be removed, and
/// lets the command know their paths.
pub(super) fn deliver(
    command: &mut Command,
    (plan, obtained): (&Plan, &Obtained),
    place: &Place,
    guard: impl FnOnce(&FileDir, &Orders) -> Result<(), Failure>,
) -> Result<FileDir, Failure> {
    let named = names(plan);
    let dir = FileDir::fresh(place)?;
    let done = guard(&dir, &orders(&dir, &named, obtained)).and_then(|()| {
        for (item, name) in &named {
            let path = dir.write(name, &obtained.value(item)?)?;
            command.env(&item.name, path);
        }
        Ok(())
    });
    if let Err(failure) = done {
        dir.remove();
        return Err(failure);
    }
    if !dir.is_on_memory() && output::stderr_is_terminal() {
        output::note(&format!("note: the files are on a disk: {}", dir.path().display()));
    }
    Ok(dir)
}

/// Which files end with which lease.
pub(super) fn orders(dir: &FileDir, named: &[(&Item, String)], obtained: &Obtained) -> Orders {
    let leases = obtained.leases().map(|leased| {
        let of_it = named.iter().filter(|(item, _)| obtained.depends(item, leased.lease()));
        let files = of_it.map(|(_, name)| name.clone()).collect();
        orders::Lease::of(leased.lease(), files)
    });
    Orders {
        path: dir.path().as_os_str().as_bytes().to_vec(),
        own: true,
        watch: true,
        leases: leases.filter(|lease| !lease.files.is_empty()).collect(),
        files: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str, origin: Origin) -> Item {
        Item { name: name.into(), mode: Mode::File, text: Text::default(), origin }
    }

    #[test]
    fn a_template_gives_its_file_its_name() {
        let mut plan = Plan::default();
        for (name, path) in [("A", "x/app.yaml.tmpl"), ("B", "app.yaml"), ("C", "plain")] {
            plan.lay(vec![item(name, Origin::Template(path.into()))]);
        }
        plan.lay(vec![item("TOKEN", Origin::Flag("--file"))]);
        let names: Vec<_> = names(&plan).into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["app.yaml", "B-app.yaml", "plain", "TOKEN"]);
    }

    #[test]
    fn a_template_is_named_by_a_variable_and_a_path() {
        assert_eq!(template("A=b=c"), Ok(("A".into(), "b=c".into())));
        for bad in ["A", "A=", "=b", "1=b", "a.yaml"] {
            assert!(template(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_wrong_in_a_template_is_told_by_line_and_column() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tmpl");
        std::fs::write(&path, "user: ${jsi:a}\n  x: ${jsi:B}\n").unwrap();
        let Err(Failure::Told { message, code: 2, .. }) = read(&path) else { panic!("taken") };
        assert!(message.contains("a.tmpl:2:12: "), "{message}");
        std::fs::write(&path, "${HOME} ${jsi:a}").unwrap();
        assert_eq!(read(&path).ok().unwrap().wants().count(), 1);
        assert!(read(dir.path()).is_err() && read(&dir.path().join("none")).is_err());
    }
}
