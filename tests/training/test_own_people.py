"""Runs on persons: a Dataset that is passed whole; DICOM files, whose PatientID stays in them."""

import numpy as np
import pytest

import tfdps
from conftest import small_config
from tfdps.data import loading


def of_digits():
    """The digits as images of 120 persons."""
    digits = loading.load("digits")
    passed = digits.images, digits.labels, np.arange(1438) % 120
    return loading.load(
        "arrays",
        class_names=digits.spec.class_names,
        records=passed,
        person="passed",
        images_per_person=6,
    )


@pytest.mark.slow
def test_a_dataset_with_units_trains_as_it_is(tmp_path):
    config = small_config(
        tmp_path / "run", dataset="arrays:ours", person="passed", images_per_person=6, num_steps=4
    )
    card = tfdps.train(config, of_digits())
    assert (card.dataset_size, card.images_per_person) == (120, 6)
    assert not tfdps.verify(tmp_path / "run").problems


@pytest.mark.slow
def test_a_patient_id_is_in_no_file_of_a_run(tmp_path):
    pytest.importorskip("pydicom", reason="reads DICOM: pip install 'tfdps[dicom]'")
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset

    digits, folder = loading.load("digits"), tmp_path / "scans"
    for number in range(300):
        file = folder / str(digits.labels[number]) / f"{number}x.dcm"
        file.parent.mkdir(parents=True, exist_ok=True)
        made = Dataset()
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", f"1.2.{number}"
        made.PatientID, made.PatientName = f"Zx-Patient-{number % 60}", "Zx-Name"
        made.Rows = made.Columns = made.BitsAllocated = made.BitsStored = 8
        made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
        made.HighBit, made.PixelRepresentation = 7, 0
        made.PixelData = digits.images[number].tobytes()
        pydicom.dcmwrite(file, made, enforce_file_format=True)
    config = small_config(
        tmp_path / "run",
        dataset=f"folder:{folder}",
        person="dicom",
        held_out=0.2,
        image_size=8,
        num_steps=4,
        dicom_window="128,256",
    )
    card = tfdps.train(config)
    assert 35 < card.dataset_size < 60
    assert {"--person=dicom", "--held_out=0.2", "--dicom_window=128,256"} <= set(card.flags)
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert len(files) > 10
    # Not by fewer bytes: megabytes of weights have every three of them by chance.
    for identity in (b"Zx-Patient", b"Zx-Name"):
        assert not [path.name for path in files if identity in path.read_bytes()]
