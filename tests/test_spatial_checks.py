import numpy as np
import pytest

from skvae.spatial.checks import check_morphology


@pytest.mark.parametrize(
    ("morphology", "message"),
    [
        (np.ones(3), "shape"),
        (np.ones((2, 2)), "morphology has 2 rows, but there are 3 spots"),
        (np.ones((3, 5)), "5 columns, but had 2 in fit"),
        ([[1, np.nan], [0, 0], [0, 0]], "morphology holds NaN"),
    ],
)
def test_bad_image_features_are_named(morphology, message):
    with pytest.raises(ValueError, match=message):
        check_morphology(morphology, 3, 2)
