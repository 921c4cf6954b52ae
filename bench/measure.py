#!/usr/bin/env python3
"""Measure the factory against plain Docker on this machine, and write a table, a picture and the figures.

    bench/run [--only NAME ...] [--rounds 3] [--cold-rounds 3] [--quick] [--continue] [--readme] [--out FOLDER]

Everything happens in an engine, a registry and a copy of this project of the benchmark's own, below --home. The
contenders take turns, and another one begins each round. What was measured is kept in measurements.jsonl as it comes:
--continue goes on after an interruption.
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
from bars import picture
from builders import Job
from figures import Figure, Ledger, rotated, summaries
from sandbox import ROOT, opened
from scenarios import PEERS, Growth, Program, Scenario, everything
from timed import Ended, Failed

from rlimages.errors import FactoryError
from rlimages.matrix.cell import select_cells
from rlimages.project.project import load_project

CELLS = "*-cpu-debian"


def options() -> argparse.Namespace:
    names = [scenario.name for scenario in everything()]
    parser = argparse.ArgumentParser(prog="bench/run", description=(__doc__ or "").splitlines()[0])
    known = f"one of {', '.join(names)}; may be repeated"
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=known)
    parser.add_argument("--select", action="append", metavar="PATTERN", help=f"the cells that are built ({CELLS})")
    parser.add_argument("--rounds", type=int, default=3, help="how often each contender is measured (%(default)s)")
    parser.add_argument("--cold-rounds", type=int, help="the same for cold builds; as --rounds, if not said")
    parser.add_argument("--quick", action="store_true", help="one round of what takes seconds: a try, not a result")
    parser.add_argument("--continue", dest="goes_on", action="store_true", help="keep what is measured already")
    parser.add_argument("--readme", action="store_true", help="put the table into README.md afterwards")
    parser.add_argument("--out", type=Path, default=ROOT / "bench/results", help="folder of the results (%(default)s)")
    parser.add_argument("--home", type=Path, default=_cache(), help="folder of the engine (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave the engine for the next time; it holds gigabytes")
    asked = parser.parse_args()
    if min(asked.rounds, asked.cold_rounds or 1) < 1:
        parser.error("at least one round")
    if asked.quick and asked.readme:
        parser.error("a hurried round is no result for the README")
    return asked


def main() -> int:
    asked = options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    chosen = [
        s for s in everything() if s.name in (asked.only or [s.name]) and (s.cheap or asked.only or not asked.quick)
    ]
    rounds = {
        s.name: 1 if asked.quick else asked.cold_rounds or asked.rounds if s.name == "cold" else asked.rounds
        for s in chosen
    }
    ledger = Ledger(asked.out / "measurements.jsonl")
    try:
        patterns = tuple(asked.select or [CELLS])
        cells = select_cells(load_project(ROOT / "build_matrix.yaml", ROOT).cells, patterns)
        building = any(not isinstance(scenario, Growth) for scenario in chosen)
        say(machine.insist_on_space(asked.home, images=len(cells) if building else 0))
        with opened(asked.home, keep=asked.keep) as sandbox:
            job = Job(sandbox=sandbox, root=sandbox.project, patterns=patterns)
            here = {**machine.described(sandbox), "cells": list(job.patterns), "quick": asked.quick}
            begin(ledger, tables(asked.out), here, goes_on=asked.goes_on)
            broken = [s.name for s in chosen if not passed(s, job, ledger, asked.out, rounds[s.name])]
    except (Failed, FactoryError) as error:
        say(f"bench: {error}")
        return 1
    except KeyboardInterrupt:
        say("bench: interrupted; bench/run --continue goes on")
        return 130
    write(asked.out, ledger, readme=asked.readme and not broken)
    if broken:
        say(f"bench: no figures of {', '.join(broken)}; --continue tries them again")
    return 1 if broken else 0


def passed(scenario: Scenario, job: Job, ledger: Ledger, out: Path, rounds: int) -> bool:
    """Measure one scenario; one that breaks does not take the others with it."""
    try:
        if isinstance(scenario, Program):
            tabulate(scenario, job, out, rounds)
        else:
            measure(scenario, job, ledger, rounds)
    except Failed as error:
        say(f"bench: {scenario.name}: {error}")
        return False
    return True


def begin(ledger: Ledger, tables: Iterable[Path], here: Mapping[str, Any], *, goes_on: bool) -> None:
    """Start anew, or go on with what was measured of the very same."""
    before = ledger.machine
    if not (goes_on and before):
        ledger.begin(here)
        for file in tables:
            file.unlink(missing_ok=True)
        return
    other = [name for name in here if name != "date" and here[name] != before.get(name)]
    if other:
        said = ", ".join(f"{name} was {before.get(name)} and is {here[name]}" for name in other)
        raise Failed(f"these measurements can't go on: {said}; leave out --continue")


def measure(scenario: Scenario, job: Job, ledger: Ledger, rounds: int) -> None:
    """All rounds of one scenario but those that are measured already."""
    done = {(figure.scenario, figure.who, figure.round) for figure in ledger.figures}
    todo = [
        (number, who)
        for number in range(rounds)
        for who in rotated(scenario.contenders, number)
        if (scenario.name, who, number) not in done
    ]
    if not todo:
        return
    say(f"{scenario.name}: {scenario.title}")
    began = time.monotonic()
    scenario.prepare(job)
    say(f"  prepared in {time.monotonic() - began:.0f} s")
    for number, who in todo:
        seconds, facts = attempt(scenario, job, who)
        ledger.add(Figure(scenario=scenario.name, who=who, round=number, seconds=seconds, facts=facts))
        say(f"  round {number + 1} of {rounds}, {who}: {'broke' if seconds is None else table.seconds(seconds) + ' s'}")


def attempt(scenario: Scenario, job: Job, who: str) -> tuple[float | None, Mapping[str, float]]:
    """Seconds and what else was counted; no seconds where another program than ours breaks: that is an answer too."""
    try:
        taken = scenario.take(job, who)
    except Ended as error:
        if who not in PEERS:
            raise
        say(f"  {error}")
        return None, {}
    return taken.seconds, taken.facts


def tables(out: Path) -> list[Path]:
    """Where other programs' tables are kept."""
    return [out / f"{scenario.name}.md" for scenario in everything() if isinstance(scenario, Program)]


