"""Check that a trained model decides the same over HTTP (or in `sagemaker_rl.ray.model`) and in RLlib itself.

Actions are continuous with bounds, and observations are normalized if this RLlib has a filter for it. So the steps
before and after the network are compared too.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

NUMBER, SECONDS, NEAR = 10, 200, 1e-4
BAD = (None, "text", [1.0], {"a": 1})
SERVE = "/usr/local/lib/rlimages/serve"

with open("/checks/cell.json") as stream:
    CELL = json.load(stream)
VERSION = tuple(int(number) for number in CELL["version"].split(".")[:2])

SCRIPT = """
from sagemaker_rl.ray_launcher import SageMakerRayLauncher

class Launcher(SageMakerRayLauncher):
    def get_experiment_config(self):
        return {
            "training": {
                "env": "%s",
                "run": "PPO",
                "stop": {"training_iteration": 1},
                "config": {
                    "framework": "%s",
                    "observation_filter": "MeanStdFilter",
                    "num_workers": 0,
                    "num_sgd_iter": 2,
                    "sgd_minibatch_size": 64,
                    "train_batch_size": 400,
                },
            }
        }

if __name__ == "__main__":
    Launcher.train_main()
"""


def run(words, folder):
    """Run a program and return the last line of its output. Raise SystemExit if it fails."""
    ended = subprocess.run(
        [sys.executable] + words,
        cwd=folder,
        env=dict(os.environ, SAGEMAKER_BASE_DIR=folder, SM_NUM_CPUS="2"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        timeout=SECONDS,
    )
    if ended.returncode:
        print(ended.stdout)
        print("{} ended with {}".format(" ".join(words), ended.returncode))
        sys.exit(1)
    return ended.stdout.strip().split("\n")[-1]


def start(folder):
    """Start Ray and return the algorithm, restored from the checkpoint."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False)
    checkpoint = os.path.join(folder, "model", "checkpoint")
    if VERSION >= (2, 0):
        from ray.rllib.algorithms.algorithm import Algorithm

        return Algorithm.from_checkpoint(checkpoint)
    from ray.rllib.agents.registry import get_trainer_class

    with open(os.path.join(folder, "model", "params.json")) as stream:
        params = json.load(stream)
    trainer = get_trainer_class("PPO")(env=params["env"], config=params)
    trainer.restore(checkpoint)
    return trainer


def theirs(folder):
    """Return observations, and the actions that RLlib itself takes for them."""
    import numpy

    algorithm = start(folder)
    if os.path.isdir(os.path.join(folder, "model", "checkpoint", "learner_group")):
        return recorded(algorithm)
    policy = algorithm.get_policy()
    space = getattr(policy.observation_space, "original_space", policy.observation_space)
    seen = [numpy.random.uniform(-1, 1, space.shape).astype(space.dtype) for _ in range(NUMBER)]
    if VERSION < (2, 0):
        return seen, [algorithm.compute_single_action(one, explore=False) for one in seen]
    # compute_single_action() does not apply the filter: https://github.com/ray-project/ray/tree/ray-2.9.3/rllib/algorithms
    from ray.rllib.utils.policy import local_policy_inference

    beside = {"reward": 0.0, "terminated": False, "truncated": False, "info": {}, "explore": False}
    return seen, [local_policy_inference(policy, str(row), "0", one, **beside)[0][0] for row, one in enumerate(seen)]


def recorded(algorithm):
    """Let the new API stack play; return the observations and the actions. It only decides while it plays."""
    played = algorithm.env_runner.env.unwrapped.envs[0].unwrapped
    step, reset, seen, done = played.step, played.reset, [], []

    def watched_step(action):
        done.append(action)
        answer = step(action)
        seen.append(answer[0])
        return answer

    def watched_reset(**named):
        answer = reset(**named)
        seen.append(answer[0])
        return answer

    played.step, played.reset = watched_step, watched_reset
    algorithm.env_runner.sample(num_timesteps=NUMBER, explore=False, force_reset=True)
    return seen[: len(done)], done


