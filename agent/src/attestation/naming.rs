//! What the name of a cgroup says: systemd's units, containers of each runtime,
//! Kubernetes' pods. Pure; what it is given is what root wrote.
//!
//! The outermost name counts. What lies below a unit or a container was named by
//! what runs inside, which may be a root of its own.

/// Ends of the names of units that have processes (systemd.unit(5)).
const UNITS: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];
/// `PREFIX<64 hex digits>[.scope]`, and whose container it is. Their monitors
/// (`libpod-conmon-`, `crio-conmon-`) stand outside, and are none of it.
const PREFIXES: [(&str, &str); 7] = [
    ("docker-", "docker"),
    ("cri-containerd-", "containerd"),
    ("nerdctl-", "containerd"),
    ("crio-", "cri-o"),
    ("libpod-payload-", "podman"),
    ("libpod-", "podman"),
    ("buildkit-", "buildkit"),
];

/// A container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Container {
    pub(super) id: String,
    /// `None`: the name does not say.
    pub(super) runtime: Option<&'static str>,
}

/// The unit, as systemd itself reads it from the path: behind all slices
/// (`cg_path_get_unit` in systemd's src/basic/cgroup-util.c).
pub(super) fn unit(path: &str) -> Option<&str> {
    let mut parts = parts(path);
    let part = parts.find(|part| !part.ends_with(".slice"))?;
    // What would collide with a file of the kernel's has an underscore in front.
    let name = part.strip_prefix('_').unwrap_or(part);
    let kind = UNITS.iter().find(|end| name.ends_with(*end))?;
    (name.len() > kind.len()).then_some(name)
}

/// The outermost container.
pub(super) fn container(path: &str) -> Option<Container> {
    let mut before = ["", ""];
    for part in parts(path) {
        if let Some(found) = one(part, before) {
            return Some(found);
        }
        before = [before[1], part];
    }
    None
}

/// The UID of the pod, with dashes, as Kubernetes writes it. Of the outermost
/// container, or of none: what a container names is not believed.
pub(super) fn pod(path: &str) -> Option<String> {
    let mut before = ["", ""];
    for part in parts(path) {
        // `kubepods-burstable-pod<uid>.slice` of the systemd driver, and the same in
        // front of `:cri-containerd:<id>`, where the two halves disagree on the driver.
        let name = part.split(':').next().unwrap_or(part);
        if let Some(name) = name.strip_suffix(".slice")
            && let Some((above, uid)) = name.rsplit_once("-pod")
            && above.split('-').any(|word| word == "kubepods")
            && let Some(uid) = pod_uid(uid)
        {
            return Some(uid);
        }
        // `kubepods[/burstable|/besteffort]/pod<uid>` of the cgroupfs driver.
        if let Some(uid) = part.strip_prefix("pod")
            && (before[1] == "kubepods"
                || before[0] == "kubepods" && ["burstable", "besteffort"].contains(&before[1]))
            && let Some(uid) = pod_uid(uid)
        {
            return Some(uid);
        }
        if one(part, before).is_some() {
            return None;
        }
        before = [before[1], part];
    }
    None
}

/// The container that this part names, below those two.
fn one(part: &str, [_, above]: [&str; 2]) -> Option<Container> {
    let container =
        |id: &str, runtime| (!id.is_empty()).then(|| Container { id: id.to_owned(), runtime });
    let name = part.strip_suffix(".scope").unwrap_or(part);
    if is_id(name) {
        return container(name, (above == "docker").then_some("docker"));
    }
    for (prefix, runtime) in PREFIXES {
        if let Some(id) = name.strip_prefix(prefix).filter(|id| is_id(id)) {
            return container(id, Some(runtime));
        }
    }
    // Where kubelet and containerd disagree on the cgroup driver.
    if let Some((_, id)) = name.rsplit_once(":cri-containerd:").filter(|(_, id)| is_id(id)) {
        return container(id, Some("containerd"));
    }
    // LXC: `lxc.payload.NAME`, in older ones `lxc.payload/NAME` and `lxc/NAME`.
    // What monitors it is in `lxc.monitor…`, outside.
    if let Some(id) = part.strip_prefix("lxc.payload.") {
        return container(id, Some("lxc"));
    }
    if above == "lxc.payload" || above == "lxc" && part != "monitor" {
        return container(part, Some("lxc"));
    }
    // systemd-nspawn's own process is in `supervisor`, beside the payload.
    let machine = machine(above).filter(|_| part == "payload")?;
    container(&machine, Some("systemd-nspawn"))
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty())
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(is_hex)
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

/// The name in `machine-NAME.scope` and `systemd-nspawn@NAME.service`.
fn machine(unit: &str) -> Option<String> {
    let scope =
        |unit: &str| Some(unit.strip_prefix("machine-")?.strip_suffix(".scope")?.to_owned());
    let service = |unit: &str| {
        Some(unit.strip_prefix("systemd-nspawn@")?.strip_suffix(".service")?.to_owned())
    };
    // Only the dash is escaped in what a machine can be called (systemd-escape(1)).
    Some(scope(unit).or_else(|| service(unit))?.replace("\\x2d", "-"))
}

