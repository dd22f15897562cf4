#!/bin/bash
# The first process of the guest of tests/nfs.py. The kernel gives it PACKAGES (unpacked), EXCHANGE (a folder that is the
# host's, too), PYTHON and AGENT in its environment. The host's files are below everything, and are never written to.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

load() { (export LD_LIBRARY_PATH="$PACKAGES/usr/lib/x86_64-linux-gnu"; exec -a modprobe "$PACKAGES/usr/bin/kmod" "$@"); }

set -e
mount -t proc proc /proc
mount -t tmpfs tmpfs /mnt
mkdir -p /mnt/lib /mnt/upper /mnt/work /mnt/root /mnt/packages
ln -s "$PACKAGES/usr/lib/uml/modules" /mnt/lib/modules
load -d /mnt overlay
mount -t hostfs none /mnt/packages -o "$PACKAGES"
mount -t overlay overlay -o lowerdir=/mnt/packages:/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
cd /mnt/root
mkdir -p old exchange export nfs nfs3 clients/{a,b}/{4,3} usr/lib/modules
version=$(uname -r)
[ -e "usr/lib/modules/$version" ] || ln -s "../uml/modules/$version" "usr/lib/modules/$version"
mount -t hostfs none exchange -o "$EXCHANGE"
pivot_root . old
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run

# The server, of NFS 3, 4.1 and 4.2. What it exports is an ext4 on a disk of its own.
hostname server
ip link set lo up
for module in nfsd nfsv4 nfsv3; do modprobe "$module"; done
mkdir -p /run/rpcbind /run/sendsigs.omit.d /var/lib/nfs/rpc_pipefs /var/lib/nfs/{sm,sm.bak,v4recovery}
touch /var/lib/nfs/{etab,rmtab,state}
chown -R 108 /var/lib/nfs/{sm,sm.bak,state}
cat >> /etc/passwd <<END
_rpc:x:107:65534::/run/rpcbind:/usr/sbin/nologin
statd:x:108:65534::/var/lib/nfs:/usr/sbin/nologin
END
mkfs.ext4 -q /dev/ubda
mount -t ext4 /dev/ubda /export
mkdir -p /export/{readonly,squashed}
mount -t tmpfs readonly /export/readonly
mount -t tmpfs -o mode=755 squashed /export/squashed
cat > /etc/exports <<END
/export *(rw,no_root_squash,insecure,no_subtree_check,fsid=0)
/export/readonly *(ro,no_root_squash,insecure,no_subtree_check,fsid=1)
/export/squashed *(rw,root_squash,insecure,no_subtree_check,fsid=2)
END
mount -t nfsd nfsd /proc/fs/nfsd
mount -t rpc_pipefs pipes /var/lib/nfs/rpc_pipefs
exportfs -a
rpcbind
rpc.nfsd --grace-time 10 --lease-time 10 8
rpc.mountd
rpc.statd --no-notify

# Two clients with caches and identities of their own: a client is known by its host's name, and two that ask one address
# of a server are one. Whatever is not named here is as it is by default, above all how long attributes are believed.
number=0
for machine in a b; do
    number=$((number + 1))
    unshare --uts sh -c "hostname $machine
        mount -t nfs -o vers=4.2,nosharecache 127.0.0.$number:/ /clients/$machine/4
        mount -t nfs -o vers=3,nosharecache 127.0.0.$number:/export /clients/$machine/3"
done
set +e
"$PYTHON" "$AGENT" /dev/ttyS0
sync
umount -l /export
echo o > /proc/sysrq-trigger
sleep 5
