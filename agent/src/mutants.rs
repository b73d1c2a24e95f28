//! Each check that an answer rests on, by name, so that a test can show what
//! becomes of an attack without it.
//!
//! In every build but one [`on`] is `true` and nothing else: no variable is read
//! and no name is kept. The cargo feature `mutants`, which no default and no build
//! script of ours turns on, makes a binary in which `JSI_MUTANT=name[,name…]`
//! turns checks off. It says so at start, in `--version` and in the log.

#[cfg(feature = "mutants")]
use std::sync::OnceLock;

/// The variable that names the checks to leave out. The agent's own processes
/// inherit it.
#[cfg(feature = "mutants")]
const VARIABLE: &str = "JSI_MUTANT";

/// What `--version` and the log call this build.
#[cfg(feature = "mutants")]
pub const VERSION: &str =
    concat!(env!("CARGO_PKG_VERSION"), " (mutants: its checks can be disabled; never use it)");
/// What `--version` and the log call this build.
#[cfg(not(feature = "mutants"))]
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

macro_rules! checks {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// A check that can be left out, one at a time or several.
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub enum Check {
            $($(#[doc = $doc])+ $variant,)+
        }

        /// Every check with its name.
        #[cfg(feature = "mutants")]
        const ALL: &[(Check, &str)] = &[$((Check::$variant, $name),)+];
    };
}

checks! {
    // Connection.
    /// A peer outside the agent's pid namespace is refused.
    PidZero = "pid-zero",
    /// The process that connected must live, at each look.
    PeerAlive = "peer-alive",
    /// The pidfd of the peer names the pid of its credentials.
    PidfdNamesPeer = "pidfd-names-peer",
    /// Every chunk was sent by the process and uid that connected.
    Sender = "sender",
    /// The kernel is asked to let nobody send descriptors (`SO_PASSRIGHTS`).
    PassRights = "pass-rights",
    /// A chunk with any other control message ends the connection.
    ControlMessages = "control-messages",
    /// Nothing is served before the challenge is answered.
    Challenge = "challenge",
    /// Connections of one uid are counted.
    ConnectionsPerUid = "connections-per-uid",
    /// A packet that asks for a socket is of the uid that connected.
    BootstrapUid = "bootstrap-uid",
    /// Who asks by packet reaches level 1 at most.
    BootstrapLevelCap = "bootstrap-level-cap",
    /// Answers to packets wait until earlier ones were read.
    BootstrapUnread = "bootstrap-unread",
    /// Connections of one uid in a second are counted.
    ConnectRate = "connect-rate",
    /// Requests of one uid are counted.
    RequestRate = "request-rate",

    // The image.
    /// The exec generation is what it was at accept.
    ExecGeneration = "exec-generation",
    /// The maps that were held at accept still read.
    HeldMaps = "held-maps",
    /// What was hidden at accept may not show itself later.
    HiddenThenShown = "hidden-then-shown",
    /// Without address randomisation there is no level 1.
    Randomisation = "randomisation",
    /// Real, effective and saved uid agree.
    UidsAgree = "uids-agree",
    /// A traced process has no level 1.
    Tracer = "tracer",
    /// A pid namespace of another user namespace gives no level 1.
    ForeignPidNamespace = "foreign-pid-namespace",
    /// An executable without a name gives no level 1.
    Deleted = "deleted",
    /// A path counts where the agent's own view of it is the same file.
    OwnViewOfPath = "own-view-of-path",
    /// Executables of FUSE and network file systems are not read.
    ForeignFileSystem = "foreign-file-system",
    /// Nor those of stacked ones in a mount namespace of somebody else.
    StackedFileSystem = "stacked-file-system",
    /// A kept digest is of the same change time.
    DigestChangeTime = "digest-change-time",
    /// Executables larger than `limits.hash_bytes` are not read.
    HashSize = "hash-size",
    /// Executables hashed for one uid are counted before they are read.
    HashRate = "hash-rate",

    /// The executable is what is mapped where its code begins.
    ExecutableMapped = "executable-mapped",
    /// Executable memory that no file backs gives no level 2.
    AnonymousCode = "anonymous-code",
    /// Nor does a file that is mapped writable and executable.
    WritableCode = "writable-code",
    /// A mapped file that the requester's uid can write gives no level 2.
    LibraryWritable = "library-writable",
    /// Nor does one of others than root that is not listed.
    LibraryOwner = "library-owner",
    /// Nor one that was deleted, or is a memfd.
    LibraryDeleted = "library-deleted",
    /// Nor one below a directory that others than root may write.
    LibraryDirectory = "library-directory",
    /// Nor one whose file system another program or machine serves.
    LibraryFileSystem = "library-file-system",
    /// Nor one that the agent does not find under its path.
    LibraryOwnView = "library-own-view",
    /// A page of code that is not the file's any more gives no level 2.
    ModifiedPage = "modified-page",
    /// Level 3 is for listed uids and set-group-ID clients.
    Isolation = "isolation",
    /// What a level was permitted for is not delivered after it was lost.
    LevelKept = "level-kept",

    // On whose behalf.
    /// A client counts only where root installed it.
    ClientInstalledByRoot = "client-installed-by-root",
    /// The clients' group counts only where a set-group-ID file gave it.
    ClientGroupBySetgid = "client-group-by-setgid",
    /// And only while programs of its uid are kept out.
    ClientClosed = "client-closed",
    /// Pid 1 of a namespace is no requester.
    RequesterNotInit = "requester-not-init",
    /// The user manager is no requester.
    RequesterNotManager = "requester-not-manager",
    /// A requester has the caller's uid.
    RequesterSameUid = "requester-same-uid",
    /// A requester is older than the caller.
    RequesterOlder = "requester-older",
    /// A requester found by ancestry reaches level 1 at most.
    RequesterLevelCap = "requester-level-cap",
    /// Units and containers count from cgroups that root keeps.
    RootOwnedCgroup = "root-owned-cgroup",
    /// A unit's run counts where nobody but root could have named it.
    RunOfRoot = "run-of-root",
    /// A process that moves among cgroups is looked at anew.
    CgroupMove = "cgroup-move",
    /// Level 4 needs fs-verity, IMA or a label that root has listed.
    Enforced = "enforced",
    /// An advisory agent gives level 1 at most.
    AdvisoryCap = "advisory-cap",
    /// Caller and requester are looked at once more before a delivery.
    Recheck = "recheck",

    // Policy, and what it rests on.
    /// A forbid that names a fact which could not be read refuses.
    UnreadableForbid = "unreadable-forbid",
    /// A permit that names a fact which could not be read does not count.
    UnreadablePermit = "unreadable-permit",
    /// A policy that cannot be evaluated denies.
    EvaluationError = "evaluation-error",
    /// Operators' calls are served on the admin socket only.
    AdminService = "admin-service",
    /// What operators ask is answered there only.
    AdminChannel = "admin-channel",
    /// Policy takes those on the admin socket for operators, and nobody else.
    AdminSocket = "admin-socket",
    /// A target counts by the word of a client only.
    TargetByClient = "target-by-client",
    /// A target's path counts where the agent's own view of it is the same file.
    TargetSeen = "target-seen",
    /// Of a client in a user namespace of its own no target counts.
    TargetNamespace = "target-namespace",
    /// What a target was measured to be counts where it cannot change before it runs.
    TargetSealed = "target-sealed",
    /// Policy is read where nobody but root and the agent could write it.
    TrustedFiles = "trusted-files",
    /// A lease is its holder's: its ID is a name, not a right.
    LeaseHolder = "lease-holder",
}

/// Whether that check is made.
#[cfg(not(feature = "mutants"))]
#[must_use]
pub const fn on(_: Check) -> bool {
    true
}

/// Nothing, in this build.
///
/// # Errors
/// None.
#[cfg(not(feature = "mutants"))]
pub const fn begin() -> Result<(), String> {
    Ok(())
}

#[cfg(feature = "mutants")]
static OFF: OnceLock<Vec<Check>> = OnceLock::new();

/// Whether that check is made.
#[cfg(feature = "mutants")]
#[must_use]
pub fn on(check: Check) -> bool {
    !OFF.get().is_some_and(|off| off.contains(&check))
}

/// Reads which checks are left out. To be called once, before there are threads.
///
/// # Errors
/// A name that is no check's; the text has all names.
#[cfg(feature = "mutants")]
pub fn begin() -> Result<(), String> {
    let text = std::env::var(VARIABLE).unwrap_or_default();
    let mut off = Vec::new();
    for name in text.split(',').filter(|name| !name.is_empty()) {
        match ALL.iter().find(|(_, known)| *known == name) {
            Some((check, _)) => off.push(*check),
            None => {
                let names: Vec<&str> = ALL.iter().map(|(_, name)| *name).collect();
                return Err(format!(
                    "{VARIABLE}: there is no check {name:?}; there are: {}",
                    names.join(" ")
                ));
            }
        }
    }
    let left_out = if text.is_empty() { "none now" } else { &text };
    let line = format!(
        "jsi-agent: THIS BUILD DISABLES CHECKS ({left_out}): a test needs it, never use it\n"
    );
    // Where nobody reads it, the log and --version say it all the same.
    drop(std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()));
    let _ = OFF.set(off);
    Ok(())
}