def mine(folder):
    """Return the replies of `sagemaker_rl.ray.model`; check that bad observations raise ValueError."""
    from sagemaker_rl.ray.model import Model

    with open(os.path.join(folder, "theirs.json")) as stream:
        seen = json.load(stream)[0]
    model = Model(os.path.join(folder, "model"))
    for bad in BAD + ([float("nan")] * len(seen[0]),):
        try:
            model.decide([bad])
        except ValueError:
            continue
        raise SystemExit("{!r} is not an observation, but the model accepted it".format(bad))
    return model.decide(seen)


def farthest(pairs):
    """Return the largest difference between the actions of each pair."""
    return max(abs(one[0] - other[0]) for one, other in pairs)


def ask(address, observation):
    """Send one observation. Return the status and the reply, or None instead of a reply if the request failed."""
    request = urllib.request.Request(
        address + "/invocations",
        json.dumps({"observation": observation}).encode(),
        {"Content-Type": "application/json", "Accept": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.getcode(), json.loads(answer.read().decode())
    except urllib.error.HTTPError as error:
        return error.code, None


def over_http(folder, seen):
    """Return the replies of the image's server, or None if the image does not serve."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = dict(
        os.environ,
        SAGEMAKER_BASE_DIR=folder,
        SM_MODEL_DIR=os.path.join(folder, "model"),
        SAGEMAKER_BIND_TO_PORT=str(port),
    )
    server = subprocess.Popen([SERVE], env=environment)
    try:
        address, deadline = "http://127.0.0.1:{}".format(port), time.time() + SECONDS
        while True:
            try:
                urllib.request.urlopen(address + "/ping", timeout=5).close()
                break
            except OSError:
                ended = server.poll()
                if ended == 64:
                    return None
                if ended is not None or time.time() > deadline:
                    raise SystemExit("the server did not answer /ping") from None
                time.sleep(0.2)
        for bad in BAD:
            if ask(address, bad)[0] != 400:
                raise SystemExit("{!r} is not an observation, but its reply was not 400".format(bad))
        return [ask(address, one)[1] for one in seen]
    finally:
        server.terminate()
        server.wait()


def main():
    if VERSION < (1, 3):
        print("checkpoints of Ray {} do not contain enough to build the policy".format(CELL["version"]))
        return 77
    with tempfile.TemporaryDirectory() as folder:
        script = os.path.join(folder, "train.py")
        try:
            import gymnasium  # noqa: F401

            environment = "Pendulum-v1"
        except ImportError:
            environment = "Pendulum-v0"
        with open(script, "w") as stream:
            stream.write(SCRIPT % (environment, CELL["framework"]["name"]))
        run([script], folder)
        stack = os.path.isdir(os.path.join(folder, "model", "checkpoint", "learner_group"))
        name = "policy.pt2" if stack else "1/saved_model.pb"
        exported = stack or CELL["framework"]["name"] == "tf"
        if exported and not os.path.exists(os.path.join(folder, "model", name)):
            print("the model folder has no {}".format(name))
            return 1
        run([os.path.abspath(__file__), "theirs", folder], folder)
        with open(os.path.join(folder, "theirs.json")) as stream:
            seen, expected = json.load(stream)
        replies, where = over_http(folder, seen), "over HTTP"
        if replies is None:
            run([os.path.abspath(__file__), "mine", folder], folder)
            with open(os.path.join(folder, "mine.json")) as stream:
                replies, where = json.load(stream), "in ray_model"
        apart = farthest(zip([reply["action"] for reply in replies], expected))
    print("{} actions differ by at most {:.1g} from RLlib's own, {}".format(len(seen), apart, where))
    return 0 if apart <= NEAR else 1


def write(folder, name):
    """Call the function of that name and write its result as JSON to a file of that name."""
    import numpy

    answer = {"theirs": theirs, "mine": mine}[name](folder)
    with open(os.path.join(folder, name + ".json"), "w") as stream:
        json.dump(answer, stream, default=lambda value: numpy.asarray(value).tolist())
    return 0


if __name__ == "__main__":
    sys.exit(write(sys.argv[2], sys.argv[1]) if len(sys.argv) == 3 else main())
