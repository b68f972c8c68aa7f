from . import kernels as kernels
from .predictive import posterior_draws as posterior_draws
from .predictive import predicted as predicted
from .predictive import predictive_draws as predictive_draws
from .smoothing import smooth as smooth
