"""Launchers of the in-image library: hyperparameters, jobs, Ray, Coach and Vowpal Wabbit, without any toolkit."""

import ast
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "src"
SOURCES = sorted((FOLDER / "sagemaker_rl").rglob("*.py"))
FLOAT = "[-+]?[0-9]*[.]?[0-9]+([eE][-+]?[0-9]+)?"


@pytest.fixture
def overrides(library: Any) -> ModuleType:
    return library.hyperparameters


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_library_is_python_3_5(source: Path) -> None:
    tree = ast.parse(source.read_text(), feature_version=(3, 5))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr | ast.AnnAssign | ast.NamedExpr)]


# ---- hyperparameters


def test_a_dotted_name_reaches_into_the_dictionary(overrides: ModuleType) -> None:
    config = {"training": {"config": {"lr": 1.0, "model": {"fcnet_hiddens": [8, 8]}}}}
    asked = {
        "rl.training.config.lr": "0.0001",
        "rl.training.stop.time_total_s": 60,
        "rl.training.config.model.fcnet_hiddens.1": 64,
        "learning_rate": 3,
    }
    for name, path, value in overrides.overrides(asked):
        overrides.set_value(config, name, path, value)
    assert config["training"] == {
        "config": {"lr": 0.0001, "model": {"fcnet_hiddens": [8, 64]}},
        "stop": {"time_total_s": 60},
    }


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("rl.a", "1e-4", 1e-4),
        ("rl.a", "true", True),
        ("rl.a", "PPO", "PPO"),
        ("rl.a", [1, 2], [1, 2]),
        ("rl.a:float", 1, 1.0),
        ("rl.a:str", 1, "1"),
        ("rl.a:bool", "no", False),
        ("rl.a:json", '{"b": 1}', {"b": 1}),
    ],
)
def test_a_value_is_read_as_it_was_meant(overrides: ModuleType, name: str, value: object, read: object) -> None:
    ((_, path, found),) = overrides.overrides({name: value})
    assert (path, found, type(found)) == (["a"], read, type(read))


def test_a_type_may_come_from_the_toolkit(overrides: ModuleType) -> None:
    class Episodes(int):
        pass

    found = overrides.overrides({"rl.evaluation_steps:EnvironmentEpisodes": 5}, {"EnvironmentEpisodes": Episodes})
    assert isinstance(found[0][2], Episodes)


def test_an_unknown_type_is_named(overrides: ModuleType) -> None:
    with pytest.raises(
        overrides.HyperparameterError, match=r"rl\.a:flaot: unknown type 'flaot'; known types are bool, float"
    ):
        overrides.overrides({"rl.a:flaot": 1})


def test_an_object_takes_only_what_it_has(overrides: ModuleType) -> None:
    graph = SimpleNamespace(agent=SimpleNamespace(discount=0.9, networks={"main": SimpleNamespace(rate=1)}))
    overrides.set_value(graph, "x", ["agent", "networks", "main", "rate"], 2)
    assert graph.agent.networks["main"].rate == 2
    with pytest.raises(overrides.HyperparameterError, match="has no 'dicsount'; did you mean 'discount'"):
        overrides.set_value(graph, "x", ["agent", "dicsount"], 2)


def test_a_setting_without_settings_of_its_own_is_no_step(overrides: ModuleType) -> None:
    with pytest.raises(overrides.HyperparameterError, match=r"'lr' is 0\.1"):
        overrides.set_value({"lr": 0.1}, "rl.lr.x", ["lr", "x"], 2)


# ---- the job


def test_a_job_is_what_its_environment_says(library: Any, tmp_path: Path) -> None:
    hosts = ["algo-10", "algo-2", "algo-1"]
    environ = {
        "SAGEMAKER_BASE_DIR": str(tmp_path),
        "SM_RESOURCE_CONFIG": json.dumps({"current_host": "algo-2", "hosts": hosts}),
        "SM_NUM_CPUS": "4",
        "SM_NUM_GPUS": "1",
        "SM_HPS": '{"rl.training.config.lr": 0.1}',
    }
    job = library.job.Job(environ)
    assert (job.host, job.head, job.is_head, job.num_cpus, job.num_gpus) == ("algo-2", "algo-1", False, 4, 1)
    assert job.hyperparameters == {"rl.training.config.lr": 0.1}


