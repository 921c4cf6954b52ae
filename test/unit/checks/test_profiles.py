import pytest

from rlimages.checks.profiles import load_profiles, parse_profiles
from rlimages.errors import ConfigError, SelectionError

BUILT_IN = parse_profiles()


def parse_own(body: str):
    return parse_profiles(f"version: 1\nprofiles:\n{body}")


def test_two_profiles_are_built_in_each_with_the_day_of_its_sources() -> None:
    assert {name: profile.as_of for name, profile in BUILT_IN.by_name.items()} == {
        "sagemaker-training": "2026-11-21",
        "sagemaker-hosting": "2026-11-21",
    }


def test_hosting_has_a_limit_of_ten_gibibytes_unpacked_and_training_has_none() -> None:
    assert BUILT_IN.find("sagemaker-hosting").unpacked == 10_737_418_240
    assert BUILT_IN.find("sagemaker-training").unpacked is None


def test_a_project_changes_only_the_keys_that_it_sets() -> None:
    changed = parse_own("  sagemaker-training: {as_of: 2027-01-01, unpacked: 30 GiB, platforms: [linux/arm64]}\n")
    profile, before = changed.find("sagemaker-training"), BUILT_IN.find("sagemaker-training")
    assert (profile.unpacked, profile.platforms, profile.as_of) == (30 * 2**30, ("linux/arm64",), "2027-01-01")
    assert profile.environment == before.environment
    assert changed.find("sagemaker-hosting") == BUILT_IN.find("sagemaker-hosting")


def test_mappings_are_merged_and_null_removes_a_key() -> None:
    body = "  sagemaker-training: {as_of: 2027-01-01, environment: {SM_*: null, DISPLAY: ours}, labels: {owner: .+}}\n"
    profile = parse_own(body).find("sagemaker-training")
    assert "SM_*" not in profile.environment
    assert profile.environment["DISPLAY"] == "ours"
    assert set(profile.labels) == {"org.opencontainers.image.title", "org.opencontainers.image.version", "owner"}


def test_null_removes_a_limit() -> None:
    assert (
        parse_own("  sagemaker-hosting: {as_of: 2027-01-01, unpacked: null}\n").find("sagemaker-hosting").unpacked
        is None
    )


def test_a_new_profile_inherits_from_the_one_that_it_extends() -> None:
    body = "  ours: {extends: sagemaker-hosting, as_of: 2027-01-01, compressed: 500 MiB}\n"
    profile = parse_own(body).find("ours")
    assert (profile.name, profile.compressed, profile.unpacked) == ("ours", 500 * 2**20, 10 * 2**30)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("  a: {as_of: 2027-01-01}\n", r"acceptance.yaml:3:6: profiles.a: it extends no profile, and does not set manifests"),
        ("  a: {extends: sagemaker-hostin, as_of: 2027-01-01}\n", r"3:16: .*no profile 'sagemaker-hostin'.*did you mean 'sagemaker-hosting'\?"),
        ("  sagemaker-training: {as_of: 2027-01-01, unpackd: 1 GiB}\n", r"3:43: .*unknown key; did you mean 'unpacked'\?"),
        ("  sagemaker-training: {unpacked: 1 GiB}\n", "the key 'as_of' is missing"),
        ("  sagemaker-training: {as_of: 2027-01-01, unpacked: 1 GB}\n", "3:53: .*'1 GB' is not of the form"),
        ("  sagemaker-training: {as_of: 2027-01-01, unpacked: 10}\n", 'must be a string: write "10" in quotes'),
        ("  sagemaker-training: {as_of: 2027-01-01, platforms: []}\n", "at least 1 item"),
        ("  sagemaker-training: {as_of: 2027-01-01, tag: '['}\n", r"3:48: .*'\[' is not a regular expression"),
        ("  sagemaker-training: {as_of: 2027-01-01, labels: {a: '('}}\n", r"labels.a: '\(' is not a regular expression"),
        ("  sagemaker-training: {as_of: 2027-01-01, credential_values: {'(': x}}\n", r"'\(' is not a regular expression"),
        ("  sagemaker-training: {as_of: 2027-01-01, absent: {opt: x}}\n", "is not of the form"),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_with_its_position(body, message) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_own(body)


def test_an_unknown_profile_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(
        SelectionError, match="no acceptance profile 'sagemaker-train'; did you mean 'sagemaker-training'"
    ):
        BUILT_IN.find("sagemaker-train")
    with pytest.raises(SelectionError, match="there are sagemaker-training, sagemaker-hosting"):
        BUILT_IN.find("x")


def test_the_profiles_of_a_project_are_the_built_in_ones_and_its_own(tmp_path) -> None:
    assert load_profiles(None) == load_profiles(tmp_path) == parse_profiles()
    (tmp_path / "acceptance.yaml").write_text(
        "version: 1\nprofiles: {ours: {extends: sagemaker-training, as_of: 2027-01-01}}"
    )
    assert list(load_profiles(tmp_path).by_name) == ["sagemaker-training", "sagemaker-hosting", "ours"]
