"""Training jobs in real containers of a tiny image, whose `train` runs the shell script of the test."""

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
TRAIN_PROGRAM = f"#!/bin/sh\nexec sh {CODE}/job.sh\n"
DOCKERFILE = "FROM debian:bookworm-slim\nCOPY --chmod=755 train /usr/local/bin/train\n"
SAVE_ON_SIGTERM = 'trap "sleep 1; echo saved >/opt/ml/model/checkpoint; exit 0" TERM\n'
WAIT = "echo ready\nsleep 60 & wait\n"
IGNORE_SIGTERM = 'trap "" TERM\necho ready\nwhile :; do sleep 1; done\n'


@pytest.fixture(scope="module")
def build(client, tmp_path_factory):
    """Return a function that builds the tiny image, optionally with more Dockerfile instructions."""

    def build(name: str, instructions: str = "") -> str:
        folder = tmp_path_factory.mktemp("image")
        (folder / "train").write_text(TRAIN_PROGRAM)
        (folder / "Dockerfile").write_text(DOCKERFILE + instructions)
        argv = ["docker", "buildx", "build", "-q", "--provenance=false", "--load", "-t", name, folder]
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
        return name

    return build


@pytest.fixture(scope="module")
def image(build) -> str:
    return build(IMAGE)


@pytest.fixture
def list_leftovers(client):
    """Return a function that lists the names of the tests' containers and networks."""

    def list_leftovers() -> list[str]:
        resources = [*client.containers.list(all=True, ignore_removed=True), *client.networks.list()]
        return [resource.name for resource in resources if resource.name.startswith(f"{REPOSITORY}-")]

    return list_leftovers


@pytest.fixture
def start(image, tmp_path):
    """Return a function that starts a job in a separate process and waits until it prints a text."""
    processes: list[subprocess.Popen] = []

    def start(script: str, *arguments: str, text: str = "", image: str = image) -> subprocess.Popen:
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
            *arguments,
        ]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        process = subprocess.Popen(argv, cwd=tmp_path, **pipes)
        processes.append(process)
        for line in process.stdout if text else ():
            if text in line:
                return process
        assert not text, f"it ended without printing '{text}'"
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def train(start, list_leftovers):
    """Return a function that runs a job to its end and returns its exit code and output. No leftovers may remain."""

    def train(script: str, *arguments: str, **options: str) -> tuple[int, str]:
        process = start(script, *arguments, **options)
        output = process.stdout.read()
        code = process.wait(timeout=60)
        assert not list_leftovers()
        return code, output

    return train


@pytest.fixture
def read_archive(tmp_path):
    """Return a function that reads the files of an output archive: text by name."""

    def read_archive(name: str) -> dict[str, str]:
        with tarfile.open(tmp_path / "out" / name) as archive:
            files = [entry for entry in archive if entry.isfile()]
            return {entry.name: archive.extractfile(entry).read().decode() for entry in files}

    return read_archive


def test_a_successful_job_is_completed_and_its_model_is_saved(train, read_archive) -> None:
    script = "mkdir /opt/ml/model/deep; echo m >/opt/ml/model/deep/m; ln -s deep/m /opt/ml/model/l; echo o >/opt/ml/output/data/o\n"
    code, output = train(script)
    assert (code, "Completed after" in output) == (0, True)
    assert read_archive("model.tar.gz") == {"deep/m": "m\n"}
    assert read_archive("output.tar.gz") == {"o": "o\n"}


@pytest.mark.parametrize("number", [1, 137])
def test_a_job_fails_if_train_fails(train, tmp_path, number) -> None:
    code, output = train(f"echo half >/opt/ml/model/half; exit {number}\n")
    assert code == 1
    assert "Failed after" in output
    assert f"algo-1 failed: exit code {number}" in output
    assert (tmp_path / "out/failure").read_text() == f"algo-1 failed: exit code {number}"


def test_the_failure_reason_is_the_first_1024_characters_of_the_failure_file(train, tmp_path) -> None:
    text = "ü" * 1023 + "xy"
    code, output = train(f"printf '{text}' >/opt/ml/output/failure; exit 1\n")
    assert code == 1
    assert text[:1024] in output
    assert "xy" not in output
    assert (tmp_path / "out/failure").read_text() == text[:1024]


