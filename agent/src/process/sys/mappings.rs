//! The mappings of a process, asked of a held `/proc/PID/maps` and
//! `/proc/PID/pagemap`. A descriptor of either belongs to the memory that the
//! process had when it was opened: after an exec it gives ESRCH or nothing.

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;

/// `PROCMAP_QUERY_VMA_*` (linux/fs.h).
const WRITABLE: u64 = 0x02;
const EXECUTABLE: u64 = 0x04;
const SHARED: u64 = 0x08;
const COVERING_OR_NEXT: u64 = 0x10;
/// `PAGE_IS_FILE`, `PAGE_IS_PRESENT`, `PAGE_IS_SWAPPED` (linux/fs.h).
const PAGE_FILE: u64 = 1 << 2;
const PAGE_PRESENT: u64 = 1 << 3;
const PAGE_SWAPPED: u64 = 1 << 4;
/// Bits of a pagemap entry (pagemap.rst): present, swapped, file or shared.
const ENTRY_HERE: u64 = 1 << 63 | 1 << 62;
const ENTRY_FILE: u64 = 1 << 61;
/// Longest name that the kernel gives, with its final zero (PATH_MAX).
const NAME_BYTES: usize = 4096;
/// Most that is read of `maps` as text: some 100,000 mappings.
const TEXT_BYTES: usize = 8 << 20;
/// Pagemap entries read at once.
const ENTRIES: usize = 512;

/// What `maps` names a file by. Not what stat(2) says on overlay and btrfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MappedFile {
    /// Device.
    pub major: u32,
    /// Device.
    pub minor: u32,
    /// Inode number.
    pub inode: u64,
}

/// One executable mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// It can be written as well.
    pub writable: bool,
    /// What is written goes to the file.
    pub shared: bool,
    /// `None`: memory that no file backs.
    pub file: Option<MappedFile>,
}

/// `struct procmap_query` (linux/fs.h, Linux 6.11).
#[repr(C)]
#[derive(Default)]
pub(super) struct MapQuery {
    size: u64,
    flags: u64,
    address: u64,
    start: u64,
    end: u64,
    vma_flags: u64,
    page_size: u64,
    offset: u64,
    inode: u64,
    major: u32,
    minor: u32,
    name_size: u32,
    build_id_size: u32,
    name: u64,
    build_id: u64,
}

/// `struct pm_scan_arg` (linux/fs.h, Linux 6.7).
#[repr(C)]
#[derive(Default)]
pub(super) struct PageScan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    inverted: u64,
    mask: u64,
    any: u64,
    back: u64,
}

/// `struct page_region` (linux/fs.h).
#[repr(C)]
#[derive(Default)]
struct PageRegion {
    start: u64,
    end: u64,
    categories: u64,
}

impl MapQuery {
    /// Asks for the first mapping of all, which there always is.
    pub(super) fn of_the_first() -> Self {
        Self { size: size_of::<Self>() as u64, flags: COVERING_OR_NEXT, ..Self::default() }
    }
}

impl PageScan {
    /// Asks for nothing.
    pub(super) fn sized() -> Self {
        Self { size: size_of::<Self>() as u64, ..Self::default() }
    }
}

/// `_IOWR('f', number, size)`.
pub(super) const fn file_ioctl(number: u32, size: usize) -> libc::Ioctl {
    (3 << 30) | ((size as libc::Ioctl) << 16) | ((b'f' as libc::Ioctl) << 8) | number as libc::Ioctl
}

/// The first executable mapping that covers `address` or lies above it; `None`:
/// there is none.
///
/// # Errors
/// ESRCH where the memory is gone; as `maps` reads on kernels before 6.11.
pub fn executable_from(maps: &File, address: u64) -> io::Result<Option<Mapping>> {
    match query(maps, address, EXECUTABLE | COVERING_OR_NEXT, &mut []) {
        Err(error) if unknown(&error) => {
            let all = from_text(maps, usize::MAX)?;
            Ok(all.into_iter().map(|(one, _)| one).find(|one| one.end > address))
        }
        answer => Ok(answer?.map(|(found, _)| found)),
    }
}

