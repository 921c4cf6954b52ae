"""Play an episode of each simple environment by chance; with `--film 1`, film one to the job's output."""

import argparse
import os
import sys

try:
    import gymnasium as gym

    known = list(gym.registry)
except ImportError:
    import gym

    known = [spec.id for spec in gym.envs.registry.all()]

NAMES = ("CartPole", "MountainCar", "MountainCarContinuous", "Acrobot", "Pendulum", "FrozenLake", "Taxi")


def newest(name):
    """The registered id with the highest version: `CartPole-v1`."""
    versions = [int(found.rsplit("-v", 1)[1]) for found in known if found.rsplit("-v", 1)[0] == name]
    return "%s-v%d" % (name, max(versions))


def play(environment, steps, show=False):
    """At most so many steps by chance; how many it took. Gymnasium's answers have five parts, gym's four."""
    environment.reset()
    for step in range(1, steps + 1):
        if show:
            environment.render(mode="rgb_array")
        answer = environment.step(environment.action_space.sample())
        if any(answer[2:-1]):
            return step
    return steps


def film(folder):
    """Film one episode; gym's Monitor draws it on the display and gives the pictures to ffmpeg."""
    environment = gym.wrappers.Monitor(gym.make(newest("CartPole")), folder, video_callable=lambda episode: True)
    play(environment, 500, show=True)
    environment.close()


def main():
    """Play, film, and leave a model behind."""
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
