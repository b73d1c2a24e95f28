//! A mount namespace for each test, so that `/etc/jsi` can be written and
//! nothing of it is left.

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use std::cell::Cell;
use std::path::Path;

thread_local! {
    static ENTERED: Cell<bool> = const { Cell::new(false) };
}

/// Gives the calling thread, and all that it starts, a mount namespace in
/// which `/etc/jsi/client.toml` names `server_uid` as the host agent's owner.
/// `scratch` holds the overlay's layers.
pub(crate) fn enter(scratch: &Path, server_uid: u32) {
    if !ENTERED.get() {
        unshare(CloneFlags::CLONE_NEWNS).expect("unshare(CLONE_NEWNS)");
        let nothing = None::<&str>;
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
            .expect("make all mounts private");
        if !Path::new("/etc/jsi").is_dir() {
            overlay_etc(scratch);
        }
        mount(Some("jsi-tests"), "/etc/jsi", Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
            .expect("a tmpfs on /etc/jsi");
        ENTERED.set(true);
    }
    std::fs::write("/etc/jsi/client.toml", format!("owner = {server_uid}\n"))
        .expect("write /etc/jsi/client.toml");
}

/// Where the machine has no /etc/jsi, it gets none: the mount point is made in
/// an overlay.
fn overlay_etc(scratch: &Path) {
    let upper = scratch.join("etc-upper");
    std::fs::create_dir_all(&upper).expect("make the overlay's place");
    mount(Some("jsi-tests"), &upper, Some("tmpfs"), MsFlags::empty(), None::<&str>)
        .expect("a tmpfs for the overlay");
    for layer in ["up", "work"] {
        std::fs::create_dir(upper.join(layer)).expect("make the overlay's layers");
    }
    let at = upper.display();
    let options = format!("lowerdir=/etc,upperdir={at}/up,workdir={at}/work");
    // Where the kernel has no overlayfs, an empty /etc/jsi stays behind.
    let _ = mount(Some("overlay"), "/etc", Some("overlay"), MsFlags::empty(), Some(&*options));
    // The overlay keeps its layers; the world can be removed again.
    umount2(&upper, MntFlags::MNT_DETACH).expect("detach the layers");
    std::fs::create_dir_all("/etc/jsi").expect("make /etc/jsi");
}

/// Gives the calling thread's mount namespace a group in `/etc/group`, and
/// nobody is a member of it.
pub(crate) fn add_group(scratch: &Path, name: &str, gid: u32) {
    let mut groups = std::fs::read_to_string("/etc/group").expect("read /etc/group");
    if groups.contains(&format!("\n{name}:x:{gid}:\n")) {
        return; // a world before in this thread
    }
    groups.push_str(&format!("{name}:x:{gid}:\n"));
    let file = scratch.join("etc-group");
    std::fs::write(&file, groups).expect("write a group file");
    let nothing = None::<&str>;
    mount(Some(&file), "/etc/group", nothing, MsFlags::MS_BIND, nothing).expect("bind /etc/group");
}
