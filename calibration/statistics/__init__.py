"""Statistics without optics: covariance, choice of structure, drift, random walks, differences, tensors on disk."""
