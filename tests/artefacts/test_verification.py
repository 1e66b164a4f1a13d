"""tfdps-verify: what it holds against what, and every kind of tampering that it has to see."""

import json
import os
import shutil
import subprocess
import sys
import types

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from conftest import ROOT
from tfdps.accounting import accountants, ledger, plan, shown, statement
from tfdps.accounting.events import NoiseEvent
from tfdps.artefacts import layout, onnx_metadata, verification
from tfdps.checks import UsageError
from tfdps.commands import verify
from tfdps.config import flags

SHIPPED = ROOT / "saved_models" / "mnist_eps1"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An export whose card is today's: files that are shipped, their epsilon stated anew."""
    folder = tmp_path_factory.mktemp("whole") / "export"
    shutil.copytree(SHIPPED, folder)

    def state(card):
        config = flags.parse(["tfdps", *card["training"]["flags"]])[1]
        generator = types.SimpleNamespace(**card["generator"])
        card["privacy"] = statement.privacy_statement(
            plan.make_plan(config, card["privacy"]["dataset_size"]),
            [NoiseEvent(**event) for event in card["privacy"]["events"]],
            types.SimpleNamespace(sensitivity_over_clip_norm=1.0),
            generator,
        )

    change_card(folder, state, everywhere=True)
    return folder


@pytest.fixture
def export(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "export")


def problems(path):
    return verification.verify(str(path)).problems


def change_card(export, change, everywhere=False):
    """Changes model_card.json, or all three copies to the same text."""
    card = json.loads((export / "model_card.json").read_text())
    change(card)
    text = json.dumps(card, indent=2) + "\n"
    (export / "model_card.json").write_text(text)
    if everywhere:
        (export / "saved_model/1/assets/model_card.json").write_text(text)
        model = onnx.load(export / "generator.onnx")
        onnx.helper.set_model_props(model, {onnx_metadata.MODEL_CARD: text})
        onnx.save(model, export / "generator.onnx")


def flip_a_bit(path, place=-100):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


class TestWholeExports:
    @pytest.mark.parametrize("part", ["", "saved_model/1", "generator.onnx", "model_card.json"])
    def test_hold_in_whole_and_in_part(self, whole, part):
        verdict = verification.verify(str(whole / part))
        assert not verdict.problems
        assert verdict.card.content == json.loads((whole / "model_card.json").read_text())

    def test_epsilon_is_that_of_the_events(self, whole):
        privacy = json.loads((whole / "model_card.json").read_text())["privacy"]
        events = [NoiseEvent(**event) for event in privacy["events"]]
        said = "\n".join(verification.verify(str(whole)).statement)
        for name in ("rdp", "pld"):
            spent = accountants.epsilon_of(events, delta=privacy["delta"], accountant=name)
            spent = shown.up(spent, 6)
            assert f"{name.upper()} {spent} (card: {spent})" in said

    def test_it_is_said_whose_privacy_it_is_against_whom_and_what_is_taken_as_given(self, whole):
        said = verification.verify(str(whole)).statement
        assert f"Unit: one image. {statement.ADJACENCY_MEANING}" in said
        assert (
            "Declared, and taken as given: 60000 records, images of 28x28x1, 10 classes: 0, 1, 2, 3, "
            "4, 5, 6, 7, 8, 9." in said
        )
        assert any(
            line.startswith("Sensitivity 1: The most that one record moves") for line in said
        )

    def test_an_artefact_is_checked_where_it_is_alone(self, whole, tmp_path):
        shutil.copy(whole / "generator.onnx", tmp_path / "renamed.onnx")
        assert not problems(tmp_path / "renamed.onnx")
        shutil.copytree(whole / "saved_model" / "1", tmp_path / "models" / "17")
        assert not problems(tmp_path / "models" / "17")

    def test_a_run_is_held_against_its_ledger(self, export):
        card = json.loads((export / "model_card.json").read_text())
        config = flags.parse(["tfdps", *card["training"]["flags"]])[1]
        path = export.parent / "ledger.jsonl"
        opened = ledger.open_ledger(path, plan.make_plan(config, card["privacy"]["dataset_size"]))
        *most, last = [NoiseEvent(**event) for event in card["privacy"]["events"]]
        for charge in most:
            opened.append(charge)
        assert problems(export.parent) == ["events: are not the steps that the run's ledger has."]
        opened.append(last)
        opened.close()
        verdict = verification.verify(str(export.parent))
        assert not verdict.problems
        assert any("Ledger" in line for line in verdict.statement)
        change_card(export, as_of_0_1, everywhere=True)
        assert "noise: the card says None, the run's ledger gaussian-rounded-to-grid." in problems(
            export.parent
        )
        path.write_text(path.read_text().replace("noise", "no1se"))
        assert any(line.startswith("ledger: ") for line in problems(export.parent))


