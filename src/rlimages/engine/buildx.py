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
    """The exact command of one build, to be run in the project's root, which is its context."""
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
"""Lines of a step that are remembered in case it fails; the log has them all."""
_RUN = re.compile(r"\[[^\]]+\] RUN ")
"""How a step of a Dockerfile that runs something is called: `[build 3/7] RUN make`."""
_CANCELLED = "context canceled"
"""What BuildKit says of the steps that had to stop because another one failed."""


@dataclass
class _Vertex:
    number: int
    name: str
    started: str = ""
    ended: bool = False
    cached: bool = False
    error: str = ""
    unfinished: str = ""
    """The last line of its output as long as its end has not come."""
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))


class ProgressParser:
    """Takes the stream line by line; gives the log to `write` and the name of each step that begins to `on_step`."""

    def __init__(self, write: Callable[[str], None], on_step: Callable[[str], None] = lambda _name: None) -> None:
        self._write = write
        self._on_step = on_step
        self._steps: dict[str, _Vertex] = {}
        self._object: list[str] = []
        self._plain: deque[str] = deque(maxlen=KEPT_LINES)

    def hear(self, line: str) -> None:
        """Take the next line of the stream."""
        if not self._object and line != "{":
            self._say(line)
            return
        self._object.append(line)
        if line != "}":
            return
        text, self._object = "\n".join(self._object), []
        try:
            event: dict[str, Any] = json.loads(text)
        except ValueError:
            for plain in text.splitlines():
                self._say(plain)
        else:
            self._take(event)

    def close(self) -> None:
        """The stream is over: what is left unfinished is said as it stands."""
        for line in self._object:
            self._say(line)
        self._object = []
        for step in self._steps.values():
            self._flush(step)

    @property
    def worked(self) -> bool:
        """True when a `RUN` was run: a build all of whose were cached takes seconds, whatever the cell."""
        return any(step.ended and not step.cached and _RUN.match(step.name) for step in self._steps.values())

    @property
    def trouble(self) -> str:
        """The output of the steps that failed, their errors, and what was said outside of any step."""
        failed = [step for step in self._steps.values() if step.error and _CANCELLED not in step.error]
        lines = [line for step in failed for line in (*step.lines, step.error)]
        return "\n".join([*lines, *self._plain])

    def _take(self, event: dict[str, Any]) -> None:
        for vertex in event.get("vertexes") or ():
            self._vertex(vertex)
        for log in event.get("logs") or ():
            self._output(log)
        for warning in event.get("warnings") or ():
            self._write(f"warning: {base64.b64decode(warning.get('short') or '').decode(errors='replace')}")

    def _vertex(self, vertex: dict[str, Any]) -> None:
        step = self._steps.get(vertex["digest"])
        if step is None:
            step = _Vertex(number=len(self._steps) + 1, name=vertex.get("name", ""))
            self._steps[vertex["digest"]] = step
        if vertex.get("started") and not step.started:
            step.started = vertex["started"]
            self._write(f"#{step.number} {step.name}")
            self._on_step(step.name)
        if vertex.get("completed") and not step.ended:
            self._flush(step)
            step.ended = True
            step.error = vertex.get("error") or ""
            step.cached = bool(vertex.get("cached"))
            if step.error:
                self._write(f"#{step.number} ERROR: {step.error}")
            elif step.cached:
                self._write(f"#{step.number} cached")
            else:
                self._write(f"#{step.number} done in {_seconds(step.started, vertex['completed']):.1f} s")

    def _output(self, log: dict[str, Any]) -> None:
        step = self._steps.get(log.get("vertex", ""))
        if step is None:
            return
        text = step.unfinished + base64.b64decode(log.get("data") or "").decode("utf-8", errors="replace")
        *lines, step.unfinished = text.split("\n")
        when = _seconds(step.started, log.get("timestamp", ""))
        for line in lines:
            self._line(step, line, when)

    def _line(self, step: _Vertex, line: str, when: float) -> None:
        shown = line.rstrip("\r").rsplit("\r", 1)[-1]  # of a progress bar only its last state
        step.lines.append(shown)
        self._write(f"#{step.number} {when:6.1f} {shown}")

    def _flush(self, step: _Vertex) -> None:
        if step.unfinished:
            self._line(step, step.unfinished, 0.0)
            step.unfinished = ""

    def _say(self, line: str) -> None:
        self._plain.append(line)
        self._write(line)


def _seconds(start: str, end: str) -> float:
    """Seconds between two of BuildKit's times; 0 where one is missing."""
    try:
        return max(0.0, (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())
    except ValueError:
        return 0.0