def test_without_an_environment_the_files_say_it_and_without_files_it_is_one_host(library: Any, tmp_path: Path) -> None:
    environ = {"SAGEMAKER_BASE_DIR": str(tmp_path)}
    assert library.job.Job(environ).is_head
    config = tmp_path / "input/config"
    config.mkdir(parents=True)
    (config / "resourceconfig.json").write_text('{"current_host": "algo-2", "hosts": ["algo-1", "algo-2"]}')
    assert not library.job.Job(environ).is_head


def test_checkpoints_go_where_sagemaker_keeps_them_if_the_job_has_that(library: Any, tmp_path: Path) -> None:
    job = library.job.Job({"SAGEMAKER_BASE_DIR": str(tmp_path)})
    assert job.checkpoints == str(tmp_path / "output/intermediate")
    (tmp_path / "checkpoints").mkdir()
    assert job.checkpoints == str(tmp_path / "checkpoints")


def test_the_first_reason_of_a_failure_stays(library: Any, tmp_path: Path) -> None:
    (tmp_path / "output").mkdir()
    job = library.job.Job({"SAGEMAKER_BASE_DIR": str(tmp_path)})
    job.fail("algo-2 left")
    job.fail("something else")
    assert (tmp_path / "output/failure").read_text() == "algo-2 left\n"


def test_an_exception_is_the_reason_of_the_failure(library: Any, tmp_path: Path) -> None:
    (tmp_path / "output").mkdir()
    job = library.job.Job({"SAGEMAKER_BASE_DIR": str(tmp_path)})
    with pytest.raises(ValueError, match="no number"), job.reasons():
        raise ValueError("no number" + 2000 * ".")
    reason = (tmp_path / "output/failure").read_text()
    assert reason.startswith("ValueError: no number")
    assert len(reason) == 1024


# ---- Ray's configuration

UNITY = {
    "env": "unity_env",
    "lr": 0.0001,
    "num_sgd_iter": 20,
    "sgd_minibatch_size": 100,
    "monitor": True,
    "env_config": {"env_name": "Basic"},
    "num_workers": 1,
    "ignore_worker_failures": True,
}


def test_an_old_script_keeps_its_words_on_old_ray(library: Any) -> None:
    config, notes = library.ray.config.settings(UNITY, set(UNITY))
    assert (config, notes) == (UNITY, [])


def test_an_old_script_is_translated_for_new_ray_and_each_change_is_said(library: Any) -> None:
    known = {"lr", "num_epochs", "minibatch_size", "num_env_runners", "ignore_env_runner_failures"}
    config, notes = library.ray.config.settings(UNITY, known)
    assert config == {
        "env": "unity_env",
        "env_config": {"env_name": "Basic"},
        "lr": 0.0001,
        "num_epochs": 20,
        "minibatch_size": 100,
        "num_env_runners": 1,
        "ignore_env_runner_failures": True,
    }
    assert "'monitor': this Ray records no videos: left out" in notes
    assert "'num_sgd_iter' is called 'num_epochs' in this Ray" in notes


def test_a_film_that_the_image_cannot_make_is_left_out(library: Any) -> None:
    config, notes = library.ray.config.settings({"monitor": True}, {"record_env"}, videos=False)
    assert (config, notes) == ({}, ["'monitor': this image has no ffmpeg: left out"])


def test_an_unknown_setting_is_said_and_left_out(library: Any) -> None:
    config, notes = library.ray.config.settings({"lernrate": 1}, {"lr"})
    assert (config, notes) == ({}, ["'lernrate' is not a setting of this RLlib: left out"])


def test_the_new_stack_is_asked_in_its_own_words(library: Any) -> None:
    config, notes = library.ray.config.new_stack(
        {"framework": "tf2", "model": {"fcnet_hiddens": [64], "free_log_std": True}}
    )
    assert config == {"framework": "torch", "_model_config": {"fcnet_hiddens": [64]}}
    assert len(notes) == 2
    stop = library.ray.config.stop({"episode_reward_mean": 500, "time_total_s": 60})
    assert stop == {"env_runners/episode_return_mean": 500, "time_total_s": 60}


def test_the_new_stack_is_given_a_length_of_sequences_for_its_memory(library: Any) -> None:
    config, _ = library.ray.config.new_stack({"model": {"use_lstm": True}})
    assert config["_model_config"] == {"use_lstm": True, "max_seq_len": 20}
    config, _ = library.ray.config.new_stack({"model": {"use_lstm": True, "max_seq_len": 5}})
    assert config["_model_config"]["max_seq_len"] == 5


