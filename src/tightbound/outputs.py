"""Output laws: p(x | network's result), of one position. Each stands in a module of `nn`."""

from tightbound.nn.discretised_output import DiscretisedLogisticOutput
from tightbound.nn.gaussian_outputs import (
    BivariateGaussianOutput,
    DiagonalGaussianOutput,
    FullGaussianOutput,
)
from tightbound.nn.mixture_output import MixtureOutput
from tightbound.nn.outputs import AbstractOutput, BernoulliOutput, GaussianOutput
from tightbound.nn.pen_output import PenOutput
from tightbound.nn.student_t_output import StudentTOutput

__all__ = [
    "AbstractOutput",
    "BernoulliOutput",
    "BivariateGaussianOutput",
    "DiagonalGaussianOutput",
    "DiscretisedLogisticOutput",
    "FullGaussianOutput",
    "GaussianOutput",
    "MixtureOutput",
    "PenOutput",
    "StudentTOutput",
]
