import tightbound.families.family

from .deterministic import Halving as Halving
from .model import EditModel as EditModel
from .pruning import LeafPruning as LeafPruning
from .token_drop import TokenDrop as TokenDrop

FAMILY: tightbound.families.family.Family
