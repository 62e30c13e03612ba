from __future__ import annotations

import json
from pathlib import Path

import pytest

from mdl_monai.errors import InputError
from mdl_monai.io.plan import agreeing_plan, read_plan

PLAN = {"generator": "unet", "spacing": [1.0, 1.0, 1.0]}


def test_options_come_before_the_file_and_the_file_before_the_default(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(json.dumps({"spacing": [2, 2, 2]}))
    found = read_plan(tmp_path / "model.pt", PLAN, generator="resnet", spacing=None)
    assert found == {"generator": "resnet", "spacing": [2, 2, 2]}
    assert read_plan(tmp_path / "elsewhere" / "model.pt", PLAN, spacing="null") == PLAN


def test_further_weights_keep_their_own_plan_where_they_need_not_agree(tmp_path: Path) -> None:
    assert agreeing_plan(tmp_path / "reverse.pt", PLAN, ["spacing"]) == PLAN, "none beside them: the first's"
    (tmp_path / "plan.json").write_text(
        json.dumps({"generator": "resnet", "spacing": [1, 1, 1], "features": 8})
    )
    found = agreeing_plan(tmp_path / "reverse.pt", PLAN, ["spacing"])
    assert found == {"generator": "resnet", "spacing": [1, 1, 1], "features": 8}
    with pytest.raises(InputError, match=r"(?s)another generator.*plan\.json.*expected: unet.*found: resnet"):
        agreeing_plan(tmp_path / "reverse.pt", PLAN, ["spacing", "generator"])


@pytest.mark.parametrize("content", ["{", "5", "null", "[1]"])
def test_a_file_that_holds_no_plan_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(InputError, match=r"plan\.json is not valid JSON"):
        read_plan(tmp_path / "model.pt", PLAN)
