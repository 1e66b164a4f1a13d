"""A share that is held out: who is follows from each one's own name, and N counts the others."""

import numpy as np
import pytest
from PIL import Image

from tfdps import checks
from tfdps.config.run_config import RunConfig
from tfdps.data import counting, held_out, loading

NAMES = [f"p{number}" for number in range(2000)]
STORED = ["p3", "p9", "p12", "p18", "p28", "p32"]  # made by this module when it was new


def test_about_the_share_is_held_out_and_a_larger_share_holds_the_same_ones_out_too():
    found = {share: {n for n in NAMES if held_out.is_held_out(n, share)} for share in (0.1, 0.3)}
    for share, names in found.items():
        # Five standard deviations of a binomial number.
        assert abs(len(names) - 2000 * share) < 5 * np.sqrt(2000 * share * (1 - share))
    assert found[0.1] < found[0.3]


def test_the_answer_never_changes():
    """Runs are resumed, and evaluated, by later versions."""
    found = [name for name in NAMES[:40] if held_out.is_held_out(name, 0.2)]
    assert found == STORED
    assert [name for name in NAMES[:40] if held_out.is_held_out(name.encode(), 0.2)] == STORED


def test_it_is_no_part_of_what_chooses_a_persons_images():
    from tfdps.data import keyed_hash

    assert keyed_hash.digest(b"p1", keyed_hash.CHOICE) != keyed_hash.digest(
        b"p1", keyed_hash.HELD_OUT
    )


def write(root, persons=30, of_each=3, without=()):
    """Two classes; persons in folders of their own, each of one grey level."""
    for person in range(persons):
        for number in range(of_each):
            kind = "cat" if number % 2 else "dog"
            file = root / kind / f"p{person}" / f"{number}x.png"
            if f"p{person}" in without:
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), 8 * person + number).save(file)
    return root


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "images")


def load(folder, **settings):
    return loading.load(f"folder:{folder}", **{"image_size": 8, "held_out": 0.3, **settings})


def greys(dataset):
    return sorted(dataset.images[:, 0, 0, 0].tolist())


class TestOfPersons:
    def test_both_parts_are_all_persons_and_share_none(self, folder):
        train = load(folder, person="folder")
        held = load(folder, person="folder", split="held_out")
        assert set(train.persons) | set(held.persons) == {f"p{k}" for k in range(30)}
        assert not set(train.persons) & set(held.persons)
        assert greys(train) + greys(held) != []
        assert sorted(greys(train) + greys(held)) == greys(load(folder, held_out=None))
        assert (train.size, len(train)) == (len(set(train.persons)), 3 * train.size)
        assert held.size + train.size == 30

    def test_taking_one_out_moves_nobody_else(self, folder, tmp_path):
        """Neighbours: a held-out person changes nothing that is trained on, another one their own."""
        parts = {
            split: set(load(folder, person="folder", split=split).persons)
            for split in ("train", "held_out")
        }
        for split, names in parts.items():
            gone = sorted(names)[0]
            fewer = write(tmp_path / split, without=[gone])
            for each, expected in parts.items():
                found = set(load(fewer, person="folder", split=each).persons)
                assert found == expected - {gone}
        held_out_gone = load(tmp_path / "held_out", person="folder")
        whole = load(folder, person="folder")
        np.testing.assert_array_equal(held_out_gone.images, whole.images)
        np.testing.assert_array_equal(held_out_gone.units, whole.units)
        assert held_out_gone.fingerprint == whole.fingerprint

    def test_n_is_the_number_of_those_that_are_trained_on_and_is_declared(self, folder):
        size = load(folder, person="folder").size
        assert load(folder, person="folder", dataset_size=size).size == size
        with pytest.raises(checks.UsageError, match=f"dataset_size must be {size}, the number of"):
            load(folder, person="folder", dataset_size=30)
        config = RunConfig(dataset=f"folder:{folder}", person="folder", held_out=0.3, image_size=8)
        counted, lines = counting.counted_of(config)
        assert counted == loading.load_of(config).size == size
        said = (
            f"Held out: {30 - size} of 30 persons, with {3 * (30 - size)} images, by a hash of each "
            "one's own name (--held_out=0.3); N is the number of the others."
        )
        assert any(line.startswith(said) for line in lines)
        assert any(note.startswith(said) for note in load(folder, person="folder").notes)

    def test_by_a_csv_file_and_its_split(self, folder):
        lines = ["file,label,person,split"]
        for path in sorted(folder.rglob("*.png")):
            split = "train" if int(path.parent.name[1:]) < 25 else "test"
            lines.append(f"{path.relative_to(folder)},{path.parts[-3]},{path.parent.name},{split}")
        csv = folder / "labels.csv"
        csv.write_text("\n".join(lines))
        how = {"labels_csv": str(csv), "person": "column"}
        parts = [set(load(folder, split=split, **how).persons) for split in ("train", "held_out")]
        assert parts[0] | parts[1] == {f"p{k}" for k in range(25)}
        assert set(load(folder, split="test", **how).persons) == {f"p{k}" for k in range(25, 30)}
        by_folder = load(folder, person="folder", split="held_out")
        assert parts[1] == {who for who in set(by_folder.persons) if int(who[1:]) < 25}


