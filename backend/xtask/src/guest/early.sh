#!/bin/busybox sh
# The first program: finds the disk and goes on there. A root in memory cannot be pivoted away from,
# which is what a launch does (pivot_root(2), EINVAL).
busybox mount -t devtmpfs dev /dev
# Quietly: one that is built into this kernel is no module.
for module in @MODULES@; do busybox modprobe -q "$module"; done
busybox mount -t ext4 /dev/vda /root || busybox poweroff -f
exec busybox switch_root /root /init
