"""Split files into the requests of a batch transform job, and assemble the responses."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rlimages.emulator.training_job import JobStatus
from rlimages.errors import JobError


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformedFile:
    """What became of one file of a batch transform job."""

    name: str
    """Below the input folder."""
    output: str
    """Path of what was made of it; empty when it failed."""
    reason: str
    """Why it failed, with its place in the file; empty when it passed."""
    records: int
    """How many were transformed."""
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformResult:
    """How a batch transform job ended, and why."""

    status: JobStatus
    reason: str
    files: tuple[TransformedFile, ...]
    seconds: float
    last: tuple[str, ...] = ()
    """What its container printed last, when that is why."""


MEGABYTE = 2**20
DEFAULT_PAYLOAD_MB = 6
"""MaxPayloadInMB where neither the job nor the container says."""
MAX_CONCURRENT_MB = 100
"""MaxConcurrentTransforms times MaxPayloadInMB may not be more."""


class Strategy(StrEnum):
    """How many records a request has."""

    SINGLE = "SingleRecord"
    MULTI = "MultiRecord"


_AS_THEY_SAY = {Strategy.SINGLE: "SINGLE_RECORD", Strategy.MULTI: "MULTI_RECORD"}
"""How containers are told, and tell."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchOptions:
    """What a job says about its requests; None is for the container to say."""

    by_line: bool = False
    """SplitType is Line."""
    strategy: Strategy | None = None
    payload: int | None = None
    """MaxPayloadInMB; 0 for any size."""
    concurrent: int | None = None
    """MaxConcurrentTransforms; 0 is for the container to say, too."""

    def __post_init__(self) -> None:
        if (self.payload or 0) * (self.concurrent or 1) > MAX_CONCURRENT_MB:
            raise JobError(
                f"--max-payload-in-mb {self.payload}: times --max-concurrent-transforms it may be {MAX_CONCURRENT_MB} at most"
            )
        if self.strategy is not None and not self.by_line:
            raise JobError(f"--batch-strategy {self.strategy} needs --split-type Line: without, a file is one request")

    @property
    def variables(self) -> Mapping[str, str]:
        """What SageMaker tells the container of it, through the environment."""
        told = {
            "SAGEMAKER_MAX_PAYLOAD_IN_MB": self.payload,
            "SAGEMAKER_BATCH_STRATEGY": None if self.strategy is None else _AS_THEY_SAY[self.strategy],
            "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": self.concurrent,
        }
        return {name: str(value) for name, value in told.items() if value is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchSettings:
    """How the requests of a job are made."""

    by_line: bool
    strategy: Strategy
    payload: int
    """Bytes that a request may have; 0 for any number."""
    concurrent: int


class _Parameters(BaseModel):
    """The answer to GET /execution-parameters."""

    model_config = ConfigDict(strict=True, extra="ignore")

    concurrent: int | None = Field(None, alias="MaxConcurrentTransforms", ge=0)
    strategy: Literal["SINGLE_RECORD", "MULTI_RECORD"] | None = Field(None, alias="BatchStrategy")
    payload: int | None = Field(None, alias="MaxPayloadInMB", ge=0)


def decide_settings(asked: BatchOptions, said: bytes | None) -> BatchSettings:
    """What counts: the job's own word, then the container's (its answer to GET /execution-parameters), then defaults.

    Raises `JobError` where the container's answer makes no sense.
    """
    try:
        container = _Parameters.model_validate({} if said is None else json.loads(said))
    except ValidationError as error:
        where = error.errors()[0]
        raise JobError(
            f"GET /execution-parameters was answered with a strange {where['loc'][-1]}: {where['msg']}"
            if where["loc"]
            else "GET /execution-parameters was answered with no JSON object"
        ) from error
    except ValueError as error:
        raise JobError(f"GET /execution-parameters was answered with no JSON: {error}") from error
    theirs = Strategy.SINGLE if container.strategy == "SINGLE_RECORD" else Strategy.MULTI
    payloads = [size for size in (asked.payload, container.payload, DEFAULT_PAYLOAD_MB) if size is not None]
    return BatchSettings(
        by_line=asked.by_line,
        strategy=asked.strategy or theirs,
        payload=payloads[0] * MEGABYTE,
        concurrent=asked.concurrent or container.concurrent or 1,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What one request brings: some records of one file."""

    body: bytes
    first: int
    """The line of its first record, from 1; 0 when it is a whole file."""
    last: int
    records: int

    @property
    def place(self) -> str:
        """Where it is in its file: `:7`, or `:7-12`, or nothing when it is all of it."""
        if not self.first:
            return ""
        return f":{self.first}" if self.first == self.last else f":{self.first}-{self.last}"


class RecordTooLarge(Exception):
    """A record that fits into no request; its place in the file."""


def split_requests(file: BinaryIO, how: BatchSettings) -> Iterator[Request]:
    """A file as requests, in order. Raises `TooLarge` at a record that is larger than a payload may be.

    A record is a line, as it is in the file; a line with nothing but white space is none.
    """
    if not how.by_line:
        body = file.read(how.payload + 1) if how.payload else file.read()
        if how.payload and len(body) > how.payload:
            raise RecordTooLarge("")
        if body:
            yield Request(body=body, first=0, last=0, records=1)
        return
    records: list[bytes] = []
    first = last = size = 0
    for number, line in _lines(file, how.payload):
        full = how.payload and size + len(line) > how.payload
        if records and (full or how.strategy is Strategy.SINGLE):
            yield Request(body=b"".join(records), first=first, last=last, records=len(records))
            records, size = [], 0
        first = first if records else number
        last = number
        size += len(line)
        records.append(line)
    if records:
        yield Request(body=b"".join(records), first=first, last=last, records=len(records))


def assemble_response(answer: bytes, *, by_line: bool) -> bytes:
    """An answer as it comes into the output file: with AssembleWith Line it ends with a newline."""
    return answer + b"\n" if by_line and not answer.endswith(b"\n") else answer


def _lines(file: BinaryIO, limit: int) -> Iterator[tuple[int, bytes]]:
    """Number and text of the lines that are records; no more than `limit` bytes are read to find one too long."""
    number = 0
    while line := file.readline(limit + 1 if limit else -1):
        number += 1
        if limit and len(line) > limit:
            raise RecordTooLarge(f":{number}")
        if line.strip():
            yield number, line
