"""Test the program `train` of the images and its package `rlimages_train`, without a training toolkit."""

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
def train_modules() -> Iterator[Any]:
    """The modules of `rlimages_train` by name. Restores `sys.path` and `sys.modules` afterwards."""
    writes = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(FOLDER))
    try:
        names = ("failure_file", "host_names", "lazy_imports", "script_output", "signals", "training_toolkit")
        yield SimpleNamespace(**{name: importlib.import_module(f"rlimages_train.{name}") for name in names})
    finally:
        sys.path.remove(str(FOLDER))
        sys.dont_write_bytecode = writes
        for name in [name for name in sys.modules if name.partition(".")[0] == "rlimages_train"]:
            del sys.modules[name]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_the_source_is_python_3_5(source: Path) -> None:
    tree = ast.parse(source.read_text(), feature_version=(3, 5))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr | ast.AnnAssign | ast.NamedExpr)]


# ---- the failure file

CALLS = '  File "train.py", line 9, in <module>\n    main()\n  File "train.py", line 5, in main\n    raise ValueError("bad")\n'
TRACE = f"Traceback (most recent call last):\n{CALLS}"


def test_the_summary_puts_the_exception_before_the_calls_that_led_to_it(train_modules: Any) -> None:
    assert (
        train_modules.failure_file.summarize(f"a warning\n{TRACE}ValueError: bad\n")
        == f"ValueError: bad\n{CALLS.rstrip()}"
    )


def test_the_summary_keeps_the_innermost_of_many_calls(train_modules: Any) -> None:
    summary = train_modules.failure_file.summarize(
        "Traceback (most recent call last):\n" + CALLS * 500 + "ValueError: bad\n", length=800
    )
    assert summary.startswith("ValueError: bad\n  ")
    assert summary.endswith('raise ValueError("bad")')
    assert 700 < len(summary) <= 800


def test_a_long_message_leaves_space_for_the_calls(train_modules: Any) -> None:
    summary = train_modules.failure_file.summarize(f"{TRACE}ValueError: {'x' * 5000}\n", length=800)
    assert summary.startswith("ValueError: xxx")
    assert summary.endswith('raise ValueError("bad")')
    assert len(summary) <= 800


def test_the_summary_of_chained_exceptions_starts_with_the_last_one(train_modules: Any) -> None:
    stderr = f"{TRACE}KeyError: 'a'\n\nDuring handling of the above exception, another exception occurred:\n\n{TRACE}ValueError: bad"
    assert train_modules.failure_file.summarize(stderr).startswith("ValueError: bad\n")


def test_a_traceback_long_before_the_end_is_not_the_reason(train_modules: Any) -> None:
    stderr = f"{TRACE}ValueError: bad, but survived\n" + "progress\n" * 100 + "error: unrecognized arguments: --lr2"
    summary = train_modules.failure_file.summarize(stderr, length=200)
    assert summary.endswith("unrecognized arguments: --lr2")
    assert "survived" not in summary


@pytest.mark.parametrize(
    "stderr",
    [
        "Traceback (most recent call last):",
        "(pid=7) Traceback (most recent call last):\n(pid=7)   File x\n(pid=7) ValueError: bad",
        "  + Exception Group Traceback (most recent call last):\n  | ExceptionGroup: two (2 sub-exceptions)",
    ],
)
def test_the_summary_of_other_output_is_its_last_lines(train_modules: Any, stderr: str) -> None:
    assert train_modules.failure_file.summarize(stderr) == stderr.strip()


def test_the_summary_does_not_cut_lines_that_fit(train_modules: Any) -> None:
    assert train_modules.failure_file.summarize("one\ntwo\nthree\n", length=8) == "three"
    assert train_modules.failure_file.summarize("x" * 50, length=10) == "x" * 10
    assert train_modules.failure_file.summarize("") == ""


@pytest.fixture
def toolkit(train_modules: Any, tmp_path: Path) -> Any:
    """The parts of a training toolkit that `failure_file` and `host_names` replace, with its reports improved."""

    class CalledProcessError(Exception):
        def __init__(self, cmd: str, return_code: int, output: bytes | None = None, info: str | None = None) -> None:
            self.cmd, self.return_code, self.output, self.extra_info = cmd, return_code, output, info

    toolkit = SimpleNamespace(
        environment=SimpleNamespace(output_dir=str(tmp_path), _read_json=open),
        errors=SimpleNamespace(_CalledProcessError=CalledProcessError),
        files=SimpleNamespace(),
        process=SimpleNamespace(),
        entry_point=SimpleNamespace(_wait_hostname_resolution=lambda: None, install=lambda name, path: (name, path)),
    )
    train_modules.failure_file.improve_reports(toolkit)
    return toolkit


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
def test_a_signal_that_killed_the_script_is_named(toolkit: Any, code: int | None, info: str | None) -> None:
    assert toolkit.errors._CalledProcessError("python x.py", code).extra_info == info


def test_output_and_hint_of_the_toolkit_are_kept(toolkit: Any) -> None:
    error = toolkit.errors._CalledProcessError("python x.py", 137, b"its output", "its hint")
    assert (error.output, error.extra_info) == (b"its output", "its hint")