class TestTamperedFiles:
    def test_changed_weights_of_the_onnx_model(self, export):
        model = onnx.load(export / "generator.onnx")
        largest = max(model.graph.initializer, key=lambda each: len(each.raw_data))
        values = numpy_helper.to_array(largest).copy()
        values.view(np.uint8).flat[5] ^= 1
        largest.CopyFrom(numpy_helper.from_array(values, largest.name))
        onnx.save(model, export / "generator.onnx")
        expected = ["generator.onnx: was changed, its SHA-256 is not the card's."]
        assert problems(export) == problems(export / "generator.onnx") == expected

    @pytest.mark.parametrize(
        "name",
        [
            "saved_model/1/variables/variables.data-00000-of-00001",
            "saved_model/1/saved_model.pb",
            "saved_model/1/assets.extra/tf_serving_warmup_requests",
            "samples.png",
            "run.flags",
        ],
    )
    def test_one_bit_of_any_other_file(self, export, name):
        flip_a_bit(export / name, place=50)
        assert problems(export) == [f"{name}: was changed, its SHA-256 is not the card's."]

    def test_a_file_that_is_missing(self, export):
        (export / "samples.png").unlink()
        assert problems(export) == ["samples.png: is missing."]

    @pytest.mark.parametrize("name", ["saved_model/1/assets.extra/more", "saved_model/2/x.pb"])
    def test_a_file_that_was_added_to_the_saved_model(self, export, name):
        (export / name).parent.mkdir(exist_ok=True)
        (export / name).touch()
        assert problems(export) == [f"{name}: is not in the card."]

    def test_an_onnx_file_that_is_cut_off(self, export):
        data = (export / "generator.onnx").read_bytes()
        (export / "generator.onnx").write_bytes(data[: len(data) // 2])
        assert any(line.startswith("generator.onnx: it is cut off") for line in problems(export))

    def test_artefacts_of_two_exports_mixed(self, export):
        shutil.copy(
            ROOT / "saved_models" / "mnist_eps02" / "generator.onnx", export / "generator.onnx"
        )
        found = problems(export)
        assert "generator.onnx: the model card in it is not that of model_card.json." in found
        assert "generator.onnx: was changed, its SHA-256 is not the card's." in found


def set_privacy(**values):
    return lambda card: card["privacy"].update(values)


def declare(**values):
    return lambda card: card["privacy"]["declared"].update(values)


def as_of_0_1(card):
    """The card as version 0.1.0 wrote it."""
    privacy = card["privacy"]
    for name in ("unit", "adjacency_meaning", "declared", "sensitivity_meaning", "noise"):
        del privacy[name]
    privacy["adjacency"] = "add-or-remove-one"


def set_flag(name, value):
    def change(card):
        kept = [flag for flag in card["training"]["flags"] if not flag.startswith(f"--{name}=")]
        card["training"]["flags"] = [*kept, f"--{name}={value}"]

    return change


def halve_the_noise(card):
    for event in card["privacy"]["events"]:
        event["noise_multiplier"] /= 2


class TestTamperedCards:
    def test_one_copy_that_claims_less(self, export):
        change_card(export, set_privacy(epsilon=0.5))
        found = problems(export)
        assert "epsilon: the card claims 0.5, its events cost 0.999948." in found
        assert "generator.onnx: the model card in it is not that of model_card.json." in found

    def test_a_copy_that_lost_its_card(self, export):
        model = onnx.load(export / "generator.onnx")
        del model.metadata_props[:]
        onnx.save(model, export / "generator.onnx")
        assert problems(export) == ["generator.onnx: the model card in it is missing."]

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            (set_privacy(epsilon=0.99), "epsilon: the card claims 0.99, its events cost 0.999948."),
            (
                set_privacy(epsilon_rdp=1.0),
                "epsilon_rdp: the card claims 1, its events cost 1.09254.",
            ),
            (
                set_privacy(epsilon_pld=0.9),
                "epsilon_pld: the card claims 0.9, its events cost 0.9999",
            ),
            (set_privacy(epsilon=float("nan")), "epsilon: the card claims nan"),
            (set_privacy(steps=4), "steps: the card says 4, its events are 5."),
            (set_privacy(delta=1e-4), "delta: 0.0001 is not below 1/60000"),
            (set_privacy(sampling_probability=0.5), "sampling_probability: the card says 0.5"),
            (set_privacy(noise_multiplier=9.0), "noise_multiplier: the card says 9, a plan"),
            (set_privacy(clip_norm=0.5), "clip_norm: the card says 0.5, its flags 1.0."),
            (set_privacy(dataset_size=9), "dataset_size: the card says 9, its flags 60000."),
            (set_privacy(private=False), "NOT PRIVATE: the card claims no guarantee."),
            (halve_the_noise, "epsilon: the card claims 0.999948, its events cost 2.1"),
            (
                lambda card: card["privacy"]["events"].pop(),
                "steps: the card says 5, its events are 4.",
            ),
            (
                set_flag("target_epsilon", 20),
                "events: are not those of a plan made from the card's flags.",
            ),
            (
                lambda card: card["training"]["flags"].append("--target_epsilon=20"),
                "flags: no run can have had those of the card: target_epsilon must be given once",
            ),
            (set_flag("channels", 3), "channels: the card says 1, its flags 3."),
            (
                set_flag("class_names", "1,2"),
                "class_names: the card says 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, its flags 1, 2.",
            ),
            (
                lambda card: card["training"]["flags"].append("--flagfile=/etc/hostname"),
                "flags: no run can have had those of the card: flags of a model card must name no",
            ),
            (
                lambda card: card["training"]["flags"].append("--no_such_flag=1"),
                "flags: no run can have had those of the card",
            ),
        ],
    )
    def test_all_copies_that_agree_on_a_wrong_claim(self, export, change, expected):
        change_card(export, change, everywhere=True)
        for part in ("", "generator.onnx", "saved_model/1"):
            found = problems(export / part)
            assert any(line.startswith(expected) for line in found), found

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            (
                set_privacy(noise="laplace"),
                "noise: the card says laplace, what is proved is of gauss",
            ),
            (
                set_privacy(adjacency="add-or-remove-one"),
                "adjacency: the card says add-or-remove-o",
            ),
            (declare(num_records=6), "declared: num_records is 6, the dataset_size 60000."),
            (
                declare(image_shape=[28, 28, 3]),
                "declared: image_shape is [28, 28, 3], the generator's",
            ),
            (declare(num_classes=9), "declared: num_classes is 9, the generator's num_classes 10."),
            (declare(class_names=["0"]), "declared: class_names is ['0'], the generator's"),
            (
                lambda card: card["generator"].update(num_classes=9),
                "generator: num_classes is 9, but there are 10 class_names.",
            ),
        ],
    )
    def test_a_claim_about_other_noise_neighbours_or_data_than_the_proofs(
        self, export, change, expected
    ):
        change_card(export, change, everywhere=True)
        found = problems(export)
        assert any(line.startswith(expected) for line in found), found

    def test_a_card_that_declares_nothing_is_damaged(self, export):
        change_card(export, lambda card: card["privacy"].pop("declared"))
        with pytest.raises(UsageError, match=r"is damaged: privacy\.declared is missing\."):
            problems(export)

    def test_events_with_more_noise_than_the_flags_planned(self, export):
        """A claim of half of what was spent, with events to match it."""

        def change(card):
            privacy, events = card["privacy"], []
            for event in privacy["events"]:
                event["noise_multiplier"] *= 2
                events.append(NoiseEvent(**event))
            for name in accountants.ACCOUNTANTS:
                privacy[f"epsilon_{name}"] = accountants.epsilon_of(
                    events, delta=privacy["delta"], accountant=name
                )
            privacy["epsilon"] = privacy["epsilon_pld"]

        change_card(export, change, everywhere=True)
        assert problems(export) == ["events: are not those of a plan made from the card's flags."]

    def test_a_unit_that_the_flags_do_not_have(self, export):
        def claim_persons(card):
            card["privacy"] |= {"unit": "one person, at most 5 images", "images_per_person": 5}

        change_card(export, claim_persons, everywhere=True)
        assert problems(export) == [
            "unit: the card says one person, at most 5 images, its flags one image.",
            "images_per_person: the card says 5, its flags None.",
        ]

    def test_a_run_of_persons_is_said_to_be_one(self, export):
        def of_persons(card):
            card["training"]["flags"] += ["--person=folder", "--images_per_person=5"]
            config = flags.parse(["tfdps", *card["training"]["flags"]])[1]
            card["privacy"] = statement.privacy_statement(
                plan.make_plan(config, card["privacy"]["dataset_size"]),
                [NoiseEvent(**event) for event in card["privacy"]["events"]],
                types.SimpleNamespace(sensitivity_over_clip_norm=1.0),
                types.SimpleNamespace(**card["generator"]),
            )

        change_card(export, of_persons, everywhere=True)
        verdict = verification.verify(str(export))
        # run.flags, a file of its own, has another hash than its card now.
        assert not [line for line in verdict.problems if "unit" in line or "person" in line]
        said = "\n".join(verdict.statement)
        assert "trained on 60000 persons of mnist" in said
        assert "Unit: one person, at most 5 images. Two data sets are neighbours if one has" in said
        assert "Declared, and taken as given: 60000 persons, images of" in said

    def test_what_the_card_declares_and_its_flags_declare_alike_is_none(self, export):
        change_card(export, set_flag("channels", 1), everywhere=True)
        change_card(export, set_flag("class_names", "9,8,7,6,5,4,3,2,1,0"), everywhere=True)
        assert not problems(export)

    def test_a_claim_of_more_than_was_spent_is_none(self, export):
        change_card(export, set_privacy(epsilon=1.5), everywhere=True)
        assert not problems(export)

    @pytest.mark.parametrize("text", ["no json", "[]", '{"privacy": 1}', '{"privacy": {}}'])
    def test_what_is_no_card_is_refused(self, export, text):
        (export / "model_card.json").write_text(text)
        with pytest.raises(UsageError, match=r"model_card.json of .* is no model card"):
            problems(export)


