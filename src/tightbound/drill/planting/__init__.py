"""How a setup that is right is made wrong: the ways the catalogue's faults are planted.

Each works on a setup as a whole, in the run and in its twin, and leaves alone what the doctor is
told: the claim, the baselines.
"""

from tightbound.drill.planting.evaluators import divided_by_rows as divided_by_rows
from tightbound.drill.planting.evaluators import evaluated_with_dropout as evaluated_with_dropout
from tightbound.drill.planting.evaluators import mean_over_pixels as mean_over_pixels
from tightbound.drill.planting.evaluators import normaliser_discarded as normaliser_discarded
from tightbound.drill.planting.evaluators import thresholded as thresholded
from tightbound.drill.planting.evaluators import whole_batches_alone as whole_batches_alone
from tightbound.drill.planting.evaluators import with_evaluation as with_evaluation
from tightbound.drill.planting.evaluators import without_kl as without_kl
from tightbound.drill.planting.models import Changed as Changed
from tightbound.drill.planting.models import NarrowProposal as NarrowProposal
from tightbound.drill.planting.models import VarianceForScale as VarianceForScale
from tightbound.drill.planting.models import blind as blind
from tightbound.drill.planting.models import density_averaged as density_averaged
from tightbound.drill.planting.models import large_heads as large_heads
from tightbound.drill.planting.models import wide_prior as wide_prior
from tightbound.drill.planting.models import with_model as with_model
from tightbound.drill.planting.models import with_proposal as with_proposal
from tightbound.drill.planting.models import with_score as with_score
from tightbound.drill.planting.objectives import all_real as all_real
from tightbound.drill.planting.objectives import batch_statistics as batch_statistics
from tightbound.drill.planting.objectives import kl as kl
from tightbound.drill.planting.objectives import log_q_per_position as log_q_per_position
from tightbound.drill.planting.objectives import padding_counted as padding_counted
from tightbound.drill.planting.objectives import standard_kl as standard_kl
from tightbound.drill.planting.objectives import stop_draw as stop_draw
from tightbound.drill.planting.objectives import with_closed_kl as with_closed_kl
from tightbound.drill.planting.objectives import with_value as with_value
from tightbound.drill.planting.optimisers import accumulating as accumulating
from tightbound.drill.planting.optimisers import clipping as clipping
from tightbound.drill.planting.optimisers import dropping as dropping
from tightbound.drill.planting.optimisers import forgetting_every as forgetting_every
from tightbound.drill.planting.optimisers import freezing_proposal as freezing_proposal
from tightbound.drill.planting.optimisers import scaled as scaled
from tightbound.drill.planting.optimisers import stopping_after as stopping_after
from tightbound.drill.planting.optimisers import with_optimiser as with_optimiser
from tightbound.drill.planting.splits import (
    held_out_sequences_in_training as held_out_sequences_in_training,
)
from tightbound.drill.planting.splits import inverted as inverted
from tightbound.drill.planting.splits import no_transform as no_transform
from tightbound.drill.planting.splits import repeated as repeated
from tightbound.drill.planting.splits import shift_labels as shift_labels
from tightbound.drill.planting.splits import validation_in_training as validation_in_training
from tightbound.drill.planting.splits import with_nan as with_nan
from tightbound.drill.planting.splits import with_split as with_split
