"""Model how the refined body moves: fulcrum, covariance, principal motions."""
