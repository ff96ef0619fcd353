//! The lines. The attacker controls the image, the container's root user, every byte of its file system, its
//! log, terminal and network, and may run processes that race; not the description beyond what the API takes.

/// Something that must not be possible.
pub(super) struct Line {
    /// A letter for what is attacked, and a number.
    pub(super) id: &'static str,
    /// What holds.
    pub(super) statement: &'static str,
    /// Whether tests attack it.
    pub(super) standing: Standing,
}

/// How a line stands.
pub(super) enum Standing {
    /// At least one test attacks it.
    Tested,
    /// There is nothing to attack, and why.
    Elsewhere(&'static str),
}

use Standing::{Elsewhere, Tested};

const fn line(id: &'static str, standing: Standing, statement: &'static str) -> Line {
    Line { id, statement, standing }
}

pub(super) const LINES: &[Line] = &[
    // Being born and entering.
    line(
        "A1",
        Tested,
        "The launcher runs from a sealed copy in memory; nobody inside can write the host's binary (CVE-2019-5736)",
    ),
    line(
        "A2",
        Tested,
        "Launcher, supervisor and whoever enters a container cannot be traced or read from inside (CVE-2016-9962)",
    ),
    line("A3", Tested, "A container's program has no descriptor above 2 (CVE-2024-21626)"),
    line(
        "A4",
        Tested,
        "The working directory is inside the root, whatever links and races say (CVE-2024-21626)",
    ),
    line("A5", Tested, "No secret of the agent is in the memory that becomes a container's first process"),
    line(
        "A6",
        Tested,
        "Exec and signals reach the recorded first process, never one that has its number now",
    ),
    line("A7", Tested, "A start that fails at any system call leaves nothing"),
    line(
        "A8",
        Elsewhere("sandboxes are not kept ready: every container is built for itself"),
        "A sandbox from a pool is used once, and destroyed when its start fails",
    ),
    // Root file system and mounts.
    line(
        "B1",
        Tested,
        "Links in place of /proc, /dev, /sys and the files that are made there lead nowhere outside (CVE-2021-30465, CVE-2019-19921)",
    ),
    line(
        "B2",
        Tested,
        "What hides paths is our null device and our empty directory, never the image's (CVE-2025-31133)",
    ),
    line(
        "B3",
        Tested,
        "The console is bound by descriptor, never by the name of a terminal (CVE-2025-52565)",
    ),
    line(
        "B4",
        Tested,
        "What is written to /proc goes to a real procfs of the container, whatever the image puts there (CVE-2025-52881)",
    ),
    line("B5", Tested, "Nothing is mounted onto /proc, /sys or the cgroups (CVE-2019-16884)"),
    line("B6", Tested, "No mount and no path of the host shows inside, and the root has no parent"),
    line("B7", Tested, "No mount inside shows on the host, whose mount table does not grow"),
    line("B8", Tested, "The root has nodev; a read-only mount is read-only in all that is mounted below it"),
    line(
        "B9",
        Tested,
        "No layer can plant attributes or devices that the overlay obeys (CVE-2021-3493, CVE-2023-0386)",
    ),
    line("B10", Tested, "A writable root is writable, never read-only without a word"),
    line("B11", Tested, "The host's memory, keys, timers and log are hidden"),
    line("B12", Tested, "/sys is read-only, with the cgroups in it"),
    line("B13", Tested, "The kernel's switches (core pattern, module loader, binfmt_misc) cannot be written"),
    line("B14", Tested, "A tenant's volume is a name; no path of the host can be had by it (CVE-2021-25741)"),
    line("B15", Tested, "Names and ids cannot become paths"),
    // Images and copies.
    line("C1", Tested, "Unpacking never leaves the layer (CVE-2014-6407, RUSTSEC-2026-0067)"),
    line(
        "C2",
        Tested,
        "The archive reader agrees with GNU tar, and refuses what readers disagree about (CVE-2025-62518)",
    ),
    line("C3", Tested, "Bombs stop at limits of bytes, entries, depth and attributes"),
    line("C4", Tested, "Decompressors are our own code, never a program of the image (CVE-2019-14271)"),
    line("C5", Tested, "Copies in and out stay inside the root while its processes race (CVE-2018-15664)"),
    line("C6", Tested, "A layer shows only when the digests of its packed and unpacked bytes are right"),
    line("C7", Tested, "Credentials go to their registry alone, over TLS (CVE-2020-15157)"),
    line("C8", Tested, "A user beyond the range or unknown is an error (CVE-2024-40635)"),
    line(
        "C9",
        Tested,
        "An image's configuration gives no rights, and its volumes cover nothing of the system",
    ),
    line("C10", Tested, "Set-user-ID programs of an image gain nothing"),
    line("C11", Tested, "Users of the host cannot reach layers (CVE-2021-41091, CVE-2021-41103)"),
    line("C12", Tested, "Tenants can be kept from sharing pages of layers (CVE-2022-0847)"),
    // Privilege.
    line(
        "D1",
        Tested,
        "Capabilities are the default set without NET_RAW and MKNOD, none inheritable, also for an exec (CVE-2022-24769)",
    ),
    line("D2", Tested, "A tenant's own request adds no capability"),
    line("D3", Tested, "Each tenant has a range of user ids of its own; the host's are in none"),
    line(
        "D4",
        Tested,
        "Files of the host belong to nobody inside, and ids outside the range cannot be given",
    ),
    line("D5", Tested, "Supplementary groups are those of the description (CVE-2022-2990)"),
    line("D6", Tested, "System calls are filtered as Docker does or stricter, other ABIs too"),
    line("D7", Tested, "An exec has the same filter"),
    line("D8", Tested, "No program gains privileges (no_new_privs)"),
    line("D9", Tested, "A container has a keyring of its own and no calls for keys (CVE-2016-0728)"),
    line("D10", Tested, "Processes of others cannot be traced, read or borrowed from"),
    line(
        "D11",
        Tested,
        "What unpacks images and reads archives reaches the directories that it works on alone (Landlock)",
    ),
    line("D12", Tested, "What reaches out of the walls is for operators, and audited"),
    line(
        "D13",
        Tested,
        "Kernel parameters are those of the container's own namespaces, with checked values (CVE-2022-0811)",
    ),
    line("D14", Tested, "Low ports and pings need no capability"),
    // Cgroups, devices, exhaustion.
    line("E1", Tested, "No cgroup can be written, and none can be mounted anew (CVE-2022-0492)"),
    line("E2", Tested, "Devices are denied but for the standard ones, before the first instruction"),
    line("E3", Tested, "Limits hold from the first instruction on"),
    line("E4", Tested, "A fork bomb meets its limit, execs and threads counted"),
    line("E5", Tested, "Memory has its limit, and so have /dev/shm and tmpfs"),
    line("E6", Tested, "/dev holds 64 KiB and 256 files"),
    line("E7", Tested, "Resource limits are set"),
    line("E8", Tested, "A crash leaves no core"),
    line("E9", Tested, "Agent, launcher and supervisor are outside the container's cgroup"),
    line("E10", Tested, "A container makes no cgroups"),
    line("E11", Tested, "Every process can be killed: forked twice, stopped, traced"),
    line("E12", Tested, "What is given back after the end holds up no start"),
    // Terminal, log, streams.
    line("F1", Tested, "A terminal is the container's own, and takes no input from it (CVE-2017-5226)"),
    line("F2", Tested, "Escapes in a log do nothing where it is shown (CVE-2021-25743)"),
    line("F3", Tested, "A flood of output costs bounded memory and disk"),
    line("F4", Tested, "A stream that nobody reads or that stays open holds nothing up"),
    line("F5", Tested, "A log's frames cannot be forged"),
    line("F6", Tested, "No secret is in a log, a command line or a readable file"),
    // Network.
    line("G1", Tested, "A container cannot send as another (CVE-2020-14386)"),
    line("G2", Tested, "IPv6 cannot be made to work from inside (CVE-2020-13401)"),
    line("G3", Tested, "Tenants reach neither each other nor the host (CVE-2020-8558)"),
    line("G4", Tested, "A published port answers where it was asked for and nowhere else"),
    line("G5", Tested, "A tenant cannot fill the table of connections"),
    line("G6", Tested, "Rules change at once, and come back when another program flushes them"),
    line(
        "G7",
        Elsewhere("names are files; there is no DNS server"),
        "A name server answers for the own tenant alone",
    ),
    line("G8", Tested, "Sockets of the agent are paths that root alone can reach (CVE-2020-15257)"),
    // The API, the dashboard, the agent.
    line("H1", Tested, "Another name in the Host header is refused on every route (DNS rebinding)"),
    line(
        "H2",
        Tested,
        "A WebSocket needs our origin and a ticket or a token, never a cookie alone (CVE-2019-13209)",
    ),
    line("H3", Tested, "No other site's form or cookie changes anything"),
    line("H4", Tested, "Nothing but the setup and the sign-in is open to strangers"),
    line("H5", Tested, "A body is read whole or refused whole before anybody decides by it (CVE-2024-41110)"),
    line("H6", Tested, "What belongs to another tenant does not exist, on any route or socket"),
    line("H7", Tested, "Parallel requests do not slip past a quota"),
    line("H8", Tested, "Guessing and flooding are bounded; secrets are hashed at rest"),
    line("H9", Tested, "No message makes launcher, supervisor or agent panic"),
    line("H10", Tested, "A forged or stale state file makes nobody adopt or kill a stranger's process"),
    line("H11", Tested, "The audit trail's actor is who signed in, whatever a body says"),
    line("H12", Tested, "No answer runs as a script or is framed"),
    line(
        "H13",
        Tested,
        "Checkpoints are made and kept by the host, for operators alone; no client brings one",
    ),
    line("H14", Tested, "Programs that the agent runs get no environment of anybody (CVE-2025-23266)"),
    line(
        "H15",
        Tested,
        "No dependency with a hole that deny.toml knows, from elsewhere, or of a licence that binds",
    ),
];
