"""Training jobs in real containers: a tiny image whose `train` is the shell script that a test gives it."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from one_cell import REPOSITORY

from rlimages.emulator.containers import open_hosts
from rlimages.emulator.job import JobStatus
from rlimages.emulator.training_job import CODE, TrainingJob
from rlimages.emulator.training_runner import run_training_job
from rlimages.engine.docker import DockerEngine
from rlimages.system.context import RunContext

IMAGE = f"{REPOSITORY}:train"
VW = "sagemaker-rl-vw-container:vw-9.11.9-cpu-py311-debian12"
ROOT = Path(__file__).resolve().parents[2]
TRAIN = f"#!/bin/sh\nexec sh {CODE}/job.sh\n"
RECIPE = "FROM debian:bookworm-slim\nCOPY --chmod=755 train /usr/local/bin/train\n"
CHECKPOINT = 'trap "sleep 1; echo saved >/opt/ml/model/checkpoint; exit 0" TERM\n'
WAIT = "echo ready\nsleep 60 & wait\n"
DEAF = 'trap "" TERM\necho ready\nwhile :; do sleep 1; done\n'


@pytest.fixture(scope="module")
def build(client, tmp_path_factory):
    """Build the tiny image, with more lines in its recipe where a test wants them."""

    def build(name: str, more: str = "") -> str:
        folder = tmp_path_factory.mktemp("image")
        (folder / "train").write_text(TRAIN)
        (folder / "Dockerfile").write_text(RECIPE + more)
        argv = ["docker", "buildx", "build", "-q", "--provenance=false", "--load", "-t", name, folder]
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
        return name

    return build


@pytest.fixture(scope="module")
def image(build) -> str:
    return build(IMAGE)


@pytest.fixture
def left(client):
    """The names of the tests' containers and networks that are there now."""

    def left() -> list[str]:
        things = [*client.containers.list(all=True, ignore_removed=True), *client.networks.list()]
        return [thing.name for thing in things if thing.name.startswith(f"{REPOSITORY}-")]

    return left


@pytest.fixture
def start(image, tmp_path):
    """Start a job in a process of its own, once it has said `line`."""
    started: list[subprocess.Popen] = []

    def start(script: str, *words: str, line: str = "", image: str = image) -> subprocess.Popen:
        (tmp_path / "job.sh").write_text(script)
        argv = [
            sys.executable,
            "-m",
            "rlimages",
            "train",
            image,
            "--entry-point",
            "job.sh",
            "--output",
            "out",
            "--max-run",
            "30",
            *words,
        ]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        process = subprocess.Popen(argv, cwd=tmp_path, **pipes)
        started.append(process)
        for said in process.stdout if line else ():
            if line in said:
                return process
        assert not line, f"it ended without saying '{line}'"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def train(start, left):
    """A job from beginning to end: its exit code, and all that it said. It leaves nothing behind."""

    def train(script: str, *words: str, **options: str) -> tuple[int, str]:
        process = start(script, *words, **options)
        said = process.stdout.read()
        code = process.wait(timeout=60)
        assert not left()
        return code, said

    return train


@pytest.fixture
def made(tmp_path):
    """What is in an archive of the job's output: name -> text."""

    def made(name: str) -> dict[str, str]:
        with tarfile.open(tmp_path / "out" / name) as archive:
            files = [entry for entry in archive if entry.isfile()]
            return {entry.name: archive.extractfile(entry).read().decode() for entry in files}

    return made


def test_a_job_that_ends_well_is_completed_and_its_model_is_kept(train, made) -> None:
    script = "mkdir /opt/ml/model/deep; echo m >/opt/ml/model/deep/m; ln -s deep/m /opt/ml/model/l; echo o >/opt/ml/output/data/o\n"
    code, said = train(script)
    assert (code, "Completed after" in said) == (0, True)
    assert made("model.tar.gz") == {"deep/m": "m\n"}
    assert made("output.tar.gz") == {"o": "o\n"}


@pytest.mark.parametrize("number", [1, 137])
def test_a_job_whose_train_fails_is_failed(train, tmp_path, number) -> None:
    code, said = train(f"echo half >/opt/ml/model/half; exit {number}\n")
    assert code == 1
    assert "Failed after" in said
    assert f"algo-1 failed: exit code {number}" in said
    assert (tmp_path / "out/failure").read_text() == f"algo-1 failed: exit code {number}"