class TestOfImages:
    def test_both_parts_are_all_images(self, folder):
        train, held = load(folder), load(folder, split="held_out")
        assert sorted(greys(train) + greys(held)) == greys(load(folder, held_out=None))
        assert 5 < len(held) < 50
        assert train.size == len(train)
        assert train.spec.class_names == held.spec.class_names == ("cat", "dog")
        assert any(
            note.startswith(f"Held out: {len(held)} of 90 images, by") for note in train.notes
        )

    def test_a_file_keeps_its_place_wherever_the_folder_lies(self, folder, tmp_path):
        found = load(folder, split="held_out")
        moved = folder.rename(tmp_path / "elsewhere")
        assert greys(load(moved, split="held_out")) == greys(found)

    def test_parts_of_workers_and_streams_are_of_those_trained_on(self, folder):
        whole = load(folder)
        parts = [load(folder, part=(index, 2), records_mib=0) for index in range(2)]
        assert {part.size for part in parts} == {whole.size}
        found = [part.gather(np.arange(len(part)))[:, 0, 0, 0] for part in parts]
        assert sorted(np.concatenate(found).tolist()) == greys(whole)


class TestRefusals:
    @pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, float("nan")])
    def test_what_is_no_share(self, share):
        with pytest.raises(checks.UsageError, match=r"held_out must be (a number )?in \(0, 1\)"):
            RunConfig(held_out=share)

    def test_a_share_that_holds_nobody_or_all_out(self, folder):
        with pytest.raises(checks.UsageError, match="holds nobody out: give a larger share"):
            load(folder, person="folder", held_out=0.001)
        with pytest.raises(checks.UsageError, match="holds all of them out: give a smaller share"):
            load(folder, person="folder", held_out=0.999)

    def test_a_class_that_is_not_declared_and_has_no_image_left(self, folder):
        name = next(n for n in NAMES if held_out.is_held_out(f"eel/{n}.png".encode(), 0.3))
        (folder / "eel").mkdir()
        Image.new("L", (8, 8)).save(folder / "eel" / f"{name}.png")
        with pytest.raises(checks.UsageError, match="leaves no image of eel to train on"):
            load(folder)
        assert load(folder, class_names=("cat", "dog", "eel")).spec.num_classes == 3

    def test_other_data_sets_and_splits_that_are_not_there(self, folder):
        with pytest.raises(checks.UsageError, match="held_out applies to folders of images only"):
            loading.load("digits", held_out=0.1)
        with pytest.raises(checks.UsageError, match="split must be one of train"):
            load(folder, held_out=None, split="held_out")
