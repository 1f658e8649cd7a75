#!/bin/sh
# Pretend hosts on one Linux machine: runs a command across N network namespaces joined by a bridge, each host's link
# shaped both ways, and removes them whatever happens. Needs root, iproute2 and OpenMPI.
#
#   scripts/hosts.sh N RATE COMMAND...     RATE like 400mbit; 0: not shaped
#   scripts/hosts.sh 2 110mbit npx scmoe bench compare
#
# Settings: RANKS_PER_HOST (default 1), HOSTS_NAME (prefix of the namespaces; must differ between runs at one time),
# HOSTS_NET (first three octets). Exit codes: that of the command; 77 not permitted here; 69 a tool is missing; 64 usage.
set -eu

name=${HOSTS_NAME:-scmoe$$}
net=${HOSTS_NET:-10.83.0}
per_host=${RANKS_PER_HOST:-1}
switch=$name-switch
agent=/run/$name-agent

fail() { # fail CODE MESSAGE
  echo "hosts.sh: $2" >&2
  exit "$1"
}

[ $# -ge 3 ] || fail 64 "usage: hosts.sh N RATE COMMAND..."
count=$1
rate=$2
shift 2
case $count in '' | *[!0-9]*) fail 64 "N is \"$count\"; wanted a number of hosts" ;; esac
for tool in ip tc mpirun; do
  command -v $tool >/dev/null || fail 69 "$tool is missing (apt-get install iproute2 openmpi-bin)"
done
[ "$(id -u)" = 0 ] || fail 77 "needs root to make network namespaces"
ip netns add "$switch" 2>/dev/null || fail 77 "not allowed to make network namespaces here"

remove() {
  trap - EXIT INT TERM
  i=0
  while [ $i -lt "$count" ]; do
    i=$((i + 1))
    for pid in $(ip netns pids "$name-$i" 2>/dev/null); do kill -9 "$pid" 2>/dev/null || true; done
    ip netns del "$name-$i" 2>/dev/null || true
  done
  ip netns del "$switch" 2>/dev/null || true
  rm -f "$agent"
}
trap 'status=$?; remove; exit $status' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

shape() { # shape NAMESPACE DEVICE: a whole 64 KiB packet must fit the bucket
  [ "$rate" = 0 ] || ip netns exec "$1" tc qdisc replace dev "$2" root tbf rate "$rate" burst 128kb latency 20ms
}

ip -n "$switch" link add bridge0 type bridge
ip -n "$switch" link set bridge0 up
hosts=
i=0
while [ $i -lt "$count" ]; do
  i=$((i + 1))
  host=$name-$i
  ip netns add "$host"
  ip -n "$host" link set lo up
  ip -n "$switch" link add "port$i" type veth peer name eth0 netns "$host"
  ip -n "$switch" link set "port$i" master bridge0 up
  ip -n "$host" addr add "$net.$i/24" dev eth0
  ip -n "$host" link set eth0 up
  # Steadier than the rate probing of bbr.
  ip netns exec "$host" sysctl -qw net.ipv4.tcp_congestion_control=reno 2>/dev/null || true
  shape "$host" eth0
  shape "$switch" "port$i"
  hosts=$hosts${hosts:+,}$net.$i:$per_host
done

# mpirun starts its daemon on "another host" through this instead of ssh.
cat >"$agent" <<AGENT
#!/bin/sh
while case \$1 in -*) true ;; *) false ;; esac; do shift; done
number=\${1##*.}
shift
exec ip netns exec $name-\$number unshare --uts sh -c "hostname host\$number; \$*"
AGENT
chmod +x "$agent"

ip netns exec "$name-1" unshare --uts sh -c 'hostname host1; exec "$@"' sh \
  mpirun --allow-run-as-root --mca plm_rsh_agent "$agent" --host "$hosts" -n $((count * per_host)) --bind-to none \
  --mca btl tcp,self,vader --mca btl_tcp_if_include eth0 --mca oob_tcp_if_include eth0 "$@"
