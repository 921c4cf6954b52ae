"""Play an episode of each simple environment with random actions; with `--film 1`, record a video of one."""

import argparse
import os
import sys

try:
    import gymnasium as gym

    environment_ids = list(gym.registry)
except ImportError:
    import gym

    environment_ids = [spec.id for spec in gym.envs.registry.all()]

NAMES = ("CartPole", "MountainCar", "MountainCarContinuous", "Acrobot", "Pendulum", "FrozenLake", "Taxi")


def newest(name):
    """Return the registered id with the highest version, such as `CartPole-v1`."""
    versions = [
        int(environment_id.rsplit("-v", 1)[1])
        for environment_id in environment_ids
        if environment_id.rsplit("-v", 1)[0] == name
    ]
    return "%s-v%d" % (name, max(versions))


def play(environment, steps, show=False):
    """Play at most `steps` random steps and return their number. `step` returns five values in gymnasium, four in gym."""
    environment.reset()
    for step in range(1, steps + 1):
        if show:
            environment.render(mode="rgb_array")
        step_result = environment.step(environment.action_space.sample())
        if any(step_result[2:-1]):
            return step
    return steps


def film(folder):
    """Record a video of one episode: gym's Monitor draws on the display and sends the frames to ffmpeg."""
    environment = gym.wrappers.Monitor(gym.make(newest("CartPole")), folder, video_callable=lambda episode: True)
    play(environment, 500, show=True)
    environment.close()


def main():
    """Play, record a video if requested, and write a model."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--film", type=int, default=0)
    if parser.parse_args().film:
        film(os.path.join(os.environ["SM_OUTPUT_DATA_DIR"], "film"))
    for name in NAMES:
        environment = gym.make(newest(name))
        print("%s: %d steps" % (newest(name), play(environment, 200)))
        sys.stdout.flush()
        environment.close()
    with open(os.path.join(os.environ["SM_MODEL_DIR"], "played.txt"), "w") as stream:
        stream.write("\n".join(NAMES))


if __name__ == "__main__":
    main()
