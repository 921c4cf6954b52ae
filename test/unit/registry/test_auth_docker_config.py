import base64
import json
import stat

from rlimages.registry.auth import CONFIG_PREFIX, Credentials, temporary_docker_config
from rlimages.system.process import this_process

HOST = "1.dkr.ecr.us-west-2.amazonaws.com"


class Known(Credentials):
    def find(self, host: str) -> tuple[str, str] | None:
        return ("AWS", "a:b") if host == HOST else None


def test_credentials_are_written_for_the_given_hosts_only_and_deleted_afterwards(tmp_path) -> None:
    with temporary_docker_config(Known(), [HOST, "unknown:5000"], {"XDG_RUNTIME_DIR": str(tmp_path)}) as folder:
        assert folder.parent == tmp_path
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "config.json").stat().st_mode) == 0o600
        auths = json.loads((folder / "config.json").read_text())["auths"]
        assert auths == {HOST: {"auth": base64.b64encode(b"AWS:a:b").decode()}}
    assert not list(tmp_path.iterdir())


def test_credentials_of_a_dead_process_are_deleted_and_those_of_others_are_kept(tmp_path) -> None:
    host, _, started = this_process().rsplit(":", 2)
    dead, alive, elsewhere = (
        tmp_path / f"{CONFIG_PREFIX}{name}-x"
        for name in (f"{host}:999999999:{started}", this_process(), "other-host:1:1")
    )
    for folder in (dead, alive, elsewhere):
        folder.mkdir()
    with temporary_docker_config(Known(), [], {"XDG_RUNTIME_DIR": str(tmp_path)}):
        assert not dead.exists()
        assert alive.exists()
        assert elsewhere.exists()
