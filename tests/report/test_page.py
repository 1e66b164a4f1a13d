"""The report page: the run's own numbers, nothing loaded, nothing private where it must not be."""

import base64
import dataclasses
import hashlib
import html
import html.parser
import io
import json
import math
import re
import shlex
import shutil
import subprocess
import types

import browsers
import keras
import numpy as np
import pytest
import scipy.stats
from PIL import Image

from conftest import SHARED
from tfdps import checks, files, launch
from tfdps.accounting import accountants, ledger, plan, statement
from tfdps.artefacts import export
from tfdps.config import flags
from tfdps.config.evaluation_options import EvaluationOptions
from tfdps.config.run_config import RunConfig
from tfdps.data.dataset import Dataset, DatasetSpec
from tfdps.generators import networks, pixels
from tfdps.report import guarantee, page, plots, published, results, utility_section, wording
from tfdps.samplers import saved_model_sampler
from tfdps.training import nonprivate
from tfdps.training.run_dir import RunDir

NAMES = ("<b>zero</b>", 'one & "two"', "three")
SPEC = DatasetSpec(name="mnist", image_shape=(28, 28, 1), class_names=NAMES)
NUM_RECORDS = 4000
SIGMA = 6.0  # the larger, the faster is PLD
INTERVAL = {"value": 0.5123, "low": 0.4911, "high": 0.5337}
EVALUATION = {
    "nonprivate": "yes",
    "protocol": "as the paper's <i>",
    "num_samples": 60000,
    "num_repeats": 3,
    "quick": False,
    "test_set": {"name": "mnist", "split": "test", "num_records": 10000},
    "accuracy": {
        "logreg": {"mean": 0.7183, "std": 0.0034, "runs": []},
        "mlp": {"mean": 0.7422, "std": 0.0041, "runs": []},
        "cnn": {"mean": 0.7711, "std": 0.0062, "runs": []},
    },
    "accuracy_thresholded": {"logreg": {"mean": 0.7222, "std": None, "runs": []}},
    "resnet": {"protocol": "ResNet-8", "accuracy": {"mean": 0.7952, "std": None, "runs": []}},
    "fid_cnn": 31.234,
    "fid_inception_2015": 88.125,
    "coverage_cnn": 0.4444,
    "neighbours": {"precision_recall": 3, "density_coverage": 5, "num_images": 10000},
    "two_sample": {
        "protocol": "told apart by <a CNN>",
        "accuracy": {"value": 0.97312, "low": 0.96985, "high": 0.97618},
        "confidence": 0.95,
        "auc": 0.99612,
        "runs": [{"num_tested": 10000}, {"num_tested": 10000}],
    },
    "feature_spaces": {"cnn": {"description": "a small CNN", "digest": "sha256:9f2c"}},
    "created": "2999-01-01T00:00:00+00:00",
}
AUDIT = {
    "nonprivate": "yes",
    "verdict": "no violation found",
    "meaning": "It cannot prove that there is none.",
    "mechanism": {
        "meaning": "One real step.",
        "violation": False,
        "claim": {"mu": 2.1651, "epsilon": 11.02121, "delta": 1e-5},
        "lower_bound": {"mu": 2.0619, "epsilon": 10.22399},
        "largest": {"epsilon": 12.34567},
        "confidence": 0.9999,
        "trials": 4000,
        "pairs": [
            {
                "name": "far",
                "mu_lower_bound": 2.06,
                "epsilon_lower_bound": "infinity",
                "claim": {"mu": 2.1651, "epsilon": 11.02121},
                "largest": {"mu": 5.0, "epsilon": 13.99999},
            },
            {"name": "of an older file", "mu_lower_bound": 1.0, "epsilon_lower_bound": 4.0},
        ],
        "checks": [{"name": "noise scale", "passed": False, "detail": "<5 % off>"}],
    },
    "membership": {
        "meaning": "Nearness.",
        "pixels": {"auc": INTERVAL, "tpr_at_1_percent_fpr": INTERVAL},
        "num_records": 10000,
    },
    "created": "2999-01-01T00:00:00+00:00",
}


def make_run(model_dir, mechanism="joint", **changes):
    """A finished run by hand: 40 noisy steps in two blocks, and an untrained generator."""
    config = RunConfig(
        dataset="mnist",
        data_dir="/secret place/tfds",
        model_dir=str(model_dir),
        mechanism=mechanism,
        noise_multiplier=SIGMA,
        num_steps=40,
        batch_size=20,
        latent_dim=4,
        **changes,
    )
    run = RunDir(str(model_dir))
    run.prepare()
    run.write(config, SPEC, NUM_RECORDS)
    planned = plan.make_plan(config, NUM_RECORDS)
    if planned.private:
        opened = ledger.open_ledger(run.ledger, planned)
        for first, count in ((0, 30), (30, 10)):
            opened.append(*planned.charges(first, count))
        opened.close()
    keras.utils.set_random_seed(0)
    export.write_export(
        run.export,
        generator=networks.build("mlp", image_shape=(28, 28, 1), num_classes=3, latent_dim=4),
        generator_name="mlp",
        spec=SPEC,
        privacy=statement.privacy_statement(
            planned,
            run.charges(planned),
            types.SimpleNamespace(sensitivity_over_clip_norm=2.0),
            SPEC,
        ),
        training={
            "generator_updates": 40,
            "target_epsilon": 10.0,
            "flags": ["--dataset=mnist", "--num_steps=40"],
        },
    )
    return run


