"""PPO learns to balance CartPole: the mean episode, 22 steps by chance, grows to BOUND within SECONDS.

What the installed RLlib offers decides how it is asked: `PPOConfig` with the new API stack, `PPOConfig` with the
old one, or a trainer class and a dictionary.
"""

import inspect
import json
import os
import sys
import time

BOUND = 40.0
SECONDS = 240
BATCH = 1000

with open("/checks/cell.json") as stream:
    CELL = json.load(stream)

# No telemetry from a test, and no address but the loopback's: the container has no network.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_DEDUP_LOGS", "0")

import ray  # noqa: E402 - after its environment


def start():
    wanted = {
        "num_cpus": 2,
        "num_gpus": 0,
        "include_dashboard": False,
        "include_webui": False,
        "log_to_driver": False,
        "object_store_memory": 100 * 1024 * 1024,
        "_node_ip_address": "127.0.0.1",
        "node_ip_address": "127.0.0.1",
    }
    known = inspect.signature(ray.init).parameters
    ray.init(**{name: value for name, value in wanted.items() if name in known})


def configured():
    """An algorithm of Ray 2: its configuration is an object."""
    from ray.rllib.algorithms.ppo import PPOConfig

    framework = {"tf": "tf2"}.get(CELL["framework"]["name"], CELL["framework"]["name"])
    config = PPOConfig().environment("CartPole-v1")
    workers = getattr(config, "env_runners", None)
    if workers is not None:
        config = workers(num_env_runners=1)
    else:
        config = config.rollouts(num_rollout_workers=1).framework(framework)
    epochs = "num_epochs" if hasattr(config, "num_epochs") else "num_sgd_iter"
    config = config.training(train_batch_size=BATCH, lr=1e-3, **{epochs: 10})
    return config.build_algo() if hasattr(config, "build_algo") else config.build()


def by_dictionary():
    """A trainer of Ray 0 and 1: its configuration is a dictionary."""
    from ray.rllib.agents import ppo

    config = {
        "num_workers": 1,
        "train_batch_size": BATCH,
        "sample_batch_size": 100,
        "rollout_fragment_length": 100,
        "sgd_minibatch_size": 128,
        "num_sgd_iter": 10,
        "lr": 1e-3,
        "framework": CELL["framework"]["name"],
        "use_pytorch": CELL["framework"]["name"] == "torch",
    }
    config = {name: value for name, value in config.items() if name in ppo.DEFAULT_CONFIG}
    trainer = getattr(ppo, "PPOTrainer", None) or ppo.PPOAgent
    return trainer(env="CartPole-v0", config=config)


def mean(result):
    """The mean reward of the episodes of one iteration; NaN if none ended."""
    if "env_runners" in result:
        return result["env_runners"].get("episode_return_mean", float("nan"))
    return result["episode_reward_mean"]


def main():
    started = time.time()
    start()
    try:
        import ray.rllib.algorithms  # noqa: F401

        algorithm = configured()
    except ImportError:
        algorithm = by_dictionary()
    best = 0.0
    while time.time() - started < SECONDS:
        reward = mean(algorithm.train())
        best = max(best, reward) if reward == reward else best
        print("%5.1f s: mean reward %.1f" % (time.time() - started, reward))
        sys.stdout.flush()
        if best >= BOUND:
            print("PPO on CartPole: mean reward %.1f after %.0f s" % (best, time.time() - started))
            return 0
    print("PPO on CartPole: mean reward %.1f, below %.0f, after %d s" % (best, BOUND, SECONDS))
    return 1


sys.exit(main())
