import tightbound.families.family

from .model import VRNN as VRNN
from .model import StepProposal as StepProposal
from .model_markov import DeepMarkovModel as DeepMarkovModel
from .model_population import ThetaLogistic as ThetaLogistic
from .model_volatility import StochasticVolatility as StochasticVolatility

FAMILY: tightbound.families.family.Family
