"""Drive a serving container with wrk: as fast as it goes, and then with half as many requests, arriving by chance.

The first load is closed: each connection asks again as soon as it has its answer; its rate is the peak. The second is
nearly open: many connections, each of which waits an exponential time between two requests, so that a late answer
delays no other client's question. Processor time and memory are what the engine counts for the container; the memory
without its file cache, at its highest.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import httpx

from rlimages.project.project import load_project

ROOT = Path(__file__).resolve().parents[1]
CLIENTS = (32, 128)
"""Connections of the loads at half of the peak: the more there are, the less does one that waits hold others back."""
LEARN = """
import random
from sagemaker_rl import vw_examples
from sagemaker_rl.vw_launcher import Learner, installed, metadata
dice, learner = random.Random(7), Learner(metadata(10, version=installed()))
for _ in range(1000):
    observation, action = [dice.random() for _ in range(20)], dice.randrange(10)
    learner.learn(vw_examples.example(observation, action + 1, dice.random(), 0.1))
learner.save("/out")
"""
QUESTION = json.dumps({"observation": [round(0.05 * place, 2) for place in range(20)]})


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cell", nargs="?", default="vw-9.11.9-cpu-debian", help="whose image is asked (%(default)s)")
    parser.add_argument("--image", help="another image, by its name")
    parser.add_argument("--model", type=Path, help="the folder of a model; without it one of Vowpal Wabbit is trained")
    parser.add_argument("--body", type=Path, help="a file with the request; needed with --model")
    parser.add_argument("--kind", default="application/json", help="the content type of the request (%(default)s)")
    parser.add_argument("--seconds", type=int, default=60, help="how long each load lasts (%(default)s)")
    parser.add_argument("--connections", type=int, default=16, help="of the first load (%(default)s)")
    parser.add_argument("--workers", type=int, help="SAGEMAKER_MODEL_SERVER_WORKERS")
    asked = parser.parse_args()
    if bool(asked.model) != bool(asked.body):
        parser.error("--model and --body go together")
    return asked


def image_of(asked: argparse.Namespace) -> str:
    if asked.image:
        return str(asked.image)
    cells = {cell.id: cell for cell in load_project(ROOT / "build_matrix.yaml", ROOT).cells}
    if asked.cell not in cells:
        sys.exit(f"bench: no cell is called '{asked.cell}'; rlimages list says which there are")
    return cells[asked.cell].local_name


@contextmanager
def serving(client: Any, image: str, model: Path, workers: int | None) -> Iterator[Any]:
    """A container that serves and is ready."""
    container = client.containers.run(
        image,
        ["serve"],
        detach=True,
        environment={"SAGEMAKER_MODEL_SERVER_WORKERS": str(workers)} if workers else {},
        volumes={str(model): {"bind": "/opt/ml/model", "mode": "ro"}},
    )
    try:
        end = time.monotonic() + 240
        while True:
            container.reload()
            if container.status == "exited" or time.monotonic() > end:
                sys.exit(f"bench: the server is not ready; it said:\n{container.logs().decode()}")
            try:
                if httpx.get(f"{address(container)}/ping", timeout=2).status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            time.sleep(0.2)
        yield container
    finally:
        container.remove(force=True)


def address(container: Any) -> str:
    """Of the container itself: a published port has a proxy before it."""
    networks = container.attrs["NetworkSettings"]["Networks"].values()
    return f"http://{next(iter(networks))['IPAddress']}:8080"


def memory(container: Any, until: threading.Event, peaks: list[int]) -> None:
    """Note the most memory that the container uses."""
    while not until.is_set():
        used = container.stats(stream=False)["memory_stats"]
        peaks.append(used["usage"] - used["stats"].get("inactive_file", 0))


def processor_seconds(container: Any) -> float:
    """What the container has used of all processors until now."""
    return float(container.stats(stream=False)["cpu_stats"]["cpu_usage"]["total_usage"]) / 1e9


def drive(
    container: Any, asked: argparse.Namespace, body: Path, connections: int, rate: float | None
) -> dict[str, Any]:
    """One load; `rate` is requests a second of all connections together."""
    environ = {**os.environ, "BODY": str(body), "KIND": asked.kind}
    if rate:
        environ["RATE"] = str(rate / connections)
    before = processor_seconds(container)
    until, peaks = threading.Event(), [0]
    watch = threading.Thread(target=memory, args=(container, until, peaks))
    watch.start()
    script = str(ROOT / "bench" / "serve.lua")
    words = ["wrk", "-t1", f"-c{connections}", f"-d{asked.seconds}s", "--timeout", "10s", "-s", script]
    try:
        said = subprocess.run(
            [*words, f"{address(container)}/invocations"], env=environ, capture_output=True, text=True, check=False
        )
    finally:
        until.set()
        watch.join()
    if said.returncode:
        sys.exit(f"bench: wrk failed: {said.stderr.strip()}")
    found = json.loads(said.stdout.splitlines()[-1])
    used = processor_seconds(container) - before
    return {**found, "cost": 1000 * used / max(1, found["requests"]), "memory": max(peaks) / 2**20}


def row(name: str, found: dict[str, Any]) -> str:
    return (
        f"| {name} | {found['rate']:.0f} | {found['p50']:.1f} | {found['p99']:.1f} | {found['longest']:.0f} "
        f"| {found['errors']} | {found['cost']:.2f} | {found['memory']:.0f} |"
    )


def main() -> None:
    asked = options()
    image, client = image_of(asked), docker.from_env()
    with tempfile.TemporaryDirectory(prefix="rlimages-bench-") as name:
        model, body = asked.model, asked.body
        if model is None:
            model, body = Path(name) / "model", Path(name) / "question.json"
            model.mkdir()
            body.write_text(QUESTION)
            volumes = {str(model): {"bind": "/out", "mode": "rw"}}
            client.containers.run(image, ["python", "-c", LEARN], volumes=volumes, network_mode="none", remove=True)
        with serving(client, image, model.resolve(), asked.workers) as container:
            one = httpx.post(
                f"{address(container)}/invocations", content=body.read_bytes(), headers={"content-type": asked.kind}
            )
            if one.status_code != 200:
                sys.exit(f"bench: the answer to the request is {one.status_code}: {one.text}")
            print(f"`{image}`, {os.cpu_count()} processors shared with wrk, {asked.seconds} s each\n")
            print("| load | requests/s | p50 ms | p99 ms | longest ms | errors | processor ms a request | memory MiB |")
            print("| --- | --- | --- | --- | --- | --- | --- | --- |")
            peak = drive(container, asked, body, asked.connections, None)
            print(row(f"peak, {asked.connections} connections", peak), flush=True)
            for clients in CLIENTS:
                half = drive(container, asked, body, clients, peak["rate"] / 2)
                print(row(f"half of it, {clients} clients by chance", half), flush=True)


if __name__ == "__main__":
    main()
