"""What net-snmp lacks of a switch, in the protocol of its pass_persist: BRIDGE-MIB, read from the real bridge, and
POWER-ETHERNET-MIB: a port without power is one whose link is down.

`machine FILE` is something else: a machine that says something each second, so that the switch learns of it, and writes the
magic packet that it gets into the file."""
import json, os, socket, subprocess, sys, time

BRIDGE, POWER = (1, 3, 6, 1, 2, 1, 17), (1, 3, 6, 1, 2, 1, 105)


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def port_number(name):
    return int(open(f"/sys/class/net/br0/brif/{name}/port_no").read(), 16)


def bridge():
    ports = {name: port_number(name) for name in ("far", "sw1", "sw2", "sw3")}
    table = {BRIDGE + (1, 1, 0): ("octet", "02 00 00 00 09 01")}
    for name, number in ports.items():
        index = int(open(f"/sys/class/net/{name}/ifindex").read())
        table[BRIDGE + (1, 4, 1, 2, number)] = ("integer", index)
    for entry in json.loads(run("bridge", "-j", "fdb", "show", "br", "br0")):
        if entry.get("ifname") in ports and "permanent" not in (entry.get("state"), *entry.get("flags", [])):
            mac = tuple(int(byte, 16) for byte in entry["mac"].split(":"))
            table[BRIDGE + (4, 3, 1, 2) + mac] = ("integer", ports[entry["ifname"]])
    return table


class Power:
    """The ports are those of the bridge; what is on is read from their links."""

    def __init__(self, directory):
        self.directory = directory
        self.ports = {port_number(name): name for name in ("sw1", "sw2")}

    def is_on(self, name):
        return int(open(f"/sys/class/net/{name}/flags").read(), 16) & 1 == 1

    def table(self):
        table = {}
        for port, name in self.ports.items():
            on = self.is_on(name)
            table[POWER + (1, 1, 1, 3, 1, port)] = ("integer", 1 if on else 2)
            table[POWER + (1, 1, 1, 6, 1, port)] = ("integer", 3 if on else 1)
        return table

    def note(self, what):
        with open(f"{self.directory}/power.log", "a") as log:
            log.write(what + "\n")

    def set(self, oid, value):
        name = self.ports.get(oid[-1])
        if oid[:-1] != POWER + (1, 1, 1, 3, 1) or not name:
            return "not-writable"
        on = value.split()[-1] == "1"
        stubborn = f"{self.directory}/stubborn.{name}"
        if on and os.path.exists(stubborn):
            os.remove(stubborn)
            self.note(f"{name} refused")
            return "inconsistent-value"
        run("ip", "link", "set", name, "up" if on else "down")
        self.note(f"{name} {'on' if on else 'off'}")
        return "DONE"


def serve(table, change):
    for command in iter(sys.stdin.readline, ""):
        command = command.strip().lower()
        if not command:
            # net-snmp ends what it sets with an empty line.
            continue
        if command == "ping":
            print("PONG", flush=True)
            continue
        oid = tuple(int(arc) for arc in sys.stdin.readline().strip().strip(".").split("."))
        if command == "set":
            print(change(oid, sys.stdin.readline().strip()), flush=True)
            continue
        rows = table()
        if command == "getnext":
            oid = min((name for name in rows if name > oid), default=None)
        if oid in rows:
            kind, value = rows[oid]
            print("." + ".".join(map(str, oid)), kind, value, sep="\n", flush=True)
        else:
            print("NONE", flush=True)


def machine(path):
    frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0842))
    frames.bind(("eth0", 0x0842))
    frames.settimeout(1)
    voice = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    while True:
        try:
            voice.sendto(b"I am here", ("10.9.8.1", 9))
            magic = frames.recv(2000)[14:]
            with open(path, "w") as file:
                file.write(magic.hex())
        except OSError:
            # Nothing has come, or the link is down.
            time.sleep(0.1)


if sys.argv[1] == "bridge":
    serve(bridge, lambda *_: "not-writable")
elif sys.argv[1] == "power":
    power = Power(sys.argv[2])
    serve(power.table, power.set)
else:
    machine(sys.argv[2])
