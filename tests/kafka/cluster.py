"""A cluster on loopback: its files, its processes, and when it is ready.

Every node is broker and controller at once (KRaft); before Kafka 3 all are brokers of one ZooKeeper. Addresses, node ids and ports are ones that nothing else uses (127.10.x.y, ids above
1,600,000,000, ports above 61,000), so that a real identity that leaks through the proxy shows.
"""

import base64
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
import zlib

import artifacts
import wire

# No figures in files that are named by process ids, and no words of its own among what a tool prints.
JVM = ["-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xlog:disable",
       "-Xlog:all=warning:stderr", "-Djava.awt.headless=true"]
# Above Linux's ephemeral ports, so that no other process is given one of ours while a node is down.
PORTS = range(61001, 65000)


class Failed(Exception):
    """What went wrong, in words for the operator."""


# --- its files -----------------------------------------------------------------------------------------------------------------


def folder(where, name):
    return pathlib.Path(where).resolve() / name


def load(where, name):
    path = folder(where, name) / "cluster.json"
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise Failed(f"no cluster {name} here: {path} does not exist") from None


def save(where, cluster):
    path = folder(where, cluster["name"]) / "cluster.json"
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(cluster, indent=1) + "\n")
    fresh.replace(path)


def names(where):
    return sorted(path.parent.name for path in pathlib.Path(where).resolve().glob("*/cluster.json"))


def plan(where, name, version, count):
    """What cluster.json says, before any node runs."""
    subnet = free_subnet(where, name)
    nodes = []
    for index in range(count):
        host = f"127.10.{subnet}.{index + 1}"
        port, controller = free_ports(host, 2)
        home = folder(where, name) / f"node-{index}"
        nodes.append({
            "id": 1_600_000_000 + subnet * 1000 + index + 1,
            "addr": f"{host}:{port}",
            "controller": f"{host}:{controller}",
            "pid": None,
            "started": None,
            "log": str(home / "log"),
            "config": str(home / "server.properties"),
            "data": str(home / "data"),
        })
    made = {"name": name, "version": version, "cluster_id": random_id(), "bootstrap": [node["addr"] for node in nodes],
            "nodes": nodes}
    if before_kraft(version):
        home = folder(where, name) / "zookeeper"
        host = f"127.10.{subnet}.{count + 1}"
        made["zookeeper"] = {
            "id": 0,
            "addr": f"{host}:{free_ports(host, 1)[0]}",
            "pid": None,
            "started": None,
            "log": str(home / "log"),
            "config": str(home / "zoo.cfg"),
            "data": str(home / "data"),
        }
    return made


def before_kraft(version):
    """KRaft of 2.8 was a preview, without producer ids."""
    return int(version.split(".")[0]) < 3


def free_subnet(where, name):
    """The same name gets the same addresses, except where another cluster of this folder has them."""
    taken = {load(where, other)["bootstrap"][0].split(".")[2] for other in names(where)}
    first = zlib.crc32(name.encode())
    return next(x for x in (1 + (first + step) % 254 for step in range(254)) if str(x) not in taken)


def free_ports(host, count):
    found = []
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise Failed(f"no free port on {host}")


