"""Names, statuses and option formats that training jobs, batch transform jobs and endpoints share."""

import re
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum

from rlimages.errors import Interrupted, JobError

ALL_GPUS = -1
"""Number of GPUs that stands for all GPUs of this machine; Docker's device requests use the same number."""


class JobStatus(StrEnum):
    """How a training or batch transform job ended. The values are those of SageMaker's API."""

    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPED = "Stopped"


EXIT_CODES = {JobStatus.COMPLETED: 0, JobStatus.FAILED: 1, JobStatus.STOPPED: Interrupted.exit_code}
"""Status -> exit code of `rlimages train` and `rlimages transform`."""


def make_job_name(image: str, now: datetime, process: int) -> str:
    """Return the name of a new job or endpoint, such as `ray-2026-01-31-12-00-00-123-4567`.

    It is made of the image's name in the reference `image`, the time `now` to the millisecond, and the process id
    `process`. The SageMaker SDK makes names like it, but without the process id. Here two jobs of one machine may start
    within the same millisecond. A name has at most 63 characters, SageMaker's limit.
    """
    stamp = now.strftime("%Y-%m-%d-%H-%M-%S-") + f"{now.microsecond // 1000:03}-{process}"
    words = re.findall("[A-Za-z0-9]+", image.partition("@")[0].rpartition("/")[2].partition(":")[0])
    # SageMaker's 63 characters, less the dash before the stamp.
    return f"{'-'.join(words or ['job'])[: 62 - len(stamp)].rstrip('-')}-{stamp}"


def parse_pairs(arguments: Iterable[str], option: str) -> dict[str, str]:
    """Return name -> value of `arguments`, each written as `NAME=VALUE`. A value may contain `=`.

    `option` is the option of the command line that the arguments belong to, for messages. Raises `JobError` if an
    argument has no `=` or no name, or if a name is given twice.
    """
    pairs: dict[str, str] = {}
    for argument in arguments:
        name, sign, value = argument.partition("=")
        if not (name and sign):
            raise JobError(f"{option} {argument}: write it as NAME=VALUE")
        if name in pairs:
            raise JobError(f"{option} {name} is given twice")
        pairs[name] = value
    return pairs


def parse_gpus(argument: str | None) -> int:
    """Return the number of GPUs for `argument`, the value of `--gpus`: `ALL_GPUS` for `all`, 0 for None (no option).

    Raises `JobError` if the value is neither a number nor `all`.
    """
    if argument == "all":
        return ALL_GPUS
    if argument is not None and not argument.isdecimal():
        raise JobError(f"--gpus {argument}: give a number, or all")
    return int(argument or 0)
