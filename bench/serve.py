"""Measure a serving container with wrk: at the highest rate, and at half of it with requests at random times.

The first load is closed: each connection sends the next request as soon as it has its answer. Its rate is the peak. The
second load is nearly open: each of many connections waits an exponentially distributed time between two requests, so
that a slow answer does not delay the requests of other clients. Processor time and memory are those of the container,
as the engine counts them; memory is the highest value, without the file cache.
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
"""Numbers of connections at half of the peak rate. With more connections, one that waits delays fewer requests."""
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


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "cell", nargs="?", default="vw-9.11.9-cpu-debian", help="the cell whose image is measured (%(default)s)"
    )
    parser.add_argument("--image", help="name of another image to measure")
    parser.add_argument("--model", type=Path, help="folder of the model; by default a Vowpal Wabbit model is trained")
    parser.add_argument("--body", type=Path, help="file with the request; required with --model")
    parser.add_argument("--kind", default="application/json", help="content type of the request (%(default)s)")
    parser.add_argument("--seconds", type=int, default=60, help="duration of each load (%(default)s)")
    parser.add_argument("--connections", type=int, default=16, help="connections of the first load (%(default)s)")
    parser.add_argument("--workers", type=int, help="SAGEMAKER_MODEL_SERVER_WORKERS")
    options = parser.parse_args()
    if bool(options.model) != bool(options.body):
        parser.error("--model and --body need each other")
    return options


def image_of(options: argparse.Namespace) -> str:
    if options.image:
        return str(options.image)
    cells = {cell.id: cell for cell in load_project(ROOT / "build_matrix.yaml", ROOT).cells}
    if options.cell not in cells:
        sys.exit(f"bench: there is no cell '{options.cell}'; rlimages list shows all cells")
    return cells[options.cell].local_name


@contextmanager
def serving(client: Any, image: str, model: Path, workers: int | None) -> Iterator[Any]:
    """Start a container that serves, and wait until it is ready. Remove it at the end."""
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
                sys.exit(f"bench: the server is not ready; its log:\n{container.logs().decode()}")
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
    """Return the address of the container itself: a published port would be measured with Docker's proxy."""
    networks = container.attrs["NetworkSettings"]["Networks"].values()
    return f"http://{next(iter(networks))['IPAddress']}:8080"


def watch_memory(container: Any, until: threading.Event, samples: list[int]) -> None:
    """Append the memory of the container in bytes to `samples` until the event is set."""
    while not until.is_set():
        used = container.stats(stream=False)["memory_stats"]
        samples.append(used["usage"] - used["stats"].get("inactive_file", 0))


def processor_seconds(container: Any) -> float:
    """Return the processor time that the container has used since its start."""
    return float(container.stats(stream=False)["cpu_stats"]["cpu_usage"]["total_usage"]) / 1e9


def drive(
    container: Any, options: argparse.Namespace, body: Path, connections: int, rate: float | None
) -> dict[str, Any]:
    """Run one load, and return its numbers. `rate` is the requests per second of all connections; None for no limit."""
    environ = {**os.environ, "BODY": str(body), "KIND": options.kind}
    if rate:
        environ["RATE"] = str(rate / connections)
    before = processor_seconds(container)
    until, memory_samples = threading.Event(), [0]
    watch = threading.Thread(target=watch_memory, args=(container, until, memory_samples))
    watch.start()
    script = str(ROOT / "bench" / "serve.lua")
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{options.seconds}s", "--timeout", "10s", "-s", script]
    try:
        wrk = subprocess.run(
            [*argv, f"{address(container)}/invocations"], env=environ, capture_output=True, text=True, check=False
        )
    finally:
        until.set()
        watch.join()
    if wrk.returncode:
        sys.exit(f"bench: wrk failed: {wrk.stderr.strip()}")
    numbers = json.loads(wrk.stdout.splitlines()[-1])
    used = processor_seconds(container) - before
    return {**numbers, "cost": 1000 * used / max(1, numbers["requests"]), "memory": max(memory_samples) / 2**20}


def row(name: str, numbers: dict[str, Any]) -> str:
    return (
        f"| {name} | {numbers['rate']:.0f} | {numbers['p50']:.1f} | {numbers['p99']:.1f} | {numbers['longest']:.0f} "
        f"| {numbers['errors']} | {numbers['cost']:.2f} | {numbers['memory']:.0f} |"
    )


def main() -> None:
    options = parse_options()
    image, client = image_of(options), docker.from_env()
    with tempfile.TemporaryDirectory(prefix="rlimages-bench-") as name:
        model, body = options.model, options.body
        if model is None:
            model, body = Path(name) / "model", Path(name) / "question.json"
            model.mkdir()
            body.write_text(QUESTION)
            volumes = {str(model): {"bind": "/out", "mode": "rw"}}
            client.containers.run(image, ["python", "-c", LEARN], volumes=volumes, network_mode="none", remove=True)
        with serving(client, image, model.resolve(), options.workers) as container:
            answer = httpx.post(
                f"{address(container)}/invocations", content=body.read_bytes(), headers={"content-type": options.kind}
            )
            if answer.status_code != 200:
                sys.exit(f"bench: the answer to the request is {answer.status_code}: {answer.text}")
            print(f"`{image}`, {os.cpu_count()} processors shared with wrk, {options.seconds} s each\n")
            print("| load | requests/s | p50 ms | p99 ms | longest ms | errors | processor ms a request | memory MiB |")
            print("| --- | --- | --- | --- | --- | --- | --- | --- |")
            peak = drive(container, options, body, options.connections, None)
            print(row(f"peak, {options.connections} connections", peak), flush=True)
            for clients in CLIENTS:
                half = drive(container, options, body, clients, peak["rate"] / 2)
                print(row(f"half of it, {clients} clients at random times", half), flush=True)


if __name__ == "__main__":
    main()
