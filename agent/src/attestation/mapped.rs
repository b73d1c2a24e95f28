//! What a process really runs: its executable mappings. `/proc/PID/exe` alone
//! is a hint (Linux commit ebd6de681238): `prctl(PR_SET_MM_MAP)` makes it name
//! any file, without a privilege.

use super::executable::{Look, Measured, SharedDigests};
use super::held::Held;
use super::library::{self, Libraries, Mine, Verdict, words};
use super::server::{Learned, Rules, Stop};
use crate::mutants::{Check, on};
use crate::process::image;
use crate::process::mappings::{self, Mapping};
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How old it may be whose the mapped files are: only root changes what has
/// passed. What is mapped, and whether it was modified, is looked at every time.
const FILES_FRESH: Duration = Duration::from_secs(1);
/// Executable mappings that are looked at. A Java machine has some twenty.
const MAX_MAPPINGS: usize = 1024;
/// Bytes of executable mappings that are searched for modified pages: two
/// milliseconds if all are present. A browser has some hundred megabytes.
const MAX_BYTES: u64 = 1 << 30;
/// Reasons that are told; more would only repeat them.
const MAX_REASONS: usize = 4;
/// What the kernel calls its own code in each process.
const VDSO: &str = "[vdso]";

/// What the executable mappings of an image show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mapped {
    /// It does not run the file that its exe link names.
    pub(super) foreign: Option<String>,
    /// What it runs is not only code of files that it could not have written.
    pub(super) altered: Vec<String>,
    /// It runs memory that no file backs.
    pub(super) jit: Option<String>,
    /// The first file that it runs and that fs-verity does not keep as it is.
    pub(super) unverified: Option<String>,
}

impl Mapped {
    /// It could not be looked at, and why.
    pub(super) fn unseen(why: &str) -> Self {
        Self { altered: vec![why.to_owned()], ..Self::default() }
    }

    fn unverify(&mut self, name: &[u8]) {
        self.unverified.get_or_insert_with(|| words(name));
    }

    fn alter(&mut self, why: String) {
        match self.altered.len() {
            MAX_REASONS => self.altered.push("and more of the kind".to_owned()),
            len if len > MAX_REASONS => {}
            _ => self.altered.push(why),
        }
    }
}

/// What was last found out about an image's mappings.
#[derive(Default)]
pub(super) struct Seen {
    /// The mapping that was found to be the executable's own.
    own: Mutex<Option<Mapping>>,
    files: Mutex<Option<Arc<Files>>>,
}

/// Whose the mapped files are.
struct Files {
    at: Instant,
    rules: Arc<Rules>,
    list: Vec<Mapping>,
    /// In words, of each of the list.
    names: Vec<String>,
    verdict: Mapped,
}

impl Files {
    fn still(&self, rules: &Arc<Rules>, list: &[Mapping]) -> bool {
        self.list == list && Arc::ptr_eq(&self.rules, rules) && self.at.elapsed() <= FILES_FRESH
    }
}

/// Looks at mappings.
pub(super) struct Inspector {
    digests: SharedDigests,
    libraries: Libraries,
    /// This kernel shows pages of an untouched vdso as a file's.
    vdso_is_plain: bool,
}

impl Inspector {
    pub(super) fn new(digests: SharedDigests) -> Self {
        let vdso_is_plain = own_vdso_is_plain().unwrap_or(false);
        Self { digests, libraries: Libraries::default(), vdso_is_plain }
    }

