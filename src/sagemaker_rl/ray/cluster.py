"""One Ray cluster of all hosts of a job, formed from the host names of resourceconfig.json: no bucket, no rights.

The head starts Ray and waits until every other host has joined; the others wait for the head's name and port, join, and
stay until that port is closed. A host that is missing, or lost on the way, is an error that names it.
"""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time

PORT = 6379
HEAD = "sagemaker_head"  # a resource that only the head has: what stores checkpoints runs there
SECONDS = 300  # for all hosts to meet; RLIMAGES_CLUSTER_SECONDS sets another
PAUSE = 1.0
MISSES = 5  # attempts to reach the head that fail in a row before it counts as ended


class ClusterError(Exception):
    """Not all hosts of the job form one cluster."""


def patience(environ=None):
    """Seconds in which all hosts have to meet."""
    environ = os.environ if environ is None else environ
    return float(environ.get("RLIMAGES_CLUSTER_SECONDS", SECONDS))


def head_command(version, address, cpus, gpus):
    """The words that start the head's Ray. `version` is a tuple of numbers, `address` an IP address."""
    words = ["ray", "start", "--head"]
    words.append("--port={}".format(PORT) if version >= (1, 0) else "--redis-port={}".format(PORT))
    words += ["--node-ip-address=" + address, "--num-cpus={}".format(cpus), "--num-gpus={}".format(gpus)]
    if version >= (0, 8):
        words.append('--resources={{"{}": 1}}'.format(HEAD))
    if version >= (1, 0):
        words.append("--include-dashboard=false")
    elif version >= (0, 8):
        words.append("--include-webui=false")
    else:
        words.append("--no-ui")
    return words


def worker_command(version, head, address, cpus, gpus):
    """The words that join a host's Ray to the head's; `head` and `address` are IP addresses."""
    known = "--address" if version >= (0, 8) else "--redis-address"
    return [
        "ray",
        "start",
        "{}={}:{}".format(known, head, PORT),
        "--node-ip-address=" + address,
        "--num-cpus={}".format(cpus),
        "--num-gpus={}".format(gpus),
    ]


def resolve(host):
    """The host's IP address, or None while its name is unknown."""
    try:
        return socket.gethostbyname(host)
    except OSError:
        return None


def missing(hosts, addresses, alive):
    """The hosts, in their order, whose address is not among those alive."""
    return [host for host in hosts if addresses.get(host) not in alive]


def listing(hosts):
    """`algo-2`, `algo-2 and algo-3`."""
    return " and ".join(hosts) if len(hosts) < 3 else "{} and {}".format(", ".join(hosts[:-1]), hosts[-1])


def reachable(address, port=PORT, seconds=2.0):
    """Whether somebody listens there."""
    try:
        socket.create_connection((address, port), seconds).close()
    except OSError:
        return False
    return True


def wait_for(ready, seconds, clock=time.time, sleep=time.sleep):
    """The first true answer of `ready()`, or its last one when the time is over."""
    deadline = clock() + seconds
    while True:
        answer = ready()
        if answer or clock() >= deadline:
            return answer
        sleep(PAUSE)


def _program():
    """The `ray` that belongs to this interpreter, whatever PATH says."""
    beside = os.path.join(os.path.dirname(sys.executable), "ray")
    return beside if os.path.exists(beside) else shutil.which("ray") or "ray"


def _start(words):
    ended = subprocess.run(
        [_program()] + words[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True
    )
    if ended.returncode:
        raise ClusterError("`{}` ended with {}:\n{}".format(" ".join(words), ended.returncode, ended.stdout))


def stop():
    """End this host's Ray; whether there was one does not matter."""
    subprocess.run([_program(), "stop", "--force"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Head:
    """The head's side: start, wait for everybody, and watch them."""

    def __init__(self, job, version):
        self.job, self.version = job, version
        self.others = [host for host in job.hosts if host != job.host]
        self.addresses = {}
        self.lost = []
        self._done = threading.Event()

    def start(self, cpus, gpus):
        """Start Ray on this host; its address, for the driver to connect to."""
        address = resolve(self.job.host)
        if address is None:
            raise ClusterError("this host's own name {!r} does not resolve".format(self.job.host))
        _start(head_command(self.version, address, cpus, gpus))
        return "{}:{}".format(address, PORT)

    def absent(self, nodes):
        """The hosts that are not among the nodes alive: `ray.nodes()`, or a list like it."""
        for host in self.others:
            if host not in self.addresses and resolve(host):
                self.addresses[host] = resolve(host)
        alive = {node.get("NodeManagerAddress") for node in nodes if node.get("Alive", node.get("alive"))}
        return missing(self.others, self.addresses, alive)

    def wait(self, nodes, seconds):
        """Wait until all hosts have joined. `nodes` is a function: `ray.nodes`."""
        print("waiting for {} to join the Ray cluster".format(listing(self.others)))
        sys.stdout.flush()
        if not wait_for(lambda: not self.absent(nodes()), seconds):
            absent = self.absent(nodes())
            unknown = [host for host in absent if host not in self.addresses]
            reason = "; the name of {} does not resolve".format(listing(unknown)) if unknown else ""
            raise ClusterError(
                "{} did not join the Ray cluster of {} hosts within {:.0f} s{}".format(
                    listing(absent), len(self.job.hosts), seconds, reason
                )
            )
        print("all {} hosts form one Ray cluster".format(len(self.job.hosts)))
        sys.stdout.flush()

    def watch(self, nodes, on_lost):
        """From now on, call `on_lost(sentence)` in a thread of its own once a host is gone."""

        def look():
            while not self._done.wait(PAUSE):
                absent = self.absent(nodes())
                if absent and not self._done.is_set():
                    self.lost = absent
                    on_lost(self.sentence())
                    return

        thread = threading.Thread(target=look, name="watch the hosts")
        thread.daemon = True
        thread.start()

    def sentence(self):
        """What is said about the hosts that are lost."""
        return "{} left the Ray cluster before the training had ended".format(listing(self.lost))

    def release(self):
        """Nobody is watched any longer."""
        self._done.set()


def follow(job, version, cpus, gpus, seconds):
    """What the other hosts do: join the head, and stay until it has ended."""
    head = wait_for(lambda: resolve(job.head), seconds)
    if not head:
        raise ClusterError(
            "{}: the name of the head, {}, did not resolve within {:.0f} s".format(job.host, job.head, seconds)
        )
    if not wait_for(lambda: reachable(head), seconds):
        raise ClusterError(
            "{}: the head, {}, did not open port {} within {:.0f} s".format(job.host, job.head, PORT, seconds)
        )
    address = resolve(job.host)
    if address is None:
        raise ClusterError("this host's own name {!r} does not resolve".format(job.host))
    _start(worker_command(version, head, address, cpus, gpus))
    print("{} has joined the Ray cluster of {}".format(job.host, job.head))
    sys.stdout.flush()
    misses = 0
    while misses < MISSES:
        time.sleep(PAUSE)
        misses = 0 if reachable(head) else misses + 1
    stop()
    print("{} has ended, and {} ends with it".format(job.head, job.host))
    sys.stdout.flush()
