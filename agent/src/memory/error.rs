//! What can go wrong with guarded memory.

use std::io;

/// Why guarded memory is refused, or what was found wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The operator's to solve: no more memory may be locked.
    #[error(
        "no more memory may be locked: {wanted} bytes on top of what is used, RLIMIT_MEMLOCK is \
         {limit}; raise it (systemd: LimitMEMLOCK=64M, shell: ulimit -l 65536, for good: memlock \
         in /etc/security/limits.conf)"
    )]
    Limit {
        /// Bytes that were asked of the kernel.
        wanted: usize,
        /// The limit in force, in bytes.
        limit: u64,
    },
    /// More than one allocation may hold.
    #[error("{0} bytes do not fit into guarded memory; at most {max} do", max = super::slab::MAX_ALLOC)]
    TooLong(usize),
    /// The kernel refused for another reason.
    #[error("guarded memory: {0} failed")]
    Os(&'static str, #[source] io::Error),
    /// A bug or an attack: something wrote past its end.
    #[error("guarded memory is damaged: a canary beside a secret was overwritten")]
    Canary,
    /// A bug or an attack: a shielded secret is not what was sealed.
    #[error("a shielded secret does not open: its bytes or its key were changed")]
    Forged,
    /// 2^64 secrets were sealed under one key.
    #[error("the shield's key is used up; restart the agent")]
    Exhausted,
}