def test_connectors_are_given_to_the_new_stack_under_the_name_that_it_keeps_them(library: Any) -> None:
    settings, notes = library.ray.config.settings({"env_to_module_connector": len}, {"_env_to_module_connector"})
    assert settings == {"_env_to_module_connector": len}
    assert notes == ["'env_to_module_connector' is called '_env_to_module_connector' in this Ray"]


def test_the_new_stack_learns_on_the_gpus_that_the_old_one_was_given(library: Any) -> None:
    config, _ = library.ray.config.new_stack({"num_gpus": 4, "num_learners": 4})
    assert config == {"num_gpus": 0, "num_learners": 4, "num_gpus_per_learner": 1}


OLD_TUNE = {"config", "stop", "local_dir", "checkpoint_freq", "checkpoint_at_end", "keep_checkpoints_num", "restore"}
NEW_TUNE = {"config", "stop", "storage_path", "checkpoint_config", "restore"}


def test_checkpoints_are_made_in_the_words_of_either_tune(library: Any) -> None:
    spec = {"run": "PPO", "local_dir": "/elsewhere", "checkpoint_freq": 5}
    old, _ = library.ray.config.storage(spec, "/here", OLD_TUNE)
    assert old == {"run": "PPO", "local_dir": "/here", "checkpoint_freq": 5, "checkpoint_at_end": True}
    new, _ = library.ray.config.storage(spec, "/here", NEW_TUNE)
    made = {"checkpoint_frequency": 5, "checkpoint_at_end": True}
    assert new == {"run": "PPO", "storage_path": "/here", "checkpoint_config": made}


def test_a_checkpoint_configuration_object_keeps_what_it_says(library: Any) -> None:
    given = SimpleNamespace(num_to_keep=2, checkpoint_frequency=0, checkpoint_at_end=None)
    new, _ = library.ray.config.storage({"run": "PPO", "checkpoint_config": given}, "/here", NEW_TUNE)
    assert new["checkpoint_config"] == {"num_to_keep": 2, "checkpoint_frequency": 10, "checkpoint_at_end": True}


def test_a_word_that_tune_no_longer_knows_is_said(library: Any) -> None:
    spec, notes = library.ray.config.storage({"run": "PPO", "queue_trials": True}, "/here", NEW_TUNE)
    assert "queue_trials" not in spec
    assert notes == ["'queue_trials' is not a key of an experiment of this Ray: left out"]


@pytest.mark.parametrize(
    "result",
    [
        {"episode_reward_mean": 0.00002, "timesteps_total": 100},
        {"env_runners": {"episode_return_mean": 0.00002}, "num_env_steps_sampled_lifetime": 100.0},
    ],
    ids=["old stack", "new stack"],
)
def test_both_metric_expressions_find_the_reward_once(library: Any, result: dict[str, Any]) -> None:
    text = "\n".join(library.ray.config.report(dict(result, training_iteration=1, time_total_s=1.0)))
    assert re.findall(f"episode_reward_mean: ({FLOAT})", text) == [("0.000020", "")]
    assert re.findall(rf"episode_reward_mean\s*({FLOAT})", text) == [("0.000020", "")]


def test_before_the_first_episode_ends_no_number_is_said(library: Any) -> None:
    (line,) = library.ray.config.report({"episode_reward_mean": float("nan"), "training_iteration": 1})
    assert "episode_reward_mean" not in line


def test_versions_compare_as_numbers(library: Any) -> None:
    version = library.ray.config.version
    assert version("0.8.5") < version("0.10.0") < version("2.9.3") < version("2.60.0rc1")


# ---- the cluster


def test_each_ray_is_started_in_its_own_words(library: Any) -> None:
    head, worker = library.ray.cluster.head_command, library.ray.cluster.worker_command
    assert head((2, 9, 3), "10.0.0.1", 4, 0) == [
        "ray",
        "start",
        "--head",
        "--port=6379",
        "--node-ip-address=10.0.0.1",
        "--num-cpus=4",
        "--num-gpus=0",
        '--resources={"sagemaker_head": 1}',
        "--include-dashboard=false",
    ]
    assert "--redis-port=6379" in head((0, 8, 5), "10.0.0.1", 4, 0)
    assert worker((1, 6, 0), "10.0.0.1", "10.0.0.2", 4, 1)[2] == "--address=10.0.0.1:6379"
    assert worker((0, 6, 5), "10.0.0.1", "10.0.0.2", 4, 1)[2] == "--redis-address=10.0.0.1:6379"


