"""Whose images are whose: the table of persons, from arrays on to the draws of a step."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

import tfdps
from tfdps import checks
from tfdps.data import counting, loading, persons
from tfdps.data.dataset import chosen_units
from tfdps.mechanisms.batches import PoissonBatches

NAMES = "cat,dog"


def records(count=30, of_each=3, seed=0):
    """(images, labels, persons): every image is of one grey level, its own."""
    images = np.arange(count, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8)
    order = np.random.default_rng(seed).permutation(count)
    return images, (np.arange(count) % 2).astype(np.int32), np.array(order // of_each)


def loaded(passed, **settings):
    return loading.load(
        "arrays", class_names=("cat", "dog"), records=passed, person="passed", **settings
    )


class TestTable:
    def test_every_record_is_its_persons_and_no_others(self):
        whose = records()[2]
        table = persons.units(whose, None, 5)
        assert table.shape == (10, 5)
        assert sorted(table[table >= 0]) == list(range(30))
        for row in table:
            assert len({whose[record] for record in row if record >= 0}) == 1

    def test_of_too_many_as_many_are_chosen_as_may_be_and_the_same_ones_each_time(self):
        whose = ["ann"] * 9 + ["bob"] * 2
        table = persons.units(whose, None, 4)
        assert [np.sum(row >= 0) for row in table] == [4, 2]
        np.testing.assert_array_equal(persons.units(whose, None, 4), table)
        assert list(table[0]) != [0, 1, 2, 3]  # no first ones: chosen by a hash

    def test_what_is_chosen_follows_from_the_persons_own_records(self):
        """Names count, not places: others may come and go."""
        names = [f"{i}.png".encode() for i in range(9)]
        alone = persons.units(["ann"] * 9, names, 4)[0]
        beside = persons.units(["bob", *["ann"] * 9, "eve"], [b"x", *names, b"y"], 4)[1]
        np.testing.assert_array_equal(beside, alone + 1)
        unnamed = persons.units(["bob", *["ann"] * 9], None, 4)[1] - 1
        np.testing.assert_array_equal(unnamed, persons.units(["ann"] * 9, None, 4)[0])

    def test_fewer_than_one_image_is_refused(self):
        with pytest.raises(checks.UsageError, match="images_per_person must be"):
            persons.units(["ann"], None, 0)


class TestLoaded:
    def test_n_is_the_number_of_persons(self):
        dataset = loaded(records(), images_per_person=3)
        assert (dataset.size, len(dataset), dataset.units.shape) == (10, 30, (10, 3))

    def test_another_number_of_persons_than_declared_is_refused(self):
        with pytest.raises(checks.UsageError, match="must be 10, the number of persons of arrays"):
            loaded(records(), dataset_size=30)

    @pytest.mark.parametrize(
        ("passed", "person", "told"),
        [
            (records()[:2], "passed", "received person='passed' and no persons"),
            (records(), "folder", "received person='folder' and persons"),
            ((*records()[:2], np.arange(29)), "passed", "one for each of the 30 images"),
            ((*records()[:2], np.arange(30) / 2), "passed", "texts or integers"),
        ],
    )
    def test_persons_that_are_not_passed_right_are_refused(self, passed, person, told):
        with pytest.raises(checks.UsageError, match=told):
            loading.load("arrays", class_names=("cat", "dog"), records=passed, person=person)

    def test_sets_without_persons_refuse_them(self):
        with pytest.raises(checks.UsageError, match="person applies to folders and arrays"):
            loading.load("digits", person="folder")

    def test_some_units_have_their_own_records_alone(self):
        dataset = loaded(records(), images_per_person=4)
        some = chosen_units(dataset, np.array([7, 2]))
        assert some.size == 2
        for row, number in zip(some.units, (7, 2), strict=True):
            own = dataset.units[number]
            np.testing.assert_array_equal(some.images[row[row >= 0]], dataset.images[own[own >= 0]])


class TestDatasetsThatArePassed:
    """A Dataset that has units is passed whole, as (images, labels, persons) are."""

    def test_have_their_units_and_their_persons(self):
        dataset = loaded(records(), images_per_person=3)
        again = loading.load("arrays", records=dataset, person="passed", images_per_person=3)
        np.testing.assert_array_equal(again.units, dataset.units)
        np.testing.assert_array_equal(again.persons, dataset.persons)
        assert (again.size, len(again)) == (10, 30)
        wider = loading.load("arrays", records=dataset, person="passed", images_per_person=5)
        np.testing.assert_array_equal(wider.units[:, :3], dataset.units)
        assert (wider.units[:, 3:] == -1).all()

    def test_of_which_not_all_images_are_used_keep_their_choice(self):
        dataset = loaded(records(), images_per_person=2)
        again = loading.load("arrays", records=dataset, person="passed", images_per_person=2)
        np.testing.assert_array_equal(again.units, dataset.units)
        with pytest.raises(checks.UsageError, match="images_per_person must be 2 or more"):
            loading.load("arrays", records=dataset, person="passed", images_per_person=1)

    def test_of_some_units_are_whole_too_and_a_part_is_not(self):
        dataset = loaded(records(), images_per_person=3)
        some = chosen_units(dataset, np.array([7, 2]))
        assert loading.load("arrays", records=some, person="passed").size == 2
        part = dataclasses.replace(dataset, total=11)
        with pytest.raises(checks.UsageError, match="received 10 of 11 persons"):
            loading.load("arrays", records=part, person="passed")

    @pytest.mark.parametrize(
        ("units", "told"),
        [
            ([[0, 1], [1, 2]], "a record twice"),
            ([[0, 30]], "one that is not there"),
            ([[0, -2]], "one that is not there"),
            ([0, 1], r"units must be integers \[n, m\]"),
            ([[0.0, 1.0]], r"units must be integers \[n, m\]"),
        ],
    )
    def test_whose_units_break_the_guarantee_are_refused(self, units, told):
        dataset = dataclasses.replace(loaded(records()), units=np.array(units), total=None)
        with pytest.raises(checks.UsageError, match=told):
            loading.load("arrays", records=dataset, person="passed")

    @pytest.mark.parametrize("passed", [records(), loaded(records())], ids=["arrays", "Dataset"])
    def test_persons_that_a_run_would_not_use_are_refused(self, passed):
        config = tfdps.RunConfig(dataset="arrays", class_names=NAMES)
        with pytest.raises(checks.UsageError, match="the unit of privacy is one image"):
            loading.load_of(config, records=passed)
        persons_config = dataclasses.replace(config, person="passed")
        assert loading.load_of(persons_config, records=passed).size == 10


class TestDraws:
    @pytest.mark.parametrize("part_bytes", [None, 16 * 9])
    def test_a_person_is_drawn_with_all_images_or_not_at_all(self, part_bytes):
        dataset = loaded(records(), images_per_person=3)
        draws = PoissonBatches(dataset, 0.4, in_parts=part_bytes is not None, part_bytes=part_bytes)
        assert (draws.parts_per_step > 1) == (part_bytes is not None)
        met = np.zeros(10, int)
        for images, labels, weights in draws.dataset(60):
            grey, weights = images.numpy()[:, 0, 0, 0], weights.numpy().reshape(-1, 3)
            assert set(np.unique(weights.sum(axis=1))) <= {0, 3}
            for row, counted in zip(grey.reshape(-1, 3), weights[:, 0], strict=True):
                if counted:
                    [person] = np.flatnonzero(np.isin(dataset.units, row).all(axis=1))
                    met[person] += 1
            np.testing.assert_array_equal(
                labels.numpy()[weights.ravel() > 0] % 2, grey[weights.ravel() > 0] % 2
            )
        assert met.min() > 5
        assert met.max() < 45

    def test_empty_places_have_no_weight_and_are_black(self):
        images, labels, whose = records(10, of_each=2)
        dataset = loaded((images + 1, labels, whose), images_per_person=4)
        [(images, _, weights)] = PoissonBatches(dataset, 1.0).dataset(1)
        weights = weights.numpy().reshape(5, 4)
        np.testing.assert_array_equal(weights.sum(axis=1), [2] * 5)
        assert (images.numpy().reshape(5, 4, -1)[weights == 0] == 0).all()
        assert (images.numpy().reshape(5, 4, -1)[weights > 0] > 0).all()


class TestFolders:
    @pytest.fixture
    def folder(self, tmp_path):
        """Two classes; six persons, each with two images in each class, in folders of their own."""
        for kind in ("cat", "dog"):
            for person in range(6):
                own = tmp_path / kind / f"p{person}"
                own.mkdir(parents=True)
                for number in range(2):
                    grey = np.full((8, 8), 40 * person + number, np.uint8)
                    Image.fromarray(grey).save(own / f"p{person}_{kind}{number}.png")
        return tmp_path

    def load(self, folder, **settings):
        return loading.load(f"folder:{folder}", image_size=8, **settings)

    @pytest.mark.parametrize("person", ["folder", r"(p[0-9])_.*"])
    def test_a_persons_images_are_together_whatever_their_class(self, folder, person):
        dataset = self.load(folder, person=person, images_per_person=4)
        assert (dataset.size, len(dataset)) == (6, 24)
        for row in dataset.units:
            assert len(set(dataset.images[row, 0, 0, 0] // 40)) == 1
            assert sorted(dataset.labels[row]) == [0, 0, 1, 1]

    def test_a_column_says_whose_images_are(self, folder):
        lines = [
            f"{p.relative_to(folder)},{p.parts[-3]},who {p.stem[1]}" for p in folder.rglob("*.png")
        ]
        csv = folder / "labels.csv"
        csv.write_text("\n".join(["file,label,person", *lines]))
        dataset = self.load(folder, labels_csv=str(csv), person="column", images_per_person=3)
        assert dataset.size == 6
        assert (dataset.units >= 0).all()  # three of four
        assert not any("look like" in note for note in dataset.notes)
        assert any(
            "24 images of 6. Epsilon" in note and "--person=column" in note
            for note in self.load(folder, labels_csv=str(csv)).notes
        )

    @pytest.mark.parametrize("person", ["column", "folder", "(p[0-9])_.*"])
    def test_a_person_in_two_splits_is_refused_before_an_image_is_read(self, folder, person):
        lines = ["file,label,person,split"]
        for path in folder.rglob("*.png"):
            split = "test" if path.stem in ("p1_cat0", "p1_dog1", "p4_dog0") else "train"
            kind = path.relative_to(folder).parts[0]
            moved = folder / path.parent.name / kind / path.name  # a person's folder comes first
            moved.parent.mkdir(parents=True, exist_ok=True)
            path.rename(moved)
            lines.append(f"{moved.relative_to(folder)},{kind},{path.stem[:2]},{split}")
        csv = folder / "labels.csv"
        csv.write_text("\n".join(lines))
        for split in ("train", "test"):
            count = 6 if split == "train" else 2
            with pytest.raises(checks.UsageError) as caught:
                self.load(folder, labels_csv=str(csv), person=person, split=split)
            assert (
                f"a person must be in one split alone, received 2 of {count} persons of folder:"
            ) in str(caught.value)
            assert "give all rows of a person one split, or take the column split out" in str(
                caught.value
            )
        with pytest.raises(checks.UsageError, match="2 of 6 persons"):
            counting.counted_of(
                tfdps.RunConfig(dataset=f"folder:{folder}", labels_csv=str(csv), person=person)
            )
        assert any(
            "2 of 6 persons have images in this split and in others" in note
            for note in self.load(folder, labels_csv=str(csv)).notes
        )
        csv.write_text("\n".join(line.replace(",test", ",train") for line in lines))
        assert self.load(folder, labels_csv=str(csv), person=person).size == 6

    @pytest.mark.parametrize(
        ("person", "told"),
        [
            (r"(q[0-9])_.*", "must match .*; 24 of 24 do not: cat/p0/p0_cat0.png"),
            ("column", "needs a CSV file with the column person"),
            ("passed", "is for arrays"),
        ],
    )
    def test_what_says_of_nobody_is_refused(self, folder, person, told):
        with pytest.raises(checks.UsageError, match=told):
            self.load(folder, person=person)

    def test_a_folder_of_no_persons_is_refused(self, folder):
        Image.new("L", (8, 8)).save(folder / "cat" / "lost.png")
        with pytest.raises(checks.UsageError, match="1 of 25 do not: cat/lost.png"):
            self.load(folder, person="folder")

    def test_without_the_option_names_that_look_like_persons_give_a_warning(self, folder):
        [note] = [note for note in self.load(folder).notes if "several images a person" in note]
        assert "24 images of 6" in note
        assert "--person=folder" in note

    @pytest.mark.parametrize("name", ["IMG_{:04d}.png", "{}.png", "scan{}.png"])
    def test_plain_numbers_give_none(self, tmp_path, name):
        for kind in ("cat", "dog"):
            (tmp_path / kind).mkdir()
            for number in range(8):
                Image.new("L", (8, 8)).save(tmp_path / kind / name.format(number))
        assert not any("person" in note for note in self.load(tmp_path).notes)

    def test_account_counts_persons(self, folder):
        config = tfdps.RunConfig(dataset=f"folder:{folder}", person="folder")
        size, lines = counting.counted_of(config)
        assert size == 6
        assert "24 images; 6 persons" in lines[0].replace(", 2 classes: cat, dog", "")
