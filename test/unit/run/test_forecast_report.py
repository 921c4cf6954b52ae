"""A forecast is printed for people."""

from dataclasses import replace

from rlimages.plan.step import Action
from rlimages.run.forecast import CellForecast, Forecast
from rlimages.run.forecast_report import forecast_text


def test_a_forecast_is_printed_as_a_table_and_its_sums(make_step) -> None:
    def forecast(version: str, action: Action, reason: str, **values: object) -> CellForecast:
        step = make_step(version, action=action, reason=reason, changes=values.pop("changes", ()))
        fields = {"seconds": None, "disk": None, "checks": (), "passed_checks": 0, "published_names": (), **values}
        return CellForecast(step=step, **fields)

    whole = Forecast(
        cells=(
            forecast("1.0", Action.BUILD, "lock six: 1 → 2, and 1 more", changes=("lock six: 1 → 2", "file a: new"),
                    seconds=60.0, disk=2_000_000_000, checks=("a", "b"), published_names=("r/x:1", "r/x:2")),
            forecast("2.0", Action.BUILD, "there is no image", checks=("a",)),
            forecast("3.0", Action.REUSE, "up to date", passed_checks=2),
            forecast("4.0", Action.SKIP, "left out by --select '1*' (build_matrix.yaml:9)"),
        ),
        jobs=2, free_disk=40_000_000_000, upload=480_000_000, unknown_uploads=("ray-2.0-tf-cpu-debian",),
    )  # fmt: skip
    assert forecast_text(whole) == (
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
        "publish: 2 names; at most 480 MB of layers to upload, and those of 1 cell to build\n"
    )
    assert whole.changes
    assert not replace(whole, cells=whole.cells[2:]).changes