def test_the_command_which_may_be_long_comes_last(toolkit: Any) -> None:
    error = toolkit.errors._CalledProcessError("python x.py --lr 1", 3, b"ValueError: bad")
    expected = 'CalledProcessError:\nExitCode 3\nErrorMessage "ValueError: bad"\nCommand "python x.py --lr 1"'
    assert str(error) == expected
    error.extra_info = "a hint"
    assert 'ValueError: bad"\nExtraInfo "a hint"\nCommand' in str(error)


def test_a_failure_file_of_the_script_is_kept(toolkit: Any, tmp_path: Path) -> None:
    (tmp_path / "failure").write_text("the reward diverged")
    toolkit.files.write_failure_file("ExecuteUserScriptError")
    assert (tmp_path / "failure").read_text() == "the reward diverged"


def test_an_empty_failure_file_is_replaced(toolkit: Any, tmp_path: Path) -> None:
    (tmp_path / "failure").touch()
    toolkit.files.write_failure_file("ExecuteUserScriptError")
    assert (tmp_path / "failure").read_text() == "ExecuteUserScriptError"


def test_the_report_of_an_error_of_the_toolkit_starts_with_its_message(toolkit: Any, tmp_path: Path) -> None:
    try:
        raise KeyError("hosts")
    except KeyError:
        toolkit.files.write_failure_file(f"Framework Error: \n{'a long way ' * 200}")
    assert (tmp_path / "failure").read_text().startswith("KeyError: 'hosts'\nFramework Error")


def test_a_failure_file_that_cannot_be_written_is_reported_on_standard_error(
    toolkit: Any, tmp_path: Path, capsys: Any
) -> None:
    toolkit.environment.output_dir = str(tmp_path / "nowhere")
    toolkit.files.write_failure_file("reason")
    assert "cannot write" in capsys.readouterr().err


def test_a_configuration_file_that_is_not_json_is_named(toolkit: Any, train_modules: Any, tmp_path: Path) -> None:
    def read(path: str) -> None:
        raise ValueError("Expecting value: line 1 column 9")

    toolkit.environment._read_json = read
    train_modules.failure_file.improve_reports(toolkit)
    with pytest.raises(
        train_modules.failure_file.JobError, match=r"hyper\.json is not JSON: Expecting value: line 1 column 9"
    ):
        toolkit.environment._read_json("hyper.json")


def test_a_job_without_an_entry_point_is_reported_in_one_sentence(toolkit: Any, train_modules: Any) -> None:
    assert toolkit.entry_point.install("job.py", "/opt/ml/code") == ("job.py", "/opt/ml/code")
    with pytest.raises(
        train_modules.failure_file.JobError,
        match=r"^the job has no entry point: hyperparameter sagemaker_program is missing$",
    ):
        toolkit.entry_point.install(None, "/opt/ml/code")


# ---- the script's standard error


def run_shell(train_modules: Any, shell: str) -> int:
    code: int = train_modules.script_output.Popen(["sh", "-c", shell]).wait()
    return code


def test_standard_error_is_forwarded_and_its_end_is_kept(train_modules: Any, capfd: Any) -> None:
    assert run_shell(train_modules, "echo out; echo first >&2; seq 100000 >&2; echo last >&2; exit 3") == 3
    printed = capfd.readouterr()
    assert printed.out == "out\n"
    assert printed.err == "first\n" + "".join(f"{number}\n" for number in range(1, 100001)) + "last\n"
    tail = train_modules.script_output.last_stderr()
    assert tail.endswith(b"100000\nlast\n")
    assert len(tail) <= train_modules.script_output.KEPT_BYTES


def test_a_background_process_that_holds_the_pipe_is_not_waited_for(train_modules: Any, capfd: Any) -> None:
    started = time.monotonic()
    assert run_shell(train_modules, "sleep 5 & echo over >&2") == 0
    assert time.monotonic() - started < 2
    assert train_modules.script_output.last_stderr() == b"over\n"


def test_output_and_errors_that_go_to_one_file_stay_in_order(train_modules: Any, tmp_path: Path) -> None:
    program = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); from rlimages_train import script_output\n"
        "script_output.Popen(['sh', '-c', 'for n in 1 2 3 4 5 6 7 8 9; do echo out $n; echo err $n >&2; done']).wait()\n"
    )
    argv = [sys.executable, "-B", "-c", program, str(FOLDER)]
    result = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    assert result.stdout == "".join(f"out {number}\nerr {number}\n" for number in range(1, 10))


def test_no_program_starts_after_the_job_was_stopped(train_modules: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_modules.signals._State, "stopped", True)
    with pytest.raises(
        train_modules.signals.JobStopped, match=r"^received SIGTERM before the training script started$"
    ) as caught:
        run_shell(train_modules, "exit 0")
    assert caught.value.errno == 128 + signal.SIGTERM


