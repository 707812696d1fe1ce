#!/usr/bin/env bash
# A SLURM of one node on this machine, for tests: as root, with Debian's slurm-wlm and munge.
# Says "ready" once it takes jobs, and ends, with everything it started, when its input ends:
# Ctrl-D in a terminal; in a test also when the test itself is killed.
# Seen with SLURM 22.05 (Debian 12), in a container without systemd.
set -euo pipefail

conf=/etc/slurm/slurm.conf # not elsewhere: jobs do not inherit SLURM_CONF
if [ -e "$conf" ] && { ! grep -q one_node.sh "$conf" || timeout 5 sinfo -h >/dev/null 2>&1; }; then
  echo "$conf exists: this machine has a SLURM already" >&2
  exit 1
fi

root=$(mktemp -d /var/tmp/one-node-slurm.XXXXXX)
chmod 755 "$root" # munged refuses a socket that others cannot reach
mkdir "$root"/{state,spool,cgroup}
node=$(hostname -s)
daemons=() # process ids, in the order of the start

stop() {
  trap '' INT TERM
  timeout 10 scancel --quiet --user="$(id -un)" || true
  for _ in $(seq 20); do
    if [ -z "$(timeout 5 squeue -h -o %i || true)" ]; then break; fi
    sleep 0.5
  done
  for ((i = ${#daemons[@]} - 1; i >= 0; i--)); do
    kill "${daemons[i]}" 2>/dev/null || true
    wait "${daemons[i]}" || true
  done
  rm -rf "$root" "$conf" /etc/slurm/gres.conf /etc/slurm/cgroup.conf
}
trap stop EXIT
trap exit INT TERM

# What the node promises is what the rules ask for, not what the machine has: nothing is confined
# to its share here, and the profile is tested as users have it.
cat >"$conf" <<END
# Written by tests/cluster/one_node.sh
ClusterName=one-node
SlurmctldHost=$node(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$root/munge.socket
StateSaveLocation=$root/state
SlurmdSpoolDir=$root/spool
SlurmctldPidFile=$root/slurmctld.pid
SlurmdPidFile=$root/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=1,sched_interval=5
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
KillWait=2
MinJobAge=600
GresTypes=gpu
NodeName=$node NodeAddr=127.0.0.1 CPUs=16 RealMemory=64000 Gres=gpu:a100:1 State=UNKNOWN
PartitionName=cpu Nodes=$node Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes=$node MaxTime=INFINITE State=UP
END
# A stand-in: requests for a GPU are scheduled, no card is needed.
echo "NodeName=$node Name=gpu Type=a100 File=/dev/null" >/etc/slurm/gres.conf
# 22.05 starts no slurmd without a cgroup plug-in, though nothing here uses one.
cat >/etc/slurm/cgroup.conf <<END
CgroupAutomount=yes
IgnoreSystemd=yes
CgroupPlugin=cgroup/v1
CgroupMountpoint=$root/cgroup
END

start() {
  "$@" >"$root/$1.log" 2>&1 </dev/null &
  daemons+=($!)
}

head -c 128 /dev/urandom >"$root/munge.key"
chmod 600 "$root/munge.key"
start munged --foreground --force --socket="$root/munge.socket" --key-file="$root/munge.key" \
  --log-file="$root/munged.own.log" --pid-file="$root/munged.pid" --seed-file="$root/munge.seed"
for _ in $(seq 50); do [ -S "$root/munge.socket" ] && break; sleep 0.1; done
start slurmctld -D
start slurmd -D -N "$node"

for _ in $(seq 30); do
  if [ "$(timeout 5 sinfo -h -p cpu -o %T 2>/dev/null)" = idle ]; then
    echo ready
    cat >/dev/null
    exit 0
  fi
  sleep 1
done
tail -n 3 "$root"/*.log >&2
exit 1
