import tightbound.families.family

from .cells import GRU as GRU
from .cells import LSTM as LSTM
from .cells import SingleGate as SingleGate
from .cells import TanhCell as TanhCell
from .contexts import GPT as GPT
from .contexts import Recurrent as Recurrent
from .contexts import Window as Window
from .details import Details as Details
from .emissions import Components as Components
from .emissions import MatrixEmission as MatrixEmission
from .emissions import MixtureEmission as MixtureEmission
from .emissions import VectorEmission as VectorEmission
from .model import Dropout as Dropout
from .model import LanguageModel as LanguageModel
from .structure import Direct as Direct

FAMILY: tightbound.families.family.Family
