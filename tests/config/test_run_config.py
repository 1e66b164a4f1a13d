"""RunConfig and the flags that make it."""

import dataclasses
import json
import re
import subprocess
import sys

import pytest

import tfdps
from conftest import ROOT
from tfdps import checks, launch
from tfdps.config import flags, run_checks
from tfdps.config.fields import FREE, GUARANTEE, MODEL
from tfdps.config.run_config import RunConfig

JOINT = RunConfig(mechanism="joint")
FLAGFILES = sorted(path.name for path in (ROOT / "launch").glob("*.flags"))


def parse(*arguments):
    return flags.parse(["tfdps", *arguments])[1]


def test_config_survives_json_and_its_own_flagfile(tmp_path):
    config = RunConfig(
        mechanism="joint",
        dataset="mnist",
        num_steps=7,
        learning_rate=1e-5,
        label=None,
        channels=1,
        class_names='T-shirt/top, Ankle boot,"red, blue"',
    )
    assert RunConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config
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
        ("fresh_clip", 0.0, "fresh_clip must be in (0, 1], received 0.0."),
        ("generator_width", 6, "generator_width must be a multiple of 4, received 6."),
        (
            "learning_rate_schedule",
            "linear",
            "learning_rate_schedule must be one of constant, cosine; received 'linear'.",
        ),
        ("ema_decay", 1.0, "ema_decay must be in [0, 1), received 1.0."),
        ("cost", "l3", "cost must be one of l2, l1+l2; received 'l3'."),
        ("num_steps", 1.5, "num_steps must be an integer, received 1.5."),
        ("channels", 2, "channels must be one of 1, 3; received 2."),
        ("target_epsilon", float("inf"), "target_epsilon must be > 0 and finite, received inf."),
        ("learning_rate", None, "learning_rate must be a number, received None."),
        ("delta", "1e-5", "delta must be a number, received '1e-5'."),
        ("warp", True, "warp must be a number, received True."),
        ("dataset", None, "dataset must be a text, received None."),
        ("mechanism", None, "mechanism must be one of joint, per_record, none; received None."),
        ("model_dir", 7, "model_dir must be a text, received 7."),
        ("batch_size", "50", "batch_size must be an integer, received '50'."),
        ("channels", True, "channels must be an integer, received True."),
        ("max_value", 0, "max_value must be from 1 to 65535, received 0."),
        ("max_value", 65536, "max_value must be from 1 to 65535, received 65536."),
        ("background", "grey", "background must be one of white, black; received 'grey'."),
        ("fit", "stretch", "fit must be one of squash, crop, pad; received 'stretch'."),
        ("labels_csv", "", "labels_csv needs a path, as in --labels_csv=labels.csv."),
        (
            "dataset",
            "folder:k\udce4se",
            "dataset must be text in UTF-8, received 'folder:k\\udce4se'.",
        ),
        ("mirror", "no", "mirror must be True or False, received 'no'."),
        (
            "class_names",
            "a,b,a",
            "class_names must be different names with commas between, received 'a,b,a'.",
        ),
        (
            "class_names",
            "a,\nb",
            "class_names must be different names with commas between, received 'a,\\nb'.",
        ),
        (
            "class_names",
            "",
            "class_names must be different names with commas between, received ''.",
        ),
    ],
)
def test_a_value_out_of_range_is_named_with_what_is_allowed(field, value, message):
    with pytest.raises(checks.UsageError) as error:
        RunConfig(**{"mechanism": "joint", field: value})
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
        channels=1,
        class_names="a,b",
        labels_csv="labels.csv",
        max_value=4095,
        background="black",
        fit="crop",
    )
    policies = {name: policy for name, *_, policy in JOINT.differences(changed)}
    assert set(policies.values()) == {GUARANTEE}
    assert len(policies) == 18
    [(_, _, _, policy)] = JOINT.differences(RunConfig(mechanism="joint", learning_rate=0.5))
    assert policy == FREE


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "refiner",
            "faces",
            "refiner must be one of none, strokes, shapes, scenes, mixed; received 'faces'.",
        ),
        ("refiner_start", 0.029, "refiner_start must be from 0.03 to 1, received 0.029."),
        ("refiner_start", 1.01, "refiner_start must be from 0.03 to 1, received 1.01."),
        ("refiner_start", float("nan"), "refiner_start must be from 0.03 to 1, received nan."),
        ("refiner_width", 12, "refiner_width must be a multiple of 8, received 12."),
        ("refiner_width", 0, "refiner_width must be a multiple of 8, received 0."),
        ("refiner_levels", 0, "refiner_levels must be >= 1, received 0."),
        ("refiner_pretraining", -1, "refiner_pretraining must be >= 0, received -1."),
        ("refiner_steps", -1, "refiner_steps must be >= 0, received -1."),
        ("refiner_batch_size", 0, "refiner_batch_size must be >= 1, received 0."),
        ("refiner_views", 0, "refiner_views must be >= 1, received 0."),
        (
            "refiner_noise_multiplier",
            0.0,
            "refiner_noise_multiplier must be > 0, received 0.0.",
        ),
        ("refiner_noise_multiplier", None, "refiner_noise_multiplier must be a number"),
        ("refiner_learning_rate", -1e-3, "refiner_learning_rate must be > 0, received -0.001."),
        ("refiner_steps", 2.5, "refiner_steps must be an integer, received 2.5."),
    ],
)
def test_a_setting_of_the_refiner_out_of_range_is_named_with_what_is_allowed(field, value, message):
    with pytest.raises(checks.UsageError) as error:
        RunConfig(**{"refiner": "strokes", field: value})
    assert str(error.value).startswith(message)


