"""What every open image promises a training job, asked of real containers: docs/contract.md.

What costs little is asked of all of them, the rest of the two that hold the oldest and the newest toolkit.
"""

import json
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator

import docker
import pytest
import training_job
from training_job import CELLS, Ended, Job

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
OF_GROUPS = [
    *(f"SM_CURRENT_INSTANCE_{name}" for name in ("TYPE", "GROUP", "GROUP_HOSTS")),
    *(f"SM_{name}" for name in ("INSTANCE_GROUPS", "INSTANCE_GROUPS_DICT", "DISTRIBUTION_INSTANCE_GROUPS")),
    *("SM_IS_HETERO", "SM_NUM_NEURONS"),
]
"""Toolkits before sagemaker-training 4.2 know no instance groups."""

SEE = """
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
CHECKPOINT = """
import os, signal, sys, time
def save(number, frame):
    time.sleep(1)
    open(os.environ["SM_MODEL_DIR"] + "/checkpoint", "w").write("saved")
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("ready")
time.sleep(60)
"""
RAISE = """
def learn(depth):
    if depth:
        learn(depth - 1)
    raise ValueError("the reward was not a number")
print("step 1")
learn(30)
"""


@pytest.fixture
def job(request, tmp_path) -> Iterator[Callable[..., Job]]:
    """Make a job of a cell's image."""
    made: list[Job] = []

    def make(cell: str, *scripts: str, **options) -> Job:
        image = training_job.image_of(CELLS[cell])
        if not training_job.is_here(image):
            pytest.fail(f"there is no {image}; build it first", pytrace=False)
        files = dict(options.pop("files", {"job.py": "".join(scripts)}))
        name = f"rlimages-contract-{tmp_path.name}-{len(made)}"
        made.append(Job(image, tmp_path / f"ml{len(made)}", files, name=name, **options))
        return made[-1]

    yield make
    for one in made:
        one.remove()


def test_every_open_image_is_here(client) -> None:
    absent = [cell for cell in CELLS if not training_job.is_here(training_job.image_of(CELLS[cell]))]
    remedy = "".join(f" --select {cell}" for cell in absent)
    assert not absent, f"{len(absent)} of {len(CELLS)} are not; run: rlimages build{remedy}"


# ---- what a script finds


