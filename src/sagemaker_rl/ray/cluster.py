"""Form one Ray cluster of all hosts of a job, with the host names of resourceconfig.json.

It needs no S3 bucket and no permissions. The head starts Ray and waits until every other host has joined. The others
wait until the head's name resolves and its port is open, join, and stay until the port is closed. A host that is
missing, or lost during the training, is an error that names the host.
"""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time

PORT = 6379
HEAD = "sagemaker_head"  # a Ray resource that only the head has; an algorithm that stores checkpoints asks for it
JOIN_SECONDS = 300  # for all hosts to join; RLIMAGES_CLUSTER_SECONDS overrides it
POLL_SECONDS = 1.0
MISSES = 5  # failed attempts in a row to reach the head after which it counts as ended


class ClusterError(Exception):
    """An error in forming or keeping one Ray cluster of all hosts. The message names the hosts."""


def join_seconds(environ=None):
    """Return the seconds in which all hosts have to join: RLIMAGES_CLUSTER_SECONDS in `environ`, else JOIN_SECONDS.

    `environ` is by default this process's environment.
    """
    environ = os.environ if environ is None else environ
    return float(environ.get("RLIMAGES_CLUSTER_SECONDS", JOIN_SECONDS))


def head_command(version, address, cpus, gpus):
    """Return the list of arguments that starts Ray on the head, with `cpus` processors and `gpus` GPUs.

    `version` is Ray's version as a tuple of numbers, and `address` the IP address of this host.
    """
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
    """Return the list of arguments that joins this host to the cluster, with `cpus` processors and `gpus` GPUs.

    `version` is Ray's version as a tuple of numbers. `head` and `address` are the IP addresses of the head and this
    host.
    """
    option = "--address" if version >= (0, 8) else "--redis-address"
    return [
        "ray",
        "start",
        "{}={}:{}".format(option, head, PORT),
        "--node-ip-address=" + address,
        "--num-cpus={}".format(cpus),
        "--num-gpus={}".format(gpus),
    ]


def resolve(host):
    """Return the IP address of the host name `host`, or None if the name does not resolve."""
    try:
        return socket.gethostbyname(host)
    except OSError:
        return None


def missing(hosts, addresses, alive):
    """Return the names in `hosts` whose address is not in `alive`, a set of IP addresses, in the order of `hosts`.

    `addresses` maps names to IP addresses; a host without an address is missing.
    """
    return [host for host in hosts if addresses.get(host) not in alive]


def join_names(hosts):
    """Return the names in the list `hosts` as text: `algo-2`, or `algo-2 and algo-3`."""
    return " and ".join(hosts) if len(hosts) < 3 else "{} and {}".format(", ".join(hosts[:-1]), hosts[-1])


def reachable(address, port=PORT, seconds=2.0):
    """Return whether a server on `port` of the IP address `address` accepts a connection within `seconds`."""
    try:
        socket.create_connection((address, port), seconds).close()
    except OSError:
        return False
    return True


def wait_for(ready, seconds, clock=time.time, sleep=time.sleep):
    """Call `ready()` once per POLL_SECONDS until it returns a true value or `seconds` are over; return its last value.

    `clock` and `sleep` are the functions that tell the time and pause.
    """
    deadline = clock() + seconds
    while True:
        answer = ready()
        if answer or clock() >= deadline:
            return answer
        sleep(POLL_SECONDS)


def _program():
    """Return the path of the program `ray` that belongs to this interpreter, whatever PATH contains.

    Without a program beside the interpreter, returns the one on PATH.
    """
    beside = os.path.join(os.path.dirname(sys.executable), "ray")
    return beside if os.path.exists(beside) else shutil.which("ray") or "ray"


def _start(words):
    ended = subprocess.run(
        [_program()] + words[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True
    )
    if ended.returncode:
        raise ClusterError("`{}` ended with {}:\n{}".format(" ".join(words), ended.returncode, ended.stdout))


def stop():
    """Stop Ray on this host, if it runs."""
    subprocess.run([_program(), "stop", "--force"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Head:
    """The head of the cluster: it starts Ray, waits for the other hosts, and watches them.

    `job` is the Job of this host, `version` Ray's version as a tuple of numbers. lost: the hosts that `watch` found
    gone.
    """

    def __init__(self, job, version):
        self.job, self.version = job, version
        self.others = [host for host in job.hosts if host != job.host]
        self.addresses = {}
        self.lost = []
        self._released = threading.Event()

    def start(self, cpus, gpus):
        """Start Ray on this host with `cpus` processors and `gpus` GPUs. Return the address for `ray.init`, `IP:PORT`.

        Raises ClusterError if this host's name does not resolve or Ray does not start.
        """
        address = resolve(self.job.host)
        if address is None:
            raise ClusterError("this host's own name {!r} does not resolve".format(self.job.host))
        _start(head_command(self.version, address, cpus, gpus))
        return "{}:{}".format(address, PORT)

    def absent(self, nodes):
        """Return the names of the other hosts that are not among the live nodes.

        `nodes` is a list as `ray.nodes()` returns it.
        """
        for host in self.others:
            if host not in self.addresses and resolve(host):
                self.addresses[host] = resolve(host)
        alive = {node.get("NodeManagerAddress") for node in nodes if node.get("Alive", node.get("alive"))}
        return missing(self.others, self.addresses, alive)

    def wait(self, nodes, seconds):
        """Wait at most `seconds` until all hosts have joined. `nodes` is the function `ray.nodes`.

        Raises ClusterError with the missing hosts if one has not joined then.
        """
        print("waiting for {} to join the Ray cluster".format(join_names(self.others)))
        sys.stdout.flush()
        if not wait_for(lambda: not self.absent(nodes()), seconds):
            absent = self.absent(nodes())
            unknown = [host for host in absent if host not in self.addresses]
            reason = "; the name of {} does not resolve".format(join_names(unknown)) if unknown else ""
            raise ClusterError(
                "{} did not join the Ray cluster of {} hosts within {:.0f} s{}".format(
                    join_names(absent), len(self.job.hosts), seconds, reason
                )
            )
        print("all {} hosts form one Ray cluster".format(len(self.job.hosts)))
        sys.stdout.flush()

    def watch(self, nodes, on_lost):
        """Watch the other hosts in a thread. When one is gone, call `on_lost(message)` once in that thread, and end it.

        `nodes` is the function `ray.nodes`. `release` ends the thread too.
        """

        def look():
            while not self._released.wait(POLL_SECONDS):
                absent = self.absent(nodes())
                if absent and not self._released.is_set():
                    self.lost = absent
                    on_lost(self.message())
                    return

        thread = threading.Thread(target=look, name="watch the hosts")
        thread.daemon = True
        thread.start()

    def message(self):
        """Return a sentence that names the hosts that `watch` found gone."""
        return "{} left the Ray cluster before the training had ended".format(join_names(self.lost))

    def release(self):
        """Stop watching the hosts, so that they may end."""
        self._released.set()


def follow(job, version, cpus, gpus, seconds):
    """Run a host that is not the head: join the head's cluster, and stay until the head ends.

    The host gives `cpus` processors and `gpus` GPUs to the cluster. `job` is the Job of this host, `version` Ray's
    version as a tuple of numbers. Raises ClusterError if the head's name does not resolve or its port is not open, each
    within `seconds`, or if Ray does not start.
    """
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
        time.sleep(POLL_SECONDS)
        misses = 0 if reachable(head) else misses + 1
    stop()
    print("{} has ended, and {} ends with it".format(job.head, job.host))
    sys.stdout.flush()