/// A UUID, written with dashes or, by the systemd driver, with underscores; of a
/// pod that comes from a file, a digest of 32 digits.
fn pod_uid(text: &str) -> Option<String> {
    let uid = text.replace('_', "-");
    let uuid = uid.len() == 36
        && uid.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => is_hex(byte),
        });
    let digest = uid.len() == 32 && uid.bytes().all(is_hex);
    (uuid || digest).then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const OTHER: &str = "f123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const POD: &str = "2f6e3a0e-4c2b-4a52-9a6c-7f6f1d1f9e10";

    /// Paths as they are found on real machines; `ID`, `POD` and `P_D` (with
    /// underscores) stand for what they name.
    fn path(text: &str) -> String {
        let text = text.replace("ID", ID).replace("P_D", &POD.replace('-', "_"));
        text.replace("POD", POD)
    }

    #[test]
    fn a_unit_is_the_first_name_behind_the_slices() {
        for (path, wanted) in [
            ("/system.slice/nginx.service", Some("nginx.service")),
            ("/init.scope", Some("init.scope")),
            ("/user.slice/user-1000.slice/session-3.scope", Some("session-3.scope")),
            ("/user.slice/user-0.slice/user@0.service/app.slice/x.service", Some("user@0.service")),
            ("/system.slice/system-getty.slice/getty@tty1.service", Some("getty@tty1.service")),
            ("/system.slice/_cpu.service", Some("cpu.service")),
            ("/system.slice/forge.service/sshd.service", Some("forge.service")),
            (
                "/machine.slice/machine-a.scope/payload/system.slice/sshd.service",
                Some("machine-a.scope"),
            ),
            ("/docker/x/system.slice/sshd.service", None),
            ("/user.slice", None),
            ("/system.slice/.service", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(unit(path), wanted, "{path}");
        }
    }

    #[test]
    fn each_runtimes_containers_are_known_by_their_names() {
        for (given, id, runtime) in [
            ("/docker/ID", ID, Some("docker")),
            ("/docker/ID/init", ID, Some("docker")),
            ("/system.slice/docker-ID.scope", ID, Some("docker")),
            ("/actions_job/ID", ID, None),
            ("/system.slice/nerdctl-ID.scope", ID, Some("containerd")),
            (
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podP_D.slice/cri-containerd-ID.scope",
                ID,
                Some("containerd"),
            ),
            (
                "/system.slice/containerd.service/kubepods-besteffort-podP_D.slice:cri-containerd:ID",
                ID,
                Some("containerd"),
            ),
            ("/kubepods/burstable/podPOD/ID", ID, None),
            ("/kubepods.slice/kubepods-podP_D.slice/crio-ID.scope/container", ID, Some("cri-o")),
            ("/machine.slice/libpod-ID.scope/container", ID, Some("podman")),
            ("/libpod_parent/libpod-ID", ID, Some("podman")),
            ("/system.slice/web.service/libpod-payload-ID", ID, Some("podman")),
            ("/ecs/61b4/ID", ID, None),
            ("/lxc.payload.web1/system.slice/ssh.service", "web1", Some("lxc")),
            ("/lxc.payload/web1", "web1", Some("lxc")),
            ("/lxc/101/ns/init.scope", "101", Some("lxc")),
            (
                "/machine.slice/machine-my\\x2dbox.scope/payload/init.scope",
                "my-box",
                Some("systemd-nspawn"),
            ),
            ("/machine.slice/systemd-nspawn@box.service/payload", "box", Some("systemd-nspawn")),
        ] {
            let wanted = Container { id: id.to_owned(), runtime };
            assert_eq!(container(&path(given)), Some(wanted), "{given}");
        }
    }

    #[test]
    fn what_only_looks_like_a_container_is_none() {
        for given in [
            "/system.slice/docker.service",
            "/machine.slice/libpod-conmon-ID.scope",
            "/kubepods.slice/kubepods-podP_D.slice/crio-conmon-ID.scope",
            "/lxc.monitor.web1",
            "/lxc.monitor/101",
            "/lxc/monitor",
            "/lxc",
            "/machine.slice/systemd-nspawn@box.service/supervisor",
            "/machine.slice/machine-qemu.scope/libvirt/emulator",
            "/payload",
            "/xID",
            "/x-ID",
            "/docker-ID0.scope",
            "/lxc.payload.",
            "/é",
        ] {
            assert_eq!(container(&path(given)), None, "{given}");
        }
        assert_eq!(container(&path("/docker/ID").to_uppercase()), None);
        assert_eq!(container(&format!("/docker/{}", &ID[1..])), None);
    }

    #[test]
    fn the_outermost_container_counts_because_others_are_named_inside_of_it() {
        let inside = format!("/docker/{ID}/docker/{OTHER}");
        assert_eq!(container(&inside).unwrap().id, ID);
        let inside = path(&format!("/docker/{OTHER}/kubepods/burstable/podPOD/ID"));
        assert_eq!(pod(&inside), None, "a pod that a container names");
    }

    #[test]
    fn pods_are_known_by_both_drivers_names() {
        for given in [
            "/kubepods/podPOD/ID",
            "/kubepods/burstable/podPOD/ID",
            "/kubepods/besteffort/podPOD",
            "/kubepods.slice/kubepods-podP_D.slice/crio-ID.scope",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podP_D.slice/cri-containerd-ID.scope",
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-podP_D.slice/cri-containerd-ID.scope",
            "/system.slice/containerd.service/kubepods-besteffort-podP_D.slice:cri-containerd:ID",
        ] {
            assert_eq!(pod(&path(given)).as_deref(), Some(POD), "{given}");
        }
        let digest = &ID[..32];
        let fixed = format!("/kubepods/burstable/pod{digest}/{ID}");
        assert_eq!(pod(&fixed).as_deref(), Some(digest), "a pod of a file");
        for given in [
            "/kubepods/burstable/pod1",
            "/podPOD",
            "/x/burstable/podPOD",
            "/system.slice/pod-podP_D.slice",
            "/system.slice/podPOD.service",
            "/kubepods",
        ] {
            assert_eq!(pod(&path(given)), None, "{given}");
        }
    }
}