    /// All executable mappings of a held image. The caller checks afterwards
    /// that it is the same image still.
    pub(super) fn whole(
        &self,
        held: &Held,
        exe: &Measured,
        rules: &Arc<Rules>,
        learned: &Learned,
    ) -> Result<Mapped, Stop> {
        let foreign = self.own(held, exe).foreign;
        let Some(maps) = &held.maps else { return Ok(Mapped::unseen("its mappings are hidden")) };
        let list = match mappings::executable(maps, MAX_MAPPINGS) {
            Ok(list) if list.len() > MAX_MAPPINGS => {
                let why = format!("it has more than {MAX_MAPPINGS} executable mappings");
                return Ok(Mapped { foreign, ..Mapped::unseen(&why) });
            }
            Ok(list) => list,
            Err(error) => {
                let why = format!("its mappings could not be looked at: {error}");
                return Ok(Mapped { foreign, ..Mapped::unseen(&why) });
            }
        };
        let kept = held.mapped.files.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let files = match kept.filter(|kept| kept.still(rules, &list)) {
            Some(kept) => kept,
            None => Arc::new(self.files(held, maps, exe, rules, learned)?),
        };
        *held.mapped.files.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Arc::clone(&files));
        let mut mapped = Mapped { foreign, ..files.verdict.clone() };
        self.search(held, &files, &mut mapped);
        Ok(mapped)
    }

    /// Whether it runs the file that its exe link names, and no more.
    pub(super) fn own(&self, held: &Held, exe: &Measured) -> Mapped {
        // Hidden is said elsewhere, and why.
        let Some(maps) = held.maps.as_ref().filter(|_| !held.hidden()) else {
            return Mapped::default();
        };
        let known = *held.mapped.own.lock().unwrap_or_else(PoisonError::into_inner);
        let found = own_mapping(maps, held.pid, held.generation.start_code, exe, known);
        *held.mapped.own.lock().unwrap_or_else(PoisonError::into_inner) =
            found.as_ref().ok().copied();
        Mapped { foreign: found.err(), ..Mapped::default() }
    }

    /// The same of a process that is not held.
    pub(super) fn own_of(&self, pid: u32, start_code: u64, exe: &Measured) -> Mapped {
        let found = File::open(format!("/proc/{pid}/maps"))
            .map_err(|error| format!("its mappings could not be looked at: {error}"))
            .and_then(|maps| own_mapping(&maps, pid, start_code, exe, None));
        Mapped { foreign: found.err(), ..Mapped::default() }
    }

    fn files(
        &self,
        held: &Held,
        maps: &File,
        exe: &Measured,
        rules: &Arc<Rules>,
        learned: &Learned,
    ) -> Result<Files, Stop> {
        let mut verdict = Mapped::default();
        let listed = mappings::executable_with_names(maps, MAX_MAPPINGS).unwrap_or_else(|error| {
            verdict.alter(format!("its mappings could not be looked at: {error}"));
            Vec::new()
        });
        // Each by itself: numbers of maps are not unique on btrfs, so that two of
        // the same number may be two files.
        for (mapping, name) in &listed {
            if mapping.file.is_none() {
                let code = name != VDSO.as_bytes() && on(Check::AnonymousCode);
                if code && verdict.jit.is_none() {
                    verdict.jit = Some(anonymous(mapping, name));
                }
                continue;
            }
            if mapping.writable && on(Check::WritableCode) {
                verdict.alter(format!("{} is mapped writable and executable", words(name)));
            }
            let mine = Mine { pid: held.pid, uid: held.uid, exe, rules };
            match self.libraries.judge(&self.digests, &mine, mapping, name) {
                Verdict::Passes { kept: true } => {}
                Verdict::Passes { kept: false } => verdict.unverify(name),
                Verdict::Fails(why) => verdict.alter(why),
                Verdict::Read(look, why) => {
                    if !look.is_kept() {
                        verdict.unverify(name);
                    }
                    if let Some(why) = self.unlisted(look, why, rules, learned)? {
                        verdict.alter(why);
                    }
                }
            }
        }
        let (list, names): (Vec<_>, Vec<_>) =
            listed.into_iter().map(|(mapping, name)| (mapping, words(&name))).unzip();
        Ok(Files { at: Instant::now(), rules: Arc::clone(rules), list, names, verdict })
    }

    /// Why a file that only its digest could let pass does not; it may have to
    /// be read first.
    fn unlisted(
        &self,
        look: Box<Look>,
        why: String,
        rules: &Rules,
        learned: &Learned,
    ) -> Result<Option<String>, Stop> {
        let digest = match self.digests.quick(&look) {
            Some(measured) => Ok(measured.exe.digest),
            None => {
                let key = look.key();
                match learned.iter().find(|(known, _)| *known == key) {
                    Some((_, read)) => read.as_ref().map(|measured| measured.exe.digest),
                    None if learned.len() >= super::server::MAX_READS => return Ok(Some(why)),
                    None => return Err(Stop::Read(look)),
                }
                .map_err(Clone::clone)
            }
        };
        Ok(match digest {
            Ok(digest) if rules.listed.contains(&digest.0) => None,
            Ok(_) => Some(format!("{why}, and its digest is not in listed_libraries")),
            Err(unread) => Some(format!("{why}; {unread}")),
        })
    }

    /// Looks for pages that are not the file's any more. The vdso is the kernel's,
    /// and can be written by a tracer as well.
    fn search(&self, held: &Held, files: &Files, mapped: &mut Mapped) {
        let Some(pagemap) = held.pagemap() else {
            return mapped.alter("its pages may not be looked at".to_owned());
        };
        let mut bytes = 0;
        for (mapping, name) in files.list.iter().zip(&files.names) {
            let vdso = self.vdso_is_plain && name == VDSO;
            if mapping.file.is_none() && !vdso {
                continue;
            }
            bytes += mapping.end - mapping.start;
            if bytes > MAX_BYTES {
                return mapped
                    .alter(format!("it has more than {MAX_BYTES} bytes of executable mappings"));
            }
            match mappings::modified_page(pagemap, mapping.start, mapping.end) {
                Ok(None) => {}
                Ok(Some(_)) if !on(Check::ModifiedPage) => {}
                Ok(Some(at)) => mapped.alter(format!("text page modified: {name} at {at:x}")),
                Err(error) => {
                    mapped.alter(format!("the pages of {name} could not be looked at: {error}"))
                }
            }
        }
    }
}

