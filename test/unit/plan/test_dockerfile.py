"""A recipe as a builder reads it: what leads to one processor's image, and what it takes."""

from rlimages.plan.dockerfile import BuildScript, Instruction, read_dockerfile

RECIPE = """# a comment
ARG processor=cpu
FROM scratch AS buildhost

FROM ${account}.example/base:cpu AS base-cpu
FROM debian:12 AS base-gpu
LABEL cuda="11"

FROM base-${processor} AS os
RUN --mount=type=bind,source=a.sh,target=/a.sh \\
    # said between two lines
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


def test_only_what_leads_to_this_processors_image_counts() -> None:
    cpu = read_dockerfile(RECIPE, {"processor": "cpu"})
    gpu = read_dockerfile(RECIPE, {"processor": "gpu"})
    assert cpu.bases == ("${account}.example/base:cpu",)
    assert gpu.bases == ("debian:12",)
    assert cpu.sources == ("a.sh", "lock/cpu.txt", "one", "two")
    assert gpu.sources == ("a.sh", "lock/gpu.txt", "one", "two")
    texts = {each.text for each in cpu.instructions}
    assert 'LABEL cuda="11"' not in texts
    assert "COPY never /" not in texts
    assert 'LABEL cuda="11"' in {each.text for each in gpu.instructions}


def test_an_instruction_knows_its_line_and_forgets_comments() -> None:
    script = read_dockerfile(RECIPE, {"processor": "cpu"})
    run = next(each for each in script.instructions if "one" in each.text and each.word == "RUN")
    assert RECIPE.splitlines()[run.line - 1].startswith("RUN --mount=type=bind,source=a.sh")
    assert "said between" not in run.text
    spoken = read_dockerfile(RECIPE.replace("# said between two lines", "# other words"), {"processor": "cpu"})
    assert [each.text for each in spoken.instructions] == [each.text for each in script.instructions]


def test_a_recipe_without_stages_takes_nothing() -> None:
    assert read_dockerfile("ARG a=1\n", {}) == BuildScript(
        instructions=(Instruction(line=1, text="ARG a=1"),), bases=(), sources=()
    )
