//! Slots in guarded pages. A page holds slots of one size; each slot lies
//! between canaries; a page gives access only while one of its slots is used.

use super::region::{Access, GuardKind, PAGE, Region};
use super::{MemoryError, random_array, wipe};
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Pages of a shared region: few secrets rest in plain at one time, and what is
/// locked here counts against RLIMIT_MEMLOCK (8 MiB by default).
const REGION_PAGES: usize = 4;

/// Bytes of a canary, before and after each slot's data.
const CANARY: usize = 16;

/// Slot sizes, canaries included.
const CLASSES: [usize; 7] = [64, 128, 256, 512, 1024, 2048, PAGE];

/// Longest allocation: a secret of the largest size, and what is encoded round it.
pub(super) const MAX_ALLOC: usize = jsi_proto::MAX_SECRET + 16 * 1024;

/// Where an allocation lies.
#[derive(Clone, Copy)]
pub(super) struct Place {
    region: usize,
    page: usize,
    pages: usize,
    /// Of the slot, canary included, within its first page.
    offset: usize,
    /// Of the slot, canaries included.
    size: usize,
    /// Of the data.
    len: usize,
}

/// All regions of one agent process.
pub(super) struct Slab {
    kind: GuardKind,
    canary: [u8; CANARY],
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// `None`: unmapped; its number is used again.
    regions: Vec<Option<Pages>>,
}

struct Pages {
    region: Region,
    /// A region of one long allocation, unmapped with it.
    whole: bool,
    pages: Vec<Page>,
}

#[derive(Clone, Default)]
struct Page {
    /// Slot size; 0: free.
    class: usize,
    /// One bit for each slot that is taken.
    taken: u64,
    readers: usize,
    writers: usize,
}

impl Page {
    fn access(&self) -> Access {
        match (self.writers, self.readers) {
            (0, 0) => Access::None,
            (0, _) => Access::Read,
            _ => Access::Write,
        }
    }
}

impl Slab {
    /// An empty slab with one region, which shows that the kind works.
    pub(super) fn new(kind: GuardKind) -> Result<Self, MemoryError> {
        let slab = Self { kind, canary: random_array(), inner: Mutex::default() };
        slab.lock().add_region(kind, REGION_PAGES, false)?;
        Ok(slab)
    }

    pub(super) fn kind(&self) -> GuardKind {
        self.kind
    }

    /// Bytes that are mapped, and bytes of the pages that hold something.
    pub(super) fn usage(&self) -> (usize, usize) {
        let inner = self.lock();
        let regions = inner.regions.iter().flatten();
        regions.fold((0, 0), |(mapped, used), pages| {
            let taken = |page: &&Page| pages.whole || page.taken != 0;
            (
                mapped + pages.pages.len() * PAGE,
                used + pages.pages.iter().filter(taken).count() * PAGE,
            )
        })
    }

    /// Takes a slot of zeros.
    pub(super) fn take(&self, len: usize) -> Result<Place, MemoryError> {
        if len > MAX_ALLOC {
            return Err(MemoryError::TooLong(len));
        }
        let size = len + 2 * CANARY;
        let place = match CLASSES.into_iter().find(|class| *class >= size) {
            Some(class) => self.lock().take_slot(self.kind, class, len)?,
            None => self.lock().take_region(self.kind, size, len)?,
        };
        self.open(place, true)?;
        let slot = self.slot(place);
        let mark = self.mark(slot);
        // SAFETY: the slot is this place's alone, and its pages are open for writing.
        let bytes = unsafe { std::slice::from_raw_parts_mut(slot.as_ptr(), place.size) };
        wipe(bytes);
        bytes[..CANARY].copy_from_slice(&mark);
        for (at, byte) in bytes[CANARY + len..].iter_mut().enumerate() {
            *byte = mark[at % CANARY];
        }
        self.close(place, true)?;
        Ok(place)
    }

    /// Wipes a slot and gives it back.
    pub(super) fn give_back(&self, place: Place) -> Result<(), MemoryError> {
        self.open(place, true)?;
        let intact = self.check(place);
        // SAFETY: the slot is this place's alone, and its pages are open for writing.
        let bytes =
            unsafe { std::slice::from_raw_parts_mut(self.slot(place).as_ptr(), place.size) };
        wipe(bytes);
        self.close(place, true)?;
        self.lock().free(place);
        intact
    }

    /// Makes a place accessible; each call is undone by [`Slab::close`].
    pub(super) fn open(&self, place: Place, write: bool) -> Result<(), MemoryError> {
        self.lock().count(place, write, true)
    }

    /// Takes the access away, once nobody else has it.
    pub(super) fn close(&self, place: Place, write: bool) -> Result<(), MemoryError> {
        self.lock().count(place, write, false)
    }

