"""The program `train` of the images and its package `rlimages_train`, without any toolkit."""

import ast
import importlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "templates/rootfs/usr/local/lib/rlimages"
SOURCES = [
    FOLDER / "train.py",
    *FOLDER.glob("rlimages_train/*.py"),
    *FOLDER.glob("python/sagemaker_containers/**/*.py"),
]


@pytest.fixture(scope="module")
def mend() -> Iterator[Any]:
    """The modules by name; afterwards the path and the modules are as they were."""
    writes = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(FOLDER))
    try:
        names = ("failure", "hosts", "imports", "script", "signals", "toolkit")
        yield SimpleNamespace(**{name: importlib.import_module(f"rlimages_train.{name}") for name in names})
    finally:
        sys.path.remove(str(FOLDER))
        sys.dont_write_bytecode = writes
        for name in [name for name in sys.modules if name.partition(".")[0] == "rlimages_train"]:
            del sys.modules[name]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_it_is_python_3_5(source: Path) -> None:
    tree = ast.parse(source.read_text(), feature_version=(3, 5))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr | ast.AnnAssign | ast.NamedExpr)]


# ---- the failure file

CALLS = '  File "train.py", line 9, in <module>\n    main()\n  File "train.py", line 5, in main\n    raise ValueError("bad")\n'
TRACE = f"Traceback (most recent call last):\n{CALLS}"


def test_an_exception_comes_before_the_calls_that_led_to_it(mend: Any) -> None:
    assert mend.failure.summary(f"a warning\n{TRACE}ValueError: bad\n") == f"ValueError: bad\n{CALLS.rstrip()}"


def test_of_many_calls_the_innermost_are_kept(mend: Any) -> None:
    told = mend.failure.summary("Traceback (most recent call last):\n" + CALLS * 500 + "ValueError: bad\n", room=800)
    assert told.startswith("ValueError: bad\n  ")
    assert told.endswith('raise ValueError("bad")')
    assert 700 < len(told) <= 800


def test_a_long_message_leaves_room_for_the_calls(mend: Any) -> None:
    told = mend.failure.summary(f"{TRACE}ValueError: {'x' * 5000}\n", room=800)
    assert told.startswith("ValueError: xxx")
    assert told.endswith('raise ValueError("bad")')
    assert len(told) <= 800


def test_of_two_chained_exceptions_the_last_one_ended_the_script(mend: Any) -> None:
    said = f"{TRACE}KeyError: 'a'\n\nDuring handling of the above exception, another exception occurred:\n\n{TRACE}ValueError: bad"
    assert mend.failure.summary(said).startswith("ValueError: bad\n")


def test_a_traceback_long_before_the_end_is_not_the_reason(mend: Any) -> None:
    said = f"{TRACE}ValueError: bad, but survived\n" + "progress\n" * 100 + "error: unrecognized arguments: --lr2"
    told = mend.failure.summary(said, room=200)
    assert told.endswith("unrecognized arguments: --lr2")
    assert "survived" not in told


@pytest.mark.parametrize(
    "said",
    [
        "Traceback (most recent call last):",
        "(pid=7) Traceback (most recent call last):\n(pid=7)   File x\n(pid=7) ValueError: bad",
        "  + Exception Group Traceback (most recent call last):\n  | ExceptionGroup: two (2 sub-exceptions)",
    ],
)
def test_what_is_no_plain_traceback_is_told_by_its_last_lines(mend: Any, said: str) -> None:
    assert mend.failure.summary(said) == said.strip()


def test_lines_are_kept_whole(mend: Any) -> None:
    assert mend.failure.summary("one\ntwo\nthree\n", room=8) == "three"
    assert mend.failure.summary("x" * 50, room=10) == "x" * 10
    assert mend.failure.summary("") == ""


@pytest.fixture
def kit(mend: Any, tmp_path: Path) -> Any:
    """A toolkit as `failure` and `hosts` see it."""

    class CalledProcessError(Exception):
        def __init__(self, cmd: str, return_code: int, output: bytes | None = None, info: str | None = None) -> None:
            self.cmd, self.return_code, self.output, self.extra_info = cmd, return_code, output, info

    found = SimpleNamespace(
        environment=SimpleNamespace(output_dir=str(tmp_path), _read_json=open),
        errors=SimpleNamespace(_CalledProcessError=CalledProcessError),
        files=SimpleNamespace(),
        process=SimpleNamespace(),
        entry_point=SimpleNamespace(_wait_hostname_resolution=lambda: None, install=lambda name, path: (name, path)),
    )
    mend.failure.explain(found)
    return found


