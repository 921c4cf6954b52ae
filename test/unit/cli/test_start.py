"""Modules that are slow to import are imported only by the commands that need them."""

import subprocess
import sys

import pytest

SLOW = {"boto3", "botocore", "docker", "httpx", "stamina", "rich", "jinja2", "requests", "urllib3", "asyncio"}


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list"], ["uri", "--toolkit", "vw"]], ids=lambda arguments: arguments[0]
)
def test_a_command_that_only_prints_imports_no_slow_module(arguments: list[str]) -> None:
    program = (
        "import sys\n"
        "from rlimages.cli.main import main\n"
        f"main({arguments!r}, standalone_mode=False)\n"
        "print(*sorted(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not SLOW.intersection(done.stderr.split())