def test_the_first_1024_characters_of_the_failure_file_are_the_reason(train, tmp_path) -> None:
    text = "ü" * 1023 + "xy"
    code, said = train(f"printf '{text}' >/opt/ml/output/failure; exit 1\n")
    assert code == 1
    assert text[:1024] in said
    assert "xy" not in said
    assert (tmp_path / "out/failure").read_text() == text[:1024]


def test_a_job_that_completes_takes_an_older_reason_away(train, tmp_path) -> None:
    train("exit 1\n")
    train("exit 0\n")
    assert not (tmp_path / "out/failure").exists()


def test_what_sagemaker_puts_into_a_container_is_there(train, tmp_path, made) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.csv").write_text("1,2\n")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/x.txt").write_text("x\n")
    script = "cat /opt/ml/input/config/*.json >/opt/ml/model/config; env >/opt/ml/model/env; cd /opt/ml; find code input/data -type f | sort >model/files\n"
    words = ["-p", "lr=1e-4", "-p", "name=abc", "--channel", "training=data", "--channel", "one=data/a.csv"]
    code, _ = train(script, *words, "--dependency", "lib", "--env", "COLOUR=red")
    assert code == 0
    files = made("model.tar.gz")
    assert files["files"].split() == ["code/job.sh", "code/lib/x.txt", "input/data/one/a.csv", "input/data/training/a.csv"]  # fmt: skip
    assert {"COLOUR=red", "AWS_REGION=us-west-2"} <= set(files["env"].splitlines())
    parameters, rest = json.JSONDecoder().raw_decode(files["config"])
    assert (parameters["lr"], parameters["name"]) == ("0.0001", '"abc"')
    assert parameters["sagemaker_program"] == '"job.sh"'
    assert '"current_host": "algo-1"' in files["config"][rest:]