REFINER_FIELDS = [
    field.name for field in dataclasses.fields(RunConfig) if field.name.startswith("refine")
]


@pytest.mark.parametrize("mechanism", ["joint", "none"])
@pytest.mark.parametrize("field", REFINER_FIELDS)
def test_settings_of_the_refiner_mean_nothing_where_a_gradient_trains_the_generator(
    mechanism, field
):
    default = getattr(JOINT, field)
    value = {"refiner": "strokes", "refiner_start": 0.25}.get(field) or 2 * (default or 8)
    message = f"{field}=.* means nothing with mechanism={mechanism}: leave --{field} out"
    with pytest.raises(checks.UsageError, match=message):
        RunConfig(mechanism=mechanism, **{field: value})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"refiner_steps": 7}, "refiner_steps=7 means nothing without a refiner: give --refiner"),
        ({"refiner_start": 0.3}, "refiner_start=0.3 means nothing without a refiner: give"),
        ({"refiner": "none", "refiner_width": 16}, "refiner_width=16 means nothing without a refi"),
        (
            {"refiner": "strokes", "refiner_views": 3},
            "refiner_views=3 means nothing without private steps: give --refiner_steps",
        ),
    ],
)
def test_what_nothing_would_come_of_is_refused(settings, message):
    with pytest.raises(checks.UsageError, match=message):
        RunConfig(**settings)


def test_private_steps_of_a_refiner_are_asked_for():
    assert RunConfig(refiner_steps=7, refiner="shapes").refiner_steps == 7
    assert RunConfig(refiner="shapes").refiner_steps == 0  # procedural images alone, at no cost


def test_what_a_refiner_spends_is_a_guarantee_and_what_it_looks_like_is_not():
    plain = RunConfig(refiner="strokes", refiner_steps=3)
    spends = RunConfig(
        refiner="strokes", refiner_steps=4, refiner_batch_size=20, refiner_noise_multiplier=2.0
    )
    assert {policy for *_, policy in plain.differences(spends)} == {GUARANTEE}
    assert len(plain.differences(spends)) == 3
    network = RunConfig(
        refiner="shapes",
        refiner_steps=3,
        refiner_width=8,
        refiner_pretraining=9,
        refiner_levels=plain.refiner_levels,
    )
    assert [policy for *_, policy in plain.differences(network)] == [MODEL] * 3
    finish = RunConfig(refiner="strokes", refiner_steps=3, refiner_start=0.3, refiner_levels=1)
    assert [policy for *_, policy in plain.differences(finish)] == [FREE] * 2


@pytest.mark.parametrize(("family", "levels"), [("strokes", 3), ("shapes", 5), ("scenes", 3)])
def test_how_a_family_is_drawn_is_its_own_default_and_may_be_given(family, levels):
    assert RunConfig(refiner=family).refiner_levels == levels
    assert RunConfig(refiner=family, refiner_levels=7).refiner_levels == 7
    assert 0.3 <= RunConfig(refiner=family).refiner_start <= 0.5
    assert RunConfig(refiner=family, refiner_start=0.9).refiner_start == 0.9


@pytest.mark.parametrize("none", [["--refiner=none"], ["-refiner=none"], ["--refiner", "none"]])
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist_eps1", "cifar"])
def test_the_mixture_alone_stays_available_for_a_flag_file_with_a_refiner(name, none):
    alone = parse(f"--flagfile={name}.flags", *none)
    assert parse(f"--flagfile={name}.flags").refined
    assert not alone.refined
    assert alone.refiner_start is None
    assert alone.refiner_levels is None
    assert alone.refiner_steps == 0
    # Settings that the command line itself gives are not dropped, but refused.
    with pytest.raises(checks.UsageError, match="refiner_steps=7 means nothing"):
        parse(f"--flagfile={name}.flags", "--refiner=none", "--refiner_steps=7")


