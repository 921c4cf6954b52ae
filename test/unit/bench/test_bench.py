"""The benchmark's figures, tables and made-up projects. Nothing is measured here."""

import importlib
import os
import socketserver
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from socket import create_connection
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

from rlimages.engine.buildx import build_argv
from rlimages.project.generated import generate_files

FOLDER = Path(__file__).resolve().parents[3] / "bench"
NAMES = ("bake", "bars", "figures", "relay", "synthetic", "table", "timed")


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    sys.path.insert(0, str(FOLDER))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
    finally:
        sys.path.remove(str(FOLDER))
        for name in [
            name for name, module in sys.modules.items() if str(FOLDER) in (getattr(module, "__file__", 0) or "")
        ]:
            del sys.modules[name]


@pytest.fixture
def found(bench: Any) -> Any:
    def summary(*seconds: float) -> Any:
        return bench.figures.Summary(seconds=seconds, facts={"built": 1.0, "memory": 2e8})

    return {
        "unchanged": {
            "rlimages": summary(0.5, 0.4, 0.9),
            "docker build, one after another": summary(15.0),
            "docker buildx bake": summary(5.0),
        },
        "plan": {"10": summary(0.2), "100": summary(0.3), "1000": summary(1.0), "10000": summary(8.0)},
    }


TITLES = {"unchanged": "nothing <changed>", "plan": "`plan`"}


def test_a_summary_has_the_median_of_the_rounds(bench: Any) -> None:
    rounds = [
        bench.figures.Attempt(scenario="s", who="w", round=n, seconds=seconds, facts={"sent": sent})
        for n, (seconds, sent) in enumerate([(3.0, 10), (1.0, 30), (2.0, 20)])
    ]
    summary = bench.figures.summaries(rounds)["s"]["w"]
    assert (summary.median, summary.facts["sent"]) == (2.0, 20)


def test_failed_rounds_are_shown_and_not_part_of_the_median(bench: Any, found: Any) -> None:
    rounds = [
        bench.figures.Attempt(scenario="unchanged", who="docker buildx bake", round=n, seconds=seconds, facts={})
        for n, seconds in enumerate([None, 4.0, None])
    ]
    summary = bench.figures.summaries(rounds)["unchanged"]["docker buildx bake"]
    assert bench.table.spread(summary) == "4.00 (4.00–4.00), 2 of 3 broke"
    never = bench.figures.summaries(rounds[:1])["unchanged"]["docker buildx bake"]
    found["unchanged"]["docker buildx bake"] = never
    assert "| 1 of 1 broke | **30.0** | – |" in bench.table.comparison_table(found, TITLES)
    assert "breaks" in bench.bars.draw_bars(found, TITLES, "")


def test_each_contender_starts_one_round(bench: Any) -> None:
    rounds = [bench.figures.rotate(("a", "b", "c"), number) for number in range(3)]
    assert [order[0] for order in rounds] == ["a", "b", "c"]
    assert {frozenset(order) for order in rounds} == {frozenset("abc")}


def test_complete_lines_of_an_interrupted_benchmark_are_read(bench: Any, tmp_path: Path) -> None:
    attempt_file = bench.figures.AttemptFile(tmp_path / "new/measurements.jsonl")
    assert (attempt_file.machine, attempt_file.attempts) == ({}, ())
    attempt_file.start({"cores": 2})
    figure = bench.figures.Attempt(scenario="s", who="w", round=0, seconds=1.0, facts={})
    attempt_file.add(figure)
    with (tmp_path / "new/measurements.jsonl").open("a") as file:
        file.write('{"scenario": "s", "wh')
    assert (attempt_file.machine, attempt_file.attempts) == ({"cores": 2}, (figure,))


def test_an_attempt_after_a_line_that_was_cut_off_is_read(bench: Any, tmp_path: Path) -> None:
    attempt_file = bench.figures.AttemptFile(tmp_path / "measurements.jsonl")
    attempt_file.start({"cores": 2})
    with (tmp_path / "measurements.jsonl").open("a") as file:
        file.write('{"scenario": "s", "wh')
    figure = bench.figures.Attempt(scenario="s", who="w", round=0, seconds=1.0, facts={})
    attempt_file.add(figure)
    assert attempt_file.attempts == (figure,)


def test_bake_gets_all_options_of_the_build_commands(bench: Any, step: Any) -> None:
    request = replace(
        step.request,
        contexts=(("debian:1", "docker-image://debian@sha256:1"),),
        labels=(("said", 'a="${b}" %{c}'),),
        epoch=7,
    )
    written = bench.bake.bake_definition({"ray-2.9.3-tf-cpu-debian": build_argv(request, metadata=Path("m.json"))})
    assert written["group"] == {"default": {"targets": ["ray-2_9_3-tf-cpu-debian"]}}
    (target,) = written["target"].values()
    assert target == {
        "context": ".",
        "dockerfile": request.dockerfile,
        "tags": [request.tag],
        "args": {**dict(request.arguments), "SOURCE_DATE_EPOCH": "7"},
        "contexts": {"debian:1": "docker-image://debian@sha256:1"},
        "labels": {"said": 'a="$${b}" %%{c}'},
        "no-cache": False,
        "output": ["type=docker"],
    }