@pytest.fixture(scope="module")
def private_run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("private") / "run & <co>")


@pytest.fixture(scope="module")
def open_run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("open") / "run", mechanism="none")


@pytest.fixture
def run(private_run, tmp_path):
    """A copy of the private run, to be written into."""
    ignore = shutil.ignore_patterns("report")
    shutil.copytree(private_run.root, tmp_path / "run", ignore=ignore)
    return RunDir(str(tmp_path / "run"))


def written(run, *, evaluation=None, audit=None, **options):
    """The page of `run`, a text, with these measurements beside it."""
    run.report.mkdir(exist_ok=True)
    for name, content in (("evaluation", evaluation), ("audit", audit)):
        path = run.report / f"{name}.json"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
    path = page.write_report(str(run.root), **options)
    assert path == run.report / ("public.html" if options.get("public") else "index.html")
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def bare_page(private_run):
    return written(private_run)


@pytest.fixture(scope="module")
def full_page(private_run):
    return written(private_run, evaluation=EVALUATION, audit=AUDIT)


@pytest.fixture(scope="module")
def public_page(private_run):
    return written(private_run, evaluation="{damaged, and not read", audit=AUDIT, public=True)


@pytest.fixture(scope="module")
def open_page(open_run):
    return written(open_run)


def test_the_page_of_a_run_of_persons_says_whose_guarantee_it_is(tmp_path, bare_page):
    run = make_run(tmp_path / "run", person="passed", images_per_person=6)
    shown = written(run)
    assert "4,000 persons' private images with" in shown
    assert "one record is one person, with at most 6 images" in shown
    assert "holds for a person, and for each single image as well" in " ".join(shown.split())
    assert "one record is one image with its label" in bare_page
    assert "persons'" not in bare_page


_WITHIN_WORDS = ("b", "sup", "code", "a")


