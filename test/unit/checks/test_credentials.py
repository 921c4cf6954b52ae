import pytest

from rlimages.checks.credentials import find_credentials
from rlimages.checks.profiles import parse_profiles
from rlimages.oci.manifest import ImageConfig

PROFILE = parse_profiles().find("sagemaker-training")
SHOWN = ", and the image's history still shows it"


def find(env: tuple[str, ...] = (), labels: dict[str, str] | None = None, history: tuple[str, ...] = ()):
    config = ImageConfig(
        os="linux",
        architecture="amd64",
        created="",
        labels=labels or {},
        env=env,
        entrypoint=(),
        user="",
        history=history,
    )
    return find_credentials(config, PROFILE.credential_names, PROFILE.credential_values)


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ("AWS_SECRET_ACCESS_KEY=wJalr", "ENV AWS_SECRET_ACCESS_KEY holds an access key"),
        ("github_token=x", "ENV github_token holds a token"),
        ("KEY=AKIA" + "A" * 16, "ENV KEY holds an AWS access key"),
        ("PIP_INDEX_URL=https://me:pw@host/simple", "ENV PIP_INDEX_URL holds a password in a URL"),
    ],
)
def test_the_environment_is_searched_by_name_and_by_value(entry, found) -> None:
    assert find(env=(entry,)) == (found,)


@pytest.mark.parametrize(
    "entry", ["TOKENIZERS_PARALLELISM=true", "GPG_KEY=A035C8C1", "API_TOKEN=", "INDEX=https://host:8443/simple?a=b@c"]
)
def test_a_harmless_variable_is_not_reported(entry) -> None:
    assert find(env=(entry,)) == ()


def test_labels_are_searched_by_value() -> None:
    assert find(labels={"note": "-----BEGIN RSA PRIVATE KEY-----"}) == ("LABEL note holds a private key",)


@pytest.mark.parametrize(
    ("step", "found"),
    [
        ("RUN |2 A=1 NPM_TOKEN=x /bin/sh -c make # buildkit", f"ARG NPM_TOKEN held a token{SHOWN}"),
        ("|1 NPM_TOKEN=x /bin/sh -c make", f"ARG NPM_TOKEN held a token{SHOWN}"),
        ("ARG DB_PASSWORD=x", f"ARG DB_PASSWORD held a password{SHOWN}"),
        ("/bin/sh -c #(nop)  ENV NPM_TOKEN=x", f"ENV NPM_TOKEN held a token{SHOWN}"),
        (
            "RUN /bin/sh -c git clone https://me:pw@host/x # buildkit",
            "step 1 of the image's history holds a password in a URL",
        ),
        (
            "RUN |1 processor=cpu /bin/sh -c curl https://me:pw@host/",
            "step 1 of the image's history holds a password in a URL",
        ),
    ],
    ids=["BuildKit argument", "classic argument", "ARG", "classic ENV", "command", "command after arguments"],
)
def test_the_history_is_searched_for_arguments_variables_and_commands(step, found) -> None:
    assert find(history=(step,)) == (found,)


def test_a_step_is_numbered_from_one_at_the_base_image() -> None:
    history = ("", "RUN /bin/sh -c git clone https://me:pw@host/x # buildkit")
    assert find(history=history) == ("step 2 of the image's history holds a password in a URL",)


def test_a_variable_that_is_emptied_later_is_still_in_the_history() -> None:
    history = ("/bin/sh -c #(nop)  ENV NPM_TOKEN=x", "ENV NPM_TOKEN=")
    assert find(env=("NPM_TOKEN=",), history=history) == (f"ENV NPM_TOKEN held a token{SHOWN}",)


def test_a_credential_is_reported_once() -> None:
    assert find(env=("DB_PASSWORD=x",), history=("ENV DB_PASSWORD=x",)) == ("ENV DB_PASSWORD holds a password",)
