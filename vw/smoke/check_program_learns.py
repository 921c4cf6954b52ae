"""Check that the `vw` program learns a contextual bandit from a log, saves the policy, and answers through a pipe.

The log has 2000 random decisions among four actions. For each of four kinds of visitor one action has the reward 1.
Random actions get 0.25 per decision, the best policy with epsilon 0.1 gets 0.925. The learned policy must get 0.7.
"""

import json
import os
import random
import subprocess
import sys
import tempfile

DECISIONS, BOUND, SECONDS = 2000, 0.7, 60
ACTIONS = 4
VISITORS = ("ash", "birch", "cedar", "dogwood")


def log_of_chance(dice):
    """Generate log lines `action:cost:probability | context`."""
    for _ in range(DECISIONS):
        visitor, action = dice.choice(VISITORS), dice.randrange(ACTIONS)
        cost = 0 if action == VISITORS.index(visitor) else 1
        yield "{}:{}:{} | {}\n".format(action + 1, cost, 1 / ACTIONS, visitor)


def probabilities(answer):
    """Return the probability of each action, in the order of the actions.

    Up to 8.10 the program writes `0.9 0.1`, in that order; later it writes `1:0.9,0:0.1`, the best action first.
    """
    words = answer.replace(",", " ").split()
    if all(":" in word for word in words):
        words = [chance for _, chance in sorted((int(a), p) for a, p in (word.split(":") for word in words))]
    return [float(word) for word in words]


def ask(program, visitor):
    """Ask the running program once. From 8.11 on, an empty line follows each answer."""
    program.stdin.write("| " + visitor + "\n")
    program.stdin.flush()
    answer = program.stdout.readline()
    while not answer.strip():
        if not answer:
            raise SystemExit("vw ended before it answered")
        answer = program.stdout.readline()
    return probabilities(answer)


def main():
    with open("/checks/cell.json") as file:
        promised = json.load(file)["version"]
    version = subprocess.check_output(["vw", "--version"], universal_newlines=True, timeout=SECONDS).split()[0]
    if version != promised:
        print("vw reports version {}, the matrix promises {}".format(version, promised))
        return 1
    with tempfile.TemporaryDirectory() as folder:
        log, model = os.path.join(folder, "log.vw"), os.path.join(folder, "vw.model")
        with open(log, "w") as file:
            file.writelines(log_of_chance(random.Random(7)))
        learn = ["vw", "--cb_explore", str(ACTIONS), "--epsilon", "0.1", "-d", log, "-f", model, "--quiet"]
        subprocess.check_call(learn, timeout=SECONDS)
        serve = ["vw", "-i", model, "--testonly", "--quiet", "-p", "/dev/stdout"]
        program = subprocess.Popen(serve, stdin=subprocess.PIPE, stdout=subprocess.PIPE, universal_newlines=True)
        reward = sum(ask(program, visitor)[best] for best, visitor in enumerate(VISITORS)) / len(VISITORS)
        program.stdin.close()
        status = program.wait(timeout=SECONDS)
    learned = "expected reward {:.3f}, required {} (random {})".format(reward, BOUND, 1 / ACTIONS)
    print("{}; vw {} ended with status {}".format(learned, version, status))
    return 0 if reward >= BOUND and status == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
