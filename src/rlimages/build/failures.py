"""Classify a failed build by the lines of its log, and decide whether another attempt may succeed."""

import re
from dataclasses import dataclass

from rlimages.plan.results import Failure, FailureKind

EVIDENCE_LINES = 5
"""Maximum number of log lines in a failure report; the log file has all of them."""
_MAX_WIDTH = 500
"""Maximum number of characters of a line in a failure report; longer lines lose their middle.

Some tools print a whole command line before the error, so both ends of a line matter.
"""


@dataclass(frozen=True, slots=True)
class FailurePattern:
    """A regular expression that shows the kind of a failure if it is found in a line of the build log."""

    kind: FailureKind
    pattern: re.Pattern[str]
    """Searched in each line of the log, without regard to case."""
    transient: bool
    """True if the build may pass at the next attempt."""


def _patterns(kind: FailureKind, *patterns: str, transient: bool = False) -> tuple[FailurePattern, ...]:
    """Compile the regular expressions `patterns`, which all show a failure of `kind` that is `transient` or not."""
    return tuple(FailurePattern(kind, re.compile(pattern, re.IGNORECASE), transient) for pattern in patterns)


FAILURE_PATTERNS: tuple[FailurePattern, ...] = (
    # ENOSPC and EDQUOT of the kernel. libc, dpkg, overlayfs and pip print its message unchanged.
    *_patterns(FailureKind.DISK_FULL, r"no space left on device", r"disk quota exceeded", r"ENOSPC"),
    *_patterns(
        FailureKind.OUT_OF_MEMORY,
        r"exit (code|status):? 137\b",  # 128 + SIGKILL: the kernel's OOM killer ended the RUN
        r"^(.*[: ])?Killed( signal terminated program \w+)?$",  # the shell's message; gcc's for its cc1plus
        # ENOMEM, from runc, the linker or a compiler
        r"cannot allocate memory",
        r"virtual memory exhausted",
        r"out of memory",
        r"\bMemoryError\b",  # Python
        r"ResourceExhausted: process .* OOM",  # BuildKit
    ),
    # Several wordings of ECR: aws/amazon-ecr-credential-helper issues 76, 246 and 288; docker/cli issue 2121.
    *_patterns(
        FailureKind.AUTH,
        r"no basic auth credentials",
        r"authorization token has expired",  # ECR's tokens are valid for 12 hours
        r"pull access denied",
        r"authentication required",
        r"authorization failed",
        r"insufficient_scope",
        r"is not authorized to perform: ecr",  # IAM: the user lacks a permission for the repository
        # 401 and 403 of containerd, Go's registry client, pip and uv
        r"(unexpected status|status code|HTTP error|returned error:?) .{0,60}\b40[13]\b",
        r"\b(401 Unauthorized|403 Forbidden)\b",
        r"denied: requested access to the resource is denied",
    ),
    # The registry answers, and cannot serve the request now.
    *_patterns(
        FailureKind.REGISTRY,
        r"toomanyrequests",  # the error code of the OCI distribution specification; Docker Hub's pull rate limit
        r"unexpected status .{0,200}\b(429|5\d\d)\b",
        r"received unexpected HTTP status: 5\d\d",
        r"blob upload (unknown|invalid)",
        r"digest invalid|failed to verify digest|unexpected commit digest",  # the download was cut or damaged
        transient=True,
    ),
    # The registry answers, and a retry gets the same answer.
    *_patterns(
        FailureKind.REGISTRY,
        r"manifest (for \S+ )?(unknown|not found)",
        r"failed to resolve source metadata for .*: not found",
        r"name unknown|repository .* not found",
        r"server gave HTTP response to HTTPS client",  # a registry without TLS that is not in insecure-registries
        r"unsupported manifest media type",
    ),
    # A network failure that stays until somebody changes the configuration.
    *_patterns(
        FailureKind.NETWORK,
        # The CA of a proxy or mirror is not trusted: Python, Go, curl and uv.
        r"certificate verify failed",
        r"x509: ",
        r"SSL certificate problem",
        r"invalid peer certificate",
        # EAI_NONAME, the name does not exist. EAI_AGAIN, below, is transient: the name server did not answer.
        r"no such host",
        r"name or service not known",
        r"network is unreachable",
    ),
    *_patterns(
        FailureKind.NETWORK,
        r"temporary failure in name resolution",  # glibc's EAI_AGAIN
        r"temporary failure resolving",  # apt
        r"could not resolve host",  # curl and git
        # Go's net package, as BuildKit and containerd print it
        r"dial tcp .*: (i/o timeout|connect: )",
        r"connection (reset by peer|refused|timed out|aborted|closed)",
        r"TLS handshake timeout",
        r"i/o timeout",
        r"unexpected EOF\b",
        # git over HTTP
        r"RPC failed; (curl|HTTP)",
        r"(the remote end hung up|early EOF)",
        # pip's urllib3
        r"ReadTimeoutError|ConnectTimeoutError|ReadTimeout\b|IncompleteRead|ProtocolError|MaxRetryError|NewConnectionError",
        # uv's HTTP client
        r"error sending request for url|request or response body error|operation timed out",
        # apt
        r"^(E|Err|W): ?(Failed to fetch|\d+ http)",
        r"\bunable to fetch some archives\b",
        # A mirror in the middle of an update: dotnet-buildtools-prereqs-docker issue 47, docker/buildx issue 3428.
        r"hash sum mismatch",
        r"mirror sync in progress",
        # a package index or mirror that is down
        r"HTTP Error 5\d\d|\b50[0234] (Bad Gateway|Service Unavailable|Gateway Time-?out|Internal Server Error)",
        transient=True,
    ),
    *_patterns(
        FailureKind.DEPENDENCY_CONFLICT,
        # pip: resolution, missing versions, --require-hashes
        r"ResolutionImpossible",
        r"conflicting dependencies",
        r"no matching distribution found",
        r"could not find a version that satisfies",
        r"requires a different python",
        r"do not match the hashes from the requirements file",
        r"in --require-hashes mode",
        # uv
        r"no solution found when resolving",
        r"hash mismatch for",
        r"your requirements are unsatisfiable",
        r"because .* depends on .* (we can conclude|cannot be used)",
        r"was not found in the (package registry|provided package locations)",
        # apt
        r"the following packages have unmet dependencies",
        r"unable to locate package",
        r"has no installation candidate",
        r"no match for argument: ",  # dnf
    ),
    *_patterns(
        FailureKind.COMPILE,
        # gcc and clang
        r"\S+\.(c|cc|cpp|cxx|h|hpp|pyx):\d+(:\d+)?: (fatal )?error\b",
        r"fatal error: .*: no such file or directory",  # a missing header
        # the linker
        r"undefined reference to",
        r"ld returned \d+ exit status",
        r"collect2: error",
        r"command '?\S*(gcc|g\+\+|cc|clang)\S*'? failed",  # setuptools
        r"cmake error",
        r"could not find cmake",
        r"^ninja: build stopped",
        r"^make(\[\d+\])?: \*\*\* ",
        r"(gcc|g\+\+|cc|cmake|make): (command )?not found",
        r"error: could not compile",  # cargo
        r"failed (building|to build) (wheel|installable wheels|`)",  # pip and uv
        r"unable to find vcvarsall",
    ),
    *_patterns(
        FailureKind.TEST,
        r"^=+ .*\b\d+ failed\b.* =+$",  # pytest's last line
        r"^FAILED \(?(failures|errors|test)",  # unittest
        r"^FAILED \S+::",  # pytest
        r"\d+% tests passed, [1-9]\d* tests? failed",  # ctest
        r"^(E +)?AssertionError\b",  # the check programs of this project
    ),
)
"""All patterns. Kinds come in order of precedence, a cause before its effects: a full disk also breaks the compiler.

Examples of real logs for each kind are in `test/unit/build/test_failures.py`.
"""
_RECOVERED = re.compile(r"^(WARNING: (Retrying|Connection timed out)|W: |Ign:|warning: spurious)")
"""Pattern of warnings after which a tool went on. They count only if no other line explains the failure."""
_EMPTY_INDEX = "(from versions: none)"
"""The end of pip's error if an index has no version of a package, or could not be reached."""
_LAST = re.compile(r"did not complete successfully|^ERROR: failed to (solve|build)|^error: ", re.IGNORECASE)
"""Pattern of the line in which the builder reports how the build ended."""


