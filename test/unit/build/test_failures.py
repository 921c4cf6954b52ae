"""Failure messages as the tools print them, each with the kind that a person would choose."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlimages.build.failures import EVIDENCE_LINES, diagnose_failure, is_transient
from rlimages.plan.results import Failure, FailureKind

NETWORK = """
failed to resolve source metadata for registry.example.org/x/y:1: dial tcp 10.0.0.1:443: i/o timeout
---
failed to do request: Head "https://registry.example.org/v2/x/manifests/1": dial tcp: lookup registry.example.org on 10.0.0.2:53: no such host
---
failed to copy: httpReadSeeker: failed open: failed to do request: Get "https://cdn.example.org/x": read tcp 10.0.0.3:41522->10.0.0.1:443: read: connection reset by peer
---
net/http: TLS handshake timeout
---
Err:1 http://deb.example.org/debian bookworm InRelease
  Temporary failure resolving 'deb.example.org'
E: Failed to fetch http://deb.example.org/debian/dists/bookworm/InRelease  Temporary failure resolving 'deb.example.org'
E: Some index files failed to download. They have been ignored, or old ones used instead.
---
E: Failed to fetch http://deb.example.org/debian/pool/main/libx/libxml2.deb  Hash Sum mismatch
   Hashes of expected file:
E: Unable to fetch some archives, maybe run apt-get update or try with --fix-missing?
---
E: Failed to fetch http://archive.example.org/ubuntu/pool/main/c/curl/curl_7.81.0_amd64.deb  503  Service Unavailable [IP: 10.0.0.1 80]
---
curl: (6) Could not resolve host: files.example.org
---
curl: (56) OpenSSL SSL_read: Connection reset by peer, errno 104
---
fatal: unable to access 'https://git.example.org/x.git/': Could not resolve host: git.example.org
---
error: RPC failed; curl 18 transfer closed with outstanding read data remaining
fatal: early EOF
fatal: fetch-pack: invalid index-pack output
---
WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after connection broken by 'NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection object at 0x7f>: Failed to establish a new connection: [Errno -3] Temporary failure in name resolution')': /simple/ray/
ERROR: Could not find a version that satisfies the requirement ray==2.9.3 (from versions: none)
ERROR: No matching distribution found for ray==2.9.3
---
pip._vendor.urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool(host='files.example.org', port=443): Read timed out.
---
error: Failed to fetch: `https://index.example.org/simple/ray/`
  Caused by: Request failed after 3 retries
  Caused by: error sending request for url (https://index.example.org/simple/ray/)
  Caused by: client error (Connect)
  Caused by: dns error: failed to lookup address information: Temporary failure in name resolution
---
error: Failed to download `tensorflow==2.13.1`
  Caused by: Failed to extract archive
  Caused by: request or response body error
  Caused by: operation timed out
---
requests.exceptions.SSLError: HTTPSConnectionPool(host='x.example.org', port=443): Max retries exceeded with url: / (Caused by SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get local issuer certificate (_ssl.c:1006)')))
---
error: Failed to fetch: `https://index.example.org/simple/uv/`
  Caused by: invalid peer certificate: UnknownIssuer
---
failed to do request: Head "https://registry.example.org/v2/x/manifests/1": tls: failed to verify certificate: x509: certificate signed by unknown authority
---
Error: Failed to download metadata for repo 'amazonlinux': Cannot download repomd.xml: Curl error (28): Timeout was reached: Connection timed out after 30001 milliseconds
"""

REGISTRY = """
toomanyrequests: You have reached your pull rate limit. You may increase the limit by authenticating and upgrading.
---
failed to resolve source metadata for registry.example.org/x/y:1: unexpected status from HEAD request to https://registry.example.org/v2/x/y/manifests/1: 503 Service Unavailable
---
received unexpected HTTP status: 500 Internal Server Error
---
manifest for registry.example.org/x/y:9 not found: manifest unknown: manifest unknown
---
ERROR: failed to solve: registry.example.org/x/y:1: failed to resolve source metadata for registry.example.org/x/y:1: registry.example.org/x/y:1: not found
---
name unknown: The repository with name 'sagemaker-rl-ray-container' does not exist in the registry with id '123456789012'
---
Get "https://10.0.0.1:5000/v2/": http: server gave HTTP response to HTTPS client
---
failed commit on ref "layer-sha256:aaaa": unexpected commit digest sha256:bbbb, expected sha256:aaaa: failed precondition
"""

AUTH = """
pull access denied for x/y, repository does not exist or may require 'docker login': denied: requested access to the resource is denied
---
no basic auth credentials
---
denied: Your authorization token has expired. Reauthenticate and try again.
---
unexpected status from HEAD request to https://123456789012.dkr.ecr.us-west-2.amazonaws.com/v2/x/manifests/1: 401 Unauthorized
---
failed to authorize: failed to fetch anonymous token: unexpected status from GET request to https://auth.example.org/token: 403 Forbidden
---
server message: insufficient_scope: authorization failed
---
denied: User: arn:aws:iam::123456789012:user/x is not authorized to perform: ecr:InitiateLayerUpload on resource: arn:aws:ecr:us-west-2:123456789012:repository/x
---
ERROR: HTTP error 403 while getting https://index.example.org/simple/x/x-1.0-py3-none-any.whl
"""

DISK_FULL = """
failed to register layer: write /opt/venv/lib/libtensorflow_cc.so.2: no space left on device
---
ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device
---
dpkg: error processing archive /var/cache/apt/archives/gcc-12.deb (--unpack): cannot copy extracted data for './usr/bin/cpp-12' to '/usr/bin/cpp-12.dpkg-new': failed to write (No space left on device)
---
/usr/bin/ld: final link failed: No space left on device
collect2: error: ld returned 1 exit status
---
OSError: [Errno 122] Disk quota exceeded: '/root/.cache/uv/x'
"""

OUT_OF_MEMORY = """
process "/bin/sh -c pip install tensorflow" did not complete successfully: exit code: 137
---
c++: fatal error: Killed signal terminated program cc1plus
compilation terminated.
make[2]: *** [CMakeFiles/vw.dir/build.make:76: CMakeFiles/vw.dir/main.cc.o] Error 1
---
/run/build/python-environment.sh: line 40:    12 Killed                  uv pip install -r lock.txt
process "/bin/sh -c /run/build/python-environment.sh" did not complete successfully: exit code: 137
---
Killed
---
virtual memory exhausted: Cannot allocate memory
---
MemoryError
---
runc run failed: unable to start container process: fork/exec /bin/sh: cannot allocate memory
"""

DEPENDENCY_CONFLICT = """
ERROR: Cannot install ray[rllib]==1.6.0 and redis==4.1.4 because these package versions have conflicting dependencies.
The conflict is caused by:
    The user requested redis==4.1.4
    ray 1.6.0 depends on redis<4.0
ERROR: ResolutionImpossible: for help visit the documentation
---
ERROR: Could not find a version that satisfies the requirement tensorflow==1.15.2 (from versions: 2.12.0, 2.13.0, 2.13.1)
ERROR: No matching distribution found for tensorflow==1.15.2
---
ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated the package versions, please update the hashes.
    numpy==1.24.3 from https://files.example.org/numpy-1.24.3.whl:
        Expected sha256 aaaa
             Got        bbbb
---
ERROR: In --require-hashes mode, all requirements must have their versions pinned with ==. These do not:
    setuptools from https://files.example.org/setuptools.whl
---
  × No solution found when resolving dependencies:
  ╰─▶ Because tensorflow==2.13.1 depends on protobuf<5 and sagemaker-training==5.1.4 depends on protobuf>=5.28.1, we can conclude that tensorflow==2.13.1 and sagemaker-training==5.1.4 are incompatible.
      And because you require both, we can conclude that your requirements are unsatisfiable.
---
error: Failed to download `numpy==1.24.3`
  Caused by: Hash mismatch for `numpy==1.24.3`
---
  × No solution found when resolving dependencies:
  ╰─▶ Because gymnazium was not found in the package registry and you require gymnazium, we can conclude that your requirements are unsatisfiable.
---
ERROR: Package 'numpy' requires a different Python: 3.9.2 not in '>=3.10'
---
E: Unable to locate package libboost-python1.62-dev
---
The following packages have unmet dependencies:
 python3-dev : Depends: python3 (= 3.11.2-1+b1) but 3.11.2-1 is to be installed
E: Unable to correct problems, you have held broken packages.
---
Error: Unable to find a match: libglvnd-glxx
No match for argument: libglvnd-glxx
---
WARNING: Retrying (Retry(total=4, connect=None)) after connection broken by 'ReadTimeoutError("Read timed out.")': /simple/numpy/
ERROR: Could not find a version that satisfies the requirement numpy==9.9.9 (from versions: 1.24.3, 1.26.4)
ERROR: No matching distribution found for numpy==9.9.9
"""

COMPILE = """
src/lz4module.c:33:10: fatal error: Python.h: No such file or directory
   33 | #include <Python.h>
error: command '/usr/bin/x86_64-linux-gnu-gcc' failed with exit code 1
---
/src/vowpalwabbit/parser.cc:121:7: error: 'struct in_addr' has no member named 's_addrx'
make[2]: *** [vowpalwabbit/CMakeFiles/vw.dir/build.make:90: parser.cc.o] Error 1
---
CMake Error at CMakeLists.txt:10 (find_package):
  Could not find a package configuration file provided by "Boost"
-- Configuring incomplete, errors occurred!
---
/usr/bin/ld: main.o: in function `main': main.cc:(.text+0x5): undefined reference to `vw::init()'
collect2: error: ld returned 1 exit status
---
  ERROR: Failed building wheel for vowpalwabbit
ERROR: Could not build wheels for vowpalwabbit, which is required to install pyproject.toml-based projects
---
  × Failed to build `gym==0.21.0`
  ├─▶ The build backend returned an error
  ╰─▶ Call to `setuptools.build_meta:__legacy__.build_wheel` failed (exit status: 1)
---
ninja: build stopped: subcommand failed.
---
/bin/sh: 1: cmake: not found
---
WARNING: Retrying (Retry(total=4, connect=None)) after connection broken by 'NewConnectionError("Temporary failure in name resolution")': /simple/vowpalwabbit/
src/a.cc:3:1: error: expected unqualified-id before numeric constant
"""

TEST = """
=========================== short test summary info ============================
FAILED test_x.py::test_it - assert 1 == 2
========================= 1 failed, 3 passed in 0.12s ==========================
---
Ran 3 tests in 0.003s
FAILED (failures=1)
---
93% tests passed, 1 tests failed out of 14
---
Traceback (most recent call last):
  File "/checks/check_reward.py", line 9, in <module>
AssertionError: 21.0 is not above 150
"""

UNKNOWN = """
process "/bin/sh -c ./configure-something" did not complete successfully: exit code: 3
---
failed to compute cache key: failed to calculate checksum of ref x::y: "/ray/rootfs": no such file or directory
---
dockerfile parse error on line 3: unknown instruction: RUNN
"""

CORPUS = [
    pytest.param(kind, excerpt, id=f"{kind}-{number}")
    for kind, excerpts in {
        FailureKind.NETWORK: NETWORK,
        FailureKind.REGISTRY: REGISTRY,
        FailureKind.AUTH: AUTH,
        FailureKind.DISK_FULL: DISK_FULL,
        FailureKind.OUT_OF_MEMORY: OUT_OF_MEMORY,
        FailureKind.DEPENDENCY_CONFLICT: DEPENDENCY_CONFLICT,
        FailureKind.COMPILE: COMPILE,
        FailureKind.TEST: TEST,
        FailureKind.UNKNOWN: UNKNOWN,
    }.items()
    for number, excerpt in enumerate(excerpts.split("---\n"), start=1)
]
NOISE = """\
#8 [os 2/4] RUN apt-get update
Get:1 http://deb.example.org/debian bookworm InRelease [151 kB]
  Downloading numpy-1.24.3-cp311-cp311-manylinux_2_17_x86_64.whl (17.3 MB)
npm WARN deprecated something
gcc -DERROR_H -Wno-error -c errors.c -o errors.o
"""


@pytest.mark.parametrize(("kind", "excerpt"), CORPUS)
def test_a_log_gets_the_kind_that_a_person_would_choose(kind: FailureKind, excerpt: str) -> None:
    assert diagnose_failure(excerpt).kind is kind


@pytest.mark.parametrize(("kind", "excerpt"), CORPUS)
def test_output_of_successful_commands_does_not_change_the_kind(kind: FailureKind, excerpt: str) -> None:
    assert diagnose_failure(NOISE * 50 + excerpt).kind is kind


@pytest.mark.parametrize(("kind", "excerpt"), CORPUS)
def test_evidence_is_a_few_lines_of_the_log(kind: FailureKind, excerpt: str) -> None:
    evidence = diagnose_failure(NOISE + excerpt).evidence
    lines = {line.strip() for line in (NOISE + excerpt).splitlines()}
    assert 1 <= len(evidence) <= EVIDENCE_LINES
    assert all(line in lines or " … " in line for line in evidence)


@pytest.mark.parametrize(
    "excerpt",
    [
        "E: Failed to fetch http://deb.example.org/x.deb  Hash Sum mismatch",
        "toomanyrequests: You have reached your pull rate limit.",
        "unexpected status from HEAD request to https://registry.example.org/v2/x/manifests/1: 503 Service Unavailable",
        "curl: (6) Could not resolve host: files.example.org",
        "read tcp 10.0.0.3:41522->10.0.0.1:443: read: connection reset by peer",
    ],
)
def test_a_cause_that_may_disappear_is_transient(excerpt: str) -> None:
    assert is_transient(diagnose_failure(excerpt))


@pytest.mark.parametrize(
    "excerpt",
    [
        "tls: failed to verify certificate: x509: certificate signed by unknown authority",
        "manifest for registry.example.org/x/y:9 not found: manifest unknown: manifest unknown",
        "dial tcp: lookup registry.example.org on 10.0.0.2:53: no such host",
        "no basic auth credentials",
        "write /x: no space left on device",
        "ERROR: No matching distribution found for tensorflow==1.15.2",
        "main.cc:3:1: error: expected unqualified-id",
        "something else",
    ],
)
def test_a_cause_that_stays_is_not_transient(excerpt: str) -> None:
    assert not is_transient(diagnose_failure(excerpt))


def test_a_time_limit_is_the_cause_whatever_the_log_says() -> None:
    failure = diagnose_failure("compiling\nstill compiling\nno space left on device?", timed_out=True)
    assert failure == Failure(
        kind=FailureKind.TIMEOUT, evidence=("compiling", "still compiling", "no space left on device?")
    )
    assert not is_transient(failure)


def test_an_interrupted_build_is_not_classified_by_its_log() -> None:
    assert diagnose_failure("connection reset by peer", cancelled=True).kind is FailureKind.INTERRUPTED


def test_a_long_line_loses_its_middle_only() -> None:
    line = "no space left on device " + "x" * 3000 + " exit code: 1"
    (shown,) = diagnose_failure(line).evidence
    assert len(shown) < 600
    assert shown.startswith("no space left")
    assert shown.endswith("exit code: 1")


@given(st.text())
def test_any_text_gets_an_answer(text: str) -> None:
    failure = diagnose_failure(text)
    assert len(failure.evidence) <= EVIDENCE_LINES
    assert is_transient(failure) in (True, False)