@pytest.mark.parametrize(
    ("code", "info"),
    [
        (-9, "OutOfMemory: Process killed by SIGKILL (signal 9)"),
        (137, "OutOfMemory: Process killed by SIGKILL (signal 9)"),
        (-11, "Process killed by SIGSEGV (signal 11)"),
        (-250, None),
        (1, None),
        (None, None),
    ],
)
def test_a_signal_that_killed_the_script_is_named(kit: Any, code: int | None, info: str | None) -> None:
    assert kit.errors._CalledProcessError("python x.py", code).extra_info == info


def test_what_the_toolkit_knows_is_left_alone(kit: Any) -> None:
    error = kit.errors._CalledProcessError("python x.py", 137, b"its words", "its hint")
    assert (error.output, error.extra_info) == (b"its words", "its hint")


def test_the_command_comes_last_as_it_may_be_long(kit: Any) -> None:
    error = kit.errors._CalledProcessError("python x.py --lr 1", 3, b"ValueError: bad")
    told = 'CalledProcessError:\nExitCode 3\nErrorMessage "ValueError: bad"\nCommand "python x.py --lr 1"'
    assert str(error) == told
    error.extra_info = "a hint"
    assert 'ValueError: bad"\nExtraInfo "a hint"\nCommand' in str(error)


def test_the_words_of_the_script_are_kept(kit: Any, tmp_path: Path) -> None:
    (tmp_path / "failure").write_text("the reward diverged")
    kit.files.write_failure_file("ExecuteUserScriptError")
    assert (tmp_path / "failure").read_text() == "the reward diverged"


def test_an_empty_failure_file_is_no_reason(kit: Any, tmp_path: Path) -> None:
    (tmp_path / "failure").touch()
    kit.files.write_failure_file("ExecuteUserScriptError")
    assert (tmp_path / "failure").read_text() == "ExecuteUserScriptError"


def test_an_error_of_the_toolkit_itself_begins_with_its_message(kit: Any, tmp_path: Path) -> None:
    try:
        raise KeyError("hosts")
    except KeyError:
        kit.files.write_failure_file(f"Framework Error: \n{'a long way ' * 200}")
    assert (tmp_path / "failure").read_text().startswith("KeyError: 'hosts'\nFramework Error")


def test_a_failure_file_that_cannot_be_written_is_a_sentence(kit: Any, tmp_path: Path, capsys: Any) -> None:
    kit.environment.output_dir = str(tmp_path / "nowhere")
    kit.files.write_failure_file("reason")
    assert "cannot write" in capsys.readouterr().err


def test_a_broken_configuration_is_named(kit: Any, mend: Any, tmp_path: Path) -> None:
    def read(path: str) -> None:
        raise ValueError("Expecting value: line 1 column 9")

    kit.environment._read_json = read
    mend.failure.explain(kit)
    with pytest.raises(mend.failure.JobError, match=r"hyper\.json is not JSON: Expecting value: line 1 column 9"):
        kit.environment._read_json("hyper.json")


def test_a_job_without_an_entry_point_is_a_sentence(kit: Any, mend: Any) -> None:
    assert kit.entry_point.install("job.py", "/opt/ml/code") == ("job.py", "/opt/ml/code")
    with pytest.raises(mend.failure.JobError, match="sagemaker_program is missing"):
        kit.entry_point.install(None, "/opt/ml/code")


# ---- the script's last words


def popen(mend: Any, shell: str) -> int:
    code: int = mend.script.Popen(["sh", "-c", shell]).wait()
    return code


def test_standard_error_is_passed_on_and_its_end_kept(mend: Any, capfd: Any) -> None:
    assert popen(mend, "echo out; echo first >&2; seq 100000 >&2; echo last >&2; exit 3") == 3
    said = capfd.readouterr()
    assert said.out == "out\n"
    assert said.err == "first\n" + "".join(f"{number}\n" for number in range(1, 100001)) + "last\n"
    words = mend.script.last_words()
    assert words.endswith(b"100000\nlast\n")
    assert len(words) <= mend.script.KEPT


def test_a_process_in_the_background_is_not_waited_for(mend: Any, capfd: Any) -> None:
    began = time.monotonic()
    assert popen(mend, "sleep 5 & echo over >&2") == 0
    assert time.monotonic() - began < 2
    assert mend.script.last_words() == b"over\n"


def test_two_streams_that_are_one_stay_in_order(mend: Any, tmp_path: Path) -> None:
    program = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); from rlimages_train import script\n"
        "script.Popen(['sh', '-c', 'for n in 1 2 3 4 5 6 7 8 9; do echo out $n; echo err $n >&2; done']).wait()\n"
    )
    argv = [sys.executable, "-B", "-c", program, str(FOLDER)]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    assert done.stdout == "".join(f"out {number}\nerr {number}\n" for number in range(1, 10))


def test_nothing_starts_once_the_job_was_stopped(mend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mend.signals._State, "stopped", True)
    with pytest.raises(mend.signals.Stopped, match="before the training script") as caught:
        popen(mend, "exit 0")
    assert caught.value.errno == 128 + signal.SIGTERM


