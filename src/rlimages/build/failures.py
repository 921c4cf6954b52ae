"""Classify a failed build by its log, and say whether a retry may help."""

import re
from dataclasses import dataclass

from rlimages.plan.results import Failure, FailureKind

EVIDENCE_LINES = 5
"""How many lines a failure shows; the log has them all."""
_WIDTH = 500
"""Longer lines lose their middle: some tools print a whole command line before they say what it came to."""


@dataclass(frozen=True, slots=True)
class FailurePattern:
    """A line that shows a kind of failure."""

    kind: FailureKind
    pattern: re.Pattern[str]
    transient: bool


def _patterns(kind: FailureKind, *patterns: str, transient: bool = False) -> tuple[FailurePattern, ...]:
    return tuple(FailurePattern(kind, re.compile(pattern, re.IGNORECASE), transient) for pattern in patterns)


FAILURE_PATTERNS: tuple[FailurePattern, ...] = (
    # The kernel's ENOSPC and EDQUOT, as libc, dpkg, overlayfs and pip repeat them.
    *_patterns(FailureKind.DISK_FULL, r"no space left on device", r"disk quota exceeded", r"ENOSPC"),
    # 137 is 128 + SIGKILL, which is how the kernel's OOM killer ends a RUN; gcc, the linker and Python say it in words.
    *_patterns(
        FailureKind.OUT_OF_MEMORY,
        r"exit (code|status):? 137\b",
        r"^(.*[: ])?Killed( signal terminated program \w+)?$",
        r"cannot allocate memory",
        r"virtual memory exhausted",
        r"out of memory",
        r"\bMemoryError\b",
        r"ResourceExhausted: process .* OOM",
    ),
    # ECR says it in at least these ways (aws/amazon-ecr-credential-helper issues 76, 246 and 288; docker/cli 2121).
    *_patterns(
        FailureKind.AUTH,
        r"no basic auth credentials",
        r"authorization token has expired",
        r"pull access denied",
        r"authentication required",
        r"authorization failed",
        r"insufficient_scope",
        r"is not authorized to perform: ecr",
        r"(unexpected status|status code|HTTP error|returned error:?) .{0,60}\b40[13]\b",
        r"\b(401 Unauthorized|403 Forbidden)\b",
        r"denied: requested access to the resource is denied",
    ),
    # A registry that is there and cannot now: distribution's error codes and HTTP statuses.
    *_patterns(
        FailureKind.REGISTRY,
        r"toomanyrequests",
        r"unexpected status .{0,200}\b(429|5\d\d)\b",
        r"received unexpected HTTP status: 5\d\d",
        r"blob upload (unknown|invalid)",
        r"digest invalid|failed to verify digest|unexpected commit digest",
        transient=True,
    ),
    # ... and one that has no such thing.
    *_patterns(
        FailureKind.REGISTRY,
        r"manifest (for \S+ )?(unknown|not found)",
        r"failed to resolve source metadata for .*: not found",
        r"name unknown|repository .* not found",
        r"server gave HTTP response to HTTPS client",
        r"unsupported manifest media type",
    ),
    # Certificates: never cured by waiting.
    *_patterns(
        FailureKind.NETWORK,
        r"certificate verify failed",
        r"x509: ",
        r"SSL certificate problem",
        r"invalid peer certificate",
        # A name that does not exist is not a name that can't be looked up now (EAI_NONAME and EAI_AGAIN).
        r"no such host",
        r"name or service not known",
        r"network is unreachable",
    ),
    # Go's net, glibc, curl, apt, git, pip's urllib3 and uv's reqwest.
    *_patterns(
        FailureKind.NETWORK,
        r"temporary failure in name resolution",
        r"temporary failure resolving",
        r"could not resolve host",
        r"dial tcp .*: (i/o timeout|connect: )",
        r"connection (reset by peer|refused|timed out|aborted|closed)",
        r"TLS handshake timeout",
        r"i/o timeout",
        r"unexpected EOF\b",
        r"RPC failed; (curl|HTTP)",
        r"(the remote end hung up|early EOF)",
        r"ReadTimeoutError|ConnectTimeoutError|ReadTimeout\b|IncompleteRead|ProtocolError|MaxRetryError|NewConnectionError",
        r"error sending request for url|request or response body error|operation timed out",
        r"^(E|Err|W): ?(Failed to fetch|\d+ http)",
        r"\bunable to fetch some archives\b",
        # A mirror in the middle of an update: dotnet-buildtools-prereqs-docker issue 47, docker/buildx 3428.
        r"hash sum mismatch",
        r"mirror sync in progress",
        r"HTTP Error 5\d\d|\b50[0234] (Bad Gateway|Service Unavailable|Gateway Time-?out|Internal Server Error)",
        transient=True,
    ),
    # pip (resolution, missing versions, --require-hashes), uv (its resolver's prose) and apt.
    *_patterns(
        FailureKind.DEPENDENCY_CONFLICT,
        r"ResolutionImpossible",
        r"conflicting dependencies",
        r"no matching distribution found",
        r"could not find a version that satisfies",
        r"requires a different python",
        r"do not match the hashes from the requirements file",
        r"in --require-hashes mode",
        r"no solution found when resolving",
        r"hash mismatch for",
        r"your requirements are unsatisfiable",
        r"because .* depends on .* (we can conclude|cannot be used)",
        r"was not found in the (package registry|provided package locations)",
        r"the following packages have unmet dependencies",
        r"unable to locate package",
        r"has no installation candidate",
        r"no match for argument: ",
    ),
    # gcc, clang, the linker, make, ninja, cmake and setuptools.
    *_patterns(
        FailureKind.COMPILE,
        r"\S+\.(c|cc|cpp|cxx|h|hpp|pyx):\d+(:\d+)?: (fatal )?error\b",
        r"fatal error: .*: no such file or directory",
        r"undefined reference to",
        r"ld returned \d+ exit status",
        r"collect2: error",
        r"command '?\S*(gcc|g\+\+|cc|clang)\S*'? failed",
        r"cmake error",
        r"could not find cmake",
        r"^ninja: build stopped",
        r"^make(\[\d+\])?: \*\*\* ",
        r"(gcc|g\+\+|cc|cmake|make): (command )?not found",
        r"error: could not compile",
        r"failed (building|to build) (wheel|installable wheels|`)",
        r"unable to find vcvarsall",
    ),
    # pytest, unittest, ctest and our own checks.
    *_patterns(
        FailureKind.TEST,
        r"^=+ .*\b\d+ failed\b.* =+$",
        r"^FAILED \(?(failures|errors|test)",
        r"^FAILED \S+::",
        r"\d+% tests passed, [1-9]\d* tests? failed",
        r"^(E +)?AssertionError\b",
    ),
)
"""Tried in this order, for the first cause is the one that explains the others: a full disk also breaks a compiler."""
_RECOVERED = re.compile(r"^(WARNING: (Retrying|Connection timed out)|W: |Ign:|warning: spurious)")
"""Trouble that the tool then got over, unless nothing else explains the failure."""
_EMPTY_INDEX = "(from versions: none)"
_LAST = re.compile(r"did not complete successfully|^ERROR: failed to (solve|build)|^error: ", re.IGNORECASE)


