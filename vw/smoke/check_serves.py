"""Check that `serve` answers SageMaker's requests with the same probabilities as the library with the same model.

A policy over four actions is learned from 400 random decisions. In each reply, the probability of the drawn action must
equal the library's exactly. Requests are JSON, JSON lines, CSV, and bodies that must be refused.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from sagemaker_rl import vw_examples
from sagemaker_rl.vw.model import Model
from sagemaker_rl.vw_launcher import Learner, installed, metadata

with open("/checks/cell.json") as stream:
    CELL = json.load(stream)

ACTIONS, DECISIONS, SECONDS, PORT = 4, 400, 60, 8888
GROWTH = 20
ADDRESS = "http://127.0.0.1:{}".format(PORT)


def learned(folder):
    """Learn and save a policy. Return four observations and the library's probabilities for each."""
    dice = random.Random(7)
    learner = Learner(metadata(ACTIONS, version=installed()))
    for _ in range(DECISIONS):
        observation = [dice.random() for _ in range(3)]
        action = dice.randrange(ACTIONS)
        cost = abs(observation[0] * ACTIONS - action) / ACTIONS
        learner.learn(vw_examples.example(observation, action + 1, cost, 1 / ACTIONS))
    observations = [[0.1, 0.5, 0.5], [0.9, 0, 0], [0.5, 2.0, -1.0], [0, 0, 0]]
    every = [learner.probabilities(observation) for observation in observations]
    learner.save(folder)
    return observations, every


def ask(path, body=None, kind="application/json"):
    """Send a request. Return the status and the body."""
    content = body.encode("utf-8") if body is not None else None
    request = urllib.request.Request(ADDRESS + path, content, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as reply:
            return reply.getcode(), reply.read().decode("utf-8")
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode("utf-8")


def wait():
    """Wait for status 200 of /ping. Return the seconds that it took."""
    began = time.time()
    while time.time() - began < SECONDS:
        try:
            if ask("/ping")[0] == 200:
                return time.time() - began
        except OSError:
            pass
        time.sleep(0.05)
    raise SystemExit("/ping did not return 200 within {} s".format(SECONDS))


def wrong(observations, every):
    """Return what is wrong with the replies, or None."""
    rows = "".join(",".join(str(value) for value in observation) + "\n" for observation in observations)
    lines = "\n".join(json.dumps(observation) for observation in observations)
    replies = [json.loads(line) for line in ask("/invocations", lines, "application/jsonlines")[1].splitlines()]
    replies += [json.loads(ask("/invocations", json.dumps({"observation": one}))[1]) for one in observations]
    for line in ask("/invocations", rows, "text/csv")[1].splitlines():
        words = line.split(",")
        replies.append({"action": int(words[0]), "action_prob": float(words[1])})
    if len(replies) != 3 * len(observations):
        return "{} replies to {} observations".format(len(replies), 3 * len(observations))
    for number, reply in enumerate(replies):
        library = every[number % len(every)][reply["action"] - 1]
        if reply["action_prob"] != library:
            return "action {action} has the probability {action_prob}, the library gives {}".format(library, **reply)
    for body in ("{", '{"observation": "x"}', "[]"):
        status, said = ask("/invocations", body)
        if status != 400 or "Traceback" in said:
            return "the reply to the bad body {} is {}: {}".format(body, status, said)
    if ask("/execution-parameters")[0] != 200:
        return "/execution-parameters did not return 200"
    return None


def grown(folder):
    """Return by how many megabytes this process grows over 4000 decisions: version 8.7 leaked 27 KB for each."""
    model = Model(folder)
    sizes = []
    for _ in range(2):
        with open("/proc/self/statm") as stream:
            sizes.append(int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6)
        for _ in range(4):
            model.decide([[0.1, 0.2, 0.3]] * 1000)
    return sizes[1] - sizes[0]


def main():
    with tempfile.TemporaryDirectory() as base:
        os.makedirs(os.path.join(base, "model"))
        observations, every = learned(os.path.join(base, "model"))
        growth = grown(os.path.join(base, "model"))
        if growth > GROWTH:
            print("the process grew by {:.0f} MB over 4000 decisions".format(growth))
            return 1
        environ = dict(os.environ, SAGEMAKER_BASE_DIR=base, SAGEMAKER_BIND_TO_PORT=str(PORT))
        server = subprocess.Popen(CELL["entrypoint"] + ["serve"], env=environ, start_new_session=True)
        try:
            seconds = wait()
            trouble = wrong(observations, every)
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            status = server.wait()
    if trouble or status != 0:
        print(trouble or "after SIGTERM serve ended with status {}".format(status))
        return 1
    print("ready after {:.1f} s; {} probabilities equal the library's".format(seconds, 3 * len(every)))
    return 0


sys.exit(main())