def test_a_program_that_starts_while_sigterm_arrives_is_stopped_too(train_modules: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(train_modules.signals, "check_not_stopped", lambda: None)
    monkeypatch.setattr(train_modules.signals._State, "stopped", True)
    assert run_shell(train_modules, "exec sleep 5") == -signal.SIGTERM


# ---- hosts


@pytest.fixture
def resolver() -> Callable[[dict[str, float]], Callable[[str], str]]:
    """Make a look-up function that knows each name only after the given number of seconds."""

    def make_resolve(delays: dict[str, float]) -> Callable[[str], str]:
        started = time.monotonic()

        def resolve(name: str) -> str:
            if time.monotonic() - started < delays[name]:
                raise socket.gaierror(-2, "Name or service not known")
            return "10.0.0.1"

        return resolve

    return make_resolve


def test_the_job_waits_for_a_name_that_resolves_late(
    train_modules: Any, resolver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_modules.host_names, "RETRY_PAUSE", 0.05)
    train_modules.host_names.wait_for_addresses(["algo-1", "algo-2"], 5.0, resolver({"algo-1": 0.0, "algo-2": 0.1}))


def test_the_error_lists_the_names_that_do_not_resolve(train_modules: Any, resolver: Any) -> None:
    with pytest.raises(
        train_modules.host_names.UnknownHost, match=r"no address for algo-2, algo-3 after 0 s"
    ) as caught:
        train_modules.host_names.wait_for_addresses(
            ["algo-1", "algo-2", "algo-3"], 0.1, resolver({"algo-1": 0.0, "algo-2": 99.0, "algo-3": 99.0})
        )
    assert caught.value.errno == 68


def test_a_name_server_that_does_not_answer_does_not_extend_the_wait(train_modules: Any) -> None:
    started = time.monotonic()
    with pytest.raises(train_modules.host_names.UnknownHost):
        train_modules.host_names.wait_for_addresses(["algo-1"], 0.1, lambda _name: time.sleep(2))
    assert time.monotonic() - started < 1


def test_a_job_of_one_host_looks_up_no_name(train_modules: Any, toolkit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_modules.signals._State, "script_started", False)
    toolkit.environment.read_resource_config = lambda: {"hosts": ["no-such-host.invalid"]}
    train_modules.host_names.limit_wait(toolkit)
    started = time.monotonic()
    toolkit.entry_point._wait_hostname_resolution()
    assert time.monotonic() - started < 0.1


# ---- the toolkit


@pytest.mark.parametrize(
    ("text", "package"),
    [
        ("#!/opt/venv/bin/python\nfrom sagemaker_training.cli.train import main\n", "sagemaker_training"),
        ("#!/usr/bin/python\n__requires__ = 'sagemaker-containers==2.5.1'\nimport re\n", "sagemaker_containers"),
        ("#!/bin/sh\nexec my-own-program\n", None),
    ],
)
def test_the_toolkit_is_found_from_its_train_program(
    train_modules: Any, tmp_path: Path, text: str, package: str | None
) -> None:
    (tmp_path / "train").write_text(text)
    assert train_modules.training_toolkit.find_package(str(tmp_path / "train")) == package


def test_the_errors_of_tensorflow_are_listed_without_importing_it(
    train_modules: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tensorflow/python/framework"
    folder.mkdir(parents=True)
    (tmp_path / "tensorflow/__init__.py").write_text("raise SystemExit('imported')")
    (folder / "errors_impl.py").write_text(
        "class OpError(Exception):\n  pass\n\nclass AbortedError(OpError):\n  pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    toolkit = SimpleNamespace(process=SimpleNamespace(get_tensorflow_exception_classes=lambda: ["slow"]))
    train_modules.lazy_imports.avoid_tensorflow_import(toolkit)
    assert toolkit.process.get_tensorflow_exception_classes() == ["OpError", "AbortedError", "XlaRuntimeError"]


def test_the_record_lists_every_file_of_the_compatibility_package() -> None:
    folder = FOLDER / "python"
    (dist_info,) = folder.glob("sagemaker_containers-*.dist-info")
    files = [
        path
        for name in ("sagemaker_containers", dist_info.name)
        for path in (folder / name).rglob("*")
        if path.is_file()
    ]
    recorded = (dist_info / "RECORD").read_text().splitlines()
    assert recorded == sorted(f"{path.relative_to(folder)},," for path in files if "__pycache__" not in path.parts)


def test_a_deferred_module_is_imported_when_it_is_used(
    train_modules: Any, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    (tmp_path / "rarely_used").mkdir()
    (tmp_path / "rarely_used/__init__.py").write_text("print('imported')\nWORD = 'there'\n")
    (tmp_path / "rarely_used/part.py").write_text("WORD = 'too'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(train_modules.lazy_imports, "DEFERRED", ["rarely_used", "json"])
    try:
        train_modules.lazy_imports.defer_imports()
        import rarely_used

        assert capsys.readouterr().out == ""
        import rarely_used.part

        assert (rarely_used.WORD, rarely_used.part.WORD) == ("there", "too")
        assert capsys.readouterr().out == "imported\n"
    finally:
        for name in ("rarely_used", "rarely_used.part"):
            sys.modules.pop(name, None)
