"""Nothing that is generated has drifted, in any bundle of the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from mdl_monai.release.check import check_card, check_flattened, check_metadata, check_no_code

ROOT = Path(__file__).parents[2]
BUNDLES = sorted(path.parent.parent for path in ROOT.glob("bundles/*/configs/train.json"))
RELEASED = [
    bundle for bundle in BUNDLES if (bundle / "configs" / "metadata.json").is_file()
]  # not in the making


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
class TestBundle:
    def test_flattened_configs_are_current(self, bundle: Path) -> None:
        assert check_flattened(bundle) == []

    def test_tables_of_the_card_are_current(self, bundle: Path) -> None:
        assert check_card(bundle) == []

    def test_there_is_no_code(self, bundle: Path) -> None:
        assert check_no_code(bundle) == []


@pytest.mark.parametrize("bundle", RELEASED, ids=lambda path: path.name)
def test_metadata_satisfies_the_schema(bundle: Path) -> None:
    assert check_metadata(bundle) == []
