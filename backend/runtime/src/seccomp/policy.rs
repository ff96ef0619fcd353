//! What the default filter permits, equivalent to Docker's default profile.
//!
//! Written the other way round: of the calls up to [`HIGHEST`] all are permitted but those listed
//! here with their reason; all above, and all numbers of other ABIs, do not exist (`ENOSYS`), so a
//! call that a newer kernel adds is refused until somebody has looked at it. A listed call comes back
//! with the capability that Docker ties it to. Where it is stricter than Docker, the test beside
//! libseccomp (`tests/seccomp/default.rs`) lists it with the reason.

use wharf_sys::caps;

/// The last call that this list was made for (`removexattrat`, Linux 6.13).
pub(super) const HIGHEST: u32 = 466;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is carried out.
    Allow,
    /// It fails with this error number.
    Errno(u16),
    /// It is carried out if its arguments pass, else it fails with `EPERM`.
    Check(Check),
}

/// A look at one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// None of these bits is set; the kernel itself uses no more than 32.
    Clear {
        /// Which argument, from 0.
        argument: u8,
        /// The bits.
        mask: u32,
    },
    /// It is one of these, with nothing in its upper half.
    OneOf {
        /// Which argument, from 0.
        argument: u8,
        /// The values.
        values: &'static [u32],
    },
    /// Its lower half, which is all that the kernel uses, is none of these.
    NoneOf {
        /// Which argument, from 0.
        argument: u8,
        /// The values.
        values: &'static [u32],
    },
}

const EPERM: Verdict = Verdict::Errno(1);
const ENOSYS: Verdict = Verdict::Errno(38);

/// Refused without this capability; `None`: always.
struct Refused {
    unless: Option<u8>,
    calls: &'static [i64],
}

use nix::libc;

const DAC_READ_SEARCH: u8 = 2;
const SYS_MODULE: u8 = 16;
const SYS_RAWIO: u8 = 17;
const SYS_CHROOT: u8 = 18;
const SYS_PTRACE: u8 = 19;
const SYS_PACCT: u8 = 20;
const SYS_ADMIN: u8 = 21;
const SYS_BOOT: u8 = 22;
const SYS_NICE: u8 = 23;
const SYS_TIME: u8 = 25;
const SYS_TTY_CONFIG: u8 = 26;
const SYSLOG: u8 = 34;

