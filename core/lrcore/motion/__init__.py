"""Model how a body moves over all particles: covariance of the motion, fulcrum, principal motions.

- `model`: the Gaussian of motions, what an image says about it, and the fulcrum.
- `fit`: maximum-likelihood fit of mean, covariance and outlier class.
- `anisotropy`: test and shrinkage of the differences between axes.
- `principal`: principal motions about the fulcrum, and each particle's coordinates on them.
"""
