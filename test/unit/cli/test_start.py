"""Nothing heavy is imported before it is needed."""

import subprocess
import sys

import pytest

HEAVY = {"boto3", "botocore", "docker", "httpx", "stamina", "rich", "jinja2", "requests", "urllib3", "asyncio"}


@pytest.mark.parametrize("words", [["--help"], ["list"], ["uri", "--toolkit", "vw"]], ids=lambda words: words[0])
def test_looking_something_up_imports_nothing_heavy(words: list[str]) -> None:
    program = (
        "import sys\n"
        "from rlimages.cli.main import main\n"
        f"main({words!r}, standalone_mode=False)\n"
        "print(*sorted(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not HEAVY.intersection(done.stderr.split())
