#!/usr/bin/env python3
"""Measure `rlimages` against plain Docker on this machine, and write a table, a picture and the numbers.

    bench/run [--only NAME ...] [--rounds 3] [--cold-rounds 3] [--quick] [--continue] [--readme] [--out FOLDER]

The benchmark has its own engine, registry and copy of this project below --home. The contenders take turns, and another
one starts each round. Each attempt is stored in measurements.jsonl at once, so that --continue can continue after an
interruption.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import machine
import table
from bars import draw_bars
from builders import Job
from figures import Attempt, AttemptFile, rotate, summaries
from sandbox import ROOT, open_sandbox
from scenarios import PEERS, Growth, Program, Scenario, all_scenarios
from timed import BenchmarkError, ProgramError

from rlimages.errors import FactoryError
from rlimages.matrix.cell import select_cells
from rlimages.project.project import load_project

CELLS = "*-cpu-debian"


def parse_options() -> argparse.Namespace:
    names = [scenario.name for scenario in all_scenarios()]
    parser = argparse.ArgumentParser(prog="bench/run", description=(__doc__ or "").splitlines()[0])
    known = f"measure only this scenario: {', '.join(names)}; may be given several times"
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=known)
    parser.add_argument("--select", action="append", metavar="PATTERN", help=f"build these cells ({CELLS})")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each scenario (%(default)s)")
    parser.add_argument("--cold-rounds", type=int, help="rounds of the cold build; by default as --rounds")
    parser.add_argument("--quick", action="store_true", help="one round of the fast scenarios, to try it out")
    parser.add_argument("--continue", dest="resume", action="store_true", help="continue an interrupted benchmark")
    parser.add_argument("--readme", action="store_true", help="write the table into README.md")
    parser.add_argument("--out", type=Path, default=ROOT / "bench/results", help="folder of the results (%(default)s)")
    parser.add_argument("--home", type=Path, default=_cache(), help="folder of the engine (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="keep the engine and its images for the next time")
    options = parser.parse_args()
    if min(options.rounds, options.cold_rounds or 1) < 1:
        parser.error("the number of rounds must be at least 1")
    if options.quick and options.readme:
        parser.error("--quick is not precise enough for --readme")
    return options


def main() -> int:
    options = parse_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    chosen = [
        s
        for s in all_scenarios()
        if s.name in (options.only or [s.name]) and (s.cheap or options.only or not options.quick)
    ]
    rounds = {
        s.name: 1 if options.quick else options.cold_rounds or options.rounds if s.name == "cold" else options.rounds
        for s in chosen
    }
    attempt_file = AttemptFile(options.out / "measurements.jsonl")
    try:
        patterns = tuple(options.select or [CELLS])
        cells = select_cells(load_project(ROOT / "build_matrix.yaml", ROOT).cells, patterns)
        building = any(not isinstance(scenario, Growth) for scenario in chosen)
        report(machine.require_space(options.home, images=len(cells) if building else 0))
        with open_sandbox(options.home, keep=options.keep) as sandbox:
            job = Job(sandbox=sandbox, root=sandbox.project, patterns=patterns)
            description = {**machine.describe_machine(sandbox), "cells": list(job.patterns), "quick": options.quick}
            start(attempt_file, program_tables(options.out), description, resume=options.resume)
            failed = [s.name for s in chosen if not run_scenario(s, job, attempt_file, options.out, rounds[s.name])]
    except (BenchmarkError, FactoryError) as error:
        report(f"bench: {error}")
        return 1
    except KeyboardInterrupt:
        report("bench: interrupted; continue with bench/run --continue")
        return 130
    write(options.out, attempt_file, readme=options.readme and not failed)
    if failed:
        report(f"bench: these scenarios failed: {', '.join(failed)}; --continue tries them again")
    return 1 if failed else 0


def run_scenario(scenario: Scenario, job: Job, attempt_file: AttemptFile, out: Path, rounds: int) -> bool:
    """Measure one scenario. Return False if that fails; the others are measured all the same."""
    try:
        if isinstance(scenario, Program):
            run_program(scenario, job, out, rounds)
        else:
            measure(scenario, job, attempt_file, rounds)
    except BenchmarkError as error:
        report(f"bench: {scenario.name}: {error}")
        return False
    return True


def start(attempt_file: AttemptFile, tables: Iterable[Path], description: Mapping[str, Any], *, resume: bool) -> None:
    """Start a benchmark, or continue one. Raises `BenchmarkError` if that one had another machine or other files."""
    before = attempt_file.machine
    if not (resume and before):
        attempt_file.start(description)
        for file in tables:
            file.unlink(missing_ok=True)
        return
    changed = [name for name in description if name != "date" and description[name] != before.get(name)]
    if changed:
        changes = ", ".join(f"{name} was {before.get(name)} and is {description[name]}" for name in changed)
        raise BenchmarkError(f"the benchmark can't be continued: {changes}; leave out --continue")


def measure(scenario: Scenario, job: Job, attempt_file: AttemptFile, rounds: int) -> None:
    """Measure the rounds of one scenario that are not measured yet."""
    done = {(each.scenario, each.who, each.round) for each in attempt_file.attempts}
    missing = [
        (number, who)
        for number in range(rounds)
        for who in rotate(scenario.contenders, number)
        if (scenario.name, who, number) not in done
    ]
    if not missing:
        return
    report(f"{scenario.name}: {scenario.title}")
    started = time.monotonic()
    scenario.prepare(job)
    report(f"  prepared in {time.monotonic() - started:.0f} s")
    for number, who in missing:
        seconds, facts = attempt(scenario, job, who)
        attempt_file.add(Attempt(scenario=scenario.name, who=who, round=number, seconds=seconds, facts=facts))
        duration = "failed" if seconds is None else f"{table.format_seconds(seconds)} s"
        report(f"  round {number + 1} of {rounds}, {who}: {duration}")


def attempt(scenario: Scenario, job: Job, who: str) -> tuple[float | None, Mapping[str, float]]:
    """Return the seconds and other numbers of one attempt; no seconds if a program other than rlimages fails."""
    try:
        measurement = scenario.measure(job, who)
    except ProgramError as error:
        if who not in PEERS:
            raise
        report(f"  {error}")
        return None, {}
    return measurement.seconds, measurement.facts


def program_tables(out: Path) -> list[Path]:
    """Return the files with the tables of the other programs."""
    return [out / f"{scenario.name}.md" for scenario in all_scenarios() if isinstance(scenario, Program)]


def run_program(scenario: Program, job: Job, out: Path, rounds: int) -> None:
    """Run a program that measures something itself, and store its table. A table that exists is kept."""
    file = out / f"{scenario.name}.md"
    if file.is_file():
        return
    report(f"{scenario.name}: {scenario.title}")
    scenario.prepare(job)
    file.write_text(scenario.table(job, rounds), encoding="utf-8")


def write(out: Path, attempt_file: AttemptFile, *, readme: bool) -> None:
    """Write the table, the picture and the numbers, and with `readme` also the table in the README."""
    found, description = summaries(attempt_file.attempts), attempt_file.machine
    titles = {scenario.name: scenario.title for scenario in all_scenarios()}
    machine_text = machine.machine_text(description)
    others = [file.read_text(encoding="utf-8") for file in program_tables(out) if file.is_file()]
    text = table.page(found, titles, others, machine_text, "bench/run", quick=description["quick"])
    (out / "table.md").write_text(text, encoding="utf-8")
    caption = (
        f"{description['cores']} cores, Docker {description['engine']}, buildx {description['buildx']}; "
        f"medians of {table.rounds(found)}"
    )
    (out / "bars.svg").write_text(draw_bars(found, titles, caption), encoding="utf-8")
    values = {
        scenario: {
            who: {"seconds": list(it.seconds), "median": it.median, "broke": it.broke, **it.facts}
            for who, it in contenders.items()
        }
        for scenario, contenders in found.items()
    }
    content = json.dumps({"machine": description, "scenarios": values}, indent=2, ensure_ascii=False)
    (out / "results.json").write_text(content + "\n", encoding="utf-8")
    if readme:
        table.update_readme(ROOT / "README.md", f"{text}\n![The same numbers as bars](bench/results/bars.svg)\n")
    print(text)
    report(f"written to {out}")


def report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


if __name__ == "__main__":
    sys.exit(main())