class Reader(html.parser.HTMLParser):
    """Collects the elements [(tag, attributes)], the text, and the text of each table."""

    def __init__(self, page_text):
        super().__init__()
        self.elements, self.text, self.tables, self._tables_open, self._skip = [], "", [], [], 0
        self.feed(page_text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.text += "" if tag in _WITHIN_WORDS else " "
        self._skip += tag == "style"
        if tag == "table":
            self.tables.append("")
            self._tables_open.append(len(self.tables) - 1)

    def handle_endtag(self, tag):
        self.text += "" if tag in _WITHIN_WORDS else " "
        self._skip -= tag == "style"
        if tag == "table":
            self._tables_open.pop()

    def handle_data(self, data):
        if self._skip:
            return
        self.text += data
        for index in self._tables_open:
            self.tables[index] += data


def text_of(page_text):
    return " ".join(Reader(page_text).text.split())


def section(page_text, name):
    """The text of the section with the id `name`."""
    match = re.search(rf'<(section|header) id="{name}">.*?</\1>', page_text, re.DOTALL)
    return text_of(match[0])


def images_of(page_text):
    """[(alt, pixels)] of the page's pictures."""
    pictures = [a for tag, a in Reader(page_text).elements if tag == "img"]
    return [
        (a["alt"], np.asarray(Image.open(io.BytesIO(base64.b64decode(a["src"].split(",")[1])))))
        for a in pictures
    ]


class TestPage:
    def test_every_section_is_there(self, bare_page):
        ids = {a.get("id") for _, a in Reader(bare_page).elements}
        assert ids >= {
            "head",
            "samples",
            "interpolations",
            "epsilon",
            "utility",
            "audit",
            "guarantee",
            "made",
        }
        links = {a["href"] for tag, a in Reader(bare_page).elements if tag == "a"}
        assert {link.removeprefix("#") for link in links} <= ids

    def test_the_head_has_what_the_ledger_costs(self, bare_page):
        charges = [accountants.NoiseEvent(SIGMA, 20 / NUM_RECORDS, 40)]
        head = section(bare_page, "head")
        for name in ("rdp", "pld"):
            epsilon = accountants.epsilon_of(charges, delta=1e-5, accountant=name)
            shown = float(re.search(rf"{name.upper()} ([\d.]+)", head)[1])
            assert 0 <= shown - epsilon < 1e-4  # rounded up in the fourth decimal
        assert "Epsilon spent " + re.search(r"RDP ([\d.]+)", head)[1] in head
        assert "at delta = 1e-5; target 10" in head
        assert "Records N 4,000" in head
        assert "Noisy steps 40" in head
        assert "Mechanism joint" in head

    def test_the_command_is_a_command_of_this_run(self, private_run, bare_page):
        command = re.search(r"<pre>(.*?)</pre>", bare_page[bare_page.index('id="made"') :], re.S)[1]
        words = shlex.split(html.unescape(command).replace("\\\n", ""))
        assert words[:3] == ["python", "-m", "tfdps.launch"]
        assert flags.parse(["tfdps", *words[3:]])[1] == private_run.read()[0]

    def test_every_file_of_the_export_has_its_digest(self, private_run, bare_page):
        made = section(bare_page, "made")
        paths = [path for path in private_run.export.rglob("*") if path.is_file()]
        assert len(paths) >= 6
        for path in paths:
            assert path.relative_to(private_run.export).as_posix() in made
            assert hashlib.sha256(path.read_bytes()).hexdigest() in made

    def test_the_same_run_gives_the_same_page_but_for_its_date(self, run):
        first, second = (re.sub("Page made .*", "", written(run)) for _ in range(2))
        assert first == second

    def test_names_and_texts_are_escaped(self, full_page):
        assert "<b>zero" not in full_page
        assert "&lt;b&gt;zero&lt;/b&gt;" in full_page
        assert "paper's <i>" not in full_page
        assert "<5 %" not in full_page
        alternatives = [a["alt"] for tag, a in Reader(full_page).elements if tag == "img"]
        assert '10 generated images of class one & "two"' in alternatives
        assert "run & <co>" not in full_page  # the model_dir, in the command
        assert "run &amp; &lt;co&gt;" in full_page

    def test_nothing_is_loaded(self, full_page):
        for tag, attributes in Reader(full_page).elements:
            assert tag not in ("script", "link", "iframe", "object", "embed", "base")
            for name in ("src", "href", "xlink:href", "srcset", "action", "background", "poster"):
                assert attributes.get(name, "#").startswith(("#", "data:image/png;base64,"))
        assert "@import" not in full_page
        assert set(re.findall(r"url\((.)", full_page)) <= {"#"}
        policy = [a.get("content") for t, a in Reader(full_page).elements if "http-equiv" in a]
        assert policy == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]

    def test_a_failed_write_leaves_the_former_page(self, run, monkeypatch):
        before = written(run)
        monkeypatch.setattr(files.os, "replace", lambda *paths: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            written(run, audit=AUDIT)
        (run.report / "audit.json").unlink()
        assert (run.report / "index.html").read_text() == before
        assert [path.name for path in run.report.iterdir()] == ["index.html"]

    def test_a_folder_without_run_or_export_is_refused(self, run, tmp_path):
        with pytest.raises(checks.UsageError, match="no run at"):
            page.write_report(str(tmp_path / "nowhere"))
        shutil.rmtree(run.export)
        with pytest.raises(checks.UsageError, match="holds no export"):
            page.write_report(str(run.root))
        assert not run.report.exists()

    def test_an_export_older_than_the_ledger_is_told_and_a_newer_one_refused(self, run):
        path = run.export / "model_card.json"
        card = json.loads(path.read_text())
        card["privacy"]["steps"] = 25
        path.write_text(json.dumps(card))
        assert "The export was made after 25 noisy steps; the run has gone on to 40" in text_of(
            written(run)
        )
        card["privacy"]["steps"] = 41
        path.write_text(json.dumps(card))
        with pytest.raises(checks.UsageError, match="after 41 noisy steps, but the ledger .* 40"):
            written(run)


class TestRealImages:
    def test_the_page_has_them_beside_the_generated_ones_in_the_same_size(self, run):
        images, labels = leave_real_images(run)
        text = written(run)
        shown = images_of(text)
        assert [alt.split(" of class ")[0] for alt, _ in shown[:6]] == [
            "10 generated images",
            "Real images",
        ] * 3
        for label in range(3):
            made, real = (strip for _, strip in shown[2 * label : 2 * label + 2])
            assert made.shape == real.shape
            for column, image in enumerate(images[labels == label][:10]):
                cell = real[:, column * 30 : column * 30 + 28]
                np.testing.assert_array_equal(cell[..., 0], image[..., 0])
        assert np.all(shown[1][1][:, 120:, 1] == 0)  # the first class has four: the rest is empty
        widths = {a["width"] for tag, a in Reader(text).elements if tag == "img"}
        assert len(widths) == 1
        samples = section(text, "samples")
        assert "nonprivate/ Beside them real images" in samples
        assert "generated real" in samples

    def test_without_them_the_page_has_generated_images_alone(self, bare_page):
        assert not [alt for alt, _ in images_of(bare_page) if alt.startswith("Real")]
        assert "nonprivate/" not in section(bare_page, "samples")

    def test_the_public_page_has_none_and_does_not_read_them(self, run, public_page):
        leave_real_images(run)
        public = written(run, public=True)
        assert "Real images" not in public
        assert [alt for alt, _ in images_of(public)] == [alt for alt, _ in images_of(public_page)]
        (run.report / nonprivate.REAL_IMAGES).write_bytes(b"damaged, and not read")
        written(run, public=True)

    @pytest.mark.parametrize("damage", ["no archive", "another shape", "an array is missing"])
    def test_a_damaged_file_of_them_is_refused_by_name(self, run, damage):
        leave_real_images(run)
        path = run.report / nonprivate.REAL_IMAGES
        if damage == "no archive":
            path.write_bytes(b"no archive")
        elif damage == "another shape":
            np.savez(path, images=np.zeros((2, 8, 8, 1), np.uint8), labels=np.zeros(2, int))
        else:
            np.savez(path, images=np.zeros((2, 28, 28, 1), np.uint8))
        with pytest.raises(checks.UsageError, match=r"real\.npz is damaged: .*--mode=evaluate"):
            page.write_report(str(run.root))


def leave_real_images(run):
    """Real images of a finished evaluation, of the first class four: (images, labels)."""
    labels = np.repeat(np.arange(3, dtype=np.int32), [4, 12, 12])
    images = np.random.default_rng(0).integers(0, 256, (28, 28, 28, 1), np.uint8)
    nonprivate.write_real_images(run.report, Dataset(images, labels, SPEC))
    return images, labels


class TestPictures:
    def test_samples_are_the_exports_a_row_a_class(self, private_run, bare_page):
        sampler = saved_model_sampler.load(private_run.root)
        strips = images_of(bare_page)[:3]
        images = sampler.sample(np.repeat(np.arange(3), 10), 0).reshape(3, 10, 28, 28)
        for (alt, strip), row, name in zip(strips, images, NAMES, strict=True):
            assert alt.endswith(name)
            for column, image in enumerate(row):
                cell = strip[:, column * 30 : column * 30 + 28]
                np.testing.assert_array_equal(cell[..., 0], image)
                assert np.all(cell[..., 1] == 255)
            assert np.all(strip[:, 28:30, 1] == 0)  # transparent between two images

    def test_interpolations_run_from_one_decoded_latent_to_the_other(self, private_run, bare_page):
        sampler = saved_model_sampler.load(private_run.root)
        ends = np.random.default_rng(0).random((2, 3, 1, 4), np.float32)[:, :, 0]
        for z, columns in ((ends[0], slice(0, 28)), (ends[1], slice(270, 298))):
            expected = pixels.to_uint8(sampler.decode(z, np.arange(3)))[..., 0].astype(int)
            for (_, strip), image in zip(images_of(bare_page)[3:], expected, strict=True):
                # float32 rounding differs with the batch: at most a grey level
                assert np.max(np.abs(strip[:, columns, 0] - image)) <= 1
        between = images_of(bare_page)[3][1][:, 120:148, 0].astype(int)
        assert np.any(between != images_of(bare_page)[3][1][:, :28, 0])


def text_of_plan(run, planned):
    """The text of the page of `run`, had it taken its 40 steps by another plan."""
    run.ledger.unlink()
    opened = ledger.open_ledger(run.ledger, planned)
    for charge in planned.charges(0, 40):
        opened.append(charge)
    opened.close()
    return text_of(written(run))


def test_a_run_of_rounds_tells_the_noise_of_its_rounds(run):
    planned = dataclasses.replace(
        ledger.read_plan(run.ledger),
        batch_size=NUM_RECORDS,
        shares=(0.01,) * 30 + (0.07,) * 10,
    )
    shown = text_of_plan(run, planned)
    ends = " to ".join(wording.plain(SIGMA / math.sqrt(40 * share), 4) for share in (0.07, 0.01))
    assert f"noise multipliers {ends}" in shown
    assert f"adds Gaussian noise of {ends} times" in shown
    assert "each on all records" in shown
    assert "PLD is exact, RDP is an upper bound" in shown


def test_a_refined_run_tells_the_draws_of_rounds_and_of_the_refiners_steps(run):
    planned = dataclasses.replace(
        ledger.read_plan(run.ledger),
        batch_size=NUM_RECORDS,
        shares=(0.4, 0.6),
        steps=40,
        refiner_steps=38,
        refiner_batch_size=200,
        refiner_noise_multiplier=1.5,
    )
    shown = text_of_plan(run, planned)
    assert "2 on all records; 38 of the refiner on a Poisson draw of about 200 records" in shown
    assert "both are upper bounds" in shown
    ends = " to ".join(wording.plain(SIGMA / math.sqrt(2 * share), 4) for share in (0.6, 0.4))
    assert (
        "Each of the 2 steps draws every record with probability 1, limits what the draw can change to "
        f"a clip norm of 0.5, and adds Gaussian noise of {ends} times"
    ) in shown
    assert (
        "Each of the 38 steps of the refiner, which are the last, draws every record with probability "
        "0.05, limits what the draw can change to a clip norm of 1, and adds Gaussian noise of 1.5 "
    ) in shown


class TestEpsilonOverSteps:
    charges = (accountants.NoiseEvent(8.0, 0.01, 30), accountants.NoiseEvent(6.0, 0.01, 10))

    def test_every_point_is_the_accountants(self):
        spent = plots.spending(list(self.charges), 1e-5)
        assert spent.rdp[0] == spent.pld[0] == (0, 0.0)
        assert spent.rdp[-1][0] == spent.pld[-1][0] == 40
        for name, curve in (("rdp", spent.rdp), ("pld", spent.pld[-4:])):
            for steps, epsilon in curve:
                begun = [
                    accountants.NoiseEvent(8.0, 0.01, min(steps, 30)),
                    accountants.NoiseEvent(6.0, 0.01, max(0, steps - 30)),
                ]
                assert epsilon == accountants.epsilon_of(begun, delta=1e-5, accountant=name)
        assert len(spent.pld) <= 13
        assert [row[1] for row in spent.table()] == [
            dict(spent.rdp)[row[0]] for row in spent.table()
        ]

    def test_the_plot_follows_the_pages_colours(self):
        spent = plots.Spending(rdp=[(0, 0), (10, 2)], pld=[(0, 0), (10, 1.5)])
        svg = plots.epsilon_svg(spent, target=2.5, width=5, height=3, prefix="wide")
        other = plots.epsilon_svg(spent, target=2.5, width=5, height=3, prefix="narrow")
        for variable in ("ink", "muted", "line", "rdp", "pld"):
            assert f"var(--{variable})" in svg
        assert not re.findall(r"#[0-9a-f]{6}\b", svg)
        assert svg.startswith("<svg")
        assert "target 2.5" in svg
        assert not set(re.findall(r' id="(.*?)"', svg)) & set(re.findall(r' id="(.*?)"', other))
        assert svg.replace("wide-", "narrow-") == other


class TestMeasured:
    def test_absent_files_are_named_by_the_command_that_makes_them(self, private_run, bare_page):
        for name, mode in (("utility", "evaluate"), ("audit", "audit")):
            text = section(bare_page, name)
            command = f"python -m tfdps.launch --mode={mode} --model_dir="
            assert command + shlex.quote(str(private_run.root)) in text
            assert "nonprivate/" not in text

    def test_utility_has_the_measured_numbers_beside_the_published(self, full_page):
        text = section(full_page, "utility").replace("\u00a0", " ")
        assert "nonprivate/ Computed from private records without noise; not covered" in text
        assert "60,000 generated images, mean ± standard deviation of 3 runs" in text
        assert "This run images as they are 71.8 ± 0.3 74.2 ± 0.4 77.1 ± 0.6" in text
        assert "pixels below 0 set to −1 first, as DP-Sinkhorn does 72.2 – –" in text
        assert "This run this run's ResNet protocol 79.5" in text
        # epsilon 0.3: the nearest published is 0.2
        assert "Published by others at epsilon 0.2" in text
        assert "81.0 81.7 86.3" in text

    def test_utility_says_how_well_generated_images_are_told_from_real_ones(self, full_page):
        text = section(full_page, "utility").replace("\u00a0", " ")
        assert "97.3 % (97.0 to 97.6)" in text
        assert "share of 20,000 images, not trained on" in text
        assert "50 %: it cannot tell, 100 %: always; in brackets the 95 % interval" in text
        assert "AUC how often a generated image looks less real" in text
        assert "0.996" in text
        assert "told apart by <a CNN>" in text
        assert "Precision and recall go by 3 nearest neighbours of each image, density" in text

    def test_a_file_of_an_older_evaluation_makes_a_page_without_what_it_lacks(self, run):
        names = ("two_sample", "neighbours")
        old = {name: value for name, value in EVALUATION.items() if name not in names}
        text = section(written(run, evaluation=old), "utility")
        assert "31.23" in text
        assert "tell generated from real" not in text
        assert "nearest neighbours" not in text

    def test_no_fid_stands_among_those_of_another_feature_space(self, full_page):
        evaluation = utility_section.measured(EVALUATION)
        assert [(s.name, s.figures[0][2]) for s in evaluation["spaces"]] == [
            ("cnn", "31.23"),
            ("inception_2015", "88.12"),
        ]
        fids = utility_section.comparison(SPEC, None, 10.0).fids
        assert [row.cells for row in fids] == [("48.4",), ("78.0",), ("5.0",), ("2.5",)]
        tables = Reader(full_page).tables
        assert sum("31.23" in table for table in tables) == 1
        assert not any("31.23" in table and "88.12" in table for table in tables)

    def test_the_audit_has_claim_and_lower_bound(self, full_page):
        text = section(full_page, "audit").replace("\u00a0", " ")
        assert "Verdict: no violation found" in text
        assert "nonprivate/ Computed from private records without noise; not covered" in text
        assert "Claimed: epsilon at most 11.022" in text  # rounded up
        assert "Shown by the attack: epsilon at least 10.223" in text  # rounded down
        assert "a lower bound, and no proof of safety" in text
        assert "noise scale FAILED <5 % off>" in text
        assert "Confidence: 99.99 %" in text
        assert "far 2.060 ∞ 11.022 13.999" in text
        assert "of an older file 1.000 4.000 – –" in text
        assert "With every guess right, guesses would show: epsilon at least 12.345" in text
        assert (
            text.count("This attack tests no epsilon.") == 1
        )  # of membership; the other one was not made
        assert "pixels 0.512 (0.491 to 0.534) 51.23 % (49.11 to 53.37)" in text
        assert "did not make: canaries, memorisation" in text

    def test_a_violation_is_shouted_and_not_sent_on(self, run):
        audit = {**AUDIT, "verdict": "violation found"}
        text = written(run, audit=audit)
        assert "The audit found a violation" in section(text, "head")
        assert "Contradicted by the audit" in section(text, "guarantee")
        with pytest.raises(checks.UsageError, match="audit found a violation"):
            written(run, audit=audit, public=True)

    def test_measurements_older_than_the_export_are_marked(self, run):
        old = {**EVALUATION, "created": "2001-01-01T00:00:00+00:00", "quick": True}
        text = section(written(run, evaluation=old, audit=AUDIT), "utility")
        assert "older than the export" in text
        assert "A quick evaluation" in text

    @pytest.mark.parametrize(
        ("name", "mode", "content"),
        [
            ("evaluation", "evaluate", "{"),
            ("evaluation", "evaluate", "[]"),
            ("evaluation", "evaluate", {"accuracy": {"cnn": {"mean": 77.1, "std": None}}}),
            ("evaluation", "evaluate", {"accuracy": {"cnn": 0.77}}),
            ("evaluation", "evaluate", {"accuracy": {"cnn": {"std": 0.1}}}),
            ("evaluation", "evaluate", {"fid_cnn": "good"}),
            ("evaluation", "evaluate", {"two_sample": {"protocol": "none"}}),
            ("evaluation", "evaluate", {"neighbours": {"precision_recall": "three"}}),
            ("audit", "audit", "\udc80"),
            ("audit", "audit", {"verdict": "fine"}),
            ("audit", "audit", {**AUDIT, "mechanism": {"claim": {}}}),
        ],
    )
    def test_a_damaged_file_is_refused_by_name(self, run, name, mode, content):
        run.report.mkdir()
        text = content if isinstance(content, str) else json.dumps(content)
        (run.report / f"{name}.json").write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(checks.UsageError) as error:
            page.write_report(str(run.root))
        assert f"{name}.json is damaged" in str(error.value)
        assert f"Make it again: python -m tfdps.launch --mode={mode}" in str(error.value)
        assert not (run.report / "index.html").exists()

    def test_a_usage_error_is_not_called_a_damaged_file(self, tmp_path):
        with (
            pytest.raises(checks.UsageError, match="^say so$"),
            results.refusing_damage(tmp_path / "audit.json", "make it"),
        ):
            raise checks.UsageError("say so")

    def test_an_empty_evaluation_makes_a_page(self, run):
        assert "nonprivate/" in section(written(run, evaluation={}), "utility")


class TestPublic:
    def test_it_leaves_out_what_epsilon_does_not_cover_and_says_so(self, public_page, full_page):
        assert "measurements are left out" in section(public_page, "utility")
        assert "audit of this run is left out" in section(public_page, "audit")
        assert "version for sending on" in section(public_page, "head")
        for figure in ("11.022", "10.223", "71.8", "31.23", "97.3", "nonprivate/", "--mode="):
            assert figure in full_page or figure == "--mode="
            assert figure not in text_of(public_page)
        assert "81.0 81.7 86.3" in section(public_page, "utility")  # the literature stays

    def test_it_holds_no_path_of_this_machine(self, private_run, public_page, full_page):
        for path in ("/secret place", html.escape(str(private_run.root))):
            assert path in full_page
            assert path not in public_page
        assert "--num_steps=40" in public_page

    def test_a_run_without_a_guarantee_has_no_public_page(self, open_run):
        with pytest.raises(checks.UsageError, match="without a mechanism"):
            page.write_report(str(open_run.root), public=True)

    def test_it_is_a_file_of_its_own_that_no_refresh_fills_with_private_figures(self, run):
        """Train, evaluate, audit and report, with and without --report_public."""
        measured, config = ("11.022", "10.223"), RunConfig(model_dir=str(run.root))
        public = written(run, public=True)
        assert not (run.report / "index.html").exists()
        for name, content in (("evaluation", EVALUATION), ("audit", AUDIT)):
            (run.report / f"{name}.json").write_text(json.dumps(content))
        launch._refresh_report(config, EvaluationOptions())
        index = (run.report / "index.html").read_text(encoding="utf-8")
        assert all(figure in index for figure in measured)
        assert (run.report / "public.html").read_text(encoding="utf-8") == public
        (run.report / "public.html").unlink()
        launch._refresh_report(config, EvaluationOptions(report_public=True))
        public = (run.report / "public.html").read_text(encoding="utf-8")
        assert "version for sending on" in public
        assert not any(figure in public for figure in measured)
        index = (run.report / "index.html").read_text(encoding="utf-8")
        assert all(figure in index for figure in measured)
        assert "version for sending on" not in index

    def test_a_run_of_0_1_has_none_and_its_own_page_warns(self, run):
        old = dataclasses.replace(ledger.read_plan(run.ledger), noise=None)
        run.ledger.unlink()
        opened = ledger.open_ledger(run.ledger, old)
        opened.append(*old.charges(0, 40))
        opened.close()
        with pytest.raises(checks.UsageError, match="noise was not Gaussian"):
            page.write_report(str(run.root), public=True)
        assert "delta is about 9e-3 for a released vector, not 1e-5" in section(
            written(run), "head"
        )


class TestGuarantee:
    def test_a_run_without_a_mechanism_is_shouted(self, open_page):
        assert "NOT PRIVATE" in re.search("<title>(.*?)</title>", open_page)[1]
        head = section(open_page, "head")
        assert "NOT PRIVATE: no guarantee" in head
        assert "RDP ∞ PLD ∞" in head
        assert "Noisy steps 0 40 steps without noise" in head
        assert "There is NO guarantee" in section(open_page, "guarantee")
        assert "differential privacy" not in section(open_page, "guarantee")
        assert open_page.count('class="alarm"') == 2

    def test_its_numbers_are_this_runs(self, private_run, bare_page):
        text = section(bare_page, "guarantee")
        epsilon = accountants.epsilon_of(
            [accountants.NoiseEvent(SIGMA, 20 / NUM_RECORDS, 40)], delta=1e-5
        )
        factor = float(re.search(r"e ?ε ?= ([\d.]+) times", text)[1])
        assert 0 <= factor - math.exp(epsilon) <= 0.01
        assert "δ = 1e-5 (1 in 100,000)" in text
        assert "among the 4,000" in text
        card = json.loads((private_run.export / "model_card.json").read_text())
        for caveat in card["privacy"]["caveats"]:
            assert caveat in text

    def test_belief_follows_bayes(self):
        assert guarantee.belief_at_most(0.0, 0.3) == pytest.approx(0.3)
        assert guarantee.belief_at_most(math.log(3), 0.5) == pytest.approx(0.75)  # odds 1 -> 3
        assert guarantee.belief_at_most(math.inf, 0.01) == 1.0

    @pytest.mark.parametrize("sigma", [0.5, 1.0, 4.0])
    @pytest.mark.parametrize("false_alarms", [0.001, 0.01, 0.1])
    def test_no_test_of_a_gaussian_recognises_more(self, sigma, false_alarms):
        norm = scipy.stats.norm
        best = norm.cdf(norm.ppf(false_alarms) + 1 / sigma)  # Neyman-Pearson for a shift of 1/sigma
        bound = guarantee.recognised_at_most([accountants.NoiseEvent(sigma, 1.0, 1)], false_alarms)
        assert best <= bound <= 1
        # RDP's conversion to delta is known to be loose; the bound still says something.
        assert bound <= 4 * best
        if sigma == 0.5:
            epsilon = accountants.epsilon(
                noise_multiplier=sigma, sampling_probability=1.0, steps=1, delta=1e-5
            )
            assert bound < min(1, math.exp(epsilon) * false_alarms + 1e-5)


class TestPublished:
    def test_the_nearest_epsilon_is_so_in_ratio(self):
        for epsilon, expected in (
            (0.01, 0.2),
            (0.5, 1.0),
            (3.0, 1.0),
            (3.3, 10.0),
            (math.inf, 10.0),
        ):
            assert published.nearest("mnist", epsilon)[0] == expected
        assert published.nearest("cifar10", 0.2)[0] == 1.0
        assert published.nearest(None, 1.0) == (None, ())

    @pytest.mark.parametrize(
        ("name", "shape", "label", "expected"),
        [
            ("mnist:3.0.1", (28, 28, 1), None, "mnist"),
            ("mnist", (14, 14, 1), None, None),  # resized: another task
            ("celeb_a", (32, 32, 3), "attributes/Male", "celeb_a"),
            ("celeb_a", (32, 32, 3), "Smiling", None),
            ("celeb_a", (64, 64, 3), "Male", None),
            ("folder:mnist", (28, 28, 1), None, None),
        ],
    )
    def test_figures_belong_to_the_benchmark_alone(self, name, shape, label, expected):
        spec = DatasetSpec(name=name, image_shape=shape, class_names=("a", "b"))
        assert published.benchmark_name(spec, label) == expected

    def test_every_figure_is_the_collections(self):
        path = SHARED / "design" / "peers.md"
        if not path.is_file():
            pytest.skip(f"no collection of published figures at {path}")
        known = {float(number) for number in re.findall(r"\d+(?:\.\d+)?", path.read_text())}
        for by_epsilon in published._FIGURES.values():
            for rows in by_epsilon.values():
                for row in rows:
                    figures = (row.logreg, row.mlp, row.cnn, row.accuracy, row.fid)
                    assert {value for value in figures if value is not None} <= known


class TestWording:
    def test_bounds_are_rounded_to_the_safe_side(self):
        assert wording.upper_bound(9.999154538115562) == "9.9992"
        assert wording.lower_bound(9.99999) == "9.9999"
        assert wording.upper_bound(2.5) == "2.5000"
        assert wording.upper_bound("infinity") == "∞"
        for value in np.random.default_rng(0).uniform(0, 50, 200):
            assert value <= float(wording.upper_bound(value)) <= value + 1.001e-4
            assert value >= float(wording.lower_bound(value)) >= value - 1.001e-4

    def test_a_percentage_never_reaches_a_hundred_by_rounding(self):
        assert wording.percent_at_most(0.1234) == "12.4 %"
        assert wording.percent_at_most(0.999955) == "99.996 %"
        assert wording.percent_at_most(1.0) == "practically 100 %"

    def test_factors_are_readable_and_rounded_up(self):
        assert wording.factor(0.0) == "1.00"
        assert wording.factor(1.0) == "2.72"
        assert wording.factor(9.999154538115562) == "22,008"
        assert wording.factor(30.0) == "1.1 × 10^13"

    def test_settings_are_short(self):
        assert wording.plain(1e-5) == "1e-5"
        assert wording.plain(0.46178, 3) == "0.462"
        assert wording.one_in(1e-5) == "1 in 100,000"
        assert wording.size(3766367) == "3.8 MB"
        assert wording.day("2026-11-23T21:09:04+00:00") == "23 November 2026, 21:09 UTC"


def test_a_browser_shows_it_without_overflow_on_a_telephone(full_page, tmp_path):
    browser = browsers.find()
    if browser is None:
        pytest.skip("no Chromium on this machine")
    too_wide = full_page.replace("<main>", '<main><div style="width: 600px">too wide</div>')
    frames = "".join(
        f'<iframe width="{width}" height="700" srcdoc="{html.escape(content)}"></iframe>'
        for content, width in ((full_page, 375), (full_page, 1200), (too_wide, 375))
    )
    script = """<script>addEventListener("load", () => {
      document.body.dataset.result = JSON.stringify(Array.from(frames, frame => ({
        width: frame.document.documentElement.scrollWidth,
        text: frame.document.body.innerText,
        pictures: Array.from(frame.document.images, image => image.naturalWidth),
      })));
    })</script>"""
    (tmp_path / "wrapper.html").write_text(
        f'<!doctype html><meta charset="utf-8"><body>{frames}{script}', encoding="utf-8"
    )
    result = subprocess.run(
        [
            browser,
            "--headless",
            "--dump-dom",
            *browsers.OPTIONS,
            f"--user-data-dir={tmp_path / 'profile'}",
            (tmp_path / "wrapper.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = re.search(r'data-result="(.*?)"', result.stdout, re.DOTALL)
    assert found, result.stderr[-2000:]
    telephone, desk, wide = json.loads(html.unescape(found[1]))
    assert telephone["width"] == 375
    assert desk["width"] == 1200
    assert wide["width"] > 375  # the measure sees an overflow
    for shown in (telephone, desk):
        assert "Epsilon over steps" in shown["text"]
        assert "11.022" in shown["text"]
        assert "<b>zero</b>" in shown["text"]
        assert shown["pictures"] == [298] * 6
