"""A run of more classes than pictures show: they say which they show. And too few records an atom."""

import numpy as np
import pytest
from PIL import Image

from tfdps import console, launch
from tfdps.accounting import records_an_atom
from tfdps.accounting.account_lines import account
from tfdps.accounting.plan import make_plan
from tfdps.config.run_config import RunConfig
from tfdps.data.dataset import Dataset, DatasetSpec
from tfdps.distributed import replicas
from tfdps.report.page import write_report
from tfdps.training import job, plan_lines, run_export

NAMES = tuple(f"c{number}" for number in range(25))


@pytest.mark.slow
def test_the_summary_and_the_report_say_which_classes_they_show(tmp_path):
    labels = np.arange(200) % 25
    images = np.random.default_rng(0).integers(256, size=(200, 8, 8), dtype=np.uint8)
    config = RunConfig(
        dataset="arrays:many",
        class_names=",".join(NAMES),
        mechanism="joint",
        num_steps=2,
        batch_size=10,
        model_dir=str(tmp_path / "run"),
    )
    said = []
    with console.lines_to(said.append):
        job.train(config, (images, labels))
    assert said[-1] == (
        f"Samples     {tmp_path}/run/export/samples.png  (the first 20 of 25 classes, c0 to c19; "
        "--mode=sample draws any)"
    )
    with Image.open(tmp_path / "run" / "export" / "samples.png") as picture:
        assert picture.height / picture.width == pytest.approx(20 / 10, rel=0.05)
    assert "The first 20 of 25 classes" in write_report(tmp_path / "run").read_text()


def test_of_as_many_classes_as_there_are_rows_nothing_is_said():
    assert run_export._pictured(NAMES[:20]) == ""
    assert "the first 20 of 21 classes, c0 to c19;" in run_export._pictured(NAMES[:21])


class TestRecordsAnAtom:
    @pytest.mark.parametrize(
        ("atoms", "records", "classes", "said"),
        [
            (5000, 60, 2, "are 0.006 records an atom"),
            (5000, 60, None, "are at most 0.006 records an atom"),
            (4, 79, 2, "are 9.9 records an atom"),
            (4, 80, 2, None),
            (200, 60_000, 10, None),
            (None, 3, 2, None),
        ],
    )
    def test_fewer_than_ten_get_a_word(self, atoms, records, classes, said):
        word = records_an_atom.word(atoms, records, classes)
        assert word == "" if said is None else said in word
        assert ("--num_atoms" in word) == (said is not None)

    def test_it_is_said_before_the_first_step(self):
        settings = {"latent_dim": 5, "grain": 1.0, "refiner": "none"}
        config = RunConfig(num_atoms=50, **settings)
        spec = DatasetSpec("x", (8, 8, 1), NAMES)
        dataset = Dataset(np.zeros((1000, 8, 8, 1), np.uint8), np.zeros(1000), spec)
        plan, on = make_plan(config, 1000), replicas.of_config(config)
        lines = list(plan_lines.of_run(config, plan, dataset, on))
        assert len(lines) == 5
        assert "50 atoms in each class are 0.8 records an atom" in lines[2]
        assert lines[3].startswith("Expect little: with 40 records a class")
        enough = RunConfig(num_atoms=4, **settings)
        assert len(list(plan_lines.of_run(enough, plan, dataset, on))) == 4

    @pytest.mark.parametrize(("names", "each"), [(None, "at most 0.1"), ("a,b,c,d", "0.05")])
    def test_account_says_it_last(self, names, each):
        config = RunConfig(num_atoms=5000, class_names=names)
        *_, last = account(config, make_plan(config, 1000))
        assert f"are {each} records an atom" in last

    def test_a_command_that_asks_for_them_is_told(self, capsys):
        words = ["--mode=account", "--dataset=digits", "--num_atoms=500"]
        assert launch.main(words) == 0
        assert "records an atom" in capsys.readouterr().out