const REFUSED: &[Refused] = &[
    // Mounts, namespaces, host identity: the walls of the container themselves.
    Refused {
        unless: Some(SYS_ADMIN),
        calls: &[
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_open_tree,
            libc::SYS_move_mount,
            libc::SYS_fsopen,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_fspick,
            libc::SYS_mount_setattr,
            libc::SYS_setns,
            libc::SYS_unshare,
            libc::SYS_sethostname,
            libc::SYS_setdomainname,
            libc::SYS_quotactl,
            libc::SYS_quotactl_fd,
            libc::SYS_fanotify_init,
            libc::SYS_lookup_dcookie,
            LSM_GET_SELF_ATTR,
            LSM_SET_SELF_ATTR,
            LSM_LIST_MODULES,
        ],
    },
    // Code in the kernel and its counters.
    Refused { unless: Some(SYS_ADMIN), calls: &[libc::SYS_bpf, libc::SYS_perf_event_open] },
    // Other processes' memory and descriptors. ptrace stays, as in Docker: it is bounded by the pid
    // and user namespaces, and by the kernel since 4.8 sees the filter.
    Refused {
        unless: Some(SYS_PTRACE),
        calls: &[
            libc::SYS_kcmp,
            libc::SYS_pidfd_getfd,
            libc::SYS_process_madvise,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
        ],
    },
    // Files by handle: the way around the mount namespace ("shocker").
    Refused { unless: Some(DAC_READ_SEARCH), calls: &[libc::SYS_open_by_handle_at] },
    Refused { unless: Some(SYS_BOOT), calls: &[libc::SYS_reboot] },
    Refused { unless: Some(SYS_CHROOT), calls: &[libc::SYS_chroot] },
    Refused {
        unless: Some(SYS_MODULE),
        calls: &[libc::SYS_init_module, libc::SYS_finit_module, libc::SYS_delete_module],
    },
    Refused { unless: Some(SYS_PACCT), calls: &[libc::SYS_acct] },
    Refused { unless: Some(SYS_TIME), calls: &[libc::SYS_settimeofday, libc::SYS_clock_settime] },
    Refused { unless: Some(SYS_TTY_CONFIG), calls: &[libc::SYS_vhangup] },
    Refused { unless: Some(SYSLOG), calls: &[libc::SYS_syslog] },
    // Placement of memory: can hurt the neighbours.
    Refused {
        unless: Some(SYS_NICE),
        calls: &[
            libc::SYS_get_mempolicy,
            libc::SYS_set_mempolicy,
            libc::SYS_mbind,
            libc::SYS_set_mempolicy_home_node,
        ],
    },
    // Never: not separated by namespaces, or a long record of holes in the kernel.
    Refused {
        unless: None,
        calls: &[
            libc::SYS_add_key,
            libc::SYS_request_key,
            libc::SYS_keyctl,
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_io_uring_register,
            libc::SYS_userfaultfd,
            libc::SYS_kexec_load,
            libc::SYS_move_pages,
            libc::SYS_migrate_pages,
            libc::SYS_pivot_root,
            libc::SYS_swapon,
            libc::SYS_swapoff,
            libc::SYS_nfsservctl,
        ],
    },
    #[cfg(target_arch = "x86_64")]
    Refused { unless: Some(SYS_RAWIO), calls: &[libc::SYS_iopl, libc::SYS_ioperm] },
    // Leftovers that no program of today calls.
    #[cfg(target_arch = "x86_64")]
    Refused {
        unless: None,
        calls: &[
            libc::SYS_kexec_file_load,
            libc::SYS_uselib,
            libc::SYS_ustat,
            libc::SYS_sysfs,
            libc::SYS__sysctl,
            CREATE_MODULE,
            GET_KERNEL_SYMS,
            QUERY_MODULE,
            libc::SYS_getpmsg,
            libc::SYS_putpmsg,
            libc::SYS_afs_syscall,
            libc::SYS_tuxcall,
            libc::SYS_security,
            libc::SYS_vserver,
        ],
    },
];

// Gone from the kernel since 2.6 and from libc; still numbers of the first row.
#[cfg(target_arch = "x86_64")]
const CREATE_MODULE: i64 = 174;
#[cfg(target_arch = "x86_64")]
const GET_KERNEL_SYMS: i64 = 177;
#[cfg(target_arch = "x86_64")]
const QUERY_MODULE: i64 = 178;

// Same on every architecture since 5.x; libc has no names for them.
const LSM_GET_SELF_ATTR: i64 = 459;
const LSM_SET_SELF_ATTR: i64 = 460;
const LSM_LIST_MODULES: i64 = 461;

/// `CLONE_NEW*` for mount, cgroup, UTS, IPC, user, pid and network namespaces.
const NEW_NAMESPACES: u32 = 0x7e02_0000;
/// The address families that Docker permits. Among the others: `AF_ALG` (kernel crypto, CVE-2026-31431),
/// `AF_VSOCK` (the hypervisor, no namespaces), and those that nobody has looked after for years.
const FAMILIES: &[u32] = &[
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33,
    35, 36, 39, 41, 42, 43, 44, 45,
];
/// `TIOCSTI` and `TIOCLINUX`: input to a terminal in somebody else's name.
const REFUSED_IOCTLS: &[u32] = &[0x5412, 0x541c];
/// `PER_LINUX`, `PER_LINUX32`, with and without `UNAME26`, and the question.
const PERSONALITIES: &[u32] = &[0, 0x0008, 0x2_0000, 0x2_0008, u32::MAX];