def diagnose_failure(text: str, *, timed_out: bool = False, cancelled: bool = False, attempts: int = 1) -> Failure:
    """Return the class of a failed build, and the lines that show the cause. `text` is the output of its failed steps.

    With `cancelled` (by the user) or `timed_out` (by the time limit), the class does not depend on `text`. `attempts`
    is the number of attempts so far, and becomes the field of this name. The class is UNKNOWN if no pattern matches.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if cancelled:
        return Failure(kind=FailureKind.INTERRUPTED, evidence=(), attempts=attempts)
    if timed_out:
        return Failure(kind=FailureKind.TIMEOUT, evidence=_shorten(lines[-EVIDENCE_LINES:]), attempts=attempts)
    kind, matches = _first_match([line for line in lines if not _RECOVERED.search(line)])
    if kind is None or any(_EMPTY_INDEX in line for line in matches):
        # pip reports "no such version" also if it never reached the index; only its warnings show the difference.
        warning_kind, warnings = _first_match([line for line in lines if _RECOVERED.search(line)])
        if warning_kind is FailureKind.NETWORK:
            kind, matches = warning_kind, warnings
    if kind is None:
        return Failure(kind=FailureKind.UNKNOWN, evidence=_shorten(lines[-EVIDENCE_LINES:]), attempts=attempts)
    return Failure(kind=kind, evidence=_evidence(matches, lines), attempts=attempts)


def is_transient(failure: Failure) -> bool:
    """Return True if another attempt may succeed.

    That is so if at least one evidence line of `failure` shows a transient cause and none shows a permanent one.
    """
    patterns = [pattern for pattern in FAILURE_PATTERNS if pattern.kind is failure.kind]
    causes = [
        next((pattern.transient for pattern in patterns if pattern.pattern.search(line)), None)
        for line in failure.evidence
    ]
    return True in causes and False not in causes


def _first_match(lines: list[str]) -> tuple[FailureKind | None, list[str]]:
    """Return the first kind, in order of precedence, whose patterns match one of `lines`, and all lines that match.

    Return (None, empty list) if no pattern matches.
    """
    for kind in dict.fromkeys(pattern.kind for pattern in FAILURE_PATTERNS):
        patterns = [pattern for pattern in FAILURE_PATTERNS if pattern.kind is kind]
        matches = [line for line in lines if any(pattern.pattern.search(line) for pattern in patterns)]
        if matches:
            return kind, matches
    return None, []


def _evidence(matches: list[str], lines: list[str]) -> tuple[str, ...]:
    """Return the lines to show for a failure: the first of `matches`, and the line of `lines` that ends the build.

    There are at most `EVIDENCE_LINES`, each one once and shortened.
    """
    shown = list(dict.fromkeys(matches))
    last = next((line for line in reversed(lines) if _LAST.search(line)), None)
    if last is None or last in shown[:EVIDENCE_LINES]:
        return _shorten(shown[:EVIDENCE_LINES])
    return _shorten([*shown[: EVIDENCE_LINES - 1], last])


def _shorten(lines: list[str]) -> tuple[str, ...]:
    """Return `lines`; of lines longer than `_MAX_WIDTH` characters, the middle is replaced by an ellipsis."""
    half = _MAX_WIDTH // 2
    return tuple(line if len(line) <= _MAX_WIDTH else f"{line[:half]} … {line[-half:]}" for line in lines)
