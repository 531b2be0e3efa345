"""Keys: what makes a step a different one."""

from __future__ import annotations

from controller.domain.inputs import validate_inputs
from tests.builders import A1, A2, release


def test_a_validation_is_of_one_artifact_and_one_release() -> None:
    """Two releases may have the same artifact in one store, and each keeps what was measured of its own servers."""
    mine = release().stable().build()
    assert validate_inputs(mine, A1) == validate_inputs(release().stable().version("v2").build(), A1)
    assert validate_inputs(mine, A1) != validate_inputs(mine, A2)
    assert validate_inputs(mine, A1) != validate_inputs(release().metadata(uid="another").stable().build(), A1)
