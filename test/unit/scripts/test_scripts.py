"""scripts/build.sh and scripts/publish.sh, with a program in place of `rlimages` that prints its arguments."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
IMAGE = '{"repository": "sagemaker-rl-vw-container", "tags": ["vw-8.7.0-cpu"]}'
CELL = '{"toolkit": "vw", "version": "9.11.9", "framework": null, "processor": "cpu", "line": "debian"}'
FAKE = f"""#!/bin/sh
case "$*" in
    *rya-*) echo "rlimages: no cell matches" >&2; exit 5 ;;
    "list --select vw-"*" --json") echo '[{IMAGE}]' ;;
    "list --select ray-"*" --json") echo '[{IMAGE}, {IMAGE}]' ;;
    "show vw-"*" --json") echo '[{CELL}]' ;;
    "uri --toolkit=vw --version=9.11.9 --processor=cpu --line=debian --account 123456789012 --region cn-north-1")
        echo 123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/sagemaker-rl-vw-container:vw-9.11.9-cpu ;;
    build*|publish*) echo "rlimages $*" ;;
    *) echo "unexpected: $*" >&2; exit 99 ;;
esac
"""


@pytest.fixture
def run_script(tmp_path: Path):
    for name, text in (("rlimages", FAKE), ("docker", '#!/bin/sh\necho docker "$@"\n')):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def run(script: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [ROOT / "scripts" / script, *words],
            env={**os.environ, **path},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    return run


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("build.sh", "rlimages build --select *-*-*?pu"),
        ("build.sh -t ray -v 1.6.0 -f tensorflow -p cpu -r eu-west-1", "rlimages build --select ray-1.6.0-tf-cpu --region eu-west-1"),
        ("build.sh --toolkit=vw --version-number 8.7.0 --arch=cpu --line debian", "rlimages build --select vw-8.7.0-*cpu-debian"),
        ("build.sh -f pytorch -- --jobs 2", "rlimages build --select *-*-torch-?pu --jobs 2"),
        ("publish.sh -t coach -f mxnet --target pre-production", "rlimages publish --select coach-*-mxnet-?pu --target pre-production"),
        ("publish.sh -t vw --registry 127.0.0.1:5000 -- --allow-older", "rlimages publish --select vw-*-*?pu --to 127.0.0.1:5000 --allow-older"),
        ("publish.sh -t vw -i 123456789012 -r cn-north-1", "rlimages publish --select vw-*-*?pu --to 123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn"),
        ("build.sh -t vw -v 8.7.0 -l mine:1", "rlimages build --select vw-8.7.0-*?pu\ndocker tag sagemaker-rl-vw-container:vw-8.7.0-cpu mine:1"),
    ],
)  # fmt: skip
def test_options_become_a_command_of_rlimages(run_script, line: str, command: str) -> None:
    completed = run_script(*line.split())
    assert completed.stdout == command + "\n", completed.stderr
    assert completed.returncode == 0


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        ("build.sh --tolkit ray", 2, "build.sh: there is no option '--tolkit'\nusage: scripts/build.sh"),
        ("build.sh -z 1", 2, "build.sh: there is no option '-z'"),
        ("build.sh ray", 2, "build.sh: 'ray' is not an option"),
        ("build.sh -v", 2, "build.sh: -v needs a value"),
        ("build.sh -v -f tensorflow", 2, "build.sh: -v needs a value"),
        ("build.sh -p tpu", 2, "build.sh: --processor is cpu or gpu, not 'tpu'"),
        ("build.sh -t ray -l mine:1", 2, "build.sh: --local-image-tag names one image, and 'ray-*-*?pu' selects 2"),
        ("build.sh -t rya -l mine:1", 5, "rlimages: no cell matches"),
        ("publish.sh -t ray", 2, "publish.sh: name the registry with exactly one of --target, --aws-id and --registry"),
        (
            "publish.sh --target a --aws-id 123456789012",
            2,
            "publish.sh: name the registry with exactly one of --target, --aws-id and --registry",
        ),
        ("publish.sh --target a -r us-west-2", 2, "publish.sh: --region is for --aws-id"),
        ("publish.sh -i 12", 2, "publish.sh: --aws-id 12: an AWS account has twelve digits"),
        ("publish.sh -t rya -i 123456789012", 5, "rlimages: no cell matches"),
    ],
)
def test_a_bad_option_is_answered_with_a_sentence(run_script, words: str, code: int, sentence: str) -> None:
    completed = run_script(*words.split())
    assert completed.stdout == ""
    assert sentence in completed.stderr
    assert completed.returncode == code


def test_help_is_not_an_error(run_script) -> None:
    for script in ("build.sh", "publish.sh"):
        completed = run_script(script, "--help")
        assert completed.stdout.startswith(f"usage: scripts/{script} [options]")
        assert completed.returncode == 0
