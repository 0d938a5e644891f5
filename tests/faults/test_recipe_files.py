"""Recipes that are spoilt: a recipe, or a line."""

from tests.faults.foreign import Outcomes, nobody_called, spoilt
from tests.faults.share import some

from thalweg.recipes._recipe import FOLDER, read_recipe


def test_spoilt_recipes_are_read_or_refused(tmp_path):
    outcomes, files = Outcomes(tmp_path / "canary"), sorted(FOLDER.glob("*.toml"))
    with nobody_called():
        for seed in some(range(200)):
            path = tmp_path / f"{seed}.toml"
            path.write_bytes(spoilt(files[seed % len(files)].read_bytes(), seed))
            outcomes.of(seed, lambda path=path: read_recipe(path))
    assert outcomes.wrong == []
    assert outcomes.refused
