"""Check that the image contains no keys, tokens or shell history."""

import glob
import json
import os
import re
import sys

with open("/checks/cell.json") as stream:
    CELL = json.load(stream)

HOMES = ["/root"] + glob.glob("/home/*")
FILES = (
    ".aws/credentials",
    ".aws/config",
    ".netrc",
    ".git-credentials",
    ".docker/config.json",
    ".pypirc",
    ".kaggle/kaggle.json",
    ".bash_history",
    ".python_history",
    ".config/gh/hosts.yml",
    ".config/gcloud/credentials.db",
    ".cache/huggingface/token",
)
SETTINGS = (
    "/etc/pip.conf",
    "/etc/uv/uv.toml",
    "/etc/apt/sources.list",
    "/etc/apt/sources.list.d/*",
    "/etc/apt/auth.conf*",
    "/etc/apt/apt.conf.d/*",
    "/etc/yum.repos.d/*",
    "/root/.pip/pip.conf",
    "/root/.config/pip/pip.conf",
    "/root/.config/uv/uv.toml",
    "/opt/venv/pip.conf",
)
IN_ADDRESS = re.compile(r"://[^/\s:@]+:[^/\s@]+@")
SECRET_NAME = re.compile(r"SECRET|TOKEN|PASSW|CREDENTIAL|ACCESS_KEY|PRIVATE_KEY|API_?KEY", re.IGNORECASE)


def main():
    wrong = []
    for home in HOMES:
        wrong += [path for path in (os.path.join(home, name) for name in FILES) if os.path.exists(path)]
        # SageMaker's framework images contain a key pair: MPI uses it between hosts.
        if CELL["line"] == "debian":
            wrong += glob.glob(os.path.join(home, ".ssh", "id_*"))
    if CELL["line"] == "debian":
        wrong += glob.glob("/etc/ssh/ssh_host_*_key")
    for pattern in SETTINGS:
        for path in glob.glob(pattern):
            if os.path.isfile(path):
                with open(path, errors="replace") as stream:
                    if IN_ADDRESS.search(stream.read()):
                        wrong.append("%s has a password in a URL" % path)
    wrong += ["$%s is set" % name for name, value in sorted(CELL["env"].items()) if value and SECRET_NAME.search(name)]
    wrong += ["$%s has a password in a URL" % n for n, v in sorted(os.environ.items()) if IN_ADDRESS.search(v)]
    if wrong:
        print("found: " + "; ".join(wrong))
        return 1
    print("no credentials in %d home folders, configuration files and the environment" % len(HOMES))
    return 0


sys.exit(main())
