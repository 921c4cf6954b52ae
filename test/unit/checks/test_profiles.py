import pytest

from rlimages.checks.profiles import parse_profiles
from rlimages.errors import ConfigError, SelectionError

SHIPPED = parse_profiles()


def own(body: str):
    return parse_profiles(f"version: 1\nprofiles:\n{body}")


def test_two_profiles_ship_with_the_factory_each_with_its_day() -> None:
    assert {name: profile.as_of for name, profile in SHIPPED.by_name.items()} == {
        "sagemaker-training": "2026-11-21",
        "sagemaker-hosting": "2026-11-21",
    }


def test_hosting_has_a_limit_of_ten_gibibytes_unpacked_and_training_none_that_is_known() -> None:
    assert SHIPPED.find("sagemaker-hosting").unpacked == 10_737_418_240
    assert SHIPPED.find("sagemaker-training").unpacked is None


def test_a_project_changes_what_it_names_and_nothing_else() -> None:
    changed = own("  sagemaker-training: {as_of: 2027-01-01, unpacked: 30 GiB, platforms: [linux/arm64]}\n")
    profile, before = changed.find("sagemaker-training"), SHIPPED.find("sagemaker-training")
    assert (profile.unpacked, profile.platforms, profile.as_of) == (30 * 2**30, ("linux/arm64",), "2027-01-01")
    assert profile.environment == before.environment
    assert changed.find("sagemaker-hosting") == SHIPPED.find("sagemaker-hosting")


def test_mappings_are_joined_and_null_takes_away() -> None:
    body = "  sagemaker-training: {as_of: 2027-01-01, environment: {SM_*: null, DISPLAY: ours}, labels: {owner: .+}}\n"
    profile = own(body).find("sagemaker-training")
    assert "SM_*" not in profile.environment
    assert profile.environment["DISPLAY"] == "ours"
    assert set(profile.labels) == {"org.opencontainers.image.title", "org.opencontainers.image.version", "owner"}


def test_a_limit_is_lifted_with_null() -> None:
    assert own("  sagemaker-hosting: {as_of: 2027-01-01, unpacked: null}\n").find("sagemaker-hosting").unpacked is None


def test_a_new_profile_extends_another() -> None:
    body = "  ours: {extends: sagemaker-hosting, as_of: 2027-01-01, compressed: 500 MiB}\n"
    profile = own(body).find("ours")
    assert (profile.name, profile.compressed, profile.unpacked) == ("ours", 500 * 2**20, 10 * 2**30)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("  a: {as_of: 2027-01-01}\n", r"acceptance.yaml:3:6: profiles.a: it extends nothing, and does not say manifests"),
        ("  a: {extends: sagemaker-hostin, as_of: 2027-01-01}\n", r"3:16: .*no profile 'sagemaker-hostin'.*did you mean 'sagemaker-hosting'\?"),
        ("  sagemaker-training: {as_of: 2027-01-01, unpackd: 1 GiB}\n", r"3:43: .*unknown key; did you mean 'unpacked'\?"),
        ("  sagemaker-training: {unpacked: 1 GiB}\n", "the key 'as_of' is missing"),
        ("  sagemaker-training: {as_of: 2027-01-01, unpacked: 1 GB}\n", "3:53: .*'1 GB' is not of the form"),
        ("  sagemaker-training: {as_of: 2027-01-01, unpacked: 10}\n", 'must be a string: write "10" in quotes'),
        ("  sagemaker-training: {as_of: 2027-01-01, platforms: []}\n", "at least 1 item"),
        ("  sagemaker-training: {as_of: 2027-01-01, tag: '['}\n", r"3:48: .*'\[' is no regular expression"),
        ("  sagemaker-training: {as_of: 2027-01-01, labels: {a: '('}}\n", r"labels.a: '\(' is no regular expression"),
        ("  sagemaker-training: {as_of: 2027-01-01, credential_values: {'(': x}}\n", r"'\(' is no regular expression"),
        ("  sagemaker-training: {as_of: 2027-01-01, absent: {opt: x}}\n", "is not of the form"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(body, message) -> None:
    with pytest.raises(ConfigError, match=message):
        own(body)


def test_a_profile_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(
        SelectionError, match="no acceptance profile 'sagemaker-train'; did you mean 'sagemaker-training'"
    ):
        SHIPPED.find("sagemaker-train")
    with pytest.raises(SelectionError, match="there are sagemaker-training, sagemaker-hosting"):
        SHIPPED.find("x")
