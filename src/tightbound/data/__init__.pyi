from .baselines.tokens import token_references as token_references
from .points import Points as Points
from .points import PointSet as PointSet
from .sequences import Sequence as Sequence
from .strokes import Strokes as Strokes
from .token_corpora import Corpus as Corpus