/// All executable mappings, or the first `most` and one more.
///
/// # Errors
/// As [`executable_from`].
pub fn executable(maps: &File, most: usize) -> io::Result<Vec<Mapping>> {
    match each(maps, most, &mut []) {
        Err(error) if unknown(&error) => {
            Ok(from_text(maps, most)?.into_iter().map(|(one, _)| one).collect())
        }
        answer => Ok(answer?.into_iter().map(|(one, _)| one).collect()),
    }
}

/// The same, each with its name as the kernel gives it: a path, with
/// ` (deleted)` behind it where that is so, `[vdso]`, or nothing.
///
/// # Errors
/// As [`executable_from`].
pub fn executable_with_names(maps: &File, most: usize) -> io::Result<Vec<(Mapping, Vec<u8>)>> {
    match each(maps, most, &mut [0; NAME_BYTES]) {
        Err(error) if unknown(&error) => from_text(maps, most),
        answer => answer,
    }
}

/// What `maps` would name this file by: it is mapped here for a moment, and
/// never read.
///
/// # Errors
/// As mmap(2).
pub fn number_of(file: &File) -> io::Result<MappedFile> {
    let len = 1;
    // SAFETY: a fresh private mapping of its own, of which no byte is read.
    let at = unsafe {
        let (read, private) = (libc::PROT_READ, libc::MAP_PRIVATE);
        libc::mmap(std::ptr::null_mut(), len, read, private, file.as_raw_fd(), 0)
    };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let found = covering(at as u64);
    // SAFETY: what was mapped above, and nobody holds a reference into it.
    unsafe { libc::munmap(at, len) };
    found?.ok_or_else(|| io::Error::other("a file that was mapped is not in maps"))
}

/// The file that is mapped here at that address.
fn covering(address: u64) -> io::Result<Option<MappedFile>> {
    let maps = File::open("/proc/self/maps")?;
    match query(&maps, address, COVERING_OR_NEXT, &mut []) {
        Err(error) if unknown(&error) => {
            let found = lines(&maps)?.into_iter().find(|line| line.mapping.start == address);
            Ok(found.and_then(|line| line.mapping.file))
        }
        answer => Ok(answer?.filter(|(one, _)| one.start == address).and_then(|(one, _)| one.file)),
    }
}

/// The first page between these addresses that is not the file's any more: it
/// was written, and is present or swapped out.
///
/// # Errors
/// ESRCH where the memory is gone.
pub fn modified_page(pagemap: &File, start: u64, end: u64) -> io::Result<Option<u64>> {
    let mut region = PageRegion::default();
    let size = size_of::<PageScan>();
    let mut scan = PageScan {
        size: size as u64,
        start,
        end,
        vec: (&raw mut region) as u64,
        vec_len: 1,
        max_pages: 1,
        inverted: PAGE_FILE,
        mask: PAGE_FILE,
        any: PAGE_PRESENT | PAGE_SWAPPED,
        back: PAGE_PRESENT | PAGE_SWAPPED,
        ..PageScan::default()
    };
    // SAFETY: `scan` has the size that the request names, and `region` room for
    // the one region that it asks for; both outlive the call.
    match unsafe { ask(pagemap, file_ioctl(16, size), (&raw mut scan).cast()) } {
        Err(error) if unknown(&error) => modified_by_entries(pagemap, start, end),
        Err(error) => Err(error),
        Ok(0) => Ok(None),
        Ok(_) => Ok(Some(region.start)),
    }
}

/// The same from the entries themselves, for kernels before 6.7.
fn modified_by_entries(pagemap: &File, start: u64, end: u64) -> io::Result<Option<u64>> {
    let page = page_size();
    let (mut at, mut bytes) = (start / page, [0_u8; ENTRIES * 8]);
    while at < end / page {
        let want = usize::try_from(end / page - at).unwrap_or(ENTRIES).min(ENTRIES);
        let read = pagemap.read_at(&mut bytes[..want * 8], at * 8)?;
        if read < 8 {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        for entry in bytes[..read].as_chunks::<8>().0 {
            let entry = u64::from_le_bytes(*entry);
            if entry & ENTRY_HERE != 0 && entry & ENTRY_FILE == 0 {
                return Ok(Some(at * page));
            }
            at += 1;
        }
    }
    Ok(None)
}

fn page_size() -> u64 {
    // SAFETY: takes a number and touches no memory.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096).max(1)
}

/// The kernel does not know the request.
fn unknown(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL))
}

