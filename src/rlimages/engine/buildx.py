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
    """Return the exact command of one build. It must run in the project root, which is the build context.

    `metadata` is the file to which buildx writes the id of the new image.
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
"""Output lines of a step that are kept for its error message; the log has all."""
_RUN = re.compile(r"\[[^\]]+\] RUN ")
"""BuildKit's name for a `RUN` instruction: `[build 3/7] RUN make`."""
_CANCELLED = "context canceled"
"""BuildKit's error of a step that was stopped because another one failed."""


@dataclass
class _Step:
    """One step of a build: BuildKit calls it a vertex."""

    number: int
    name: str
    started: str = ""
    completed: bool = False
    cached: bool = False
    error: str = ""
    partial_line: str = ""
    """Output after the last line break."""
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))


class ProgressParser:
    """A parser of `--progress=rawjson`: turns BuildKit's events into a log for people.

    Any other output is copied to the log, so `--progress=plain` works too, without step names.
    """

    def __init__(self, write: Callable[[str], None], on_step: Callable[[str], None] = lambda _name: None) -> None:
        """Pass each log line to `write`, and the name of each step that starts to `on_step`."""
        self._write = write
        self._on_step = on_step
        self._steps: dict[str, _Step] = {}
        self._object_lines: list[str] = []
        self._plain_lines: deque[str] = deque(maxlen=KEPT_LINES)

    def feed(self, line: str) -> None:
        """Parse the next line of output. An event is a JSON object over several lines, from `{` to `}`."""
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
        """Write the incomplete lines and events to the log, at the end of the output."""
        for line in self._object_lines:
            self._copy(line)
        self._object_lines = []
        for step in self._steps.values():
            self._flush(step)

    @property
    def ran_steps(self) -> bool:
        """True if at least one `RUN` was executed.

        A build that takes every `RUN` from the cache takes seconds for any image, so its time says nothing.
        """
        return any(step.completed and not step.cached and _RUN.match(step.name) for step in self._steps.values())

    @property
    def error(self) -> str:
        """Output and errors of the failed steps, then all output that belongs to no step."""
        failed = [step for step in self._steps.values() if step.error and _CANCELLED not in step.error]
        lines = [line for step in failed for line in (*step.lines, step.error)]
        return "\n".join([*lines, *self._plain_lines])

    def _handle_event(self, event: dict[str, Any]) -> None:
        for vertex in event.get("vertexes") or ():
            self._handle_vertex(vertex)
        for log in event.get("logs") or ():
            self._handle_output(log)
        for warning in event.get("warnings") or ():
            self._write(f"warning: {base64.b64decode(warning.get('short') or '').decode(errors='replace')}")

    def _handle_vertex(self, vertex: dict[str, Any]) -> None:
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
        step = self._steps.get(log.get("vertex", ""))
        if step is None:
            return
        text = step.partial_line + base64.b64decode(log.get("data") or "").decode("utf-8", errors="replace")
        *lines, step.partial_line = text.split("\n")
        seconds = _seconds(step.started, log.get("timestamp", ""))
        for line in lines:
            self._write_output(step, line, seconds)

    def _write_output(self, step: _Step, line: str, seconds: float) -> None:
        shown = line.rstrip("\r").rsplit("\r", 1)[-1]  # a progress bar overwrites its line: keep its last state
        step.lines.append(shown)
        self._write(f"#{step.number} {seconds:6.1f} {shown}")

    def _flush(self, step: _Step) -> None:
        if step.partial_line:
            self._write_output(step, step.partial_line, 0.0)
            step.partial_line = ""

    def _copy(self, line: str) -> None:
        self._plain_lines.append(line)
        self._write(line)


def _seconds(start: str, end: str) -> float:
    """Return the seconds between two of BuildKit's timestamps; 0 if one is missing."""
    try:
        return max(0.0, (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())
    except ValueError:
        return 0.0