def test_a_program_that_starts_while_the_job_is_stopped_is_stopped_too(mend: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(mend.signals, "insist", lambda: None)
    monkeypatch.setattr(mend.signals._State, "stopped", True)
    assert popen(mend, "exec sleep 5") == -signal.SIGTERM


# ---- hosts


@pytest.fixture
def resolver() -> Callable[[dict[str, float]], Callable[[str], str]]:
    """A name server that knows each name after some seconds."""

    def make(after: dict[str, float]) -> Callable[[str], str]:
        began = time.monotonic()

        def resolve(name: str) -> str:
            if time.monotonic() - began < after[name]:
                raise socket.gaierror(-2, "Name or service not known")
            return "10.0.0.1"

        return resolve

    return make


def test_a_name_that_is_known_late_is_waited_for(mend: Any, resolver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mend.hosts, "PAUSE", 0.05)
    mend.hosts.wait(["algo-1", "algo-2"], 5.0, resolver({"algo-1": 0.0, "algo-2": 0.1}))


def test_names_that_stay_unknown_are_named(mend: Any, resolver: Any) -> None:
    with pytest.raises(mend.hosts.UnknownHost, match=r"no address for algo-2, algo-3 after 0 s") as caught:
        mend.hosts.wait(["algo-1", "algo-2", "algo-3"], 0.1, resolver({"algo-1": 0.0, "algo-2": 99.0, "algo-3": 99.0}))
    assert caught.value.errno == 68


def test_a_name_server_that_does_not_answer_is_not_waited_for(mend: Any) -> None:
    began = time.monotonic()
    with pytest.raises(mend.hosts.UnknownHost):
        mend.hosts.wait(["algo-1"], 0.1, lambda _name: time.sleep(2))
    assert time.monotonic() - began < 1


def test_a_job_of_one_host_needs_no_name(mend: Any, kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mend.signals._State, "begun", False)
    kit.environment.read_resource_config = lambda: {"hosts": ["no-such-host.invalid"]}
    mend.hosts.limit(kit)
    began = time.monotonic()
    kit.entry_point._wait_hostname_resolution()
    assert time.monotonic() - began < 0.1


# ---- the toolkit


@pytest.mark.parametrize(
    ("text", "package"),
    [
        ("#!/opt/venv/bin/python\nfrom sagemaker_training.cli.train import main\n", "sagemaker_training"),
        ("#!/usr/bin/python\n__requires__ = 'sagemaker-containers==2.5.1'\nimport re\n", "sagemaker_containers"),
        ("#!/bin/sh\nexec my-own-program\n", None),
    ],
)
def test_a_toolkit_is_known_by_its_program(mend: Any, tmp_path: Path, text: str, package: str | None) -> None:
    (tmp_path / "train").write_text(text)
    assert mend.toolkit.package_of(str(tmp_path / "train")) == package


def test_tensorflow_is_read_and_not_imported(mend: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "tensorflow/python/framework"
    folder.mkdir(parents=True)
    (tmp_path / "tensorflow/__init__.py").write_text("raise SystemExit('imported')")
    (folder / "errors_impl.py").write_text(
        "class OpError(Exception):\n  pass\n\nclass AbortedError(OpError):\n  pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    kit = SimpleNamespace(process=SimpleNamespace(get_tensorflow_exception_classes=lambda: ["slow"]))
    mend.imports.name_tensorflow_errors(kit)
    assert kit.process.get_tensorflow_exception_classes() == ["OpError", "AbortedError", "XlaRuntimeError"]


def test_pip_knows_every_file_of_the_stand_in_for_sagemaker_containers() -> None:
    folder = FOLDER / "python"
    (about,) = folder.glob("sagemaker_containers-*.dist-info")
    files = [
        path for name in ("sagemaker_containers", about.name) for path in (folder / name).rglob("*") if path.is_file()
    ]
    recorded = (about / "RECORD").read_text().splitlines()
    assert recorded == sorted(f"{path.relative_to(folder)},," for path in files if "__pycache__" not in path.parts)


def test_what_is_rarely_used_is_imported_when_it_is_used(
    mend: Any, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    (tmp_path / "rarely_used").mkdir()
    (tmp_path / "rarely_used/__init__.py").write_text("print('imported')\nWORD = 'there'\n")
    (tmp_path / "rarely_used/part.py").write_text("WORD = 'too'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(mend.imports, "UNUSED", ["rarely_used", "json"])
    try:
        mend.imports.spare()
        import rarely_used

        assert capsys.readouterr().out == ""
        import rarely_used.part

        assert (rarely_used.WORD, rarely_used.part.WORD) == ("there", "too")
        assert capsys.readouterr().out == "imported\n"
    finally:
        for name in ("rarely_used", "rarely_used.part"):
            sys.modules.pop(name, None)
