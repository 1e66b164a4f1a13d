"""RunConfig and the flags that make it."""

import pytest

from conftest import ROOT
from tfdps import checks, flags
from tfdps.config import FREE, GUARANTEE, RunConfig

JOINT = RunConfig(mechanism="joint")
FLAGFILES = sorted(path.name for path in (ROOT / "launch").glob("*.flags"))


def parse(*arguments):
    return flags.parse(["tfdps", *arguments])[1]


def test_config_survives_json_and_its_own_flagfile(tmp_path):
    config = RunConfig(
        mechanism="joint", dataset="mnist", num_steps=7, learning_rate=1e-5, label=None
    )
    assert RunConfig.from_json(config.to_json()) == config
    path = tmp_path / "run.flags"
    path.write_text(config.to_flags())
    assert parse(f"--flagfile={path}") == config


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("clip_norm", -0.5, "clip_norm must be > 0, received -0.5."),
        ("target_epsilon", 0.0, "target_epsilon must be > 0, received 0.0."),
        ("noise_multiplier", float("nan"), "noise_multiplier must be > 0, received nan."),
        ("delta", 1.0, "delta must be in (0, 1), received 1.0."),
        ("batch_size", 0, "batch_size must be >= 1, received 0."),
        ("debias_ratio", 1.5, r"debias_ratio must be in [0, 1], received 1.5."),
        ("ema_decay", 1.0, "ema_decay must be in [0, 1), received 1.0."),
        ("cost", "l3", "cost must be one of l2, l1+l2; received 'l3'."),
        ("num_steps", 1.5, "num_steps must be an integer, received 1.5."),
    ],
)
def test_a_value_out_of_range_is_named_with_what_is_allowed(field, value, message):
    with pytest.raises(checks.UsageError) as error:
        RunConfig(mechanism="joint", **{field: value})
    assert str(error.value) == message


def test_fresh_images_are_the_floor_of_ratio_times_batch():
    def joint(**changes):
        return RunConfig(mechanism="joint", **changes)

    assert joint(batch_size=50, debias_ratio=0.2).num_fresh == 10
    assert joint(batch_size=10, debias_ratio=0.3).num_fresh == 3  # 0.3 * 10 < 3 in floats
    assert joint(batch_size=50, debias_ratio=0.2, loss="plain").num_fresh == 0


def test_everything_that_enters_epsilon_is_marked_as_guarantee():
    changed = RunConfig(
        delta=1e-6,
        batch_size=20,
        noise_multiplier=2.0,
        clip_norm=0.1,
        num_steps=9,
        target_epsilon=1.0,
        mechanism="none",
        accountant="pld",
        dataset="mnist",
        dataset_size=9,
        label="Male",
        image_size=32,
    )
    policies = {name: policy for name, *_, policy in JOINT.differences(changed)}
    assert set(policies.values()) == {GUARANTEE}
    assert len(policies) == 12
    [(_, _, _, policy)] = JOINT.differences(RunConfig(mechanism="joint", learning_rate=0.5))
    assert policy == FREE


@pytest.mark.parametrize("name", FLAGFILES)
def test_every_flag_file_of_the_package_parses_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert isinstance(parse(f"--flagfile={name}"), RunConfig)
    first = (ROOT / "launch" / name).read_text().splitlines()[0]
    assert first.startswith("# python -m tfdps.launch --flagfile=" + name)


def test_the_package_has_a_flag_file_a_result():
    expected = {"digits", "mnist", "fashion_mnist", "cifar", "celeba"}
    expected |= {"mnist_paper", "fashion_mnist_paper", "celeba_paper"}
    assert {f"{name}.flags" for name in expected} <= set(FLAGFILES)


def test_paper_flag_files_hold_the_published_hyperparameters():
    mnist, fashion = (
        parse("--flagfile=mnist_paper.flags"),
        parse("--flagfile=fashion_mnist_paper.flags"),
    )
    celeba = parse("--flagfile=celeba_paper.flags")
    assert (mnist.batch_size, mnist.noise_multiplier, mnist.clip_norm) == (50, 1.1, 0.5)
    assert (fashion.batch_size, fashion.noise_multiplier, fashion.clip_norm) == (50, 0.9, 0.5)
    assert (celeba.batch_size, celeba.noise_multiplier, celeba.clip_norm) == (200, 0.8, 0.1)
    for config in (mnist, fashion):
        assert (config.generator, config.latent_dim, config.cost) == ("dcgan", 16, "l1+l2")
        assert (config.loss, config.debias_ratio) == ("semi_debiased", 0.2)
        assert (config.schedule, config.schedule_exponent, config.regularization) == (
            "reference",
            1.0,
            0.05,
        )
    assert (celeba.generator, celeba.latent_dim, celeba.cost) == ("biggan", 32, "l2")
    assert (celeba.loss, celeba.schedule_exponent, celeba.regularization) == ("plain", 2.0, 25.0)
    assert (celeba.delta, celeba.label, celeba.image_size) == (1e-6, "Male", 32)
    for config in (mnist, fashion, celeba):
        assert (config.learning_rate, config.weight_decay) == (1e-5, 1e-5)
        assert (config.target_epsilon, config.label_scale) == (10.0, 15.0)


def test_a_flag_file_in_the_working_directory_comes_before_the_packages_own(tmp_path, monkeypatch):
    (tmp_path / "digits.flags").write_text("# mine\n--num_steps=17\n")
    monkeypatch.chdir(tmp_path)
    assert parse("--flagfile=digits.flags").num_steps == 17
    assert parse("--flagfile", "digits.flags").num_steps == 17


def test_the_last_value_of_a_flag_wins():
    assert parse("--flagfile=digits.flags", "--num_steps=3").num_steps == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nun_steps=3"], "Unknown command line flag 'nun_steps'. Did you mean: num_steps ?"),
        (["--batch_size=many"], "--batch_size=many"),
        (["--mechanism=magic"], "value should be one of <joint|per_record|none>"),
        (["train"], "unexpected argument 'train'"),
        (["--flagfile=nowhere.flags"], "flagfile 'nowhere.flags' is neither in"),
    ],
)
def test_a_wrong_command_line_is_one_clear_error(arguments, message):
    with pytest.raises(checks.UsageError) as error:
        parse(*arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
