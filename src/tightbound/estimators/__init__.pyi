from .bounds import cubo as cubo
from .bounds import renyi_bound as renyi_bound
from .comparison import Comparison as Comparison
from .weights import ess_fraction as ess_fraction
