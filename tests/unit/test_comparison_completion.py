"""What a comparison's spec stands for, once it is completed from its data set."""

from typing import Any

import pytest

from service.domain.comparison_completion import complete_comparison, dataset_of
from service.domain.comparison_presets import PRESETS
from service.domain.comparison_spec import ComparisonSpec
from service.domain.datasets import ARTICLE_TABLES
from service.domain.limits import Limits
from service.domain.spec import MlpSpec
from tests.unit.planned import CLASSES, SMALL, article, completed, networks, refused


def test_default_is_the_articles_question_with_five_seeds() -> None:
    found = completed()
    arms = networks(found)
    assert list(arms) == ["snn", "regular", "relu_he", "relu_he_batchnorm"]
    assert all(len(network.widths) == 20 and network.widths[0] == 100 for network in arms.values())
    assert [network.dropout for network in arms.values()] == [0.0] * 4
    told = [
        (network.activation, network.initializer, network.normalization, network.standardize)
        for network in arms.values()
    ]
    assert told == [
        ("selu", "lecun_normal", None, True),
        ("relu", "glorot_uniform", None, False),
        ("relu", "he_normal", None, True),
        ("relu", "he_normal", "batch", True),
    ]
    assert found.spec.seeds == (0, 1, 2, 3, 4)
    assert found.spec.reference == "regular"
    assert [(job.arm, job.seed) for job in found.jobs] == [(arm, seed) for arm in arms for seed in range(5)]


def test_jobs_differ_in_network_seed_and_model_alone() -> None:
    found = completed(tags=["x"], model="m", training={"epochs": 7})
    for job in found.jobs:
        assert job.spec.network == networks(found)[job.arm]
        assert job.spec.training.seed == job.seed
        assert job.spec.model == f"m-{job.arm}"
        assert job.spec.tags == ("x",)
    same = {
        job.spec.model_copy(
            update={
                "network": None,
                "model": None,
                "training": job.spec.training.model_copy(update={"seed": 0}),
            }
        ).model_dump_json(warnings=False)
        for job in found.jobs
    }
    assert len(same) == 1
    assert found.jobs[0].spec.training.epochs == 7


def test_every_job_is_one_that_could_be_submitted_alone() -> None:
    found = completed(CLASSES, arms="ablations", dropout=0.1, seeds=[3])
    for job in found.jobs:
        spec = type(job.spec).model_validate(job.spec.model_dump(mode="json"))
        assert spec == job.spec


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"preset": "article/boston_housing", "dataset": "d1", "target": "y"},
        {"arms": "ablations", "dropout": 0.1, "levels": [0.5]},
        {"depths": [2, 8], "seeds": [7]},
        {"arms": {"a": {"units": [3, 4]}, "b": {"kind": "mlp"}}, "reference": "b"},
    ],
)
def test_completed_spec_is_completed_to_itself(fields: dict[str, Any]) -> None:
    first = completed(**fields)
    again = complete_comparison(ComparisonSpec.model_validate(first.spec.model_dump(mode="json")), SMALL, Limits())
    assert again == first


@pytest.mark.parametrize(
    ("name", "validation", "seeds"), [("fashion_mnist", 10_000, 1), ("cifar10", 5_000, 1), ("boston_housing", 81, 5)]
)
def test_presets_are_the_articles_experiments(name: str, validation: int, seeds: int) -> None:
    found = completed(article(name), preset=f"article/{name}")
    assert dataset_of(ComparisonSpec.model_validate({"preset": f"article/{name}"})) == name
    training = found.jobs[0].spec.training
    assert (training.optimizer, training.learning_rate, training.epochs, training.batch_size) == ("nadam", 7e-4, 50, 32)
    assert (training.early_stopping, training.test_fraction) == (None, None)
    assert found.ground.validation_rows == validation
    assert found.ground.test_rows == ARTICLE_TABLES[name].test_rows
    assert len(found.spec.seeds) == seeds
    assert len(found.jobs) == 4 * seeds


