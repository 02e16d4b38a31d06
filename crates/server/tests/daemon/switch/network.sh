# A switch with four ports, and three machines on it, each in a network of its own; it begins in the switch's.
# The server is behind the port `far`, which comes from the server's network; the machines are behind `sw1`, `sw2` and `sw3`:
# one has lldpd, one has our agent, and one has nothing.
# The switch's LLDP is lldpd's, its SNMP net-snmp's; what these two lack of a real switch's tables is in mib.py.
set -eu
dir=$1 here=$2

# What runs here ends with this shell, and this shell with the daemon.
behind() { setpriv --pdeathsig KILL "$@" & }
lldp() { # NAME CONFIGURATION [FLAG...]
    name=$1 configuration=$2
    shift 2
    mkdir -p /run/lldpd
    printf '%s\n' "$configuration" "configure lldp tx-interval 1" "configure system hostname $name" >"$dir/$name.conf"
    # It changes its user, and that makes the kernel forget with whom it is to end: its process namespace does not.
    behind unshare --pid --fork --kill-child=KILL sh -c '"$@" & wait' sh lldpd -d -u "/run/$name.socket" -O "$dir/$name.conf" "$@" >"$dir/$name.log" 2>&1
}

if [ "$here" = machine ]; then
    mount -t tmpfs none /run
    echo $$ >"$dir/$3.pid.new" && mv "$dir/$3.pid.new" "$dir/$3.pid"
    while ! ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done
    ip link set lo up && ip link set eth0 address "$4" && ip address add "$5/24" dev eth0 && ip link set eth0 up
    case "$6" in
    lldp) lldp "$3" "configure system interface pattern eth0" ;;
    agent) behind "$dir/walt-node" walt-net-service --server 10.9.8.1 --root / --dry-run >"$dir/$3.log" 2>&1 ;;
    esac
    exec /usr/bin/python3 "$dir/mib.py" machine "$dir/$3.woken"
fi

mount -t tmpfs none /run
# What stands there is of the network in which it was mounted.
mount -t sysfs none /sys
echo $$ >"$dir/switch.pid.new" && mv "$dir/switch.pid.new" "$dir/switch.pid"
while ! ip link show far >/dev/null 2>&1; do sleep 0.05; done
ip link set lo up && ip link add br0 type bridge && ip link set br0 address 02:00:00:00:09:01
ip address add 10.9.8.2/24 dev br0 && ip link set br0 up
port() { ip link set "$1" master br0 && ip link set "$1" up; }
machine() { # NAME PORT MAC IP lldp|agent|mute
    behind unshare --net --mount sh "$dir/network.sh" "$dir" machine "$1" "$3" "$4" "$5"
    while [ ! -e "$dir/$1.pid" ]; do sleep 0.05; done
    ip link add "$2" type veth peer name eth0 netns "$(cat "$dir/$1.pid")"
    port "$2"
}
# In the order of their numbers.
machine one sw1 52:54:00:00:ab:01 10.9.8.7 lldp
machine two sw2 52:54:00:00:ab:02 10.9.8.8 mute
machine three sw3 52:54:00:00:ab:03 10.9.8.9 agent
port far

# The second port refuses to come back once.
touch "$dir/stubborn.sw2"
cat >"$dir/snmpd.conf" <<END
agentaddress udp:10.9.8.2:161
rwcommunity private
rocommunity public
master agentx
agentXSocket $dir/agentx
pass_persist .1.3.6.1.2.1.17 /usr/bin/python3 $dir/mib.py bridge $dir
pass_persist .1.3.6.1.2.1.105 /usr/bin/python3 $dir/mib.py power $dir
END
MIBS= behind snmpd -f -C -c "$dir/snmpd.conf" -Lf "$dir/snmpd.log"
while [ ! -S "$dir/agentx" ]; do sleep 0.05; done
lldp switch "configure system interface pattern far,sw1,sw2,sw3
configure lldp portidsubtype ifname" -x -X "$dir/agentx"
wait
