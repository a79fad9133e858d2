from .atoms import density_of_atoms
from .data_set import FlexibleParticle, random_rotations, simulate_flexible_particle, simulate_noise_particles
from .images import project
from .phantom import Phantom, SimulatedMotion, make_two_body_phantom

__all__ = [
    "FlexibleParticle",
    "Phantom",
    "SimulatedMotion",
    "density_of_atoms",
    "make_two_body_phantom",
    "project",
    "random_rotations",
    "simulate_flexible_particle",
    "simulate_noise_particles",
]