def test_other_fields_override_a_preset_one_by_one() -> None:
    fields: dict[str, Any] = {"training": {"epochs": 3, "early_stopping": {"patience": 2}}, "seeds": [9], "units": 10}
    found = completed(article("cifar10"), preset="article/cifar10", **fields)
    training = found.jobs[0].spec.training
    assert (training.epochs, training.learning_rate, training.validation_fraction) == (3, 7e-4, 0.1)
    assert training.early_stopping is not None
    assert training.early_stopping.patience == 2
    assert [job.seed for job in found.jobs] == [9] * 4
    assert {network.widths for network in networks(found).values()} == {(10,) * 20}
    assert PRESETS["article/cifar10"].training.epochs == 50


def test_ablations_break_one_condition_each() -> None:
    arms = networks(completed(arms="ablations", hidden_layers=3, units=5))
    kept = {"activation": "selu", "initializer": "lecun_normal", "normalization": None, "standardize": True}
    broken = {
        name: {field for field, value in kept.items() if getattr(network, field) != value}
        for name, network in arms.items()
    }
    assert broken == {
        "snn": set(),
        "no_lecun_start": {"initializer"},
        "no_selu": {"activation"},
        "no_standardization": {"standardize"},
        "batch_normalization": {"normalization"},
    }
    assert completed(arms="ablations").spec.reference == "snn"


def test_dropout_adds_an_ablation_of_its_kind_and_is_the_same_everywhere() -> None:
    arms = networks(completed(arms="ablations", dropout=0.05))
    assert {network.dropout for network in arms.values()} == {0.05}
    extra = arms["no_alpha_dropout"]
    assert isinstance(extra, MlpSpec)
    assert (extra.activation, extra.initializer, extra.dropout_kind) == ("selu", "lecun_normal", "standard")


def test_depth_sweep_makes_an_arm_of_every_depth() -> None:
    found = completed(depths=[2, 32], seeds=[0, 1])
    assert [(job.arm, job.seed, len(job.spec.network.widths)) for job in found.jobs] == [
        (f"{arm}-{depth}", seed, depth) for arm in ("snn", "regular") for depth in (2, 32) for seed in (0, 1)
    ]
    assert {name: network.hidden_layers for name, network in networks(found).items()} == {"snn": None, "regular": None}
    mine = completed(depths=[3], arms={"a": {"units": 7}}, seeds=[0])
    assert [(job.arm, job.spec.network.widths) for job in mine.jobs] == [("a-3", (7, 7, 7))]


def test_what_fails_for_one_arm_points_at_it_and_the_rest_is_said_once() -> None:
    small = Limits(max_parameters=5000)
    arms = {"big": {}, "ok": {"units": 10}, "wide": {"units": 900}}
    found = refused(limits=small, arms=arms)
    assert found.keys() == {"#/arms/big", "#/arms/wide"}
    assert "parameters" in found["#/arms/big"]
    shared = refused(features=["a", "q"], training={"momentum": 0.5, "monitor": "val_f1"})
    assert shared.keys() == {"#/features/1", "#/training/momentum", "#/training/monitor"}


@pytest.mark.parametrize(
    ("fields", "pointer", "said"),
    [
        ({"arms": {"a": {}}, "units": 5}, "#/units", "say it in each of the arms"),
        ({"arms": {"a": {}}, "hidden_layers": 5}, "#/hidden_layers", "say it in each of the arms"),
        ({"arms": {"a": {}}, "dropout": 0.0}, "#/dropout", "say it in each of the arms"),
        ({"depths": [2], "hidden_layers": 5}, "#/hidden_layers", "given by depths"),
        ({"depths": [2], "arms": {"a": {"hidden_layers": 2}}}, "#/arms/a/hidden_layers", "given by depths"),
        ({"depths": [2], "arms": {"a": {"units": [2, 2]}}}, "#/arms/a/units", "one number"),
        ({"reference": "nobody"}, "#/reference", "'nobody' is none of the arms"),
        ({"depths": [2], "arms": {"a" * 99: {}}}, f"#/arms/{'a' * 64}", "too long a name"),
        ({"training": {"validation_fraction": 0.0}}, "#/training/validation_fraction", "no row to compare"),
        ({"seeds": list(range(50)), "depths": [1, 2, 3]}, "#/seeds", "2 arms x 3 depths x 50 seeds are 300 jobs"),
    ],
)
def test_misfits_are_named_by_pointer(fields: dict[str, Any], pointer: str, said: str) -> None:
    found = refused(**fields)
    assert said in found[pointer]
