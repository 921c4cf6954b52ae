import json

from rlimages.plan.results import RunReport
from rlimages.project.state import StateFolder
from rlimages.run.report import write_report


def test_latest_links_to_the_newest_run(tmp_path) -> None:
    folder = StateFolder(tmp_path).open_run()
    assert (tmp_path / "runs/latest").resolve() == folder
    assert (folder / "logs").is_dir()


def test_each_run_has_its_own_folder(tmp_path) -> None:
    first, second = StateFolder(tmp_path).open_run(), StateFolder(tmp_path).open_run()
    assert first != second
    assert (tmp_path / "runs/latest").resolve() == second


def test_a_report_is_written_in_three_formats(tmp_path) -> None:
    folder = StateFolder(tmp_path).open_run()
    write_report(folder, RunReport(run=folder.name, command="", started="", seconds=0, cells=()))
    assert json.loads((folder / "report.json").read_text())["run"] == folder.name
    assert (folder / "report.txt").is_file()
    assert (folder / "junit.xml").read_text().startswith("<?xml")
