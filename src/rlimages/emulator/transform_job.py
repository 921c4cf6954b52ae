"""A batch transform job: how its input files are split into requests, and the outcome of each file.

The environment variables and GET /execution-parameters are described in "Use Your Own Inference Code with Batch
Transform" (SageMaker Developer Guide), the options in the API reference of CreateTransformJob.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rlimages.emulator.job import JobStatus
from rlimages.errors import JobError

MEGABYTE = 2**20
"""Bytes of one MB in MaxPayloadInMB."""
DEFAULT_PAYLOAD_MB = 6
"""MaxPayloadInMB if neither the job nor the container sets it."""
MAX_OPEN_MB = 100
"""Largest product of MaxConcurrentTransforms and MaxPayloadInMB in CreateTransformJob."""


class BatchStrategy(StrEnum):
    """How many records a request has. The values are those of CreateTransformJob."""

    SINGLE = "SingleRecord"
    MULTI = "MultiRecord"


_CONTAINER_STRATEGIES = {BatchStrategy.SINGLE: "SINGLE_RECORD", BatchStrategy.MULTI: "MULTI_RECORD"}
"""The spelling in SAGEMAKER_BATCH_STRATEGY and /execution-parameters, which is not that of CreateTransformJob."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestOptions:
    """The job's own settings for its requests. The container decides about those that are None.

    Raises `JobError` for combinations that CreateTransformJob refuses.
    """

    split_lines: bool = False
    """True if SplitType is Line, False if it is None."""
    strategy: BatchStrategy | None = None
    max_payload_mb: int | None = None
    """MaxPayloadInMB; 0 for no limit."""
    max_concurrent: int | None = None
    """MaxConcurrentTransforms; 0 also lets the container decide."""

    def __post_init__(self) -> None:
        if (self.max_payload_mb or 0) * (self.max_concurrent or 1) > MAX_OPEN_MB:
            raise JobError(
                f"--max-payload-in-mb {self.max_payload_mb} times --max-concurrent-transforms"
                f" {self.max_concurrent or 1} is more than {MAX_OPEN_MB}, SageMaker's limit"
            )
        if self.strategy is not None and not self.split_lines:
            raise JobError(
                f"--batch-strategy {self.strategy} needs --split-type Line; without it, each file is one request"
            )

    @property
    def variables(self) -> Mapping[str, str]:
        """The environment variables by which SageMaker passes the job's settings to the container."""
        values = {
            "SAGEMAKER_MAX_PAYLOAD_IN_MB": self.max_payload_mb,
            "SAGEMAKER_BATCH_STRATEGY": None if self.strategy is None else _CONTAINER_STRATEGIES[self.strategy],
            "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": self.max_concurrent,
        }
        return {name: str(value) for name, value in values.items() if value is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestSettings:
    """The settings for the requests of a job, with every default applied."""

    split_lines: bool
    strategy: BatchStrategy
    max_bytes: int
    """Largest body of a request; 0 for no limit."""
    max_concurrent: int
    """Largest number of open requests."""


class _ExecutionParameters(BaseModel):
    """The answer to GET /execution-parameters."""

    model_config = ConfigDict(strict=True, extra="ignore")

    max_concurrent: int | None = Field(None, alias="MaxConcurrentTransforms", ge=0)
    strategy: Literal["SINGLE_RECORD", "MULTI_RECORD"] | None = Field(None, alias="BatchStrategy")
    max_payload_mb: int | None = Field(None, alias="MaxPayloadInMB", ge=0)


def decide_settings(options: RequestOptions, answer: bytes | None) -> RequestSettings:
    """Return the settings of a job: its own, or else the container's, or else SageMaker's defaults.

    `answer` is the body of the answer to GET /execution-parameters; None if the container has none. Raises `JobError`
    if it is not valid.
    """
    try:
        container = _ExecutionParameters.model_validate({} if answer is None else json.loads(answer))
    except ValidationError as error:
        first = error.errors()[0]
        raise JobError(
            f"the answer to GET /execution-parameters has an invalid {first['loc'][-1]}: {first['msg']}"
            if first["loc"]
            else "the answer to GET /execution-parameters is not a JSON object"
        ) from error
    except ValueError as error:
        raise JobError(f"the answer to GET /execution-parameters is not JSON: {error}") from error
    container_strategy = BatchStrategy.SINGLE if container.strategy == "SINGLE_RECORD" else BatchStrategy.MULTI
    # In order of precedence. 0 is a value of its own here: no limit.
    payloads = (options.max_payload_mb, container.max_payload_mb, DEFAULT_PAYLOAD_MB)
    return RequestSettings(
        split_lines=options.split_lines,
        strategy=options.strategy or container_strategy,
        max_bytes=next(megabytes for megabytes in payloads if megabytes is not None) * MEGABYTE,
        max_concurrent=options.max_concurrent or container.max_concurrent or 1,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformRequest:
    """One request of a job: some records of one file."""

    body: bytes
    first_line: int
    """Line of its first record, from 1; 0 if the request is a whole file."""
    last_line: int
    records: int

    @property
    def location(self) -> str:
        """The suffix of the file's name in messages: `:7` or `:7-12`; empty if the request is a whole file."""
        if not self.first_line:
            return ""
        last = "" if self.first_line == self.last_line else f"-{self.last_line}"
        return f":{self.first_line}{last}"


class RecordTooLargeError(Exception):
    """A record that is larger than the largest request. The text is its location in the file, as in `location`."""


def split_requests(file: BinaryIO, settings: RequestSettings) -> Iterator[TransformRequest]:
    """Yield the requests of a file in order. Raises `RecordTooLargeError` at a record that is too large.

    A record is one line of the file with its line break, or the whole file. Lines that have only white space are left
    out. An empty file has no request.
    """
    if not settings.split_lines:
        # one byte more than allowed shows that the file is too large, without reading all of it
        body = file.read(settings.max_bytes + 1) if settings.max_bytes else file.read()
        if settings.max_bytes and len(body) > settings.max_bytes:
            raise RecordTooLargeError("")
        if body:
            yield TransformRequest(body=body, first_line=0, last_line=0, records=1)
        return
    records: list[bytes] = []
    first = last = size = 0
    for number, line in _read_records(file, settings.max_bytes):
        is_full = settings.max_bytes and size + len(line) > settings.max_bytes
        if records and (is_full or settings.strategy is BatchStrategy.SINGLE):
            yield TransformRequest(body=b"".join(records), first_line=first, last_line=last, records=len(records))
            records, size = [], 0
        first = first if records else number
        last = number
        size += len(line)
        records.append(line)
    if records:
        yield TransformRequest(body=b"".join(records), first_line=first, last_line=last, records=len(records))


def assemble_response(body: bytes, *, end_lines: bool) -> bytes:
    """Return a response as it is written to the output file.

    With `end_lines` (AssembleWith is Line) a newline is added, unless the response ends with one.
    """
    return body + b"\n" if end_lines and not body.endswith(b"\n") else body


def _read_records(file: BinaryIO, max_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Yield the number and the text of each line that is a record. Raises `RecordTooLargeError`."""
    number = 0
    # one byte more than allowed shows that a line is too long, without reading all of it
    while line := file.readline(max_bytes + 1 if max_bytes else -1):
        number += 1
        if max_bytes and len(line) > max_bytes:
            raise RecordTooLargeError(f":{number}")
        if line.strip():
            yield number, line


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformedFile:
    """The outcome of one input file."""

    name: str
    """Relative to the input folder."""
    output: str
    """Path of the output file; empty if the file failed."""
    reason: str
    """Why it failed, with the location in the file; empty if it did not."""
    records: int
    """Number of transformed records."""
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformResult:
    """The end of a batch transform job: its status, why, and the outcome of each file."""

    status: JobStatus
    reason: str
    """Why it failed or was stopped, in one sentence; empty if it completed."""
    files: tuple[TransformedFile, ...]
    """The files that were finished."""
    seconds: float
    last_lines: tuple[str, ...] = ()
    """The last lines of the container's log, if the job failed because of the container."""
