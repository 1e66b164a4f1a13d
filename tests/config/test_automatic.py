"""Settings that are chosen from public values, and how they stay as they were."""

import dataclasses
import json
import re

import pytest

import tfdps
from conftest import small_config
from tfdps.accounting import class_signal
from tfdps.checks import UsageError
from tfdps.config import automatic, flags
from tfdps.config.run_config import RunConfig
from tfdps.learners.per_record.class_rounds import num_waves

GREY, COLOUR = (28, 28, 1), (32, 32, 3)


def chosen(size, shape=GREY, num_classes=10, **settings):
    config, _ = automatic.settled(
        RunConfig(**settings), size, num_classes=num_classes, image_shape=shape
    )
    return config


@pytest.mark.parametrize(
    ("name", "size", "shape"),
    [
        ("mnist", 60_000, GREY),
        ("mnist_eps1", 60_000, GREY),
        ("mnist_eps02", 60_000, GREY),
        ("fashion_mnist_eps1", 60_000, GREY),
        ("fashion_mnist_eps02", 60_000, GREY),
        ("cifar", 50_000, COLOUR),
        ("cifar_eps1", 50_000, COLOUR),
    ],
)
def test_the_rules_give_the_atoms_and_the_grain_that_were_tuned_by_hand(name, size, shape):
    by_hand = flags.parse(["tfdps", f"--flagfile={name}.flags"])[1]
    by_rule = chosen(size, shape, target_epsilon=by_hand.target_epsilon)
    assert by_rule.num_atoms == by_hand.num_atoms
    assert by_rule.grain == (2.0 if by_hand.grain == 2 else 1.0)


@pytest.mark.parametrize("size", [1, 500, 10**7])
@pytest.mark.parametrize("shape", [(8, 8, 1), GREY, (512, 512, 3), (4, 4, 1), (1, 2, 1)])
def test_whatever_is_chosen_can_be_trained(size, shape):
    pixels = shape[0] * shape[1] * shape[2]
    for epsilon in (0.01, 1.0, 1e4):
        config = chosen(size, shape, num_classes=3, target_epsilon=epsilon, delta=1e-9)
        assert 1 <= config.num_atoms <= 128
        assert 1 <= config.latent_dim - 1 <= min(200, max(1, pixels // 3))
        assert config.latent_dim - 1 <= num_waves(shape)


def test_more_records_or_more_epsilon_never_give_fewer_atoms_or_dimensions():
    sizes, epsilons = (10, 300, 9_000, 270_000), (0.1, 0.7, 5.0, 40.0)
    for name in ("num_atoms", "latent_dim"):
        of_sizes = [getattr(chosen(n, target_epsilon=1.0), name) for n in sizes]
        of_epsilons = [getattr(chosen(9_000, target_epsilon=e), name) for e in epsilons]
        assert of_sizes == sorted(of_sizes)
        assert of_epsilons == sorted(of_epsilons)
        assert of_sizes[0] < of_sizes[-1]
        assert of_epsilons[0] < of_epsilons[-1]


def test_persons_count_as_the_square_root_of_their_images():
    of_persons = chosen(1_000, person="folder", images_per_person=25)
    assert of_persons.num_atoms == chosen(5_000).num_atoms
    assert of_persons.latent_dim == chosen(5_000).latent_dim


def test_what_is_given_stays():
    config = chosen(60_000, num_atoms=3, latent_dim=7, grain=0.0, refiner="none")
    assert (config.num_atoms, config.latent_dim, config.grain, config.refiner) == (
        3,
        7,
        0.0,
        "none",
    )
    assert chosen(60_000).refiner == "mixed"
    assert chosen(60_000, (15, 15, 1)).refiner == "none"
    joint = chosen(60_000, mechanism="joint")
    assert (joint.num_atoms, joint.latent_dim, joint.refiner) == (None, 16, None)


def test_noise_that_is_given_alone_counts_as_the_epsilon_it_comes_to():
    by_epsilon = chosen(60_000, target_epsilon=1.0)
    sigma = tfdps.make_plan(by_epsilon, 60_000).noise_multiplier
    by_noise = chosen(60_000, target_epsilon=None, noise_multiplier=sigma)
    assert by_noise.num_atoms == by_epsilon.num_atoms


def test_the_line_names_each_choice_with_its_reason():
    _, choices = automatic.settled(RunConfig(), 60_000, num_classes=10, image_shape=GREY)
    line = automatic.line(choices)
    assert line.startswith(
        "Chosen, where nothing was given: --num_atoms=128 (6,000 records a class"
    )
    for name in ("latent_dim", "grain", "refiner"):
        assert f"--{name}=" in line


def test_a_plan_needs_the_classes_or_the_atoms():
    with pytest.raises(UsageError, match="num_classes is missing: by it num_atoms"):
        tfdps.make_plan(RunConfig(), 1000)
    assert tfdps.make_plan(RunConfig(), 1000, num_classes=10) == tfdps.make_plan(chosen(1000), 1000)


def test_account_says_what_it_chooses_as_the_run_will(capsys):
    from tfdps import launch

    assert launch.main(["tfdps", "--mode=account", "--dataset=digits"]) == 0
    said = capsys.readouterr().out
    atoms = chosen(1438).num_atoms
    assert f"Chosen, where nothing was given: --num_atoms={atoms} (144 records a class" in said
    arrays = ["tfdps", "--mode=account", "--dataset=arrays", "--dataset_size=1438"]
    assert launch.main(arrays) == 2
    assert "class_names is missing" in capsys.readouterr().err
    assert launch.main([*arrays, "--class_names=a,b"]) == 0


@pytest.mark.slow
def test_a_run_records_its_choices_and_resumes_with_them(tmp_path, monkeypatch):
    from tfdps import console
    from tfdps.training import job

    config, said = RunConfig(model_dir=str(tmp_path / "run")), []
    with console.lines_to(said.append):
        card = job.train(config)
    assert any(line.startswith("Chosen, where nothing was given: --num_atoms=2") for line in said)
    recorded = json.loads((tmp_path / "run" / "run.json").read_text())["config"]
    assert (recorded["num_atoms"], recorded["refiner"]) == (2, "none")
    assert {"--num_atoms=2", "--latent_dim=22", "--grain=1.0"} <= set(card.flags)
    # Another version may have other rules: a run that was started keeps what it has.
    monkeypatch.setattr(automatic, "_RECORDS_AN_ATOM", 1.0)
    with console.lines_to(said.append):
        again = job.train(config)
    assert again.flags == card.flags
    with pytest.raises(UsageError, match="--num_atoms alters the privacy guarantee"):
        job.train(dataclasses.replace(config, num_atoms=4))


def signal_of(size, **settings):
    return class_signal.word(tfdps.make_plan(RunConfig(**settings), size, num_classes=10), 10)


def test_classes_that_the_noise_hides_are_told_of():
    assert signal_of(60_000, target_epsilon=0.2) == ""
    assert signal_of(500, target_epsilon=10.0) == ""
    faint = signal_of(2_000, target_epsilon=1.0)
    assert re.match("Expect little: with 200 records a class .* About 1.5 times as many", faint)
    lost = signal_of(100, target_epsilon=1.0)
    assert re.match("Expect nothing: with 10 records a class", lost)
    assert "220 persons" not in signal_of(220, person="folder")
    assert "22 persons a class" in signal_of(220, target_epsilon=1.0, person="folder")
    joint = tfdps.make_plan(small_config("unused"), 100)
    assert class_signal.word(joint, 10) == ""
