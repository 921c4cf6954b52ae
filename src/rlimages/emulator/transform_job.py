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
"""Largest product of MaxConcurrentTransforms and MaxPayloadInMB that CreateTransformJob accepts."""


class BatchStrategy(StrEnum):
    """How many records a request has: one, or as many as fit. The values are those of CreateTransformJob."""

    SINGLE = "SingleRecord"
    MULTI = "MultiRecord"


_CONTAINER_STRATEGIES = {BatchStrategy.SINGLE: "SINGLE_RECORD", BatchStrategy.MULTI: "MULTI_RECORD"}
"""Strategy -> its spelling in SAGEMAKER_BATCH_STRATEGY and /execution-parameters, unlike that of CreateTransformJob."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestOptions:
    """The settings of a job for its requests, as the user gave them. The container decides about those that are None.

    The constructor raises `JobError` for combinations that CreateTransformJob refuses.
    """

    split_lines: bool = False
    """True if SplitType is Line: each line of a file is a record. False if it is None: each file is one."""
    strategy: BatchStrategy | None = None
    max_payload_mb: int | None = None
    """MaxPayloadInMB; 0 for no limit."""
    max_concurrent: int | None = None
    """MaxConcurrentTransforms; with 0, as with None, the container decides."""

    def __post_init__(self) -> None:
        """Raise `JobError` for combinations that CreateTransformJob refuses."""
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
        """The environment variables by which SageMaker passes the settings that are not None to the container."""
        values = {
            "SAGEMAKER_MAX_PAYLOAD_IN_MB": self.max_payload_mb,
            "SAGEMAKER_BATCH_STRATEGY": None if self.strategy is None else _CONTAINER_STRATEGIES[self.strategy],
            "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": self.max_concurrent,
        }
        return {name: str(value) for name, value in values.items() if value is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestSettings:
    """The settings of a job for its requests, with every default applied."""

    split_lines: bool
    """True if each line of a file is a record, False if each file is one."""
    strategy: BatchStrategy
    max_bytes: int
    """Largest body of a request in bytes; 0 for no limit."""
    max_concurrent: int
    """Largest number of requests that are open at the same time."""


class _ExecutionParameters(BaseModel):
    """The body of the answer to GET /execution-parameters."""

    model_config = ConfigDict(strict=True, extra="ignore")

    max_concurrent: int | None = Field(None, alias="MaxConcurrentTransforms", ge=0)
    strategy: Literal["SINGLE_RECORD", "MULTI_RECORD"] | None = Field(None, alias="BatchStrategy")
    max_payload_mb: int | None = Field(None, alias="MaxPayloadInMB", ge=0)


def decide_settings(options: RequestOptions, answer: bytes | None) -> RequestSettings:
    """Return the settings of a job: those of `options`, or else the container's, or else SageMaker's defaults.

    `answer` is the body of the answer to GET /execution-parameters; None if the container does not support it. Raises
    `JobError` if the body is invalid.
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
    """One request of a job. Its body has one or several records of one file."""

    body: bytes
    first_line: int
    """Number of the line with the first record, from 1; 0 if the request is a whole file."""
    last_line: int
    """Number of the line with the last record; 0 if the request is a whole file."""
    records: int
    """Number of records in the body."""

    @property
    def location(self) -> str:
        """The request's lines as a suffix of the file's name in messages: `:7` or `:7-12`; empty for a whole file."""
        if not self.first_line:
            return ""
        last = "" if self.first_line == self.last_line else f"-{self.last_line}"
        return f":{self.first_line}{last}"


class RecordTooLargeError(Exception):
    """A record is larger than the largest request.

    The text of the error is the record's location in the file, as in `TransformRequest.location`.
    """


def split_requests(file: BinaryIO, settings: RequestSettings) -> Iterator[TransformRequest]:
    """Yield the requests for the content of `file` in the order of its records.

    A record is one line of the file with its line break, or the whole file. Lines that have only white space are left
    out. An empty file has no request. Raises `RecordTooLargeError` at a record that is larger than
    `settings.max_bytes`.
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
    """Return `body`, the body of a response, as it is written to the output file.

    With `end_lines` (AssembleWith is Line) a newline is added, unless the body ends with one.
    """
    return body + b"\n" if end_lines and not body.endswith(b"\n") else body


def _read_records(file: BinaryIO, max_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Yield the number, from 1, and the bytes of each line that is a record.

    Raises `RecordTooLargeError` at a line that is longer than `max_bytes` (0 for no limit).
    """
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
    """The outcome of one input file of a job."""

    name: str
    """Path of the input file relative to the input folder."""
    output: str
    """Path of the output file; empty if the file failed."""
    reason: str
    """Why the file failed, in one sentence with the location in the file; empty if it did not fail."""
    records: int
    """Number of records whose responses were received."""
    seconds: float
    """Seconds from the first reading of the file to its outcome."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformResult:
    """How a batch transform job ended: its status, the reason, and the outcome of each file."""

    status: JobStatus
    reason: str
    """Why the job failed or was stopped, in one sentence; empty if it completed."""
    files: tuple[TransformedFile, ...]
    """The files that were transformed or failed before the job ended, in the order of the input files."""
    seconds: float
    """Seconds from the creation of the container to the end of the job."""
    last_lines: tuple[str, ...] = ()
    """The last lines of the container's log if the container failed, else an empty tuple."""
