#!/bin/busybox sh
# The guest's whole user space: mounts what a host has, runs each suite and powers off.
export PATH=/usr/bin:/usr/sbin
# Where suites find the programs that they start.
export WHARF_PROGRAMS=/programs
# An emulated processor is several times as slow as one.
export WHARF_PATIENCE_S=240
# This kernel has it switched on: a case that needs it must not pass for want of it.
export WHARF_APPARMOR=1
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t securityfs security /sys/kernel/security
busybox mount -t devtmpfs dev /dev
busybox mkdir -p /dev/pts /dev/shm
busybox mount -t devpts devpts /dev/pts
busybox mount -t tmpfs -o mode=1777 tmpfs /dev/shm
busybox mount -t tmpfs -o mode=1777 tmpfs /tmp
busybox mount -t cgroup2 cgroup2 /sys/fs/cgroup
# Programs that are not busybox's (ip, nsenter, ldd) are there already and stay.
busybox --install -s 2>/dev/null
# Only a panic may come between the lines of the results.
dmesg -n 1
# With what the firewall's rules need: each that is missing begins the transaction again, and one has 30 s.
modprobe -a overlay veth bridge nf_tables nft_chain_nat nft_masq nft_nat nft_ct nft_fib_inet nft_hash
ip link set lo up
cd /
echo "guest: Linux $(uname -r), controllers $(cat /sys/fs/cgroup/cgroup.controllers)"
mount -t ext4 /dev/vdb /kept
export WHARF_KEPT=/kept
grep -q wharf.soak /proc/cmdline && export WHARF_SOAK=1
cut=$(sed -n 's/.*wharf\.cut=\([0-9a-z.]*\).*/\1/p' /proc/cmdline)
if [ -n "$cut" ]; then
    # One boot of many, with everything on the disk that is kept.
    export TMPDIR=/kept WHARF_CUT="$cut"
    grep -q wharf.last /proc/cmdline && export WHARF_CUT_LAST=1
    # shellcheck disable=SC2046
    /suites/power $(cat /arguments/power)
    echo "guest: power ended with $?"
    poweroff -f
fi
for suite in /suites/*; do
    [ "${suite##*/}" = power ] && continue
    # User ids are mapped on mounts of the disk; a tmpfs of this kernel cannot do that.
    [ "${suite##*/}" = guest ] && export TMPDIR=/var/tmp
    arguments=$(cat "/arguments/${suite##*/}")
    # shellcheck disable=SC2086
    "$suite" $arguments @FILTER@
    status=$?
    [ "$status" = 0 ] || dmesg | tail -n 20
    # Without this line for each suite the guest has failed.
    echo "guest: ${suite##*/} ended with $status"
done
poweroff -f