fn each(maps: &File, most: usize, name: &mut [u8]) -> io::Result<Vec<(Mapping, Vec<u8>)>> {
    let (mut found, mut at) = (Vec::new(), 0);
    while found.len() <= most {
        let asked = query(maps, at, EXECUTABLE | COVERING_OR_NEXT, name);
        let next = match asked {
            // A path longer than any that could be opened: the mapping counts.
            Err(error) if error.raw_os_error() == Some(libc::ENAMETOOLONG) => {
                query(maps, at, EXECUTABLE | COVERING_OR_NEXT, &mut [])?
            }
            asked => asked?,
        };
        let Some((mapping, name)) = next else { break };
        at = mapping.end;
        found.push((mapping, name));
    }
    Ok(found)
}

/// `PROCMAP_QUERY`, with the name where `name` has room for one.
fn query(
    maps: &File,
    address: u64,
    flags: u64,
    name: &mut [u8],
) -> io::Result<Option<(Mapping, Vec<u8>)>> {
    let size = size_of::<MapQuery>();
    let mut query = MapQuery { size: size as u64, flags, address, ..MapQuery::default() };
    if !name.is_empty() {
        query.name_size = u32::try_from(name.len()).unwrap_or(0);
        query.name = name.as_mut_ptr() as u64;
    }
    // SAFETY: `query` has the size that the request names, and `name` as many
    // bytes as it says; both outlive the call.
    match unsafe { ask(maps, file_ioctl(17, size), (&raw mut query).cast()) } {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
        answer => answer?,
    };
    // The length counts the final zero.
    let len = (query.name_size as usize).saturating_sub(1);
    let name = if name.is_empty() { &[] } else { name.get(..len).unwrap_or(&[]) };
    let file = MappedFile { major: query.major, minor: query.minor, inode: query.inode };
    let mapping = Mapping {
        start: query.start,
        end: query.end,
        writable: query.vma_flags & WRITABLE != 0,
        shared: query.vma_flags & SHARED != 0,
        file: (query.inode != 0).then_some(file),
    };
    Ok(Some((mapping, name.to_vec())))
}

/// # Safety
/// `argument` is what the request reads and writes.
pub(super) unsafe fn ask(
    file: impl AsFd,
    request: libc::Ioctl,
    argument: *mut c_void,
) -> io::Result<i32> {
    // SAFETY: the caller's word.
    let answer = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), request, argument) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// A line of `maps` (proc_pid_maps(5)).
struct Line {
    mapping: Mapping,
    executable: bool,
    name: Vec<u8>,
}

fn from_text(maps: &File, most: usize) -> io::Result<Vec<(Mapping, Vec<u8>)>> {
    let executable = lines(maps)?.into_iter().filter(|line| line.executable);
    // The vsyscall page is the kernel's, the same in every process, and the
    // ioctl does not show it.
    let shown = executable.filter(|line| line.name != b"[vsyscall]");
    Ok(shown.take(most.saturating_add(1)).map(|line| (line.mapping, line.name)).collect())
}

fn lines(maps: &File) -> io::Result<Vec<Line>> {
    let mut text = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let read = maps.read_at(&mut chunk, text.len() as u64)?;
        if read == 0 {
            break;
        }
        text.extend_from_slice(&chunk[..read]);
        if text.len() > TEXT_BYTES {
            return Err(io::Error::other(format!("maps is longer than {TEXT_BYTES} bytes")));
        }
    }
    if text.is_empty() {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|text| line(text).ok_or_else(|| io::Error::other("a line of maps"))).collect()
}

