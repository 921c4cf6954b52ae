from rlimages.errors import did_you_mean


def test_the_most_similar_word_is_suggested() -> None:
    assert did_you_mean("cpuu", ["gpu", "cpu"]) == "; did you mean 'cpu'?"


def test_nothing_is_suggested_without_a_similar_word() -> None:
    assert did_you_mean("ray", ["cpu", "gpu"]) == ""