@pytest.fixture(scope="module", params=CELLS)
def cell(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def seen(cell, tmp_path_factory) -> tuple[dict, Ended]:
    """What a script of one job sees, and how the job ended."""
    image = training_job.image_of(CELLS[cell])
    if not training_job.is_here(image):
        pytest.fail(f"there is no {image}; build it first", pytrace=False)
    folder = tmp_path_factory.mktemp("seen") / "ml"
    ended = Job(image, folder, {"job.py": SEE}, parameters=PARAMETERS, name=f"rlimages-contract-{cell}").run()
    assert ended.succeeded, ended.err
    return json.loads(ended.model("seen")), ended


def test_a_script_finds_its_whole_environment(seen) -> None:
    found, _ = seen
    new = tuple(map(int, found["toolkit"].split(".")[:2])) >= (4, 2)
    assert set(VARIABLES + OF_GROUPS * new) - set(found["environ"]) == set()
    assert json.loads(found["environ"]["SM_HPS"]) == PARAMETERS
    assert found["cwd"] == "/opt/ml/code"


def test_hyperparameters_are_arguments_in_all_their_kinds(seen) -> None:
    given = dict(zip(seen[0]["argv"][::2], seen[0]["argv"][1::2], strict=True))
    assert given.pop("--net") in ("width=8,depth=2", "depth=2,width=8")
    assert given == {
        "--lr": "0.25",
        "-n": "3",
        "--flag": "True",
        "--text": "two words",
        "--rl.training.config.lr": "0.0001",
    }


def test_the_host_has_its_name_of_the_job(seen) -> None:
    assert seen[0]["host"] == "algo-1"
    assert seen[0]["hosts"] == ["algo-1"]


def test_a_display_is_open_where_a_toolkit_draws_and_nowhere_else(seen, cell) -> None:
    found, _ = seen
    assert (found["display"], "DISPLAY" in found["environ"]) == (CELLS[cell].display,) * 2


def test_the_log_is_the_scripts_and_the_toolkits(seen) -> None:
    _, ended = seen
    assert "to out\n" in ended.out
    assert "to err\n" in ended.err
    for noise in ("job control", "ioctl", "cannot be preloaded", "Traceback", "Xvfb"):
        assert noise not in ended.out + ended.err


# ---- how a job fails


@ALL
def test_sagemaker_shows_what_was_raised(job, cell) -> None:
    ended = job(cell, RAISE).run()
    assert ended.code == 1
    assert "ExitCode 1" in ended.failure
    assert 'ErrorMessage "ValueError: the reward was not a number\n' in ended.failure
    assert 'raise ValueError("the reward was not a number")' in ended.failure
    assert ended.err.count("Traceback (most recent call last)") == 1


@ALL
def test_the_scripts_own_reason_is_kept(job, cell) -> None:
    ended = job(cell, 'open("/opt/ml/output/failure", "w").write("diverged"); raise SystemExit(3)').run()
    assert (ended.code, ended.failure) == (1, "diverged")


@BOTH
@pytest.mark.parametrize("how", ["raise SystemExit(137)", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_killed_script_is_told_that_memory_may_have_run_out(job, cell, how) -> None:
    ended = job(cell, how).run()
    assert ended.code == 1
    assert "OutOfMemory: Process killed by SIGKILL" in ended.failure


@BOTH
def test_words_without_a_traceback_are_shown_too(job, cell) -> None:
    script = "import argparse; argparse.ArgumentParser().parse_args()"
    ended = job(cell, script, parameters={"lr": 1}).run()
    assert "ExitCode 2" in ended.failure
    assert "job.py: error: unrecognized arguments: --lr 1" in ended.failure


@BOTH
def test_a_missing_script_is_named(job, cell) -> None:
    ended = job(cell, files={}, program="absent.py").run()
    assert ended.code != 0
    assert "/opt/ml/code/absent.py" in ended.failure


@BOTH
def test_a_job_that_names_no_script_is_told_so(job, cell) -> None:
    ended = job(cell, "", program="").run()
    assert (ended.code, ended.failure) == (
        1,
        "the job has no entry point: hyperparameter sagemaker_program is missing",
    )


@BOTH
def test_a_broken_file_is_named(job, cell) -> None:
    one = job(cell, "")
    one.configure("hyperparameters", '{"lr": ')
    ended = one.run()
    assert ended.code == 1
    assert ended.failure.startswith("/opt/ml/input/config/hyperparameters.json is not JSON: Expecting value: line 1")


@BOTH
def test_a_failure_that_cannot_be_written_down_is_still_one(job, cell) -> None:
    """The toolkit would exit with 0."""
    one = job(cell, "raise SystemExit(3)")
    ended = one.run("--tmpfs", "/opt/ml/output:ro")
    assert ended.code == 1
    assert "cannot write /opt/ml/output/failure: Read-only file system" in ended.err


# ---- how a job is stopped


@ALL
def test_a_stopped_script_saves_its_checkpoint(job, cell) -> None:
    one = job(cell, CHECKPOINT)
    process = one.start()
    began = time.monotonic()
    subprocess.run(["docker", "stop", "--time", "30", one.name], check=True, capture_output=True)
    process.communicate()
    assert time.monotonic() - began < 10
    assert (process.returncode, (one.folder / "model/checkpoint").read_text()) == (0, "saved")


@BOTH
def test_a_job_that_is_stopped_before_its_script_ends_with_a_reason(job, cell) -> None:
    one = job(cell, "", hosts=("algo-1", "algo-2"))
    process = one.start(line="waiting for an address of algo-1, algo-2")
    subprocess.run(["docker", "stop", "--time", "30", one.name], check=True, capture_output=True)
    process.communicate()
    assert process.returncode == 143
    assert (one.folder / "output/failure").read_text() == "received SIGTERM before the training script started"


def test_when_one_host_dies_the_other_saves_its_checkpoint(job, client, tmp_path) -> None:
    script = CHECKPOINT.replace(
        'print("ready")', 'if os.environ["SM_CURRENT_HOST"] == "algo-2": raise ValueError("lost")'
    )
    one = job(NEWEST, script)
    argv = ["rlimages", "train", one.image, "--entry-point", "job.py", "--instance-count", "2", "--output", "out"]
    began = time.monotonic()
    done = subprocess.run(argv, cwd=one.folder / "code", capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "algo-2 failed: exit code 1; SIGTERM to algo-1" in done.stdout + done.stderr
    assert 'ErrorMessage "ValueError: lost' in (one.folder / "code/out/failure").read_text()
    assert time.monotonic() - began < 30, done.stdout + done.stderr


# ---- names of hosts


@pytest.mark.parametrize(("cell", "seconds"), [(OLDEST, 6), (NEWEST, 50)])
def test_a_name_that_does_not_resolve_is_named_within_a_minute(job, cell, seconds) -> None:
    options = () if seconds == 50 else ("-e", f"RLIMAGES_HOSTS_SECONDS={seconds}")
    ended = job(cell, "", hosts=("algo-1", "algo-2")).run("--add-host", "algo-1:127.0.0.1", *options)
    assert ended.code == 68
    assert ended.seconds < 60
    assert ended.failure.startswith(f"no address for algo-2 after {seconds} s")
    assert "rlimages: waiting for an address of algo-2" in ended.err


def test_a_name_that_resolves_late_is_waited_for(job, client) -> None:
    one = job(NEWEST, "", hosts=("algo-1", "algo-2"))
    network = client.networks.create(one.name)
    try:
        options = (f"--network={network.name}", "--network-alias=algo-1")
        process = subprocess.Popen(one.argv(*options), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(3)
        assert process.poll() is None
        alias = {network.name: docker.types.EndpointConfig("1.44", aliases=["algo-2"])}
        late = client.containers.run(
            one.image, ["sleep", "60"], detach=True, network=network.name, networking_config=alias
        )
        try:
            assert process.wait(timeout=20) == 0
        finally:
            late.remove(force=True)
    finally:
        network.remove()


# ---- what a job may be


@ALL
def test_a_job_may_run_as_anybody_in_a_container_that_writes_nothing(job, cell) -> None:
    ended = job(cell, SEE).run("--read-only", "--user", "1234:1234", "--tmpfs", "/tmp")
    assert ended.succeeded, ended.err
    found = json.loads(ended.model("seen"))
    assert (found["user"], found["host"], found["display"]) == (1234, "algo-1", CELLS[cell].display)


@BOTH
def test_requirements_are_installed_before_the_script(job, cell) -> None:
    one = job(cell, "import extra; assert '/code/' not in extra.__file__, extra\n")
    (one.folder / "code/requirements.txt").write_text("--no-index\n./extra-1.0-py3-none-any.whl\n")
    about = {"METADATA": "Metadata-Version: 2.1\nName: extra\nVersion: 1.0\n", "RECORD": ""}
    about["WHEEL"] = "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(one.folder / "code/extra-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("extra.py", "")
        for name, text in about.items():
            wheel.writestr(f"extra-1.0.dist-info/{name}", text)
    ended = one.run()
    assert ended.succeeded, ended.failure


@BOTH
def test_requirements_that_cannot_be_had_are_the_reason(job, cell) -> None:
    ended = job(cell, files={"requirements.txt": "--no-index\nno-such-package\n", "job.py": ""}).run()
    assert ended.code == 1
    assert ended.failure.startswith("InstallRequirementsError")
    assert "No matching distribution found for no-such-package" in ended.failure


@pytest.mark.parametrize("cell", [OLDEST, "ray-2.60.0-torch-cpu-debian"])
def test_a_package_may_be_the_entry_point(job, cell) -> None:
    files = {
        "setup.py": "from setuptools import setup\nsetup(name='job', version='1.0', py_modules=['job'])\n",
        "job.py": "import os, sys; open(os.environ['SM_MODEL_DIR'] + '/m', 'w').write(' '.join(sys.argv[1:]))\n",
    }
    ended = job(cell, files=files, parameters={"lr": 1}).run("-e", "PIP_NO_BUILD_ISOLATION=0", "-e", "PIP_NO_INDEX=1")
    assert ended.succeeded, ended.err
    assert ended.model("m") == "--lr 1"


@BOTH
def test_a_shell_script_may_be_the_entry_point(job, cell) -> None:
    ended = job(
        cell, files={"job.sh": '#!/bin/sh\necho "$@" >/opt/ml/model/m\n'}, program="job.sh", parameters={"lr": 1}
    ).run()
    assert ended.succeeded, ended.err
    assert ended.model("m") == "--lr 1\n"
    ended = job(cell, files={"job.sh": "#!/bin/sh\nno-such-program || exit 9\n"}, program="job.sh").run()
    assert "ExitCode 9" in ended.failure
    assert "no-such-program: not found" in ended.failure


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
def test_intermediate_output_is_uploaded_while_the_script_runs(job, cell) -> None:
    ended = job(cell, S3, "upload()", parameters={"sagemaker_s3_output": "s3://bucket/out"}).run(*TO_S3)
    assert ended.succeeded, ended.err
    assert ended.model("put") == "/bucket/out/a-job/output/intermediate/progress"


@BOTH
def test_intermediate_output_of_a_stopped_job_is_uploaded_too(job, cell) -> None:
    script = 'signal.signal(signal.SIGTERM, upload); print("ready"); time.sleep(60)'
    one = job(cell, S3, script, parameters={"sagemaker_s3_output": "s3://bucket/out"})
    process = one.start(*TO_S3)
    subprocess.run(["docker", "stop", "--time", "30", one.name], check=True, capture_output=True)
    process.communicate()
    assert process.returncode == 0
    assert (one.folder / "model/put").read_text() == "/bucket/out/a-job/output/intermediate/progress"


@BOTH
def test_the_idiom_of_derived_dockerfiles_changes_nothing(job, cell) -> None:
    install = "pip install --no-index --upgrade sagemaker-containers"
    words = ["sh", "-c", f"{install} && python -c 'from sagemaker_containers.cli.train import main'"]
    ended = job(cell, "").run(words=words)
    assert ended.code == 0, ended.err
    assert "already satisfied" in ended.out


# ---- words other than train


@ALL
def test_any_other_command_runs_as_it_is(job, cell) -> None:
    one = job(cell, "")
    ended = one.run(words=["bash", "-c", "echo there; hostname; exit 7"])
    assert (ended.code, ended.out.splitlines()[0], ended.err) == (7, "there", "")


@ALL
@pytest.mark.parametrize("words", [[], ["trian"]], ids=["nothing", "typo"])
def test_what_is_no_command_is_refused(job, cell, words) -> None:
    ended = job(cell, "").run(words=words)
    assert (ended.code, ended.out) == (64, "")
    assert ended.err.startswith("rlimages: ")
    assert ended.err.count("\n") == 1