fn line(text: &[u8]) -> Option<Line> {
    let mut fields = text.splitn(6, |&byte| byte == b' ');
    let mut field = || std::str::from_utf8(fields.next()?).ok();
    let (start, end) = field()?.split_once('-')?;
    let modes = field()?.as_bytes();
    let _offset = field()?;
    let (major, minor) = field()?.split_once(':')?;
    let inode = field()?.parse().ok()?;
    let hex = |text| u64::from_str_radix(text, 16).ok();
    let device = |text| u32::from_str_radix(text, 16).ok();
    let file = MappedFile { major: device(major)?, minor: device(minor)?, inode };
    let name = fields.next().unwrap_or_default();
    let spaces = name.iter().take_while(|&&byte| byte == b' ').count();
    let mapping = Mapping {
        start: hex(start)?,
        end: hex(end)?,
        writable: modes.get(1) == Some(&b'w'),
        shared: modes.get(3) == Some(&b's'),
        file: (inode != 0).then_some(file),
    };
    Some(Line { mapping, executable: modes.get(2) == Some(&b'x'), name: name[spaces..].to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(name: &str) -> File {
        File::open(format!("/proc/self/{name}")).unwrap()
    }

    #[test]
    fn what_the_kernel_is_asked_and_what_it_writes_agree() {
        let maps = own("maps");
        let asked = executable_with_names(&maps, 1000).unwrap();
        let written = from_text(&maps, 1000).unwrap();
        assert_eq!(asked, written);
        let plain: Vec<Mapping> = asked.iter().map(|(one, _)| *one).collect();
        assert_eq!(executable(&maps, 1000).unwrap(), plain);
        assert_eq!(executable(&maps, 1).unwrap(), plain[..2], "one more than was asked for");
        let (last, _) = asked.last().unwrap();
        assert_eq!(executable_from(&maps, last.start).unwrap(), Some(*last));
        assert_eq!(executable_from(&maps, last.end).unwrap(), None);
    }

    #[test]
    fn a_program_is_found_by_the_number_that_maps_gives_it() {
        let exe = File::open("/proc/self/exe").unwrap();
        let number = number_of(&exe).unwrap();
        let mapped = executable(&own("maps"), 1000).unwrap();
        assert!(mapped.iter().any(|one| one.file == Some(number)));
        let other = number_of(&File::open("/bin/sleep").unwrap()).unwrap();
        assert!(mapped.iter().all(|one| one.file != Some(other)));
    }

    #[test]
    fn a_page_that_was_written_is_found_by_both_ways_and_no_other() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4 * page_size()).unwrap();
        let len = usize::try_from(4 * page_size()).unwrap();
        // SAFETY: a fresh private mapping, unmapped below.
        let at = unsafe {
            let modes = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(std::ptr::null_mut(), len, modes, libc::MAP_PRIVATE, file.as_raw_fd(), 0)
        };
        assert_ne!(at, libc::MAP_FAILED);
        let (start, end) = (at as u64, at as u64 + len as u64);
        let page = usize::try_from(2 * page_size()).unwrap();
        let pagemap = own("pagemap");
        // SAFETY: within the mapping.
        let read = unsafe { at.cast::<u8>().add(page).read_volatile() };
        assert_eq!(modified_page(&pagemap, start, end).unwrap(), None, "only read: {read}");
        assert_eq!(modified_by_entries(&pagemap, start, end).unwrap(), None);
        // SAFETY: within the mapping.
        unsafe { at.cast::<u8>().add(page).write_volatile(1) };
        let want = Some(start + 2 * page_size());
        assert_eq!(modified_page(&pagemap, start, end).unwrap(), want);
        assert_eq!(modified_by_entries(&pagemap, start, end).unwrap(), want);
        // SAFETY: what was mapped above.
        unsafe { libc::munmap(at, len) };
    }

    #[test]
    fn memory_that_is_gone_is_an_error_and_not_an_empty_list() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let held = |name: &str| File::open(format!("/proc/{}/{name}", child.id())).unwrap();
        let (maps, pagemap) = (held("maps"), held("pagemap"));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(executable(&maps, 10).is_err());
        assert!(lines(&maps).is_err());
        assert!(modified_by_entries(&pagemap, 4096, 8192).is_err());
        assert!(modified_page(&pagemap, 4096, 8192).is_err());
    }

    #[test]
    fn a_line_is_read_as_the_kernel_writes_it() {
        let text = b"7f00-8f00 rwxs 00001000 fe:0a 77                    /a b (deleted)";
        let line = line(text).unwrap();
        let file = MappedFile { major: 0xfe, minor: 10, inode: 77 };
        let want =
            Mapping { start: 0x7f00, end: 0x8f00, writable: true, shared: true, file: Some(file) };
        assert_eq!((line.mapping, line.executable), (want, true));
        assert_eq!(line.name, b"/a b (deleted)");
        let anonymous = super::line(b"1000-2000 r-xp 00000000 00:00 0 ").unwrap();
        assert_eq!((anonymous.mapping.file, anonymous.name.len()), (None, 0));
        for wrong in ["", "1-2", "x-y r-xp 0 0:0 0", "1000 r-xp 0 0:0 0"] {
            assert!(super::line(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }
}
