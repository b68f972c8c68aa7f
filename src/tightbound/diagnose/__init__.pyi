from .examined import Examined as Examined
from .examined import examine_steps as examine_steps
from .examined import examine_weights as examine_weights
from .finding import Cause as Cause
from .laws.gather import gather_laws as gather_laws
from .watch import gather as gather
from .watch import verdict as verdict
