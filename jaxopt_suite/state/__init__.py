"""Read and edit the state of an optimizer, wherever it is nested: in `optax.chain`, `TrainState`, `nnx.Optimizer`.

Every function takes any tree that holds a state of ours, and those that edit return a new tree. What they put in is a
copy, on the devices of the old, so that no step is compiled again. A slot's variable is called
`"<slot>/<path of its parameter>"`. Where a tree holds several optimizers of ours, `within` names one by its place, such
as `"bias|scale"` for the group of `by_path` with that regex, `"adam"` for the member of a chain, or `"1"` for the
second in an `optax.chain`; the beginning of a place may be left out, `""` is the outermost, and an error lists them.

`migrate` makes a state of another optimizer or other parameters from one; `to_dict` makes a flat dict of arrays that
says what it is, for any file.
"""

from jaxopt_suite.state._dict import from_dict as from_dict
from jaxopt_suite.state._dict import load_dict as load_dict
from jaxopt_suite.state._dict import save_dict as save_dict
from jaxopt_suite.state._dict import to_dict as to_dict
from jaxopt_suite.state._edit import get_slot as get_slot
from jaxopt_suite.state._edit import gradient_norm as gradient_norm
from jaxopt_suite.state._edit import iterations as iterations
from jaxopt_suite.state._edit import learning_rate as learning_rate
from jaxopt_suite.state._edit import metrics as metrics
from jaxopt_suite.state._edit import reset as reset
from jaxopt_suite.state._edit import set_learning_rate as set_learning_rate
from jaxopt_suite.state._edit import set_slot as set_slot
from jaxopt_suite.state._edit import slot_names as slot_names
from jaxopt_suite.state._edit import variables as variables
from jaxopt_suite.state._layout import Coded as Coded
from jaxopt_suite.state._layout import OptimizerState as OptimizerState
from jaxopt_suite.state._migrate import migrate as migrate
from jaxopt_suite.state._report import Migration as Migration
from jaxopt_suite.state._weights import get_weights as get_weights
from jaxopt_suite.state._weights import load_own_variables as load_own_variables
from jaxopt_suite.state._weights import load_weights as load_weights
from jaxopt_suite.state._weights import save_own_variables as save_own_variables
from jaxopt_suite.state._weights import save_weights as save_weights
from jaxopt_suite.state._weights import set_weights as set_weights
