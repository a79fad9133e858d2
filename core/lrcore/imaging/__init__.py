"""Describe how a particle becomes an image: Fourier grids and filters, rotations, poses, CTF, aberrations, symmetry."""
