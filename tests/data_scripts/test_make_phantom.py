import itertools
import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from make_phantom import make_phantom

from mdl_monai.errors import InputError

SCRIPT = Path(__file__).resolve().parents[2] / "data_scripts" / "make_phantom.py"


def test_the_command_writes_a_data_set_split_by_subject(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--output_dir", str(tmp_path), "--subjects", "4", "--slices", "2"]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    assert "train 4, val 2, test 2 slices" in result.stdout
    records = json.loads((tmp_path / "dataset.json").read_text(encoding="utf-8"))
    patients = {split: {r["patient"] for r in rows} for split, rows in records.items()}
    assert patients == {"train": {"phantom00", "phantom01"}, "val": {"phantom02"}, "test": {"phantom03"}}
    for record in itertools.chain(*records.values()):
        image = nib.load(tmp_path / record["image"])
        values = np.asanyarray(image.dataobj)
        assert values.shape == (256, 256) and values.dtype == np.uint16 and values.max() == 65535
        assert 0.1 < (values > 6553).mean() < 0.7
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dataset.json", "images"]


def test_one_seed_gives_the_same_files_and_another_seed_others(tmp_path: Path) -> None:
    images = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        records = make_phantom(tmp_path / folder, n_subjects=3, n_slices=1, seed=seed)
        images.append(nib.load(tmp_path / folder / records["test"][0]["image"]).get_fdata())
    assert np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])


@pytest.mark.parametrize(("n_subjects", "n_slices"), [(2, 4), (3, 0)])
def test_too_few_subjects_or_slices_write_nothing(tmp_path: Path, n_subjects: int, n_slices: int) -> None:
    with pytest.raises(InputError, match="a subject each"):
        make_phantom(tmp_path, n_subjects, n_slices, seed=0)
    assert not list(tmp_path.iterdir())