def test_a_completed_job_deletes_the_failure_file_of_an_earlier_job(train, tmp_path) -> None:
    train("exit 1\n")
    train("exit 0\n")
    assert not (tmp_path / "out/failure").exists()


def test_a_container_has_the_files_and_variables_of_sagemaker(train, tmp_path, read_archive) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.csv").write_text("1,2\n")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/x.txt").write_text("x\n")
    script = "cat /opt/ml/input/config/*.json >/opt/ml/model/config; env >/opt/ml/model/env; cd /opt/ml; find code input/data -type f | sort >model/files\n"
    arguments = ["-p", "lr=1e-4", "-p", "name=abc", "--channel", "training=data", "--channel", "one=data/a.csv"]
    code, _ = train(script, *arguments, "--dependency", "lib", "--env", "COLOUR=red")
    assert code == 0
    files = read_archive("model.tar.gz")
    assert files["files"].split() == ["code/job.sh", "code/lib/x.txt", "input/data/one/a.csv", "input/data/training/a.csv"]  # fmt: skip
    assert {"COLOUR=red", "AWS_REGION=us-west-2"} <= set(files["env"].splitlines())
    parameters, rest = json.JSONDecoder().raw_decode(files["config"])
    assert (parameters["lr"], parameters["name"]) == ("0.0001", '"abc"')
    assert parameters["sagemaker_program"] == '"job.sh"'
    assert '"current_host": "algo-1"' in files["config"][rest:]