@pytest.mark.parametrize("error", [ValueError, TypeError, KeyError, UsageError])
def test_an_error_of_the_accountants_is_not_called_a_damaged_card(whole, monkeypatch, error):
    def fails(*args, **options):
        raise error("a mistake of ours")

    monkeypatch.setattr(accountants, "epsilon_of", fails)
    with pytest.raises(error) as caught:
        verification.verify(str(whole))
    assert caught.value.args == ("a mistake of ours",)


class TestCommand:
    def run(self, capsys, *arguments):
        status = verify.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    def test_says_what_it_found(self, capsys, whole):
        status, said, _ = self.run(capsys, whole)
        assert status == 0
        assert "Claim: (0.999948, 1e-05)-differential privacy, zero-out-one, by PLD" in said
        assert "Note: The unit of protection is one" in said
        assert said.endswith("VERIFIED: all is as the card says.\n")

    def test_fails_on_what_was_changed(self, capsys, export):
        flip_a_bit(export / "samples.png")
        status, said, _ = self.run(capsys, export)
        assert status == 1
        assert "WRONG: samples.png: was changed" in said
        assert "VERIFIED" not in said

    def test_a_card_of_0_1_fails_and_is_told_why_in_a_line(self, capsys, export):
        change_card(export, as_of_0_1, everywhere=True)
        for part in ("", "generator.onnx", "saved_model/1"):
            status, said, _ = self.run(capsys, export / part)
            assert status == 1
            assert "VERIFIED" not in said
            (line,) = (line for line in said.splitlines() if line.startswith("WRONG"))
            assert line == (
                "WRONG: noise: this card was made by tfdps 0.1, whose noise was not Gaussian "
                "(Box-Muller, clamped at 5.678 standard deviations): delta is about 9e-3 for a "
                "released vector, not the 1e-05 claimed. Train again with tfdps 0.2."
            )

    def test_the_published_hash_of_the_card_sees_a_consistent_forgery(self, capsys, export):
        published = verification.verify(str(export)).card_sha256
        assert self.run(capsys, export, "--card_sha256", published.upper())[0] == 0
        change_card(export, set_privacy(epsilon=1.5), everywhere=True)
        status, said, _ = self.run(capsys, export, "--card_sha256", published)
        assert status == 1
        assert "WRONG: the card is not the one of --card_sha256." in said

    @pytest.mark.parametrize("path", ["nowhere", "empty", "file.txt"])
    def test_what_holds_no_card_is_one_clear_line(self, capsys, tmp_path, path):
        (tmp_path / "empty").mkdir()
        (tmp_path / "file.txt").write_text("hello")
        status, said, error = self.run(capsys, tmp_path / path)
        assert (status, said) == (2, "")
        assert error.startswith("tfdps-verify: error: ")
        assert error.count("\n") == 1

    def test_without_its_packages_it_says_how_to_get_them(self, capsys, monkeypatch, whole):
        for name in [name for name in sys.modules if name.split(".")[0] == "dp_accounting"]:
            monkeypatch.setitem(sys.modules, name, None)
        for name in ("artefacts.verification", "artefacts.claims", "accounting.accountants"):
            monkeypatch.delitem(sys.modules, f"tfdps.{name}")
            monkeypatch.delattr(f"tfdps.{name}", raising=False)
        status, _, error = self.run(capsys, whole)
        assert status == 2
        assert 'verifying needs dp_accounting: pip install "tfdps[verify]"' in error


