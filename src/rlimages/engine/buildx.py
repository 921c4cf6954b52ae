"""The `docker buildx build` command line, and a parser of BuildKit's progress stream."""

import base64
import json
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from rlimages.engine.protocol import BuildRequest


def build_argv(request: BuildRequest, *, metadata: Path, progress: str = "rawjson") -> list[str]:
    """Return the `docker buildx build` command for `request`. It must run in the build context, the project root.

    `metadata` is the file to which buildx writes the id of the new image. `progress` is the format of the output:
    `rawjson`, or `plain` for a buildx that does not know it.
    """
    # BuildKit makes an index for provenance and SBOM (moby/buildkit#5480), which no acceptance profile allows.
    argv = ["docker", "buildx", "build", f"--progress={progress}", "--provenance=false", "--sbom=false", "--load"]
    argv += [f"--metadata-file={metadata}", f"--file={request.dockerfile}", f"--tag={request.tag}"]
    argv += ["--no-cache"] if request.no_cache else []
    argv += [f"--cache-from=type=registry,ref={image}" for image in request.cache_from]
    argv += ["--cache-to=type=inline"] if request.inline_cache else []
    argv += [f"--build-arg={name}={value}" for name, value in request.arguments]
    argv += [f"--build-arg=SOURCE_DATE_EPOCH={request.epoch}"] if request.epoch is not None else []
    argv += [f"--build-context={name}={source}" for name, source in request.contexts]
    argv += [f"--label={name}={value}" for name, value in request.labels]
    return [*argv, "."]


KEPT_LINES = 400
"""Number of output lines of a step that are kept for its error message, the last ones; the log has all lines."""
_RUN = re.compile(r"\[[^\]]+\] RUN ")
"""Matches BuildKit's name for the step of a `RUN` instruction, such as `[build 3/7] RUN make`."""
_CANCELLED = "context canceled"
"""Part of BuildKit's error message for a step that was stopped because another step failed."""


@dataclass
class _Step:
    """One step of a build, such as a `RUN` instruction, with its output. BuildKit calls it a vertex."""

    number: int
    """Position in the order in which BuildKit reported the steps, from 1."""
    name: str
    started: str = ""
    """BuildKit's timestamp; empty before the step starts."""
    completed: bool = False
    cached: bool = False
    """True if the result came from the builder's cache."""
    error: str = ""
    """BuildKit's message; empty if the step did not fail."""
    partial_line: str = ""
    """Output after the last line break."""
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    """The last lines of output."""


class ProgressParser:
    """A parser of the output of one `docker buildx build --progress=rawjson`: turns its events into a log for people.

    Lines that are no events are copied to the log, so `--progress=plain` works too, but no step is known then.
    """

    def __init__(self, write: Callable[[str], None], on_step: Callable[[str], None] = lambda _name: None) -> None:
        """Call `write` with each line of the log, and `on_step` with the name of each step when it starts."""
        self._write = write
        self._on_step = on_step
        self._steps: dict[str, _Step] = {}
        self._object_lines: list[str] = []
        self._plain_lines: deque[str] = deque(maxlen=KEPT_LINES)

    def feed(self, line: str) -> None:
        """Parse `line`, the next line of the build's output.

        An event is a JSON object over several lines, from a line `{` to a line `}`.
        """
        if not self._object_lines and line != "{":
            self._copy(line)
            return
        self._object_lines.append(line)
        if line != "}":
            return
        text, self._object_lines = "\n".join(self._object_lines), []
        try:
            event: dict[str, Any] = json.loads(text)
        except ValueError:
            for plain in text.splitlines():
                self._copy(plain)
        else:
            self._handle_event(event)

    def close(self) -> None:
        """Write incomplete lines and events to the log. Must be called after the last line of output."""
        for line in self._object_lines:
            self._copy(line)
        self._object_lines = []
        for step in self._steps.values():
            self._flush(step)

    @property
    def ran_steps(self) -> bool:
        """True if at least one `RUN` instruction was executed, and not taken from the builder's cache.

        A build with every `RUN` from the cache takes seconds for any image, so its duration is no estimate for the
        next.
        """
        return any(step.completed and not step.cached and _RUN.match(step.name) for step in self._steps.values())

    @property
    def error(self) -> str:
        """The last output lines and the error of each failed step, then the last lines that belong to no step.

        Steps that were stopped because another step failed are left out.
        """
        failed = [step for step in self._steps.values() if step.error and _CANCELLED not in step.error]
        lines = [line for step in failed for line in (*step.lines, step.error)]
        return "\n".join([*lines, *self._plain_lines])

    def _handle_event(self, event: dict[str, Any]) -> None:
        """Update the steps and write the log from `event`, a JSON object about steps, their output, and warnings."""
        for vertex in event.get("vertexes") or ():
            self._handle_vertex(vertex)
        for log in event.get("logs") or ():
            self._handle_output(log)
        for warning in event.get("warnings") or ():
            self._write(f"warning: {base64.b64decode(warning.get('short') or '').decode(errors='replace')}")

    def _handle_vertex(self, vertex: dict[str, Any]) -> None:
        """Update one step from `vertex`, BuildKit's description of it, and write its start and end to the log."""
        step = self._steps.get(vertex["digest"])
        if step is None:
            step = _Step(number=len(self._steps) + 1, name=vertex.get("name", ""))
            self._steps[vertex["digest"]] = step
        if vertex.get("started") and not step.started:
            step.started = vertex["started"]
            self._write(f"#{step.number} {step.name}")
            self._on_step(step.name)
        if vertex.get("completed") and not step.completed:
            self._flush(step)
            step.completed = True
            step.error = vertex.get("error") or ""
            step.cached = bool(vertex.get("cached"))
            if step.error:
                self._write(f"#{step.number} ERROR: {step.error}")
            elif step.cached:
                self._write(f"#{step.number} cached")
            else:
                self._write(f"#{step.number} done in {_seconds(step.started, vertex['completed']):.1f} s")

    def _handle_output(self, log: dict[str, Any]) -> None:
        """Write the output in `log`, a part of one step's output, to the log of the build, up to the last line break.

        The rest is kept until more output follows. Output that belongs to no known step is left out.
        """
        step = self._steps.get(log.get("vertex", ""))
        if step is None:
            return
        text = step.partial_line + base64.b64decode(log.get("data") or "").decode("utf-8", errors="replace")
        *lines, step.partial_line = text.split("\n")
        seconds = _seconds(step.started, log.get("timestamp", ""))
        for line in lines:
            self._write_output(step, line, seconds)

    def _write_output(self, step: _Step, line: str, seconds: float) -> None:
        """Write `line`, an output line of `step`, to the log; `seconds` is the time since the step started."""
        shown = line.rstrip("\r").rsplit("\r", 1)[-1]  # a progress bar overwrites its line: keep its last state
        step.lines.append(shown)
        self._write(f"#{step.number} {seconds:6.1f} {shown}")

    def _flush(self, step: _Step) -> None:
        """Write the output of `step` after its last line break to the log."""
        if step.partial_line:
            self._write_output(step, step.partial_line, 0.0)
            step.partial_line = ""

    def _copy(self, line: str) -> None:
        """Write `line`, which is part of no event, to the log, and keep it for the error message."""
        self._plain_lines.append(line)
        self._write(line)


def _seconds(start: str, end: str) -> float:
    """Return the seconds from `start` to `end`, two of BuildKit's timestamps; 0 if one is missing."""
    try:
        return max(0.0, (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())
    except ValueError:
        return 0.0
