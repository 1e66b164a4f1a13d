"""Labels, persons and splits from a CSV file."""

import codecs

import numpy as np
import pytest
from PIL import Image

from tfdps import checks
from tfdps.config.run_config import RunConfig
from tfdps.data import counting, loading


@pytest.fixture
def folder(tmp_path):
    """Six images, image k of level 10 k."""
    path = tmp_path / "scans"
    for k in range(6):
        file = path / ("deep" if k > 3 else ".") / f"{k}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), 10 * k).save(file)
    return path


def write(folder, text, name="labels.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def load(folder, csv, **kwargs):
    return loading.load(f"folder:{folder}", labels_csv=csv, **{"image_size": 4, **kwargs})


def refusal(folder, text, **kwargs):
    with pytest.raises(checks.UsageError) as caught:
        load(folder, write(folder, text), **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def levels(dataset):
    return dataset.gather(np.arange(len(dataset)))[:, 0, 0, 0].tolist()


WITH_PERSONS = (
    "file,label,person,split\n1.png,week 10,ann,train\n0.png,week 2,bob,train\n"
    '2.png,week 10,ann,test\n"deep/4.png",week 2,"x, y",train\n'
)


@pytest.mark.parametrize("records_mib", [np.inf, 0], ids=["in memory", "streamed"])
def test_files_labels_persons_and_splits_are_the_files(folder, records_mib):
    csv = write(folder, WITH_PERSONS)
    found = load(folder, csv, records_mib=records_mib)
    assert found.spec.class_names == ("week 2", "week 10")
    assert found.labels.tolist() == [1, 0, 0]
    assert levels(found) == [10, 0, 40]
    assert found.persons.tolist() == ["ann", "bob", "x, y"]
    test = load(folder, csv, split="test", class_names=("week 2", "week 10"))
    assert (levels(test), test.labels.tolist(), test.persons.tolist()) == ([20], [1], ["ann"])
    assert counting.dataset_size(f"folder:{folder}", labels_csv=csv) == 3


def test_persons_are_those_of_the_part(folder):
    csv = write(folder, WITH_PERSONS)
    parts = [load(folder, csv, part=(index, 2)) for index in range(2)]
    assert [part.persons.tolist() for part in parts] == [["ann", "x, y"], ["bob"]]
    assert {part.size for part in parts} == {3}


def test_the_dataset_may_be_the_csv_file_itself_and_a_run_config_names_it(folder):
    csv = write(folder, WITH_PERSONS)
    assert levels(loading.load(f"folder:{csv}", image_size=4)) == [10, 0, 40]
    assert loading.load(f"folder:{csv}").spec.name == "folder:labels.csv"
    config = RunConfig(dataset=f"folder:{folder}", labels_csv=csv, image_size=4, dataset_size=3)
    assert levels(loading.load_of(config)) == [10, 0, 40]
    with pytest.raises(checks.UsageError, match="labels_csv must be left out where the data set"):
        loading.load(f"folder:{csv}", labels_csv=csv)


def test_what_is_in_no_row_and_what_is_not_used_is_said(folder):
    (folder / "notes.txt").write_text("x")
    csv = write(
        folder,
        WITH_PERSONS.replace("split", "split,age").replace("n\n", "n,7\n").replace("t\n", "t,7\n"),
    )
    expected = "left out: 2 .png not in labels.csv, 1 .txt, 1 column 'age', 1 of other splits"
    notes = load(folder, csv).notes
    assert notes[0] == f"Read: {expected}."
    assert notes[1].startswith("1 of 3 persons have images in this split and in others")
    config = RunConfig(dataset=f"folder:{folder}", labels_csv=csv)
    size, lines = counting.counted_of(config)
    assert (size, lines[0]) == (3, f"Found: 3 images, 2 classes: week 2, week 10; {expected}.")
    assert lines[1] == notes[1]


def test_without_labels_no_label_is_read(folder):
    csv = write(folder, "file,person\n0.png,ann\n1.png,ann\n")
    found = load(folder, csv, label="none")
    assert found.spec.class_names == ("scans",)
    assert (found.labels.tolist(), found.persons.tolist()) == ([0, 0], ["ann", "ann"])
    csv = write(folder, "file,label\n0.png,\n1.png,x\n")
    assert load(folder, csv, label="none", class_names=("scan",)).spec.class_names == ("scan",)


def test_declared_classes_may_have_no_record_and_others_are_refused(folder):
    text = "file,label\n0.png,cat\n1.png,dog\n"
    found = load(folder, write(folder, text), class_names=("dog", "cow", "cat"))
    assert found.spec.class_names == ("cat", "cow", "dog")
    assert found.labels.tolist() == [0, 2]
    message = refusal(folder, text, class_names=("cat", "cow"))
    assert message.startswith("the classes of folder:scans must be the declared classes, cat, cow")
    assert "received also dog" in message


def test_the_fingerprint_knows_labels_and_persons(folder):
    texts = [
        "file,label\n0.png,cat\n1.png,dog\n",
        "file,label\n0.png,dog\n1.png,cat\n",
        "file,label,person\n0.png,cat,1\n1.png,dog,2\n",
        "file,label,person\n0.png,cat,2\n1.png,dog,2\n",
    ]
    prints = [load(folder, write(folder, text)).fingerprint for text in texts]
    assert len(set(prints)) == 4
    assert load(folder, write(folder, texts[0], "other.csv")).fingerprint == prints[0]


def test_a_byte_order_mark_and_line_ends_of_windows_are_read(folder):
    text = codecs.BOM_UTF8 + "file,label\r\n0.png,Käse\r\n1.png,b\r\n\r\n".encode()
    assert load(folder, write(folder, text)).spec.class_names == ("Käse", "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must begin with a line of columns"),
        ("file;label\n0.png;a\n", "file and label among them; received 'file;label'"),
        ("name,label\n0.png,a\n", "file and label among them; received 'name,label'"),
        ("file,label,label\n0.png,a,b\n", "different names"),
        ("file,label\n", "has no line but the first"),
        ("file,label\n0.png\n1.png,a,b\n", "received line 2 has 1 values; line 3 has 3 values"),
        ("file,label,person\n0.png,a,\n", "line 2 has no person"),
        ("file,label\n0.png,a\n0.png,b\n", "line 3: 0.png is in line 2 already"),
        ("file,label\n0.png,a\n./0.png,b\n", "line 3: 0.png is in line 2 already"),
        ("file,label\n../0.png,a\n", "line 2: ../0.png is no path below the folder"),
        ("file,label\n/0.png,a\n", "line 2: /0.png is no path below the folder"),
        ("file,label\nlabels.csv,a\n", "line 2: labels.csv is no image by its ending"),
        ("file,label\n7.png,a\n8.png,a\n", "line 2: there is no 7.png; line 3: there is no 8.png"),
        ('file,label\n0.png,"a\n', "line 2: unexpected end of data"),
        ("file,label\n0.png,a\n".encode("utf-16"), "must be text in UTF-8, received UTF-16"),
        ("file,label\n0.png,é\n".encode("latin-1"), "must be text in UTF-8, received other bytes"),
    ],
)
def test_a_wrong_file_is_refused_by_its_lines(folder, text, message):
    found = refusal(folder, text)
    assert message in found
    assert "labels.csv" in found


def test_of_many_wrong_lines_the_first_five_are_named(folder):
    rows = "".join(f"{k}.png,a\n" for k in range(10, 20))
    message = refusal(folder, "file,label\n" + rows)
    assert message.count("there is no") == 5
    assert message.endswith("; and 5 more.")


def test_a_file_that_is_not_there_and_a_split_that_is_not_there_are_refused(folder):
    with pytest.raises(checks.UsageError, match="none.csv cannot be read: No such file"):
        load(folder, "none.csv")
    assert "split must be one of test, train, as" in refusal(folder, WITH_PERSONS, split="x")
    message = refusal(folder, "file,label,split\n0.png,a,test\n")
    assert "split must be one of test" in message
    assert "split must be one of train" in refusal(folder, "file,label\n0.png,a\n", split="test")