def test_the_head_names_the_hosts_that_did_not_come(library: Any) -> None:
    job = SimpleNamespace(host="algo-1", hosts=["algo-1", "algo-2", "algo-3"])
    head = library.ray.cluster.Head(job, (2, 9, 3))
    head.addresses = {"algo-2": "10.0.0.2", "algo-3": "10.0.0.3"}
    nodes = [
        {"NodeManagerAddress": "10.0.0.1", "Alive": True},
        {"NodeManagerAddress": "10.0.0.2", "Alive": True},
        {"NodeManagerAddress": "10.0.0.3", "Alive": False},
    ]
    assert head.absent(nodes) == ["algo-3"]
    with pytest.raises(library.ray.cluster.ClusterError, match=r"^algo-3 did not join the Ray cluster of 3 hosts"):
        head.wait(lambda: nodes, 0)


def test_waiting_ends_with_the_answer_or_with_the_time(library: Any) -> None:
    answers, now = iter(["", "", "yes"]), [0.0]
    wait, clock = library.ray.cluster.wait_for, lambda: now[0]
    assert wait(lambda: next(answers), 10, clock, lambda seconds: now.__setitem__(0, now[0] + seconds)) == "yes"
    assert now == [2.0]
    assert not wait(lambda: "", 10, clock, lambda seconds: now.__setitem__(0, now[0] + seconds))
    assert now == [12.0]


# ---- checkpoints


def test_ray_1_goes_on_from_a_file_and_ray_2_from_a_folder(library: Any, tmp_path: Path) -> None:
    old, new = tmp_path / "trial/checkpoint_000009", tmp_path / "trial/checkpoint_000010"
    old.mkdir(parents=True)
    new.mkdir()
    (old / "checkpoint-9").touch()
    (new / "rllib_checkpoint.json").touch()
    files = library.ray.files
    assert set(files.checkpoints(tmp_path)) == {str(old), str(new)}
    assert files.restore_path(str(old)) == str(old / "checkpoint-9")
    assert files.restore_path(str(new)) == str(new)


def test_the_model_is_the_checkpoint_and_its_parameters(library: Any, tmp_path: Path) -> None:
    checkpoint, model = tmp_path / "trial/checkpoint_000001", tmp_path / "model"
    checkpoint.mkdir(parents=True)
    (checkpoint / "rllib_checkpoint.json").write_text("{}")
    (tmp_path / "trial/params.json").write_text('{"lr": 0.5}')
    library.ray.files.export(str(checkpoint), str(model))
    assert (model / "checkpoint/rllib_checkpoint.json").exists()
    assert json.loads((model / "params.json").read_text()) == {"lr": 0.5}
    assert library.ray.files.find_checkpoint(str(model)) == str(model / "checkpoint")


def test_the_parameters_of_a_trial_that_was_stopped_come_from_where_it_ran(library: Any, tmp_path: Path) -> None:
    checkpoint, staged, model = tmp_path / "trial/checkpoint_000001", tmp_path / "staged", tmp_path / "model"
    checkpoint.mkdir(parents=True)
    staged.mkdir()
    (staged / "params.json").write_text('{"lr": 0.25}')
    library.ray.files.export(str(checkpoint), str(model), str(staged))
    assert json.loads((model / "params.json").read_text()) == {"lr": 0.25}


# ---- Coach


def test_coachs_own_hyperparameters_are_told_from_the_scripts(library: Any) -> None:
    asked = {"RLCOACH_PRESET": "CartPole_DQN", "rl.a": 1, "learning_rate": 0.1, "sagemaker_region": "us-west-2"}
    assert library.coach.files.split_hyperparameters(asked) == (
        {"RLCOACH_PRESET": "CartPole_DQN"},
        {"learning_rate": 0.1},
    )
    with pytest.raises(library.coach.files.CoachJobError, match="RLCOACH_PRSET is not a hyperparameter"):
        library.coach.files.split_hyperparameters({"RLCOACH_PRSET": "x"})


def test_the_last_checkpoint_is_the_one_with_the_highest_number(library: Any, tmp_path: Path) -> None:
    source, model = tmp_path / "checkpoint", tmp_path / "model"
    source.mkdir()
    for name in (
        "9_Step-900.ckpt.main",
        "10_Step-1000.ckpt.main",
        "10_Step-1000.ckpt.filters.srs",
        ".coach_checkpoint",
    ):
        (source / name).touch()
    assert library.coach.files.find_restorable(str(tmp_path)) == str(source)
    library.coach.files.export(str(source), str(model))
    copied = sorted(path.name for path in (model / "checkpoint").iterdir())
    assert copied == [".coach_checkpoint", "10_Step-1000.ckpt.filters.srs", "10_Step-1000.ckpt.main"]