/// The verdicts for one set of capabilities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    capabilities: u64,
}

impl Policy {
    /// Returns the default policy of a process that has these capabilities (kernel numbers).
    pub fn default_for(capabilities: &[u8]) -> Self {
        Self { capabilities: caps::set_of(capabilities) }
    }

    fn has(&self, capability: u8) -> bool {
        self.capabilities & caps::set_of(&[capability]) != 0
    }

    /// Returns what happens to a call.
    pub fn verdict(&self, call: u32) -> Verdict {
        // 335 is the last of the first row on x86-64; numbers are shared by all from 424 on.
        let unassigned = cfg!(target_arch = "x86_64") && (336..424).contains(&call);
        if call > HIGHEST || unassigned {
            return ENOSYS;
        }
        let number = i64::from(call);
        let admin = self.has(SYS_ADMIN);
        match number {
            libc::SYS_clone if !admin => Verdict::Check(Check::Clear { argument: 0, mask: NEW_NAMESPACES }),
            // Its flags are behind a pointer; ENOSYS makes the C library fall back on clone.
            libc::SYS_clone3 if !admin => ENOSYS,
            libc::SYS_socket => Verdict::Check(Check::OneOf { argument: 0, values: FAMILIES }),
            libc::SYS_ioctl => Verdict::Check(Check::NoneOf { argument: 1, values: REFUSED_IOCTLS }),
            libc::SYS_personality => Verdict::Check(Check::OneOf { argument: 0, values: PERSONALITIES }),
            _ => {
                let refused = |rule: &&Refused| rule.calls.contains(&number);
                match REFUSED.iter().find(refused) {
                    Some(rule) if !rule.unless.is_some_and(|capability| self.has(capability)) => EPERM,
                    _ => Verdict::Allow,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Docker's set less `NET_RAW` and `MKNOD`.
    const DEFAULT: &[u8] = &[0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 29, 31];

    fn number(call: i64) -> u32 {
        u32::try_from(call).expect("call number")
    }

    #[test]
    fn everyday_calls_pass_and_the_walls_are_refused() {
        let policy = Policy::default_for(DEFAULT);
        for call in [libc::SYS_read, libc::SYS_execve, libc::SYS_chroot, libc::SYS_ptrace, libc::SYS_seccomp]
        {
            assert_eq!(policy.verdict(number(call)), Verdict::Allow, "{call}");
        }
        for call in
            [libc::SYS_mount, libc::SYS_unshare, libc::SYS_bpf, libc::SYS_keyctl, libc::SYS_io_uring_setup]
        {
            assert_eq!(policy.verdict(number(call)), EPERM, "{call}");
        }
        assert_eq!(policy.verdict(number(libc::SYS_clone3)), ENOSYS);
    }

    #[test]
    fn a_capability_brings_its_calls_back() {
        let policy = Policy::default_for(&[SYS_ADMIN, SYSLOG]);
        assert_eq!(policy.verdict(number(libc::SYS_mount)), Verdict::Allow);
        assert_eq!(policy.verdict(number(libc::SYS_clone)), Verdict::Allow);
        assert_eq!(policy.verdict(number(libc::SYS_syslog)), Verdict::Allow);
        assert_eq!(policy.verdict(number(libc::SYS_chroot)), EPERM, "SYS_CHROOT is not among them");
        assert_eq!(policy.verdict(number(libc::SYS_keyctl)), EPERM, "no capability brings keys back");
    }

    #[test]
    fn calls_of_the_future_and_of_other_abis_do_not_exist() {
        let policy = Policy::default_for(&(0..41).collect::<Vec<u8>>());
        for call in [HIGHEST + 1, 1000, 0x4000_0000, 0x4000_0000 + 59, u32::MAX] {
            assert_eq!(policy.verdict(call), ENOSYS, "{call:#x}");
        }
    }
}
