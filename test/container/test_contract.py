"""The contract of docs/contract.md, tested with training jobs in containers of the Debian images.

Cheap tests run in all images. The others run in two: the image with the oldest toolkit and the one with the newest.
"""

import json
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator

import docker
import pytest
import training_job
from one_cell import WORKER
from training_job import CELLS, Job, JobResult

OLDEST, NEWEST = "coach-0.11.0-mxnet-cpu-debian", "vw-9.11.9-cpu-debian"
BOTH = pytest.mark.parametrize("cell", [OLDEST, NEWEST])
ALL = pytest.mark.parametrize("cell", CELLS)

VARIABLES = [
    *(f"SM_{name}" for name in ("HOSTS", "CURRENT_HOST", "NETWORK_INTERFACE_NAME", "RESOURCE_CONFIG")),
    *(f"SM_{name}" for name in ("HPS", "USER_ARGS", "USER_ENTRY_POINT", "FRAMEWORK_PARAMS", "FRAMEWORK_MODULE")),
    *(f"SM_{name}" for name in ("INPUT_DATA_CONFIG", "CHANNELS", "INPUT_DIR", "INPUT_CONFIG_DIR", "MODEL_DIR")),
    *(
        f"SM_{name}"
        for name in ("OUTPUT_DIR", "OUTPUT_DATA_DIR", "OUTPUT_INTERMEDIATE_DIR", "MODULE_DIR", "MODULE_NAME")
    ),
    *(f"SM_{name}" for name in ("LOG_LEVEL", "NUM_CPUS", "NUM_GPUS", "TRAINING_ENV")),
    *("SM_CHANNEL_TRAIN", "SM_HP_LR", "SM_HP_RL.TRAINING.CONFIG.LR"),
    *("PYTHONPATH", "CURRENT_HOST", "SAGEMAKER_JOB_NAME", "SAGEMAKER_REGION"),
]
GROUP_VARIABLES = [
    *(f"SM_CURRENT_INSTANCE_{name}" for name in ("TYPE", "GROUP", "GROUP_HOSTS")),
    *(f"SM_{name}" for name in ("INSTANCE_GROUPS", "INSTANCE_GROUPS_DICT", "DISTRIBUTION_INSTANCE_GROUPS")),
    *("SM_IS_HETERO", "SM_NUM_NEURONS"),
]
"""Variables of instance groups, which only sagemaker-training 4.2 and later sets."""

REPORT_ENVIRONMENT = """
import json, os, socket, sys, time
display, opened = os.environ.get("DISPLAY"), False
if display:
    for _ in range(100):
        try:
            socket.socket(socket.AF_UNIX).connect("/tmp/.X11-unix/X" + display[1:])
        except OSError:
            time.sleep(0.1)
        else:
            opened = True
            break
try:
    from importlib.metadata import version
    toolkit = version("sagemaker-training")
except ImportError:
    toolkit = ""
from sagemaker_containers.cli.train import main
import sagemaker_containers.beta.framework as framework
seen = {
    "environ": dict(os.environ), "argv": sys.argv[1:], "host": socket.gethostname(), "display": opened,
    "toolkit": toolkit, "cwd": os.getcwd(), "user": os.getuid(), "hosts": framework.training_env().hosts,
}
with open(os.environ["SM_MODEL_DIR"] + "/seen", "w") as stream:
    json.dump(seen, stream)
print("to out")
sys.stderr.write("to err\\n")
"""
PARAMETERS = {
    "lr": 0.25,
    "n": 3,
    "net": {"width": 8, "depth": 2},
    "flag": True,
    "text": "two words",
    "rl.training.config.lr": 0.0001,
}
SAVE_ON_SIGTERM = """
import os, signal, sys, time
def save(number, frame):
    time.sleep(1)
    open(os.environ["SM_MODEL_DIR"] + "/checkpoint", "w").write("saved")
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("ready")
time.sleep(60)
"""
RAISE_ERROR = """
def learn(depth):
    if depth:
        learn(depth - 1)
    raise ValueError("the reward was not a number")
print("step 1")
learn(30)
"""


