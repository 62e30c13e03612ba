"""Nothing that is generated has drifted, in any bundle of the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from mdl_monai.release.check import check_card, check_flattened, check_metadata, check_no_code

BUNDLES = sorted(
    path.parent.parent for path in Path(__file__).parents[2].glob("bundles/*/configs/metadata.json")
)


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
class TestBundle:
    def test_flattened_configs_are_current(self, bundle: Path) -> None:
        assert check_flattened(bundle) == []

    def test_tables_of_the_card_are_current(self, bundle: Path) -> None:
        assert check_card(bundle) == []

    def test_metadata_satisfies_the_schema(self, bundle: Path) -> None:
        assert check_metadata(bundle) == []

    def test_there_is_no_code(self, bundle: Path) -> None:
        assert check_no_code(bundle) == []