/// Where the code of a process begins, its executable must be what is mapped.
/// The kernel lets exe name another file only once nothing of the old one is
/// mapped, so who forges it runs other memory.
fn own_mapping(
    maps: &File,
    pid: u32,
    start_code: u64,
    exe: &Measured,
    known: Option<Mapping>,
) -> Result<Mapping, String> {
    let found = mappings::executable_from(maps, start_code)
        .map_err(|error| format!("its mappings could not be looked at: {error}"))?;
    let found = found.ok_or("nothing executable is mapped where its code begins")?;
    if known == Some(found) {
        return Ok(found);
    }
    let exact = match library::open_exactly(pid, &found) {
        // The very file, where the kernel lets us have it: numbers of maps are
        // not unique on btrfs.
        Ok(Some(file)) => image::stat(&file)
            .is_ok_and(|stat| (stat.device, stat.inode) == (exe.exe.device, exe.exe.inode)),
        Ok(None) => true,
        Err(_) => false,
    };
    if found.file.is_none() || found.file != exe.number || !exact {
        let what = match found.file {
            Some(_) => "another file",
            None => "memory that no file backs",
        };
        return Err(format!(
            "its executable is not what it runs: {what} is mapped where its code begins, at {:x}",
            found.start
        ));
    }
    Ok(found)
}

fn anonymous(mapping: &Mapping, name: &[u8]) -> String {
    let name = if name.is_empty() { String::new() } else { format!(" {}", words(name)) };
    format!(
        "executable memory that no file backs at {:x}-{:x}{name}: a JIT, or injected code",
        mapping.start, mapping.end
    )
}

fn own_vdso_is_plain() -> std::io::Result<bool> {
    let (maps, pagemap) = (File::open("/proc/self/maps")?, File::open("/proc/self/pagemap")?);
    let own = mappings::executable_with_names(&maps, MAX_MAPPINGS)?;
    let vdso = own.iter().find(|(_, name)| name == VDSO.as_bytes());
    vdso.map_or(Ok(false), |(vdso, _)| {
        Ok(mappings::modified_page(&pagemap, vdso.start, vdso.end)?.is_none())
    })
}