def tabulate(scenario: Program, job: Job, out: Path, rounds: int) -> None:
    """Have another program measure, but where its table is there already."""
    file = out / f"{scenario.name}.md"
    if file.is_file():
        return
    say(f"{scenario.name}: {scenario.title}")
    scenario.prepare(job)
    file.write_text(scenario.table(job, rounds), encoding="utf-8")


def write(out: Path, ledger: Ledger, *, readme: bool) -> None:
    """The table, the picture and the figures; and the table into the README, where that is asked for."""
    found, here = summaries(ledger.figures), ledger.machine
    titles = {scenario.name: scenario.title for scenario in everything()}
    told = machine.sentence(here)
    others = [file.read_text(encoding="utf-8") for file in tables(out) if file.is_file()]
    text = table.page(found, titles, others, told, "bench/run", quick=here["quick"])
    (out / "table.md").write_text(text, encoding="utf-8")
    caption = (
        f"{here['cores']} cores, Docker {here['engine']}, buildx {here['buildx']}; medians of {table.rounds(found)}"
    )
    (out / "bars.svg").write_text(picture(found, titles, caption), encoding="utf-8")
    values = {
        scenario: {
            who: {"seconds": list(it.seconds), "median": it.median, "broke": it.broke, **it.facts}
            for who, it in contenders.items()
        }
        for scenario, contenders in found.items()
    }
    content = json.dumps({"machine": here, "scenarios": values}, indent=2, ensure_ascii=False)
    (out / "results.json").write_text(content + "\n", encoding="utf-8")
    if readme:
        table.put(ROOT / "README.md", f"{text}\n![The same as bars](bench/results/bars.svg)\n")
    print(text)
    say(f"written to {out}")


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


if __name__ == "__main__":
    sys.exit(main())
