import pytest

from rlimages.emulator.endpoint_config import Endpoint, content_type, require_bind_label
from rlimages.errors import JobError
from rlimages.oci.labels import BIND_TO_PORT_LABEL


def make(**words) -> Endpoint:
    return Endpoint(**{"name": "e", "image": "i:1", "region": "us-west-2", "model": None, **words})


def test_a_container_is_told_the_region_and_what_the_user_says() -> None:
    assert make(environment={"A": "b"}).variables == {"AWS_REGION": "us-west-2", "A": "b"}


def test_a_container_that_listens_elsewhere_is_told_where() -> None:
    assert make().container_port == 8080
    endpoint = make(bind_to=9000)
    assert (endpoint.container_port, endpoint.variables["SAGEMAKER_BIND_TO_PORT"]) == (9000, "9000")


def test_a_batch_container_knows_that_it_is_one() -> None:
    assert make(is_batch=True).variables["SAGEMAKER_BATCH"] == "true"


def test_the_user_has_the_last_word_on_the_environment() -> None:
    assert make(environment={"AWS_REGION": "mars"}).variables["AWS_REGION"] == "mars"


@pytest.mark.parametrize("environment", [{"1A": ""}, {f"A{number}": "" for number in range(101)}])
def test_an_environment_that_sagemaker_would_refuse_is_refused(environment) -> None:
    with pytest.raises(JobError):
        make(environment=environment)


def test_an_image_must_promise_to_listen_where_it_is_told_to() -> None:
    require_bind_label({}, make())
    require_bind_label({BIND_TO_PORT_LABEL: "true"}, make(bind_to=9000))
    with pytest.raises(JobError, match=f"--bind-to-port 9000: i:1 has no label {BIND_TO_PORT_LABEL}=true"):
        require_bind_label({}, make(bind_to=9000))


@pytest.mark.parametrize(
    ("name", "said", "kind"),
    [
        ("a.json", None, "application/json"),
        ("deep/a.JSONL", None, "application/jsonlines"),
        ("a.csv", None, "text/csv"),
        ("a.csv", "text/plain", "text/plain"),
        ("a", "x/y", "x/y"),
    ],
)
def test_a_file_is_what_is_said_or_what_its_extension_says(name, said, kind) -> None:
    assert content_type(name, said) == kind


def test_a_file_that_nothing_tells_about_is_named() -> None:
    with pytest.raises(JobError, match=r"a\.bin: say what it is with --content-type, such as application/json or"):
        content_type("a.bin", None)