def test_a_script_can_change_its_copy_of_the_input(train, tmp_path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/game").write_text("echo play\n")
    script = "cd /opt/ml/input/data/training && chmod 755 game && ./game && touch mine\n"
    code, output = train(script, "--channel", "training=data")
    assert (code, output.splitlines()[0]) == (0, "play")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["game"]
    assert (tmp_path / "data/game").stat().st_mode & 0o111 == 0


def test_mounted_input_is_read_only(train, tmp_path) -> None:
    (tmp_path / "data").mkdir()
    script = "touch /opt/ml/input/data/training/mine\n"
    code, output = train(script, "--channel", "training=data", "--input-mode", "Mount")
    assert code == 1
    assert "Read-only file system" in output


def test_a_channel_in_pipe_mode_can_be_read_several_times(train, build, tmp_path, read_archive) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a").write_text("1\n2\n")
    (tmp_path / "data/b").write_bytes(b"3\n" * 500_000)
    script = "cd /opt/ml/input/data; head -n 1 t_0; for i in 1 2; do sum <t_$i | tee -a /opt/ml/model/sums; done; grep -c Pipe ../config/inputdataconfig.json\n"
    name = build(f"{REPOSITORY}:nobody", "USER nobody\n")
    code, output = train(script, "--channel", "t=data", "--input-mode", "Pipe", image=name)
    assert (code, output.splitlines()[0]) == (0, "1")
    first, second = read_archive("model.tar.gz")["sums"].splitlines()
    assert first == second == subprocess.run("cat data/a data/b | sum", shell=True, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()  # fmt: skip


def test_an_unread_pipe_does_not_block_the_job(train, tmp_path) -> None:
    (tmp_path / "a.csv").write_text("1\n")
    code, output = train("exit 0\n", "--channel", "t=a.csv", "--input-mode", "Pipe", "--instance-count", "2")
    assert (code, "Completed" in output) == (0, True)


def test_an_image_with_its_own_user_can_write_to_all_output_folders(train, build, read_archive) -> None:
    script = "cd /opt/ml; for i in model output output/data checkpoints; do id -un >$i/mine || exit 1; done\n"
    code, output = train(script, image=build(f"{REPOSITORY}:nobody", "USER nobody\n"))
    assert code == 0, output
    assert read_archive("model.tar.gz") == {"mine": "nobody\n"}


def test_the_source_folder_becomes_the_code_folder(train, tmp_path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/job.sh").write_text("cat requirements.txt || cat /opt/ml/code/requirements.txt\n")
    (tmp_path / "src/requirements.txt").write_text("a-requirement\n")
    code, output = train("exit 3\n", "--source-dir", "src")
    assert code == 0
    assert "a-requirement" in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_job_saves_its_checkpoint_and_ends_quickly(start, list_leftovers, read_archive, number) -> None:
    process = start(SAVE_ON_SIGTERM + WAIT, text="ready")
    started_at = time.monotonic()
    process.send_signal(number)
    output = process.stdout.read()
    assert process.wait(timeout=15) == 130
    assert time.monotonic() - started_at < 10
    assert "the job was stopped; sending SIGTERM to algo-1" in output
    assert read_archive("model.tar.gz") == {"checkpoint": "saved\n"}
    assert not list_leftovers()


def test_a_second_signal_kills_a_job_that_ignores_sigterm(start, list_leftovers) -> None:
    process = start(IGNORE_SIGTERM, text="ready")
    process.send_signal(signal.SIGINT)
    assert "sending SIGTERM to algo-1" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert "was killed; its containers were removed, with their results" in process.stdout.read()
    assert process.wait(timeout=15) == 130
    assert not list_leftovers()


def test_a_host_that_ignores_sigterm_is_killed_after_the_grace_period(
    image, client, stop, tmp_path, run_name, list_leftovers
) -> None:
    (tmp_path / "job.sh").write_text(IGNORE_SIGTERM)
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
    assert not list_leftovers()


def test_a_job_that_exceeds_max_run_fails_with_that_reason(train, read_archive) -> None:
    code, output = train(SAVE_ON_SIGTERM + WAIT, "--max-run", "1")
    assert code == 1
    assert "Failed after" in output
    assert "the job ran longer than --max-run, 1.0 s" in output
    assert read_archive("model.tar.gz") == {"checkpoint": "saved\n"}


SET_HOST = 'host=$(sed "s/.*current_host\\": \\"//; s/\\".*//" /opt/ml/input/config/resourceconfig.json)\n'


def test_hosts_reach_each_other_by_name_and_their_models_are_merged(train, read_archive) -> None:
    script = SET_HOST + 'for other in algo-1 algo-2 algo-3; do until getent hosts $other; do sleep 0.1; done; done\nsleep 2\necho $host >/opt/ml/model/$host; echo $host >/opt/ml/model/same; echo "I am $host"\n'  # fmt: skip
    code, output = train(script, "--instance-count", "3")
    assert code == 0, output
    assert "algo-2 | I am algo-2\n" in output
    assert read_archive("model.tar.gz") == {"algo-1": "algo-1\n", "algo-2": "algo-2\n", "algo-3": "algo-3\n", "same": "algo-1\n"}  # fmt: skip


def test_the_first_failed_host_stops_the_others(train, read_archive) -> None:
    script = SET_HOST + SAVE_ON_SIGTERM + f'if [ $host = algo-2 ]; then sleep 1; echo lost >/opt/ml/output/failure; exit 3; fi\n{WAIT}'  # fmt: skip
    started_at = time.monotonic()
    code, output = train(script, "--instance-count", "2")
    assert code == 1
    assert "algo-2 failed: exit code 3; sending SIGTERM to algo-1" in output
    assert "\nlost\n" in output
    assert read_archive("model.tar.gz") == {"checkpoint": "saved\n"}
    assert time.monotonic() - started_at < 20


@pytest.mark.alone
def test_leftovers_of_a_killed_command_are_removed_by_the_next_one(start, train, list_leftovers) -> None:
    process = start(WAIT, "--instance-count", "2", text="ready")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(list_leftovers()) == 3
    code, output = train("exit 0\n")
    assert code == 0
    assert output.count("rlimages: removed container") == 2
    assert output.count("rlimages: removed network") == 1
    assert f"left behind by run {REPOSITORY}-" in output


def test_the_values_of_a_metric_are_drawn_at_the_end(train) -> None:
    code, output = train("for i in 1 2 3 4; do echo reward: $i; done\n", "--metric", "reward=reward: ([0-9]+)")
    assert code == 0
    assert "reward  ▁▃▆█  4 values, first 1, last 4, lowest 1, highest 4" in output


COUNT_ROUNDS = (
    'cd /opt/ml/checkpoints; n=$(cat deep/n || echo 0); mkdir -p deep; echo $((n + 1)) >deep/n; echo "round $n"\n'
)


def test_a_job_continues_from_its_checkpoints(train, tmp_path) -> None:
    for number in range(3):
        code, output = train(COUNT_ROUNDS, "--checkpoints", "kept")
        assert (code, f"round {number}\n" in output, output.endswith("checkpoints: kept\n")) == (0, True, True)
    assert (tmp_path / "kept/deep/n").read_text() == "3\n"
    assert (tmp_path / "kept/deep/n").owner() == tmp_path.owner()


@pytest.mark.parametrize("arguments", [(), ("--instance-count", "2")])
def test_the_checkpoints_of_a_stopped_job_are_kept(start, list_leftovers, tmp_path, arguments) -> None:
    process = start(COUNT_ROUNDS + SAVE_ON_SIGTERM + WAIT, "--checkpoints", "kept", *arguments, text="ready")
    process.send_signal(signal.SIGINT)
    process.stdout.read()
    assert process.wait(timeout=15) == 130
    assert (tmp_path / "kept/deep/n").read_text() == "1\n"
    assert not list_leftovers()


def test_an_image_with_its_own_user_can_change_its_checkpoints(train, build, tmp_path) -> None:
    name = build(f"{REPOSITORY}:nobody", "USER nobody\n")
    for _ in range(2):
        code, output = train(COUNT_ROUNDS, "--checkpoints", "kept", image=name)
        assert code == 0, output
    assert (tmp_path / "kept/deep/n").read_text() == "2\n"


def test_results_are_kept_if_checkpoints_cannot_be_written(train, read_archive, tmp_path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/a").write_text("a file")
    script = (
        "cd /opt/ml/checkpoints; rm a; mkdir a; echo 1 >a/n; head -c 9000000 /dev/zero >z; echo m >/opt/ml/model/m\n"
    )
    code, output = train(script, "--checkpoints", "kept")
    assert (code, "rlimages: cannot write checkpoints to kept: " in output) == (1, True)
    assert read_archive("model.tar.gz") == {"m": "m\n"}


def test_the_json_output_of_a_job_is_one_object_and_its_log_is_on_stderr(image, list_leftovers, tmp_path) -> None:
    (tmp_path / "job.sh").write_text("echo reward: 1.5; echo reward: nan; echo why >/opt/ml/output/failure; exit 3\n")
    arguments = ["--entry-point", "job.sh", "--output", "out", "--metric", "reward=reward: (.+)", "--json"]
    argv = [sys.executable, "-m", "rlimages", "train", image, *arguments]
    result = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    report = json.loads(result.stdout)
    assert result.returncode == 1
    assert "reward: 1.5" in result.stderr
    assert (report["status"], report["reason"], report["failure"]) == ("Failed", "algo-1 failed: exit code 3", "why\n")
    assert (report["exit_codes"], report["metrics"]) == ({"algo-1": 3}, {"reward": [1.5, None]})
    assert report["files"]["failure"] == "out/failure"
    assert not list_leftovers()


def test_a_line_of_the_log_is_printed_at_once(start) -> None:
    process = start("printf 'part '; sleep 1; echo whole; sleep 60\n", text="part whole")
    assert process.poll() is None


def test_an_image_without_train_is_a_failed_job(train, list_leftovers, tmp_path) -> None:
    argv = [sys.executable, "-m", "rlimages", "train", "debian:bookworm-slim", "--output", str(tmp_path)]
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "algo-1 cannot start train" in result.stdout
    assert not list_leftovers()


@pytest.mark.parametrize(("image_name", "remedy"), [("rlimages-test:never", "docker pull"), ("vw-8.7.0-cpu", "rlimages build --select vw-8.7.0-cpu")])  # fmt: skip
def test_the_message_for_a_missing_image_names_a_remedy(client, image_name, remedy) -> None:
    result = subprocess.run([sys.executable, "-m", "rlimages", "train", image_name], capture_output=True, text=True, check=False, cwd=Path(__file__).parent)  # fmt: skip
    assert result.returncode == 4
    assert remedy in result.stderr


def test_the_example_of_the_training_page_works(client, tmp_path) -> None:
    if not client.images.list(VW):
        pytest.fail(f"there is no {VW} in the local store; run: rlimages build --select vw-9.11.9-cpu-debian", pytrace=False)  # fmt: skip
    page = (ROOT / "docs/training.md").read_text()
    script, command = (re.search(f"```{language}\n(.*?)```", page, re.DOTALL)[1] for language in ("python", "sh"))
    (tmp_path / "learn.py").write_text(script)
    _, *arguments = shlex.split(command)
    argv = [sys.executable, "-m", "rlimages", "--matrix", str(ROOT / "build_matrix.yaml"), *arguments]
    result = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "20 values" in result.stdout
    with tarfile.open(tmp_path / "results/model.tar.gz") as archive:
        assert archive.getmember("vw.model").size > 0