def test_an_unknown_build_option_is_refused_for_bake(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.bake.bake_definition({"c": ["docker", "buildx", "build", "--squash", "."]})
    assert "--squash" in capsys.readouterr().err


def test_the_table_shows_how_many_times_faster_rlimages_is(bench: Any, found: Any) -> None:
    row = bench.table.comparison_table(found, TITLES).splitlines()[2]
    spreads = "0.50 (0.40–0.90) | 15.0 (15.0–15.0) | 5.00 (5.00–5.00)"
    assert row == f"| nothing <changed> | {spreads} | **30.0** | **10.0** | 1 | – / – / – |"


def test_the_table_shows_whether_time_grows_faster_than_the_matrix(bench: Any, found: Any) -> None:
    assert (
        bench.table.growth_table(found, TITLES).splitlines()[2] == "| `plan` | 0.20 | 0.30 | 1.00 | 8.00 | 0.80 | 200 |"
    )


def test_a_quick_round_is_marked_as_no_result(bench: Any, found: Any) -> None:
    assert "not a result" in bench.table.page(found, TITLES, [], "this machine", "bench/run", quick=True)
    assert "not a result" not in bench.table.page(found, TITLES, [], "this machine", "bench/run", quick=False)


def test_only_the_table_of_the_readme_is_replaced(bench: Any, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{bench.table.MARK}\nold\n{bench.table.END}\nafter\n")
    bench.table.update_readme(readme, "new \\1\n")
    assert readme.read_text() == f"before\n{bench.table.MARK}\nnew \\1\n{bench.table.END}\nafter\n"
    readme.write_text("no place\n")
    with pytest.raises(ValueError, match="put back"):
        bench.table.update_readme(readme, "new\n")


def test_the_readme_of_this_project_has_the_marks_of_the_table(bench: Any) -> None:
    text = (FOLDER.parent / "README.md").read_text()
    assert text.count(bench.table.MARK) == text.count(bench.table.END) == 1


def test_the_picture_is_xml_and_its_longest_bar_is_the_slowest_builder(bench: Any, found: Any) -> None:
    picture = ElementTree.fromstring(bench.bars.draw_bars(found, TITLES, "2 cores & more"))
    space = "{http://www.w3.org/2000/svg}"
    lengths = [float(bar.attrib["width"]) for bar in picture.iter(f"{space}rect")]
    assert len(lengths) == 3
    assert lengths[0] / lengths[2] == pytest.approx(30, rel=0.01)
    assert "docker buildx bake 5.00 s" in picture.attrib["aria-label"]


def test_memory_is_that_of_the_measured_program_alone(bench: Any, tmp_path: Path) -> None:
    ballast = bytearray(100 << 20)
    words = {"cwd": tmp_path, "env": os.environ, "log": tmp_path / "log"}
    taken = bench.timed.timed([sys.executable, "-I", "-S", "-c", "print('said')"], **words)
    assert taken.facts["memory"] < len(ballast) / 2
    assert taken.seconds > 0
    assert (tmp_path / "log").read_text() == "said\n"


def test_the_error_of_a_failed_program_has_its_last_lines(bench: Any, tmp_path: Path) -> None:
    words = {"cwd": tmp_path, "env": os.environ, "log": tmp_path / "log"}
    with pytest.raises(bench.timed.BenchmarkError, match=r"ended with 3; .*\nwhy"):
        bench.timed.timed(["sh", "-c", "echo why; exit 3"], **words)
    assert bench.timed.timed(["sh", "-c", "exit 3"], **words, passed=(0, 3)).seconds > 0


def test_the_relay_counts_bytes_to_the_registry(bench: Any) -> None:
    class Echo(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(self.request.recv(100) * 2)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        relay = bench.relay.Relay(server.server_address[1])
        relay.start()
        with create_connection(("127.0.0.1", relay.port)) as line:
            line.sendall(b"hello")
            assert line.recv(100) == b"hellohello"
        server.shutdown()
        relay.close()
    assert relay.sent == 5


@pytest.mark.parametrize("cells", [1, 12, 40])
def test_a_large_synthetic_project_has_the_given_number_of_cells(bench: Any, tmp_path: Path, cells: int) -> None:
    project = bench.synthetic.large(tmp_path, cells)
    assert len({cell.id for cell in project.cells}) == cells
    assert all((tmp_path / cell.lock).is_file() for cell in project.cells)


def test_small_synthetic_cells_are_built_from_the_given_image(bench: Any, tmp_path: Path) -> None:
    project = bench.synthetic.small(tmp_path, 3, "debian:mine")
    assert [cell.base.image for cell in project.cells] == ["debian:mine"] * 3
    assert not project.lock_inputs(project.cells)


def test_synthetic_projects_are_rendered_with_the_macros_of_this_project(bench: Any, tmp_path: Path) -> None:
    assert len(generate_files(bench.synthetic.large(tmp_path / "large", 4))) == 2  # cpu and gpu share a recipe
    assert len(generate_files(bench.synthetic.small(tmp_path / "small", 3, "debian:bookworm-slim"))) == 3