def random_id():
    """A UUID as Kafka writes it. Not one that begins with a dash: command lines would take it for a flag."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


def roles(cluster, node):
    """Who a node is, and whom it obeys."""
    if "zookeeper" in cluster:
        return {
            "broker.id": node["id"],
            "reserved.broker.max.id": 2_000_000_000,
            "zookeeper.connect": cluster["zookeeper"]["addr"],
            "listeners": f"PLAINTEXT://{node['addr']}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT",
        }
    nodes = cluster["nodes"]
    return {
        "process.roles": "broker,controller",
        "node.id": node["id"],
        "controller.quorum.voters": ",".join(f"{other['id']}@{other['controller']}" for other in nodes),
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{node['addr']},CONTROLLER://{node['controller']}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    }


def properties(cluster, node):
    replicas = min(3, len(cluster["nodes"]))
    return {
        **roles(cluster, node),
        "advertised.listeners": f"PLAINTEXT://{node['addr']}",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": node["data"],
        "auto.create.topics.enable": "true",
        # Small: one machine carries several clusters.
        "num.network.threads": 1,
        "num.io.threads": 2,
        "num.recovery.threads.per.data.dir": 1,
        "background.threads": 2,
        "log.segment.bytes": 16777216,
        "log.cleaner.threads": 1,
        "log.cleaner.dedupe.buffer.size": 2097152,
        "offsets.topic.num.partitions": 5,
        "transaction.state.log.num.partitions": 3,
        # Fit for the number of nodes: nothing that is acknowledged hangs on a single node of three.
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": 2 if replicas == 3 else 1,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": 2 if replicas == 3 else 1,
        "share.coordinator.state.topic.num.partitions": 3,
        "default.replication.factor": replicas,
        # A test's group has all its members or waits for them itself.
        "group.initial.rebalance.delay.ms": 0,
    }


def format_storage(cluster, overrides):
    """Writes the configs. Formats the first node with Kafka's own tool; the others differ from it in two lines of meta.properties only."""
    for node in cluster["nodes"]:
        config = pathlib.Path(node["config"])
        config.parent.mkdir(parents=True)
        settings = {**properties(cluster, node), **overrides}
        config.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    if "zookeeper" in cluster:
        keeper = cluster["zookeeper"]
        host, port = keeper["addr"].rsplit(":", 1)
        settings = {"dataDir": keeper["data"], "clientPortAddress": host, "clientPort": port, "admin.enableServer": "false",
                    "maxClientCnxns": 0}
        config = pathlib.Path(keeper["config"])
        config.parent.mkdir(parents=True)
        config.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        return
    first, *others = cluster["nodes"]
    done = subprocess.run(
        java(cluster["version"]) + ["kafka.tools.StorageTool", "format", "-t", cluster["cluster_id"], "-c", first["config"]],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise Failed(f"{cluster['name']}: formatting failed:\n{done.stdout}")
    for node in others:
        data = pathlib.Path(node["data"])
        shutil.copytree(first["data"], data)
        meta = data / "meta.properties"
        own = {"node.id": node["id"], "directory.id": random_id()}
        lines = [line.split("=", 1) for line in meta.read_text().splitlines() if "=" in line]
        meta.write_text("".join(f"{key}={own.get(key, value)}\n" for key, value in lines))


# --- its processes -------------------------------------------------------------------------------------------------------------


def java(version, log_level="warn"):
    """The command line up to the name of a class of that version."""
    log = {"defaultLogLevel": log_level, "showDateTime": "true", "dateTimeFormat": "HH:mm:ss.SSS", "showThreadName": "false"}
    return (["java", *JVM] + [f"-Dorg.slf4j.simpleLogger.{key}={value}" for key, value in log.items()]
            + ["-cp", f"{artifacts.install(version)}/*"])


def spawn(cluster, node):
    """Starts the node in a session of its own, so that it outlives whoever started it."""
    keeper = node is cluster.get("zookeeper")
    program = "org.apache.zookeeper.server.quorum.QuorumPeerMain" if keeper else "kafka.Kafka"
    with open(node["log"], "ab") as log:
        process = subprocess.Popen(
            java(cluster["version"], cluster["log_level"]) + [program, node["config"]],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=pathlib.Path(node["config"]).parent, start_new_session=True)
    node["pid"] = process.pid
    node["started"] = process_state(process.pid)[1]


def state(node):
    """running, paused, or gone. A pid that now belongs to a later process counts as gone."""
    seen = process_state(node["pid"])
    if seen is None or seen[1] != node["started"]:
        return "gone"
    return {"Z": "gone", "X": "gone", "T": "paused", "t": "paused"}.get(seen[0], "running")


def process_state(pid):
    """Its state letter, and when it started (in ticks since boot: with the pid, the identity of a process); None if there is none."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return fields[0], int(fields[19])


def send(node, what):
    if state(node) == "gone":
        raise Failed(f"node {node['id']} ({node['addr']}) is not running")
    os.kill(node["pid"], what)


def await_gone(nodes, seconds):
    """Polls until none of the nodes is left, or the time is over; says whether they are all gone."""
    deadline = time.monotonic() + seconds
    while any(state(node) != "gone" for node in nodes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def stop(cluster, grace):
    """SIGTERM for all, then SIGKILL for who is left after `grace` seconds; returns the ids of those that had to be killed."""
    killed = []
    # Brokers first: without their ZooKeeper they do not end in peace.
    for nodes in [cluster["nodes"]] + ([[cluster["zookeeper"]]] if "zookeeper" in cluster else []):
        left = [node for node in nodes if state(node) != "gone"]
        for node in left:
            send(node, signal.SIGCONT)
            send(node, signal.SIGTERM)
        await_gone(left, grace)
        stubborn = [node for node in left if state(node) != "gone"]
        for node in stubborn:
            send(node, signal.SIGKILL)
        if not await_gone(stubborn, 10):
            raise Failed(f"{cluster['name']}: a killed node is still there")
        killed += [node["id"] for node in stubborn]
    return killed


# --- when it is ready ----------------------------------------------------------------------------------------------------------


def await_ready(cluster, nodes, deadline):
    """Until each of `nodes` answers and knows each of them alive, with the address that it advertises."""
    expected = {node["id"]: advertised(node) for node in nodes}
    for node in nodes:
        while True:
            if state(node) == "gone":
                raise Failed(f"{cluster['name']}: node {node['id']} ended while starting\n{tail(node)}")
            host, port = node["addr"].rsplit(":", 1)
            try:
                seen = wire.brokers(host, int(port))
            except OSError as error:
                seen = f"no answer ({error})"
            else:
                if expected.items() <= seen.items():
                    break
            if time.monotonic() > deadline:
                raise Failed(f"{cluster['name']}: node {node['id']} not ready in time; it says: {seen}\n{tail(node)}")
            time.sleep(0.1)


def known_as(cluster):
    """The cluster's id, as it tells clients: with a ZooKeeper it chooses for itself."""
    host, port = cluster["nodes"][0]["addr"].rsplit(":", 1)
    return wire.cluster_id(host, int(port))


def advertised(node):
    """Where it tells clients to go: its own address, unless a --property says another."""
    lines = pathlib.Path(node["config"]).read_text().splitlines()
    return next(line for line in lines if line.startswith("advertised.listeners=")).split("PLAINTEXT://", 1)[1]


def tail(node, lines=40):
    text = pathlib.Path(node["log"]).read_text(errors="replace").splitlines()[-lines:]
    return "\n".join([f"--- the end of {node['log']}"] + text)


def progress(text):
    print(text, file=sys.stderr, flush=True)
