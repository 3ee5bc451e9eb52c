"""The state on a mesh: sharded as its parameters are, and split over the data axis too (ZeRO-1)."""

from jaxopt_suite.parallel._saved import check_saved as check_saved
from jaxopt_suite.parallel._state import Layout as Layout
from jaxopt_suite.parallel._state import explain as explain
from jaxopt_suite.parallel._state import init as init
from jaxopt_suite.parallel._state import state_sharding as state_sharding