def test_a_process_without_tensorflow_and_fcntl_verifies(tmp_path, whole):
    """As on Windows, where Python has no fcntl."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "for name in ('tensorflow', 'keras', 'onnx', 'onnxruntime', 'PIL', 'fcntl'):\n"
        "    sys.modules[name] = None\n"
    )
    result = subprocess.run(
        [sys.executable, "-m", "tfdps.commands.verify", str(whole)],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    assert "VERIFIED" in result.stdout


class TestOnnxMetadata:
    """The reader of protocol buffers against the onnx package."""

    def test_reads_what_onnx_wrote(self, tmp_path):
        model = onnx.load(SHIPPED / "generator.onnx")
        onnx.helper.set_model_props(model, {"a": "1", "key": "Köln \n" * 200, "empty": ""})
        onnx.save(model, tmp_path / "x.onnx")
        expected = {"a": "1", "key": "Köln \n" * 200, "empty": ""}
        assert onnx_metadata.read(tmp_path / "x.onnx") == expected

    def test_the_hash_is_that_of_the_model_without_metadata(self, tmp_path):
        model = onnx.load(SHIPPED / "generator.onnx")
        with_card = onnx_metadata.sha256_without_metadata(SHIPPED / "generator.onnx")
        del model.metadata_props[:]
        onnx.save(model, tmp_path / "x.onnx")
        assert onnx_metadata.sha256_without_metadata(tmp_path / "x.onnx") == with_card
        model.graph.name = "other"
        onnx.save(model, tmp_path / "x.onnx")
        assert onnx_metadata.sha256_without_metadata(tmp_path / "x.onnx") != with_card

    def test_what_is_no_message_is_an_error_and_no_crash(self, tmp_path):
        random, refused = np.random.default_rng(0), 0
        for size in (1, 2, 10, 1000):
            for _ in range(50):
                (tmp_path / "x.onnx").write_bytes(random.bytes(size))
                try:
                    onnx_metadata.sha256_without_metadata(tmp_path / "x.onnx")
                except ValueError:
                    refused += 1
        assert refused > 150


def test_hashes_are_of_all_files_but_the_cards(whole):
    card = json.loads((whole / "model_card.json").read_text())
    there = {str(path.relative_to(whole)) for path in whole.rglob("*") if path.is_file()}
    assert set(card["files"]) == there - {layout.CARD, layout.CARD_IN_SAVED_MODEL}
