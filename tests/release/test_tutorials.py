"""The tutorials: their Python runs as it stands, their commands name what there is."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import pytest
from monai.bundle import ConfigParser
from pydicom.data import get_testdata_file

from mdl_monai.phantoms.head import head_phantom

ROOT = Path(__file__).parents[2]
TUTORIALS = sorted((ROOT / "docs").glob("*.md"))
OWN = {"head_mr_denoising"}  # the bundle that a reader makes
COMMANDS = [
    line.strip()
    for path in TUTORIALS
    for line in re.findall(r"(?m)^    (make .+)$", path.read_text(encoding="utf-8"))
]


def test_the_python_of_the_tutorial_runs_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "bundles").symlink_to(ROOT / "bundles")
    for name in ("my_images", "study/mr"):
        (tmp_path / name).mkdir(parents=True)
    head = head_phantom(0, (48, 48, 48), (2.0, 2.0, 2.0))
    image = nib.Nifti1Image(head.mr[28:46, 10:34, 4:22].numpy(), head.affine.numpy())
    nib.save(image, tmp_path / "my_images" / "crop.nii.gz")
    shutil.copy(str(get_testdata_file("MR_small.dcm", download=False)), tmp_path / "study" / "mr")
    text = (ROOT / "docs" / "use_from_python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"(?ms)^```python\n(.+?)^```$", text)
    assert len(blocks) == text.count("```") / 2 == 6
    script = tmp_path / "blocks.py"
    script.write_text(
        "\n".join(blocks) + "\nassert list(logits.shape) == [1, 3, 35, 51, 36]\n", encoding="utf-8"
    )
    command = [sys.executable, "-W", "ignore", script.name]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8")
    assert ended.returncode == 0, ended.stderr
    assert "crop (1, 18, 24, 18) [" in ended.stdout
    assert "the data set folder does not exist" in ended.stdout
    written = {
        path.relative_to(tmp_path / "output").as_posix() for path in (tmp_path / "output").rglob("*.*")
    }
    assert {"predictions/crop.nii.gz", "predictions/mr.nii.gz", "dicom/mr/0001.dcm"} <= written


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_names_a_target_a_bundle_and_options_that_there_are(command: str) -> None:
    _, target, *words = shlex.split(command)
    given = dict(word.split("=", 1) for word in words)
    assert re.search(rf"(?m)^{target}:.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"))
    if given.get("BUNDLE", "head_mr_denoising") in OWN:
        configs = ROOT / "mdl_monai" / "release" / "skeleton" / "configs"
    else:
        configs = ROOT / "bundles" / given["BUNDLE"] / "configs"
    names = {"inference": ["inference"], "evaluate": ["inference", "evaluate"]}.get(target, ["train"])
    config = ConfigParser.load_config_files([str(configs / f"{name}.yaml") for name in ["common", *names]])
    options = shlex.split(given.get("ARGS", ""))[::2]
    assert [option for option in options if option.removeprefix("--") not in config] == []


def test_links_between_tutorials_lead_somewhere() -> None:
    for path in TUTORIALS:
        for target in re.findall(r"\]\(([^)#]+)(?:#\w+)?\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
