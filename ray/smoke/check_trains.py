"""Check that PPO learns CartPole: the mean reward must reach BOUND within SECONDS. Random actions reach 22.

The installed RLlib decides how PPO is configured: `PPOConfig` on the new API stack, `PPOConfig` on the old one, or a
trainer class with a dictionary.
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

# A check sends no telemetry, and its log has every line.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_DEDUP_LOGS", "0")

import ray  # noqa: E402 - Ray reads these variables when it is imported


def start():
    wanted = {
        "num_cpus": 2,
        "num_gpus": 0,
        "include_dashboard": False,
        "include_webui": False,
        "log_to_driver": False,
        "object_store_memory": 100 * 1024 * 1024,
        # The container has no network, so Ray must use the loopback address.
        "_node_ip_address": "127.0.0.1",
        "node_ip_address": "127.0.0.1",
    }
    known = inspect.signature(ray.init).parameters
    ray.init(**{name: value for name, value in wanted.items() if name in known})


def configured():
    """Return PPO of Ray 2, whose configuration is an object."""
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
    """Return PPO of Ray 0 and 1, whose configuration is a dictionary."""
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
    """Return the mean reward of the episodes of one iteration; NaN if no episode ended."""
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
    print("PPO on CartPole: mean reward only %.1f after %d s; required: %.0f" % (best, SECONDS, BOUND))
    return 1


sys.exit(main())
