import dataclasses
import json
from pathlib import Path

import pytest
import yaml

from glassgrok import config as configs
from glassgrok.config import Config, DomainConfig, ModelConfig, TaskConfig
from glassgrok.domains import Box, Free, Shell
from glassgrok.sampling.config import SamplerConfig
from glassgrok.training import TrainingConfig

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def loaded(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return configs.load(path)


def names(kind):
    fields = {f.name: f.default for f in dataclasses.fields(kind)}
    return {
        name: names(type(value)) if dataclasses.is_dataclass(value) else None
        for name, value in fields.items()
    }


def test_quickstart_file_is_the_default_and_explains_every_field():
    path = EXPERIMENTS / "quickstart" / "quickstart.yaml"
    assert configs.load(path) == Config()

    def holds(values, wanted):
        assert set(values) == set(wanted)
        for name, inner in wanted.items():
            if inner:
                holds(values[name], inner)

    holds(yaml.safe_load(path.read_text()), names(Config))


def test_p67_file():
    config = configs.load(EXPERIMENTS / "quickstart" / "p67.yaml")
    assert config.task == TaskConfig("x+y", 67, 0.5)
    assert config.model == ModelConfig(128, 4, 32, 512)
    assert (config.training.steps, config.training.learning_rate) == (10_000, 3e-3)
    assert config.training.weight_decay == 1


def test_plain_configs_and_their_differences():
    one = configs.plain(Config(warm_start="/home/me/old", umbrella=None))
    other = configs.plain(Config(warm_start="old", umbrella=None, seed=3, training=None))
    assert one["warm_start"] == "old"
    assert json.loads(json.dumps(one)) == one
    assert configs.differences(one, one) == {}
    assert configs.differences(one, other) == {
        "training": (one["training"], None),
        "seed": (0, 3),
    }
    assert configs.differences({"a": {"b": 1}}, {"a": {}}) == {"a.b": (1, None)}


@pytest.mark.parametrize(
    "config",
    [
        Config(),
        Config(training=None, trained_starts=(), seed=3),
        Config(
            training=TrainingConfig(learning_rate=(1e-3, 3e-3), norm=2.0),
            sampler=SamplerConfig(dt=0.01),
            domain=DomainConfig("shell", radius=5.0),
        ),
    ],
)
def test_round_trip(tmp_path, config):
    assert loaded(tmp_path, configs.dump(config)) == config


def test_missing_fields_are_as_in_the_quickstart(tmp_path):
    config = loaded(tmp_path, "grid: {ln_loss: {low: -6}}\nsampler: {dt: 1e-3}\numbrella: null")
    assert config.grid.ln_loss == dataclasses.replace(Config().grid.ln_loss, low=-6)
    assert config.sampler == dataclasses.replace(Config().sampler, dt=1e-3)
    assert config.training == Config().training
    assert loaded(tmp_path, "umbrella: {steps: 400}").umbrella == dataclasses.replace(
        Config().umbrella, steps=400
    )
    assert loaded(tmp_path, "training: null").training is None


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("seed: [1", ["not valid YAML in line 1", "correct the file"]),
        ("- 1\n- 2", ["must hold fields", "[1, 2]"]),
        ("", ["must hold fields", "empty"]),
        ("sede: 1", ["no field sede", "did you mean seed?"]),
        ("sampler: {walkerz: 3}", ["no field sampler.walkerz", "did you mean sampler.walkers?"]),
        ("grid: {ln_loss: {q: 3}}", ["no field grid.ln_loss.q", "low, high, bins"]),
        ("1: 2", ["no field 1", "task, model"]),
        ("task: {modulus: ten}", ["task.modulus must be a valid integer", "'ten'"]),
        ("task: {modulus: 2.5}", ["task.modulus", "2.5"]),
        ("task: {modulus: yes}", ["task.modulus is true"]),
        ("task: 5", ["task must be a section", "5"]),
        ("task:", ["task must be a section", "empty"]),
        (
            "umbrella: null\nsampler: {dt: autoo}",
            ["sampler.dt must be a valid number or 'auto'", "'autoo'"],
        ),
        ("sampler: {steps: 300}", ["section sampler", "umbrella: null"]),
        ("warm_start: old", ["take no warm_start", "umbrella: null"]),
        ("domain: {kind: free}", ["domain.kind is free", "umbrella: null"]),
        ("domain: {kind: ball}", ["domain.kind", "'box'", "'ball'"]),
        ("trained_starts: 7", ["trained_starts", "7"]),
        ("umbrella: null\nsampler: {steps: -3}", ["sampler: steps must be at least 1", "-3"]),
        ("training: {steps: 0}", ["training: steps must be at least 1"]),
        ("grid: {ln_loss: {low: 1, high: 0}}", ["grid.ln_loss: an axis must run upwards"]),
        ("grid: {ln_loss: {bins: 1}}", ["grid.ln_loss: an axis needs at least 2 bins"]),
        ("domain: {radius: -1}", ["domain: radius must be positive"]),
        ("model: {heads: 0}", ["model: heads must be at least 1"]),
        ("accuracy_slope: .nan", ["accuracy_slope must be positive"]),
        ("seed: -1", ["seed must not be negative"]),
    ],
)
def test_errors_are_one_sentence_with_file_field_and_value(tmp_path, text, parts):
    with pytest.raises(ValueError, match=r"run\.yaml") as caught:
        loaded(tmp_path, text)
    message = str(caught.value)
    assert "\n" not in message
    assert all(part in message for part in parts), message


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ValueError, match="no file"):
        configs.load(tmp_path / "absent.yaml")
    with pytest.raises(ValueError, match="cannot be read"):
        configs.load(tmp_path)
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ValueError, match=r"bytes\.yaml"):
        configs.load(tmp_path / "bytes.yaml")


def test_builds_what_it_says():
    config = Config(task=TaskConfig("x*y", 5, 0.6), model=ModelConfig(8, 2, 4, 16))
    task = configs.build_task(config)
    model = configs.build_model(config, task)
    assert (len(task.inputs), model.vocabulary, model.d_mlp) == (25, 6, 16)
    assert configs.build_grid(config).shape == (24, 18)
    assert [axis.name for axis in configs.build_grid(config).axes] == ["ln_loss", "test_accuracy"]
    for kind, domain in {"box": Box(), "shell": Shell(30.0), "free": Free()}.items():
        assert configs.build_domain(Config(domain=DomainConfig(kind), umbrella=None)) == domain
    with pytest.raises(ValueError, match="modulus"):
        configs.build_system(Config(task=TaskConfig(modulus=1)))