# ---- Vowpal Wabbit


def test_csv_and_json_lines_become_the_same_examples(library: Any) -> None:
    table = 'observation,action,action_prob,reward\n"[0.5, 0, 2]",3,0.25,1\n'
    row = {"observation": [0.5, 0, 2], "action": 3, "action_prob": 0.25, "reward": 1}
    expected = ["3:0:0.25 | 1:0.5 3:2"]
    assert list(library.vw.examples.from_csv(io.StringIO(table))) == expected
    assert list(library.vw.examples.from_json_lines(io.StringIO(json.dumps(row) + "\n\n"))) == expected


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('"[1]",5,0.25,1', "log.csv:2: action 5 is not one of 1 to 4"),
        ('"[1]",1,0,1', r"log.csv:2: action_prob 0.0 is not a probability above 0"),
        ('"[1]",1,,1', "log.csv:2: no action_prob"),
        ("one,1,0.5,1", "log.csv:2: "),
    ],
)
def test_a_row_that_says_nothing_is_an_error_with_its_place(library: Any, row: str, message: str) -> None:
    table = io.StringIO("observation,action,action_prob,reward\n" + row + "\n")
    with pytest.raises(library.vw.examples.ExamplesError, match=message):
        list(library.vw.examples.from_csv(table, "log.csv", 4))


def test_a_pretrained_model_is_found_in_an_archive_too(library: Any, tmp_path: Path) -> None:
    find = library.vw.launcher.find_pretrained
    assert find(None) is None
    with pytest.raises(library.vw.launcher.TrainingError, match="has neither"):
        find(str(tmp_path))
    (tmp_path / "vw.model").write_text("weights")
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "vw.model", "vw.model")
    (tmp_path / "vw.model").unlink()
    assert Path(find(str(tmp_path))).read_text() == "weights"


def test_the_metadata_is_the_command_line_of_the_policy(library: Any) -> None:
    assert library.vw.launcher.metadata(4, "--epsilon 0.2", "-q ::") == "--cb_explore 4 --epsilon 0.2 -q ::"
    assert library.vw.launcher.metadata(4, version=(9, 11)) == "--cb_explore 4 --cb_force_legacy --epsilon 0.1"


# ---- names and places of the modules


@pytest.mark.parametrize(
    ("name", "source", "public"),
    [
        ("ray_launcher", "ray.launcher", ("SageMakerRayLauncher",)),
        ("vw_launcher", "vw.launcher", ("Learner", "installed", "metadata", "train")),
        ("vw_examples", "vw.examples", ("example", "features", "read")),
        ("serve", "serving.__main__", ("main",)),
    ],
)
def test_the_documented_module_names_lead_to_the_same_objects(
    library: Any, name: str, source: str, public: tuple[str, ...]
) -> None:
    facade, module = (sys.modules[f"sagemaker_rl.{each}"] for each in (name, source))
    assert all(getattr(facade, each) is getattr(module, each) for each in public)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_toolkit_folders_are_independent(source: Path) -> None:
    """Images get the common files, `serving` and one toolkit's folder, so nothing else may be imported."""
    parts = source.relative_to(FOLDER / "sagemaker_rl").with_suffix("").parts
    own = next((toolkit for toolkit in ("ray", "coach", "vw") if parts[0].split("_")[0] == toolkit), None)
    imported = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level
            imported.update([f"{node.module}.{alias.name}" for alias in node.names])
        elif isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
    folders = {name.split(".")[1].split("_")[0] for name in imported if name.startswith("sagemaker_rl.")}
    assert not folders.intersection({"ray", "coach", "vw"} - {own})


def test_the_package_is_imported_from_a_folder_given_as_a_dependency(tmp_path: Path) -> None:
    code = tmp_path / "code"
    shutil.copytree(FOLDER / "sagemaker_rl", code / "sagemaker_rl", ignore=shutil.ignore_patterns("__pycache__"))
    program = "from sagemaker_rl import ray_launcher, vw_launcher; print(ray_launcher.__file__, vw_launcher.train)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(code), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(f"{code}/sagemaker_rl/ray_launcher.py <function train at ")
