#!/bin/busybox sh
# The guest's whole user space: mounts what a host has, runs each suite and powers off.
export PATH=/usr/bin:/usr/sbin
# Where suites find the programs that they start.
export WHARF_PROGRAMS=/programs
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
modprobe -a overlay veth bridge nf_tables
ip link set lo up
cd /
echo "guest: Linux $(uname -r), controllers $(cat /sys/fs/cgroup/cgroup.controllers)"
for suite in /suites/*; do
    "$suite" @FILTER@
    status=$?
    [ "$status" = 0 ] || dmesg | tail -n 20
    # Without this line for each suite the guest has failed.
    echo "guest: ${suite##*/} ended with $status"
done
poweroff -f
