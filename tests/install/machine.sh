#!/bin/bash
# A machine of its own over this one's files: whatever is written, to /usr and
# /etc too, is gone with it. Run by unshare(1) in mount and pid namespaces of its
# own, with a scratch directory, the binaries and contrib/. Prints READY.
#   machine.sh plain SCRATCH BIN CONTRIB [DEB-DIR]    waits; to be entered
#   machine.sh boot …                                 boots systemd as its pid 1
set -eu
kind=$1 scratch=$2 bin=$3 contrib=$4 debs=${5:-}

mount --make-rprivate /
mount -t tmpfs jsi-tests "$scratch"
mkdir "$scratch"/{up,work,root,out}
root=$scratch/root
mount -t overlay jsi-tests -o "lowerdir=/,upperdir=$scratch/up,workdir=$scratch/work" "$root"
# An agent of the machine below is none of this one's.
rm -rf "$root"/run/jsi "$root"/etc/jsi "$root"/var/lib/jsi
mkdir -p "$root"/mnt/{bin,contrib,debs,out}
mount --bind -o ro "$bin" "$root/mnt/bin"
mount --bind -o ro "$contrib" "$root/mnt/contrib"
[ -z "$debs" ] || mount --bind -o ro "$debs" "$root/mnt/debs"
chmod 0755 "$root"

if [ "$kind" = boot ]; then
    # The units that the tests bring; nothing of this machine's own is started.
    [ ! -d "$contrib/../tests/install/units" ] ||
        cp "$contrib"/../tests/install/units/* "$root/etc/systemd/system/"
    echo READY
    exec systemd-nspawn -q -D "$root" --boot --register=no --keep-unit --link-journal=no \
        --private-network --console=pipe --machine="jsi-tests-$$" \
        --bind-ro="$bin:/mnt/bin" --bind-ro="$contrib:/mnt/contrib" \
        ${debs:+--bind-ro="$debs:/mnt/debs"} \
        --capability=CAP_CHECKPOINT_RESTORE \
        --system-call-filter="memfd_secret open_by_handle_at name_to_handle_at" \
        systemd.unit=basic.target systemd.mask=systemd-firstboot.service
fi

mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=755 jsi-tests "$root/run"
mount -t tmpfs -o mode=1777 jsi-tests "$root/tmp"
echo READY
# pid 1 there: what is orphaned comes to it, and is reaped.
exec chroot "$root" /bin/bash -c 'while :; do sleep 3600 & wait $!; done'