def test_a_flag_files_refiner_is_there_without_its_private_steps():
    whole = parse("--flagfile=fashion_mnist_eps1.flags")
    assert (whole.refiner_steps, whole.refiner_noise_multiplier) == (48, 3.0)
    without = parse("--flagfile=fashion_mnist_eps1.flags", "--refiner_steps=0")
    assert without.refiner == whole.refiner
    assert without.refiner_steps == 0
    of_steps = run_checks.OF_PRIVATE_STEPS
    default = RunConfig(refiner=whole.refiner)
    assert [getattr(without, n) for n in of_steps] == [getattr(default, n) for n in of_steps]
    with pytest.raises(checks.UsageError, match="refiner_views=7 means nothing"):
        parse("--flagfile=mnist.flags", "--refiner_steps=0", "--refiner_views=7")


def test_a_refiner_survives_its_own_flagfile(tmp_path):
    config = RunConfig(refiner="scenes", refiner_steps=9, refiner_start=0.3, refiner_views=3)
    path = tmp_path / "run.flags"
    path.write_text(config.to_flags())
    assert parse(f"--flagfile={path}") == config


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


@pytest.mark.parametrize(
    "before",
    [
        ["--target_epsilon=1"],
        ["--target_epsilon", "1"],
        ["-target_epsilon=1"],
        ["--target_epsilon=1", "--target_epsilon=1.0"],
        ["--nomirror", "--target_epsilon=1"],
        ["--mirror", "--target_epsilon=1"],
    ],
)
@pytest.mark.parametrize("flagfile", [["--flagfile=mnist.flags"], ["-flagfile", "mnist.flags"]])
def test_the_command_line_comes_before_a_flagfile_wherever_it_stands(before, flagfile):
    for arguments in ([*before, *flagfile], [*flagfile, *before], [*before, *flagfile, "--"]):
        config = parse(*arguments)
        assert (config.target_epsilon, config.num_atoms) == (1, 128)
        assert config.mirror == ("--mirror" in before)


def test_a_boolean_of_a_flagfile_is_undone_on_the_command_line(tmp_path):
    (tmp_path / "mine.flags").write_text("--mirror\n--warp=0.5\n")
    flagfile = f"--flagfile={tmp_path}/mine.flags"
    assert parse(flagfile).mirror is True
    for undone in ("--nomirror", "--mirror=false", "-nomirror"):
        assert parse(undone, flagfile).mirror is False
        assert parse(undone, "--nomirror", flagfile).warp == 0.5


def test_of_flagfiles_the_later_comes_before_the_earlier_and_one_may_name_another(tmp_path):
    (tmp_path / "one.flags").write_text("--target_epsilon=2\n--delta=1e-6\n")
    (tmp_path / "two.flags").write_text(f"--flagfile={tmp_path}/one.flags\n--target_epsilon=3\n")
    one, two = (f"--flagfile={tmp_path}/{name}.flags" for name in ("one", "two"))
    assert (parse(two).target_epsilon, parse(two).delta) == (3, 1e-6)
    assert parse(one, two).target_epsilon == 3
    assert parse(two, one).target_epsilon == 2
    assert parse("--target_epsilon=1", two, one, "--latent_dim=9").target_epsilon == 1


def test_a_flagfile_may_name_one_of_the_packages_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for line in ("--flagfile=mnist.flags", "-flagfile=mnist.flags"):
        (tmp_path / "mine.flags").write_text(f"{line}\n--delta=1e-6\n")
        config = parse("--flagfile=mine.flags")
        assert (config.dataset, config.num_atoms, config.delta) == ("mnist", 128, 1e-6)


def test_flagfiles_that_name_each_other_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.flags").write_text("--flagfile=two.flags\n")
    (tmp_path / "two.flags").write_text("--flagfile=one.flags\n")
    with pytest.raises(checks.UsageError, match="flagfile one.flags names itself: leave that line"):
        parse("--flagfile=one.flags")