    /// Are the canaries as they were? The place must be open.
    pub(super) fn check(&self, place: Place) -> Result<(), MemoryError> {
        let slot = self.slot(place);
        let mark = self.mark(slot);
        // SAFETY: the slot is mapped and open; canaries are only written while
        // a slot is taken, so nobody writes them now.
        let (before, after) = unsafe {
            let behind = CANARY + place.len;
            (
                std::slice::from_raw_parts(slot.as_ptr(), CANARY),
                std::slice::from_raw_parts(slot.as_ptr().add(behind), place.size - behind),
            )
        };
        let good =
            before == mark && after.iter().enumerate().all(|(at, b)| *b == mark[at % CANARY]);
        if good { Ok(()) } else { Err(MemoryError::Canary) }
    }

    /// Address of the data, 16-byte aligned.
    pub(super) fn data(&self, place: Place) -> NonNull<u8> {
        // SAFETY: inside the slot.
        unsafe { self.slot(place).add(CANARY) }
    }

    fn slot(&self, place: Place) -> NonNull<u8> {
        let inner = self.lock();
        let page = inner.at(place.region).region.page(place.page);
        // SAFETY: inside the place's first page.
        unsafe { page.add(place.offset) }
    }

    /// Differs from slot to slot, so that one cannot be copied over another.
    fn mark(&self, slot: NonNull<u8>) -> [u8; CANARY] {
        let mut mark = self.canary;
        for (byte, address) in mark.iter_mut().zip(slot.addr().get().to_le_bytes()) {
            *byte ^= address;
        }
        mark
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn at(&self, region: usize) -> &Pages {
        match self.regions.get(region).and_then(Option::as_ref) {
            Some(pages) => pages,
            None => std::process::abort(), // a place outlived its region: memory is not what it seems
        }
    }

    fn at_mut(&mut self, region: usize) -> &mut Pages {
        match self.regions.get_mut(region).and_then(Option::as_mut) {
            Some(pages) => pages,
            None => std::process::abort(),
        }
    }

    fn add_region(
        &mut self,
        kind: GuardKind,
        pages: usize,
        whole: bool,
    ) -> Result<usize, MemoryError> {
        let region = Region::map(kind, pages)?;
        let pages = Pages { pages: vec![Page::default(); region.pages()], region, whole };
        if let Some(free) = self.regions.iter().position(Option::is_none) {
            self.regions[free] = Some(pages);
            return Ok(free);
        }
        self.regions.push(Some(pages));
        Ok(self.regions.len() - 1)
    }

    fn take_slot(
        &mut self,
        kind: GuardKind,
        class: usize,
        len: usize,
    ) -> Result<Place, MemoryError> {
        if let Some(place) = self.find_slot(class, len) {
            return Ok(place);
        }
        self.add_region(kind, REGION_PAGES, false)?;
        self.find_slot(class, len).ok_or(MemoryError::TooLong(len))
    }

    /// A slot in a page of that class, else in a free page.
    fn find_slot(&mut self, class: usize, len: usize) -> Option<Place> {
        let slots = PAGE / class;
        for wanted in [class, 0] {
            for (region, pages) in self.regions.iter_mut().enumerate() {
                let Some(pages) = pages.as_mut().filter(|pages| !pages.whole) else { continue };
                for (index, page) in pages.pages.iter_mut().enumerate() {
                    let free = page.taken.trailing_ones() as usize;
                    if page.class == wanted && free < slots {
                        page.class = class;
                        page.taken |= 1 << free;
                        let offset = free * class;
                        return Some(Place {
                            region,
                            page: index,
                            pages: 1,
                            offset,
                            size: class,
                            len,
                        });
                    }
                }
            }
        }
        None
    }

    fn take_region(
        &mut self,
        kind: GuardKind,
        size: usize,
        len: usize,
    ) -> Result<Place, MemoryError> {
        let pages = size.div_ceil(PAGE);
        let region = self.add_region(kind, pages, true)?;
        Ok(Place { region, page: 0, pages, offset: 0, size: pages * PAGE, len })
    }

    fn free(&mut self, place: Place) {
        let pages = self.at_mut(place.region);
        if pages.whole {
            self.regions[place.region] = None;
            return;
        }
        let page = &mut pages.pages[place.page];
        page.taken &= !(1 << (place.offset / place.size));
        if page.taken == 0 {
            page.class = 0;
        }
    }

    fn count(&mut self, place: Place, write: bool, more: bool) -> Result<(), MemoryError> {
        let Pages { region, pages, .. } = self.at_mut(place.region);
        // The pages of a long place are only ever opened together: the first counts.
        let page = &mut pages[place.page];
        let before = page.access();
        let users = if write { &mut page.writers } else { &mut page.readers };
        *users = if more { *users + 1 } else { *users - 1 };
        let after = page.access();
        if before == after {
            return Ok(());
        }
        region.protect(place.page, place.pages, after)
    }
}
