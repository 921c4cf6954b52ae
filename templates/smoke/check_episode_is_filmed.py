"""Check that an environment can be drawn on the image's display, and that gym's Monitor records a video of it."""

import glob
import json
import os
import subprocess
import sys
import tempfile

with open("/checks/cell.json") as stream:
    CELL = json.load(stream)

SCREEN = "640x480x24"


def open_display():
    """Start Xvfb. Return its process and the display number that it chose, as text; empty if it opened none."""
    reader, writer = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-screen", "0", SCREEN, "-nolisten", "tcp", "-displayfd", str(writer)],
        pass_fds=[writer],
        stderr=subprocess.DEVNULL,
    )
    os.close(writer)
    with os.fdopen(reader) as answer:
        return server, answer.readline().strip()


def film(folder):
    """Play one episode with random actions. Return the number of shades in the last frame, and the video files."""
    import gym
    import numpy

    environment = gym.wrappers.Monitor(gym.make("CartPole-v0"), folder, video_callable=lambda episode: True)
    environment.reset()
    done = False
    while not done:
        picture = environment.render(mode="rgb_array")
        _, _, done, _ = environment.step(environment.action_space.sample())
    environment.close()
    environment.env.close()
    return len(numpy.unique(picture)), glob.glob(os.path.join(folder, "*.mp4"))


def main():
    if not CELL["display"]:
        print("the matrix promises no display")
        return 77
    server, display = open_display()
    if not display:
        print("Xvfb did not open a display")
        return 1
    os.environ["DISPLAY"] = ":" + display
    try:
        with tempfile.TemporaryDirectory() as folder:
            shades, films = film(folder)
            sizes = [os.path.getsize(path) for path in films]
    finally:
        server.terminate()
        server.wait()
    print("{} shades in the last frame, video of {} bytes".format(shades, sizes[0] if sizes else 0))
    return 0 if shades > 1 and sizes and min(sizes) > 1000 else 1


if __name__ == "__main__":
    sys.exit(main())