def diagnose_failure(text: str, *, timed_out: bool = False, cancelled: bool = False, attempts: int = 1) -> Failure:
    """Class the failure whose log is `text`. What the clock and the user did is known and needs no reading."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if cancelled:
        return Failure(kind=FailureKind.INTERRUPTED, evidence=(), attempts=attempts)
    if timed_out:
        return Failure(kind=FailureKind.TIMEOUT, evidence=_cut(lines[-EVIDENCE_LINES:]), attempts=attempts)
    kind, found = _first_match([line for line in lines if not _RECOVERED.search(line)])
    if kind is None or any(_EMPTY_INDEX in line for line in found):
        # pip says "no such version" also of an index that it never reached; only its warnings tell.
        warned = _first_match([line for line in lines if _RECOVERED.search(line)])
        kind, found = warned if warned[0] is FailureKind.NETWORK else (kind, found)
    if kind is None:
        return Failure(kind=FailureKind.UNKNOWN, evidence=_cut(lines[-EVIDENCE_LINES:]), attempts=attempts)
    return Failure(kind=kind, evidence=_evidence(found, lines), attempts=attempts)


def is_transient(failure: Failure) -> bool:
    """True for what may pass by itself: only then is it tried again. A certificate or a missing tag never does."""
    signs = [sign for sign in FAILURE_PATTERNS if sign.kind is failure.kind]
    told = [next((sign.transient for sign in signs if sign.pattern.search(line)), None) for line in failure.evidence]
    return True in told and False not in told


def _first_match(lines: list[str]) -> tuple[FailureKind | None, list[str]]:
    """The first kind of the table that any line shows, and those lines."""
    for kind in dict.fromkeys(sign.kind for sign in FAILURE_PATTERNS):
        signs = [sign for sign in FAILURE_PATTERNS if sign.kind is kind]
        found = [line for line in lines if any(sign.pattern.search(line) for sign in signs)]
        if found:
            return kind, found
    return None, []


def _evidence(found: list[str], lines: list[str]) -> tuple[str, ...]:
    """The first lines that show it, each once, and how it ended."""
    shown = list(dict.fromkeys(found))
    last = next((line for line in reversed(lines) if _LAST.search(line)), None)
    if last is None or last in shown[:EVIDENCE_LINES]:
        return _cut(shown[:EVIDENCE_LINES])
    return _cut([*shown[: EVIDENCE_LINES - 1], last])


def _cut(lines: list[str]) -> tuple[str, ...]:
    half = _WIDTH // 2
    return tuple(line if len(line) <= _WIDTH else f"{line[:half]} … {line[-half:]}" for line in lines)