@pytest.fixture
def make_job(request, tmp_path) -> Iterator[Callable[..., Job]]:
    """Return a function that creates a job of a cell's image."""
    jobs: list[Job] = []

    def make(cell: str, *scripts: str, **options) -> Job:
        image = training_job.image_of(CELLS[cell])
        if not training_job.is_local(image):
            pytest.fail(f"there is no {image}; build it first", pytrace=False)
        files = dict(options.pop("files", {"job.py": "".join(scripts)}))
        name = f"rlimages-contract{WORKER}-{tmp_path.name}-{len(jobs)}"
        jobs.append(Job(image, tmp_path / f"ml{len(jobs)}", files, name=name, **options))
        return jobs[-1]

    yield make
    for job in jobs:
        job.remove()


def test_every_debian_image_is_in_the_local_store(client) -> None:
    missing = [cell for cell in CELLS if not training_job.is_local(training_job.image_of(CELLS[cell]))]
    remedy = "".join(f" --select {cell}" for cell in missing)
    assert not missing, f"{len(missing)} of {len(CELLS)} are not in the local store; run: rlimages build{remedy}"


# ---- the environment of a script


@pytest.fixture(scope="module", params=CELLS)
def cell(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def job_facts(cell, tmp_path_factory) -> tuple[dict, JobResult]:
    """Return the facts that the script of one job reports, and the result of the job."""
    image = training_job.image_of(CELLS[cell])
    if not training_job.is_local(image):
        pytest.fail(f"there is no {image}; build it first", pytrace=False)
    folder = tmp_path_factory.mktemp("seen") / "ml"
    result = Job(
        image, folder, {"job.py": REPORT_ENVIRONMENT}, parameters=PARAMETERS, name=f"rlimages-contract{WORKER}-{cell}"
    ).run()
    assert result.succeeded, result.err
    return json.loads(result.model("seen")), result


def test_a_script_has_all_environment_variables_of_sagemaker(job_facts) -> None:
    facts, _ = job_facts
    knows_groups = tuple(map(int, facts["toolkit"].split(".")[:2])) >= (4, 2)
    assert set(VARIABLES + GROUP_VARIABLES * knows_groups) - set(facts["environ"]) == set()
    assert json.loads(facts["environ"]["SM_HPS"]) == PARAMETERS
    assert facts["cwd"] == "/opt/ml/code"


def test_hyperparameters_of_all_types_become_arguments(job_facts) -> None:
    arguments = dict(zip(job_facts[0]["argv"][::2], job_facts[0]["argv"][1::2], strict=True))
    assert arguments.pop("--net") in ("width=8,depth=2", "depth=2,width=8")
    assert arguments == {
        "--lr": "0.25",
        "-n": "3",
        "--flag": "True",
        "--text": "two words",
        "--rl.training.config.lr": "0.0001",
    }


def test_the_host_name_is_that_of_the_job(job_facts) -> None:
    assert job_facts[0]["host"] == "algo-1"
    assert job_facts[0]["hosts"] == ["algo-1"]


def test_a_display_is_open_only_in_images_of_toolkits_that_draw(job_facts, cell) -> None:
    facts, _ = job_facts
    assert (facts["display"], "DISPLAY" in facts["environ"]) == (CELLS[cell].display,) * 2


def test_the_log_has_only_lines_of_the_script_and_the_toolkit(job_facts) -> None:
    _, result = job_facts
    assert "to out\n" in result.out
    assert "to err\n" in result.err
    for noise in ("job control", "ioctl", "cannot be preloaded", "Traceback", "Xvfb"):
        assert noise not in result.out + result.err


# ---- how a job fails


@ALL
def test_the_failure_file_names_the_error_of_the_script(make_job, cell) -> None:
    result = make_job(cell, RAISE_ERROR).run()
    assert result.code == 1
    assert "ExitCode 1" in result.failure
    assert 'ErrorMessage "ValueError: the reward was not a number\n' in result.failure
    assert 'raise ValueError("the reward was not a number")' in result.failure
    assert result.err.count("Traceback (most recent call last)") == 1


@ALL
def test_a_failure_file_of_the_script_is_kept(make_job, cell) -> None:
    result = make_job(cell, 'open("/opt/ml/output/failure", "w").write("diverged"); raise SystemExit(3)').run()
    assert (result.code, result.failure) == (1, "diverged")


@BOTH
@pytest.mark.parametrize("script", ["raise SystemExit(137)", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"])
def test_the_failure_of_a_killed_script_names_lack_of_memory(make_job, cell, script) -> None:
    result = make_job(cell, script).run()
    assert result.code == 1
    assert "OutOfMemory: Process killed by SIGKILL" in result.failure


@BOTH
def test_an_error_without_a_traceback_is_in_the_failure_file(make_job, cell) -> None:
    script = "import argparse; argparse.ArgumentParser().parse_args()"
    result = make_job(cell, script, parameters={"lr": 1}).run()
    assert "ExitCode 2" in result.failure
    assert "job.py: error: unrecognized arguments: --lr 1" in result.failure


@BOTH
def test_the_failure_names_a_missing_script(make_job, cell) -> None:
    result = make_job(cell, files={}, program="absent.py").run()
    assert result.code != 0
    assert "/opt/ml/code/absent.py" in result.failure


@BOTH
def test_a_job_without_an_entry_point_fails_with_that_reason(make_job, cell) -> None:
    result = make_job(cell, "", program="").run()
    assert (result.code, result.failure) == (
        1,
        "the job has no entry point: hyperparameter sagemaker_program is missing",
    )


@BOTH
def test_the_failure_names_an_invalid_configuration_file(make_job, cell) -> None:
    job = make_job(cell, "")
    job.configure("hyperparameters", '{"lr": ')
    result = job.run()
    assert result.code == 1
    assert result.failure.startswith("/opt/ml/input/config/hyperparameters.json is not JSON: Expecting value: line 1")


@BOTH
def test_a_job_fails_also_if_the_failure_file_cannot_be_written(make_job, cell) -> None:
    """The training toolkit alone would exit with 0."""
    job = make_job(cell, "raise SystemExit(3)")
    result = job.run("--tmpfs", "/opt/ml/output:ro")
    assert result.code == 1
    assert "cannot write /opt/ml/output/failure: Read-only file system" in result.err


# ---- how a job is stopped


@ALL
def test_a_stopped_script_saves_its_checkpoint(make_job, cell) -> None:
    job = make_job(cell, SAVE_ON_SIGTERM)
    process = job.start()
    started_at = time.monotonic()
    subprocess.run(["docker", "stop", "--time", "30", job.name], check=True, capture_output=True)
    process.communicate()
    assert time.monotonic() - started_at < 10
    assert (process.returncode, (job.folder / "model/checkpoint").read_text()) == (0, "saved")


@BOTH
def test_a_job_stopped_before_its_script_starts_has_a_failure_reason(make_job, cell) -> None:
    job = make_job(cell, "", hosts=("algo-1", "algo-2"))
    process = job.start(line="waiting for an address of algo-1, algo-2")
    subprocess.run(["docker", "stop", "--time", "30", job.name], check=True, capture_output=True)
    process.communicate()
    assert process.returncode == 143
    assert (job.folder / "output/failure").read_text() == "received SIGTERM before the training script started"


def test_when_one_host_fails_the_other_saves_its_checkpoint(make_job, client, tmp_path) -> None:
    script = SAVE_ON_SIGTERM.replace(
        'print("ready")', 'if os.environ["SM_CURRENT_HOST"] == "algo-2": raise ValueError("lost")'
    )
    job = make_job(NEWEST, script)
    argv = ["rlimages", "train", job.image, "--entry-point", "job.py", "--instance-count", "2", "--output", "out"]
    started_at = time.monotonic()
    result = subprocess.run(argv, cwd=job.folder / "code", capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "algo-2 failed: exit code 1; sending SIGTERM to algo-1" in result.stdout + result.stderr
    assert 'ErrorMessage "ValueError: lost' in (job.folder / "code/out/failure").read_text()
    assert time.monotonic() - started_at < 30, result.stdout + result.stderr


# ---- host names


@pytest.mark.parametrize(("cell", "seconds"), [(OLDEST, 6), (NEWEST, 50)])
def test_the_failure_names_a_host_that_does_not_resolve_within_a_minute(make_job, cell, seconds) -> None:
    options = () if seconds == 50 else ("-e", f"RLIMAGES_HOSTS_SECONDS={seconds}")
    result = make_job(cell, "", hosts=("algo-1", "algo-2")).run("--add-host", "algo-1:127.0.0.1", *options)
    assert result.code == 68
    assert result.seconds < 60
    assert result.failure.startswith(f"no address for algo-2 after {seconds} s")
    assert "rlimages: waiting for an address of algo-2" in result.err


def test_a_job_waits_for_a_host_name_that_resolves_late(make_job, client) -> None:
    job = make_job(NEWEST, "", hosts=("algo-1", "algo-2"))
    network = client.networks.create(job.name)
    try:
        options = (f"--network={network.name}", "--network-alias=algo-1")
        process = subprocess.Popen(job.argv(*options), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(3)
        assert process.poll() is None
        alias = {network.name: docker.types.EndpointConfig("1.44", aliases=["algo-2"])}
        second_host = client.containers.run(
            job.image, ["sleep", "60"], detach=True, network=network.name, networking_config=alias
        )
        try:
            assert process.wait(timeout=20) == 0
        finally:
            second_host.remove(force=True)
    finally:
        network.remove()


# ---- users, requirements and entry points


@ALL
def test_a_job_runs_as_any_user_and_with_a_read_only_file_system(make_job, cell) -> None:
    result = make_job(cell, REPORT_ENVIRONMENT).run("--read-only", "--user", "1234:1234", "--tmpfs", "/tmp")
    assert result.succeeded, result.err
    facts = json.loads(result.model("seen"))
    assert (facts["user"], facts["host"], facts["display"]) == (1234, "algo-1", CELLS[cell].display)


@BOTH
def test_requirements_are_installed_before_the_script_starts(make_job, cell) -> None:
    job = make_job(cell, "import extra; assert '/code/' not in extra.__file__, extra\n")
    (job.folder / "code/requirements.txt").write_text("--no-index\n./extra-1.0-py3-none-any.whl\n")
    metadata = {"METADATA": "Metadata-Version: 2.1\nName: extra\nVersion: 1.0\n", "RECORD": ""}
    metadata["WHEEL"] = "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(job.folder / "code/extra-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("extra.py", "")
        for name, text in metadata.items():
            wheel.writestr(f"extra-1.0.dist-info/{name}", text)
    result = job.run()
    assert result.succeeded, result.failure


@BOTH
def test_the_failure_names_requirements_that_cannot_be_installed(make_job, cell) -> None:
    result = make_job(cell, files={"requirements.txt": "--no-index\nno-such-package\n", "job.py": ""}).run()
    assert result.code == 1
    assert result.failure.startswith("InstallRequirementsError")
    assert "No matching distribution found for no-such-package" in result.failure


@pytest.mark.parametrize("cell", [OLDEST, "ray-2.60.0-torch-cpu-debian"])
def test_a_package_can_be_the_entry_point(make_job, cell) -> None:
    files = {
        "setup.py": "from setuptools import setup\nsetup(name='job', version='1.0', py_modules=['job'])\n",
        "job.py": "import os, sys; open(os.environ['SM_MODEL_DIR'] + '/m', 'w').write(' '.join(sys.argv[1:]))\n",
    }
    result = make_job(cell, files=files, parameters={"lr": 1}).run(
        "-e", "PIP_NO_BUILD_ISOLATION=0", "-e", "PIP_NO_INDEX=1"
    )
    assert result.succeeded, result.err
    assert result.model("m") == "--lr 1"


@BOTH
def test_a_shell_script_can_be_the_entry_point(make_job, cell) -> None:
    result = make_job(
        cell, files={"job.sh": '#!/bin/sh\necho "$@" >/opt/ml/model/m\n'}, program="job.sh", parameters={"lr": 1}
    ).run()
    assert result.succeeded, result.err
    assert result.model("m") == "--lr 1\n"
    result = make_job(cell, files={"job.sh": "#!/bin/sh\nno-such-program || exit 9\n"}, program="job.sh").run()
    assert "ExitCode 9" in result.failure
    assert "no-such-program: not found" in result.failure


S3 = """
import http.server, os, signal, sys, threading, time
put = {}
class S3(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_PUT(self):
        put[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
server = http.server.ThreadingHTTPServer(("127.0.0.1", 9000), S3)
threading.Thread(target=server.serve_forever, daemon=True).start()
def upload(*ignored):
    with open(os.environ["SM_OUTPUT_INTERMEDIATE_DIR"] + "/progress", "w") as stream:
        stream.write("step 1")
    deadline = time.time() + 20
    while not put and time.time() < deadline:
        time.sleep(0.1)
    open(os.environ["SM_MODEL_DIR"] + "/put", "w").write(" ".join(put))
    sys.exit(0)
"""
TO_S3 = ("-e", "AWS_ACCESS_KEY_ID=x", "-e", "AWS_SECRET_ACCESS_KEY=x", "-e", "S3_ENDPOINT_URL=http://127.0.0.1:9000")


@BOTH
def test_intermediate_output_is_uploaded_while_the_script_runs(make_job, cell) -> None:
    result = make_job(cell, S3, "upload()", parameters={"sagemaker_s3_output": "s3://bucket/out"}).run(*TO_S3)
    assert result.succeeded, result.err
    assert result.model("put") == "/bucket/out/a-job/output/intermediate/progress"


@BOTH
def test_intermediate_output_of_a_stopped_job_is_uploaded(make_job, cell) -> None:
    script = 'signal.signal(signal.SIGTERM, upload); print("ready"); time.sleep(60)'
    job = make_job(cell, S3, script, parameters={"sagemaker_s3_output": "s3://bucket/out"})
    process = job.start(*TO_S3)
    subprocess.run(["docker", "stop", "--time", "30", job.name], check=True, capture_output=True)
    process.communicate()
    assert process.returncode == 0
    assert (job.folder / "model/put").read_text() == "/bucket/out/a-job/output/intermediate/progress"


@BOTH
def test_installing_sagemaker_containers_again_changes_nothing(make_job, cell) -> None:
    install = "pip install --no-index --upgrade sagemaker-containers"
    arguments = ["sh", "-c", f"{install} && python -c 'from sagemaker_containers.cli.train import main'"]
    result = make_job(cell, "").run(arguments=arguments)
    assert result.code == 0, result.err
    assert "already satisfied" in result.out


# ---- commands other than train


@ALL
def test_any_other_command_runs_unchanged(make_job, cell) -> None:
    job = make_job(cell, "")
    result = job.run(arguments=["bash", "-c", "echo there; hostname; exit 7"])
    assert (result.code, result.out.splitlines()[0], result.err) == (7, "there", "")


@ALL
@pytest.mark.parametrize("arguments", [[], ["trian"]], ids=["nothing", "typo"])
def test_an_unknown_or_missing_command_is_refused(make_job, cell, arguments) -> None:
    result = make_job(cell, "").run(arguments=arguments)
    assert (result.code, result.out) == (64, "")
    assert result.err.startswith("rlimages: ")
    assert result.err.count("\n") == 1
