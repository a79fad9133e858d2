from .atoms import density_of_atoms
from .data_set import FlexibleParticle, random_rotations, simulate_flexible_particle, simulate_noise_particles
from .image_truth import JUNK_KINDS, ImageTruth
from .images import project
from .phantom import Phantom, SimulatedMotion, make_two_body_phantom
from .realism import REALISTIC, REALISTIC_SET, Realism

__all__ = [
    "JUNK_KINDS",
    "REALISTIC",
    "REALISTIC_SET",
    "FlexibleParticle",
    "ImageTruth",
    "Phantom",
    "Realism",
    "SimulatedMotion",
    "density_of_atoms",
    "make_two_body_phantom",
    "project",
    "random_rotations",
    "simulate_flexible_particle",
    "simulate_noise_particles",
]
