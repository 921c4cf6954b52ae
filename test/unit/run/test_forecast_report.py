import json
from dataclasses import replace

import pytest

from rlimages.plan.step import Action
from rlimages.run.forecast import CellForecast, Forecast
from rlimages.run.forecast_report import forecast_facts, forecast_text


@pytest.fixture
def forecast(make_step) -> Forecast:
    """Two cells to build, one of them never built before, one that is up to date and one that was not selected."""

    def cell(
        version: str, action: Action, reason: str, changes: tuple[str, ...] = (), **fields: object
    ) -> CellForecast:
        step = make_step(version, action=action, reason=reason, changes=changes)
        unknown = {"seconds": None, "disk": None, "checks": (), "passed_checks": 0, "published_names": ()}
        return CellForecast(step=step, **{**unknown, **fields})

    return Forecast(
        cells=(
            cell("1.0", Action.BUILD, "lock six: 1 → 2, and 1 more", ("lock six: 1 → 2", "file a: new"),
                 seconds=60.0, disk=2_000_000_000, checks=("a", "b"), published_names=("r/x:1", "r/x:2")),
            cell("2.0", Action.BUILD, "there is no image", checks=("a",)),
            cell("3.0", Action.REUSE, "up to date", passed_checks=2),
            cell("4.0", Action.SKIP, "left out by --select '1*' (build_matrix.yaml:9)"),
        ),
        jobs=2, free_disk=40_000_000_000, upload=480_000_000, unknown_uploads=("ray-2.0-tf-cpu-debian",),
    )  # fmt: skip


def test_a_forecast_is_printed_as_a_table_of_the_cells_and_their_sums(forecast) -> None:
    assert forecast_text(forecast) == (
        "ACTION  CELL                   WHY\n"
        "build   ray-1.0-tf-cpu-debian  lock six: 1 → 2, and 1 more\n"
        "                                 file a: new\n"
        "build   ray-2.0-tf-cpu-debian  there is no image\n"
        "reuse   ray-3.0-tf-cpu-debian  up to date\n"
        "skip    ray-4.0-tf-cpu-debian  left out by --select '1*' (build_matrix.yaml:9)\n"
        "\n"
        "2 to build, 1 up to date, 1 left out\n"
        "time: about 1 min 00 s, not counting 1 cell never built here\n"
        "disk: about 2 GB needed, not counting 1 cell never built here; 40 GB free\n"
        "checks: 3 to run, 2 passed before for the same images\n"
        "publish: 2 names; at most 480 MB of layers to upload, not counting 1 cell to build\n"
    )


def test_a_forecast_without_builds_and_retags_changes_nothing(forecast) -> None:
    assert forecast.changes
    assert not replace(forecast, cells=forecast.cells[2:]).changes


def test_json_has_the_sums_and_the_command_of_each_build(forecast) -> None:
    facts = json.loads(json.dumps(forecast_facts(forecast, {"ray-1.0-tf-cpu-debian": ["docker", "buildx", "build"]})))
    assert (facts["changes"], facts["jobs"], facts["send"]) == (True, 2, 480_000_000)
    assert facts["disk"] == {"needed": 2_000_000_000, "free": 40_000_000_000}
    first, second, third, _ = facts["cells"]
    assert (first["command"], second["command"]) == (["docker", "buildx", "build"], None)
    assert (first["seconds"], first["space"], first["publishes"]) == (60.0, 2_000_000_000, ["r/x:1", "r/x:2"])
    assert (third["action"], third["proven"]) == ("reuse", 2)
