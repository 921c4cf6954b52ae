import pytest

from rlimages.emulator.endpoint import Endpoint, find_content_type, require_bind_label
from rlimages.errors import JobError
from rlimages.oci.labels import BIND_TO_PORT_LABEL


def make(**changes) -> Endpoint:
    return Endpoint(**{"name": "e", "image": "i:1", "region": "us-west-2", "model": None, **changes})


def test_the_environment_has_the_region_and_the_users_variables() -> None:
    assert make(environment={"A": "b"}).variables == {"AWS_REGION": "us-west-2", "A": "b"}


def test_another_port_is_in_the_environment() -> None:
    assert make().container_port == 8080
    endpoint = make(bind_to=9000)
    assert (endpoint.container_port, endpoint.variables["SAGEMAKER_BIND_TO_PORT"]) == (9000, "9000")


def test_the_environment_of_a_batch_container_says_so() -> None:
    assert make(is_batch=True).variables["SAGEMAKER_BATCH"] == "true"


def test_the_users_variables_override_sagemakers() -> None:
    assert make(environment={"AWS_REGION": "mars"}).variables["AWS_REGION"] == "mars"


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"1A": ""}, "'1A' is not a valid name of an environment variable"),
        ({f"A{number}": "" for number in range(101)}, "101 environment variables; SageMaker allows 100"),
    ],
)
def test_an_environment_that_create_model_refuses_is_refused(environment, message) -> None:
    with pytest.raises(JobError, match=message):
        make(environment=environment)


def test_an_image_needs_the_label_to_listen_on_another_port() -> None:
    require_bind_label({}, make())
    require_bind_label({BIND_TO_PORT_LABEL: "true"}, make(bind_to=9000))
    with pytest.raises(JobError, match=f"--bind-to-port 9000: i:1 has no label {BIND_TO_PORT_LABEL}=true"):
        require_bind_label({}, make(bind_to=9000))


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("a.json", None, "application/json"),
        ("deep/a.JSONL", None, "application/jsonlines"),
        ("a.csv", None, "text/csv"),
        ("a.csv", "text/plain", "text/plain"),
        ("a", "x/y", "x/y"),
    ],
)
def test_the_content_type_is_given_or_follows_from_the_extension(name, given, expected) -> None:
    assert find_content_type(name, given) == expected


def test_an_unknown_extension_needs_a_content_type() -> None:
    with pytest.raises(
        JobError, match=r"a\.bin: unknown file extension; give its type with --content-type, such as application/json, "
    ):
        find_content_type("a.bin", None)