@pytest.mark.parametrize(
    ("content", "dataset"),
    [
        (b"\xef\xbb\xbf--dataset=mnist\n", "mnist"),
        (
            b"\xef\xbb\xbf# a comment\r\n\r\n  --dataset=folder:C:/my pets  \r\n",
            "folder:C:/my pets",
        ),
        ("--dataset=folder:Käse\n// a comment".encode(), "folder:Käse"),
        (b"-dataset=folder:a'b", "folder:a'b"),
    ],
)
def test_a_flagfile_is_utf8_with_or_without_a_byte_order_mark(tmp_path, content, dataset):
    (tmp_path / "mine.flags").write_bytes(content)
    assert parse(f"--flagfile={tmp_path}/mine.flags").dataset == dataset


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("--dataset=mnist\n".encode("utf-16"), "must be text in UTF-8, received UTF-16"),
        ("--dataset=folder:é\n".encode("latin-1"), "must be text in UTF-8, received other bytes"),
        (
            b'--dataset="folder:/a b"',
            'no quotes around a value, received --dataset="folder:/a b": '
            "write --dataset=folder:/a b",
        ),
        (b"# x\n--dataset='mnist'", "line 2 of flagfile"),
        (b"\ndataset=mnist", "line 2 of flagfile"),
        (b"--dataset mnist", "must be a flag, --name=value; received '--dataset mnist'"),
        (b"--label\n--dataset=mnist", "Missing value for flag --label"),
    ],
)
def test_a_flagfile_of_another_kind_is_refused_by_name(tmp_path, content, message):
    (tmp_path / "mine.flags").write_bytes(content)
    with pytest.raises(checks.UsageError) as error:
        parse(f"--flagfile={tmp_path}/mine.flags")
    assert message in str(error.value)
    assert "flagfile" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_flagfile_takes_no_value_from_the_command_line(tmp_path):
    (tmp_path / "cut.flags").write_text("--label\n")
    with pytest.raises(checks.UsageError, match="Missing value for flag --label"):
        parse("--target_epsilon=1", f"--flagfile={tmp_path}/cut.flags")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target_epsilon=1", "--target_epsilon=10"], "received 1.0 and 10.0"),
        (["--delta", "1e-5", "--flagfile=mnist.flags", "-delta=1e-6"], "received 1e-05 and 1e-06"),
        (["--mirror", "--nomirror"], "received True and False"),
        (["--undefok=x", "--mechanism=joint", "--mechanism", "none"], "received joint and none"),
    ],
)
def test_a_flag_given_twice_with_different_values_is_refused_by_name(arguments, message):
    with pytest.raises(checks.UsageError, match=f"must be given once, {message}: leave one"):
        parse(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nun_steps=3"], "Unknown command line flag 'nun_steps'. Did you mean: num_steps ?"),
        (["--batch_size=many"], "--batch_size=many"),
        (["--mechanism=magic"], "value should be one of <joint|per_record|none>"),
        (["train"], "unexpected argument 'train'"),
        (["--flagfile=nowhere.flags"], "flagfile 'nowhere.flags' is neither in"),
        (["--delta=1e-6", "--flagfile"], "--flagfile with no argument"),
        (["--mirror", "true"], "unexpected argument 'true'"),
        (["--nomirror=1"], "does not take an argument"),
        (["--", "--delta=1e-6"], "unexpected argument '--delta=1e-6'"),
        (["--channels=2"], "channels must be one of 1, 3; received 2"),
    ],
)
def test_a_wrong_command_line_is_one_clear_error(arguments, message):
    with pytest.raises(checks.UsageError) as error:
        parse(*arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_help_has_every_flag_once_in_groups_and_the_first_to_know_first():
    text = flags.help_text()
    named = re.findall(r"^  --(?:\[no\])?(\w+)", text, re.MULTILINE)
    assert named[:5] == ["flagfile", "dataset", "target_epsilon", "model_dir", "mode"]
    values = flags.parse(["tfdps"])[0]
    assert sorted(named) == sorted({*values, "flagfile"} - {"undefok", "help", "helpfull"})
    for title in ("Data", "Privacy", "Transport (joint and none)", "Generator", "Running"):
        assert f"\n{title}:\n" in text
    assert max(map(len, text.splitlines())) <= 110


def test_the_version_is_printed(capsys):
    assert launch.main(["tfdps", "--version"]) == 0
    assert capsys.readouterr().out == f"tfdps {tfdps.__version__}\n"


def test_the_package_is_a_command():
    command = [sys.executable, "-m", "tfdps", "--version"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (0, f"tfdps {tfdps.__version__}\n")


def test_choices_are_those_of_the_modules_that_take_them():
    from tfdps.accounting import accountants
    from tfdps.config import refiners, run_config
    from tfdps.data.procedural import families
    from tfdps.generators import networks
    from tfdps.sinkhorn import costs, problem

    assert run_config.COSTS == costs.COSTS
    assert set(refiners.FAMILIES) == set(families._DRAWN_BY)
    assert run_config.SCHEDULES == problem.SCHEDULES
    assert run_config.ACCOUNTANTS == accountants.ACCOUNTANTS
    assert set(run_config.GENERATORS) == set(networks._BODIES)
