import tightbound.families.family

from .model_network import BayesianNetwork as BayesianNetwork
from .model_regression import BayesianLinearRegression as BayesianLinearRegression
from .model_regression import BayesianLogisticRegression as BayesianLogisticRegression
from .model_target import GaussianTarget as GaussianTarget
from .response import ClassResponse as ClassResponse
from .response import NormalResponse as NormalResponse
from .transport import Inference as Inference
from .transport import single_guide as single_guide
from .transport import stein_mixture as stein_mixture
from .transport import stein_transport as stein_transport
from .transport import svgd as svgd

FAMILY: tightbound.families.family.Family