def test_a_script_may_change_its_copy_of_the_input(train, tmp_path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/game").write_text("echo play\n")
    script = "cd /opt/ml/input/data/training && chmod 755 game && ./game && touch mine\n"
    code, said = train(script, "--channel", "training=data")
    assert (code, said.splitlines()[0]) == (0, "play")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["game"]
    assert (tmp_path / "data/game").stat().st_mode & 0o111 == 0


def test_mounted_input_is_read_only(train, tmp_path) -> None:
    (tmp_path / "data").mkdir()
    script = "touch /opt/ml/input/data/training/mine\n"
    code, said = train(script, "--channel", "training=data", "--input-mode", "Mount")
    assert code == 1
    assert "Read-only file system" in said


def test_a_channel_in_pipe_mode_is_read_as_often_as_wanted(train, build, tmp_path, made) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a").write_text("1\n2\n")
    (tmp_path / "data/b").write_bytes(b"3\n" * 500_000)
    script = "cd /opt/ml/input/data; head -n 1 t_0; for i in 1 2; do sum <t_$i | tee -a /opt/ml/model/sums; done; grep -c Pipe ../config/inputdataconfig.json\n"
    name = build(f"{REPOSITORY}:nobody", "USER nobody\n")
    code, said = train(script, "--channel", "t=data", "--input-mode", "Pipe", image=name)
    assert (code, said.splitlines()[0]) == (0, "1")
    first, second = made("model.tar.gz")["sums"].splitlines()
    assert first == second == subprocess.run("cat data/a data/b | sum", shell=True, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()  # fmt: skip


def test_a_pipe_that_nobody_reads_holds_nothing_up(train, tmp_path) -> None:
    (tmp_path / "a.csv").write_text("1\n")
    code, said = train("exit 0\n", "--channel", "t=a.csv", "--input-mode", "Pipe", "--instance-count", "2")
    assert (code, "Completed" in said) == (0, True)


def test_an_image_with_a_user_of_its_own_can_write_all_that_it_must(train, build, made) -> None:
    script = "cd /opt/ml; for i in model output output/data checkpoints; do id -un >$i/mine || exit 1; done\n"
    code, said = train(script, image=build(f"{REPOSITORY}:nobody", "USER nobody\n"))
    assert code == 0, said
    assert made("model.tar.gz") == {"mine": "nobody\n"}


def test_a_source_folder_is_the_code_folder(train, tmp_path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/job.sh").write_text("cat requirements.txt || cat /opt/ml/code/requirements.txt\n")
    (tmp_path / "src/requirements.txt").write_text("a-requirement\n")
    code, said = train("exit 3\n", "--source-dir", "src")
    assert code == 0
    assert "a-requirement" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_job_saves_its_checkpoint_and_ends_at_once(start, left, made, number) -> None:
    process = start(CHECKPOINT + WAIT, line="ready")
    began = time.monotonic()
    process.send_signal(number)
    said = process.stdout.read()
    assert process.wait(timeout=15) == 130
    assert time.monotonic() - began < 10
    assert "the job was stopped; sending SIGTERM to algo-1" in said
    assert made("model.tar.gz") == {"checkpoint": "saved\n"}
    assert not left()


def test_a_second_signal_ends_a_job_that_does_not_listen(start, left) -> None:
    process = start(DEAF, line="ready")
    process.send_signal(signal.SIGINT)
    assert "sending SIGTERM to algo-1" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert "was killed; its containers were removed, with their results" in process.stdout.read()
    assert process.wait(timeout=15) == 130
    assert not left()


def test_a_host_that_ignores_sigterm_is_killed_after_the_grace(image, client, stop, tmp_path, run_name, left) -> None:
    (tmp_path / "job.sh").write_text(DEAF)
    job = TrainingJob(name=f"rlimages-{run_name}", image=image, region="us-west-2", program="job.sh", code={f"{CODE}/job.sh": tmp_path / "job.sh"}, parameters={}, environment={}, max_run=60)  # fmt: skip
    engine = DockerEngine(run=job.name, stop=stop)
    notes: list[str] = []
    context = RunContext(environ={}, stop=stop, note=notes.append)
    result = run_training_job(job, open_hosts(engine, job), tmp_path / "out", context=context, on_line=lambda *_: stop.set(), grace=1.0)  # fmt: skip
    engine.close()
    assert (result.status, result.codes) == (JobStatus.STOPPED, {"algo-1": 137})
    assert notes == [
        "the job was stopped; sending SIGTERM to algo-1",
        "still running after 1.0 s; sending SIGKILL to algo-1",
    ]
    assert not left()


def test_a_job_that_trains_too_long_is_failed_with_its_own_sentence(train, made) -> None:
    code, said = train(CHECKPOINT + WAIT, "--max-run", "1")
    assert code == 1
    assert "Failed after" in said
    assert "the job ran longer than --max-run, 1.0 s" in said
    assert made("model.tar.gz") == {"checkpoint": "saved\n"}


HOST = 'host=$(sed "s/.*current_host\\": \\"//; s/\\".*//" /opt/ml/input/config/resourceconfig.json)\n'


def test_hosts_reach_each_other_by_name_and_their_models_are_one(train, made) -> None:
    script = HOST + 'for other in algo-1 algo-2 algo-3; do until getent hosts $other; do sleep 0.1; done; done\nsleep 2\necho $host >/opt/ml/model/$host; echo $host >/opt/ml/model/same; echo "I am $host"\n'  # fmt: skip
    code, said = train(script, "--instance-count", "3")
    assert code == 0, said
    assert "algo-2 | I am algo-2\n" in said
    assert made("model.tar.gz") == {"algo-1": "algo-1\n", "algo-2": "algo-2\n", "algo-3": "algo-3\n", "same": "algo-1\n"}  # fmt: skip


def test_the_first_host_that_fails_ends_the_others(train, made) -> None:
    script = HOST + CHECKPOINT + f'if [ $host = algo-2 ]; then sleep 1; echo lost >/opt/ml/output/failure; exit 3; fi\n{WAIT}'  # fmt: skip
    began = time.monotonic()
    code, said = train(script, "--instance-count", "2")
    assert code == 1
    assert "algo-2 failed: exit code 3; sending SIGTERM to algo-1" in said
    assert "\nlost\n" in said
    assert made("model.tar.gz") == {"checkpoint": "saved\n"}
    assert time.monotonic() - began < 20


@pytest.mark.alone
def test_what_a_killed_command_left_behind_is_removed_by_the_next(start, train, left) -> None:
    process = start(WAIT, "--instance-count", "2", line="ready")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(left()) == 3
    code, said = train("exit 0\n")
    assert code == 0
    assert said.count("rlimages: removed container") == 2
    assert said.count("rlimages: removed network") == 1
    assert f"left behind by run {REPOSITORY}-" in said


def test_values_of_a_metric_are_drawn_at_the_end(train) -> None:
    code, said = train("for i in 1 2 3 4; do echo reward: $i; done\n", "--metric", "reward=reward: ([0-9]+)")
    assert code == 0
    assert "reward  ▁▃▆█  4 values, first 1, last 4, lowest 1, highest 4" in said


COUNT = 'cd /opt/ml/checkpoints; n=$(cat deep/n || echo 0); mkdir -p deep; echo $((n + 1)) >deep/n; echo "round $n"\n'


def test_a_job_goes_on_from_its_checkpoints(train, tmp_path) -> None:
    for number in range(3):
        code, said = train(COUNT, "--checkpoints", "kept")
        assert (code, f"round {number}\n" in said, said.endswith("checkpoints: kept\n")) == (0, True, True)
    assert (tmp_path / "kept/deep/n").read_text() == "3\n"
    assert (tmp_path / "kept/deep/n").owner() == tmp_path.owner()


@pytest.mark.parametrize("words", [(), ("--instance-count", "2")])
def test_checkpoints_survive_a_job_that_is_stopped(start, left, tmp_path, words) -> None:
    process = start(COUNT + CHECKPOINT + WAIT, "--checkpoints", "kept", *words, line="ready")
    process.send_signal(signal.SIGINT)
    process.stdout.read()
    assert process.wait(timeout=15) == 130
    assert (tmp_path / "kept/deep/n").read_text() == "1\n"
    assert not left()


def test_an_image_with_a_user_of_its_own_can_change_its_checkpoints(train, build, tmp_path) -> None:
    name = build(f"{REPOSITORY}:nobody", "USER nobody\n")
    for _ in range(2):
        code, said = train(COUNT, "--checkpoints", "kept", image=name)
        assert code == 0, said
    assert (tmp_path / "kept/deep/n").read_text() == "2\n"


def test_results_are_kept_where_checkpoints_cannot_be(train, made, tmp_path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/a").write_text("a file")
    script = (
        "cd /opt/ml/checkpoints; rm a; mkdir a; echo 1 >a/n; head -c 9000000 /dev/zero >z; echo m >/opt/ml/model/m\n"
    )
    code, said = train(script, "--checkpoints", "kept")
    assert (code, "rlimages: cannot write checkpoints to kept: " in said) == (1, True)
    assert made("model.tar.gz") == {"m": "m\n"}


def test_a_job_in_json_is_one_object_and_its_log_is_elsewhere(image, left, tmp_path) -> None:
    (tmp_path / "job.sh").write_text("echo reward: 1.5; echo reward: nan; echo why >/opt/ml/output/failure; exit 3\n")
    words = ["--entry-point", "job.sh", "--output", "out", "--metric", "reward=reward: (.+)", "--json"]
    argv = [sys.executable, "-m", "rlimages", "train", image, *words]
    ended = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    told = json.loads(ended.stdout)
    assert ended.returncode == 1
    assert "reward: 1.5" in ended.stderr
    assert (told["status"], told["reason"], told["failure"]) == ("Failed", "algo-1 failed: exit code 3", "why\n")
    assert (told["exit_codes"], told["metrics"]) == ({"algo-1": 3}, {"reward": [1.5, None]})
    assert told["files"]["failure"] == "out/failure"
    assert not left()


def test_a_line_is_shown_when_it_is_printed(start) -> None:
    process = start("printf 'part '; sleep 1; echo whole; sleep 60\n", line="part whole")
    assert process.poll() is None


def test_an_image_that_cannot_train_is_an_answer(train, left, tmp_path) -> None:
    argv = [sys.executable, "-m", "rlimages", "train", "debian:bookworm-slim", "--output", str(tmp_path)]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "algo-1 cannot start train" in ended.stdout
    assert not left()


@pytest.mark.parametrize(("word", "remedy"), [("rlimages-test:never", "docker pull"), ("vw-8.7.0-cpu", "rlimages build --select vw-8.7.0-cpu")])  # fmt: skip
def test_an_image_that_is_not_there_is_a_sentence(client, word, remedy) -> None:
    ended = subprocess.run([sys.executable, "-m", "rlimages", "train", word], capture_output=True, text=True, check=False, cwd=Path(__file__).parent)  # fmt: skip
    assert ended.returncode == 4
    assert remedy in ended.stderr


def test_the_example_of_the_page_trains_in_an_image_of_the_matrix(client, tmp_path) -> None:
    if not client.images.list(VW):
        pytest.fail(f"there is no {VW} in the local store; run: rlimages build --select vw-9.11.9-cpu-debian", pytrace=False)  # fmt: skip
    page = (ROOT / "docs/training.md").read_text()
    script, command = (re.search(f"```{kind}\n(.*?)```", page, re.DOTALL)[1] for kind in ("python", "sh"))
    (tmp_path / "learn.py").write_text(script)
    _, *words = shlex.split(command)
    argv = [sys.executable, "-m", "rlimages", "--matrix", str(ROOT / "build_matrix.yaml"), *words]
    ended = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "20 values" in ended.stdout
    with tarfile.open(tmp_path / "results/model.tar.gz") as archive:
        assert archive.getmember("vw.model").size > 0
