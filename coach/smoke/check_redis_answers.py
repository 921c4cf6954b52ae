"""Check that the Redis server of Coach's distributed memory starts, stores a value and delivers a message."""

import socket
import subprocess
import sys
import tempfile
import time

import redis

SECONDS = 20


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_it_answers(client):
    deadline = time.time() + SECONDS
    while time.time() < deadline:
        try:
            return client.ping()
        except redis.exceptions.ConnectionError:
            time.sleep(0.1)
    return False


def main():
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        settings = {"port": str(port), "bind": "127.0.0.1", "save": "", "dir": folder, "logfile": folder + "/log"}
        words = [word for name, value in settings.items() for word in ("--" + name, value)]
        server = subprocess.Popen(["redis-server"] + words)
        try:
            client = redis.StrictRedis(port=port)
            if not wait_until_it_answers(client):
                print("redis-server did not answer within {} s".format(SECONDS))
                return 1
            client.set("weights", b"\x00\x01")
            kept = client.get("weights") == b"\x00\x01"
            listener = client.pubsub(ignore_subscribe_messages=True)
            listener.subscribe("transitions")
            listener.get_message(timeout=SECONDS)
            client.publish("transitions", b"episode")
            heard = None
            deadline = time.time() + SECONDS
            while heard is None and time.time() < deadline:
                heard = listener.get_message(timeout=1)
            version = client.info()["redis_version"]
        finally:
            server.terminate()
            server.wait()
    passed_on = heard is not None and heard["data"] == b"episode"
    fates = ("stored" if kept else "lost", "delivered" if passed_on else "lost")
    print("redis {}: value {}, message {}".format(version, *fates))
    return 0 if kept and passed_on else 1


if __name__ == "__main__":
    sys.exit(main())
