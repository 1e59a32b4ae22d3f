"""What the rows of a file say of gain and offset: the likelihood that a search for their scatter climbs."""

import numpy as np
import pytest

from calibration.response.residuals import Likelihood, Reduced


def test_slopes_of_the_likelihood_are_its_differences():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(50, 2, 4))
    rows = Reduced(
        np.arange(50.0), 3 * root @ root.swapaxes(1, 2), 2 * rng.normal(size=(50, 2)), 20 + rng.random(50), 4
    )
    covariance = np.tile(0.01 * np.eye(2) + 0.002, (50, 1, 1))
    likelihood = Likelihood(rows, 0.1 * rng.normal(size=(50, 2)), covariance)
    gain, offset, factor, h = 0.05, 0.02, 1.3, 1e-6
    value, slopes = likelihood.sloped((gain, offset), factor)
    assert value == likelihood((gain, offset), factor)
    differences = [
        likelihood((gain + h, offset), factor) - likelihood((gain - h, offset), factor),
        likelihood((gain, offset + h), factor) - likelihood((gain, offset - h), factor),
        likelihood((gain, offset), factor * np.exp(h)) - likelihood((gain, offset), factor * np.exp(-h)),
    ]
    assert slopes == pytest.approx(np.array(differences) / (2 * h), rel=1e-6)
