"""A Dockerfile is parsed to the instructions, base images and files of one processor's image."""

from rlimages.plan.dockerfile import Instruction, ParsedDockerfile, parse_dockerfile

DOCKERFILE = """# a comment
ARG processor=cpu
FROM scratch AS buildhost

FROM ${account}.example/base:cpu AS base-cpu
FROM debian:12 AS base-gpu
LABEL cuda="11"

FROM base-${processor} AS os
RUN --mount=type=bind,source=a.sh,target=/a.sh \\
    # a comment between two lines
    --mount=type=cache,target=/root/.cache \\
    /a.sh one

FROM os AS unused
COPY never /

FROM os AS build
RUN --mount=type=bind,from=buildhost,target=/b --mount=type=bind,source=lock/${processor}.txt,target=/l make

FROM os
COPY --from=build /opt /opt
COPY --chmod=755 one/ two/ /
"""


def test_only_stages_that_the_image_of_the_processor_uses_are_kept() -> None:
    cpu = parse_dockerfile(DOCKERFILE, {"processor": "cpu"})
    gpu = parse_dockerfile(DOCKERFILE, {"processor": "gpu"})
    assert cpu.bases == ("${account}.example/base:cpu",)
    assert gpu.bases == ("debian:12",)
    assert cpu.sources == ("a.sh", "lock/cpu.txt", "one", "two")
    assert gpu.sources == ("a.sh", "lock/gpu.txt", "one", "two")
    texts = {each.text for each in cpu.instructions}
    assert 'LABEL cuda="11"' not in texts
    assert "COPY never /" not in texts
    assert 'LABEL cuda="11"' in {each.text for each in gpu.instructions}


def test_an_instruction_has_its_line_and_no_comments() -> None:
    script = parse_dockerfile(DOCKERFILE, {"processor": "cpu"})
    run = next(each for each in script.instructions if "one" in each.text and each.keyword == "RUN")
    assert DOCKERFILE.splitlines()[run.line - 1].startswith("RUN --mount=type=bind,source=a.sh")
    assert "a comment between" not in run.text
    recommented = parse_dockerfile(
        DOCKERFILE.replace("# a comment between two lines", "# other words"), {"processor": "cpu"}
    )
    assert [each.text for each in recommented.instructions] == [each.text for each in script.instructions]


def test_a_dockerfile_without_stages_has_no_bases_and_sources() -> None:
    assert parse_dockerfile("ARG a=1\n", {}) == ParsedDockerfile(
        instructions=(Instruction(line=1, text="ARG a=1"),), bases=(), sources=()
    )
