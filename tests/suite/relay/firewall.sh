#!/bin/sh
# Runs in a network namespace of its own, in the folder of the README. Checks which connections of a
# neighbor in the LAN the firewall lets through.
set -eu

unshare --net sleep 60 &
neighbor=$!
trap 'kill "$neighbor"' EXIT
until [ "$(readlink "/proc/$neighbor/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do :; done
there() { nsenter --target "$neighbor" --net "$@"; }

ip link set lo up
ip link add lan type veth peer name lan netns "$neighbor"
for link in "ip" "there ip"; do
    case $link in ip) n=1 ;; *) n=2 ;; esac
    $link addr add "192.168.7.$n/24" dev lan
    $link addr add "203.0.113.$n/24" dev lan
    $link link set lan up
done

nft --file nftables.conf
# Again, as when the service is restarted.
nft --file nftables.conf

# The last argument of each line: whether a connection gets through.
cat >table <<'TABLE'
here  127.0.0.1    127.0.0.1    3100 yes
there 192.168.7.2  192.168.7.1  443  yes
there 192.168.7.2  192.168.7.1  22   yes
there 192.168.7.2  192.168.7.1  3100 no
there 192.168.7.2  192.168.7.1  80   no
there 203.0.113.2  203.0.113.1  443  no
there 203.0.113.2  203.0.113.1  22   no
TABLE
cat >listen.py <<'PYTHON'
import socket, signal
sockets = [socket.create_server(("0.0.0.0", port)) for port in (22, 80, 443, 3100)]
print("ready", flush=True)
signal.pause()
PYTHON
cat >connect.py <<'PYTHON'
import socket, sys
_, place, source, target, port, expected = sys.argv
try:
    socket.create_connection((target, int(port)), timeout=0.3 if expected == "no" else 10, source_address=(source, 0))
    got = "yes"
except OSError:
    got = "no"
assert got == expected, f"from {source} to {target}:{port}: {got}"
PYTHON
mkfifo ready
python3 listen.py >ready &
listener=$!
trap 'kill "$neighbor" "$listener"' EXIT
read -r _ <ready
while read -r place rest; do
    [ "$place" = there ] || place="env"
    # shellcheck disable=SC2086 # each word is an argument
    $place python3 connect.py "$place" $rest
done <table
