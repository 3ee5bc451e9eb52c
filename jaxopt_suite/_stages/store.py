"""How the slots of an optimizer are stored: in fewer bits than they are computed in."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxopt_suite._declare import Inner, wrapper
from jaxopt_suite._frame.line import Line
from jaxopt_suite._frame.stages import AnyStage, LeafStage
from jaxopt_suite._recipe.check import nearest, show
from jaxopt_suite._recipe.words import Count, Patterns, PowerOfTwo, Text
from jaxopt_suite._stages.write import PRECISION
from jaxopt_suite.state._codec import Kind, Storage
from jaxopt_suite.state._names import slot_names

SENTENCES = {
    "default": "storage of the slots that are not named and hold no weights.",
    "slots": 'storage of each slot by its name, such as `v="blockwise8"`; see `explain` for the names.',
    "min_size": "entries from which on a slot is stored otherwise.",
    "exclude": "regexes (`re.search` on a parameter's path) whose slots stay as they are.",
    "block": "entries of a block of `blockwise8`, along the last axis.",
    "seed": "of the rounding.",
}


@wrapper("StateDtype", home=PRECISION, sentences=SENTENCES)
def state_dtype(
    optimizer: Inner,
    default: Kind | None = None,
    *,
    min_size: Count = 4096,
    exclude: Patterns = (),
    block: PowerOfTwo = 256,
    seed: Count = 0,
    name: Text | None = None,
    **slots: Kind,
) -> Line:
    """Stores the slots of an optimizer in fewer bits; its arithmetic stays float32.

    `"bfloat16"` takes 2 bytes an entry. `"blockwise8"` takes one, and two more for each block of the last axis: its
    scale `S`, the power of two at or above the block's largest entry. A code is a level `S 2^-e (1 + k / 2^b)`: 16
    levels an octave at the top and 4 further down, over 27 octaves for slots that are never negative (`v`), and
    over 16 and a sign for others (`m`). Levels are within 3 % of a number at the top, and 12 % further down.

    What is stored is rounded up or down by chance, so that its mean is right and averages as slow as `beta_2 = 0.999`
    do not stall; a `v` that is not zero is never stored as zero. The chance is a hash of `seed`, the parameter's path,
    the step and the index in the whole array. Slots that hold weights (averages, slow weights, a master copy)
    are not touched by `default`; name one to store it so. A composition's members are all stored so.

    Raises:
      TypeError, ValueError: if a slot does not exist, is no array of each parameter, or is stored otherwise already.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.precision.state_dtype(jos.adam(), m="blockwise8", v="blockwise8")
    >>> tx.explain({"bias": jnp.zeros(768), "kernel": jnp.zeros((768, 768))})
    state_dtype(adam(), m='blockwise8', v='blockwise8')
    parameter  shape       dtype    rule  rate   decay  slots             state
    bias       (768,)      float32  adam  0.001  off    m, v              6.0 KiB
    kernel     (768, 768)  float32  adam  0.001  off    m, v blockwise8  1.1 MiB
    2 parameters of 590592 elements: 2.3 MiB, state 1.1 MiB

    Reference: Dettmers et al., 8-bit optimizers via block-wise quantization, ICLR 2022, whose codes are looked up.
    """
    asked = _Asked(default, slots, Storage({}, min_size, tuple(exclude), block, seed))
    line = asked.stored(optimizer.line)
    asked.check(optimizer.name)
    return line


@dataclasses.dataclass
class _Asked:
    """What was asked for, and what it met on the way through the stages.

    Attributes:
      default, slots: see `state_dtype`.
      storage: what all stages have in common.
      found: the names of the slots that there are.
      reached: of those that are stored as asked.
    """

    default: str | None
    slots: Mapping[str, str]
    storage: Storage
    found: set[str] = dataclasses.field(default_factory=set)
    reached: set[str] = dataclasses.field(default_factory=set)

    def stored(self, line: Line) -> Line:
        """The line with its slots stored so, and those of its members."""
        names = slot_names({key: stage.layout.fields for key, stage in line.keyed})
        stages = tuple(self._stage(stage, {f: names[key, f] for f in _arrays(stage)}) for key, stage in line.keyed)
        members = None if line.members is None else line.members.each(self.stored)
        return dataclasses.replace(line, stages=stages, members=members)

    def _stage(self, stage: AnyStage, names: Mapping[str, str]) -> AnyStage:
        self.found |= {*names.values()}
        if not isinstance(stage, LeafStage):
            named = next((name for name in names.values() if name in self.slots), None)
            if named is not None:
                raise TypeError(f"state_dtype: {named} adds gradients up, and stays float32; name other slots.")
            return stage
        weights = getattr(stage.layout.slots, "holds_weights", ())
        asked = {f: self.slots.get(name, None if f in weights else self.default) for f, name in names.items()}
        kinds = {f: kind for f, kind in asked.items() if kind is not None}
        self.reached |= {names[f] for f in kinds}
        if kinds and stage.storage is not None:
            raise TypeError("state_dtype: the optimizer stores slots otherwise already: name all of them in one call.")
        return dataclasses.replace(stage, storage=dataclasses.replace(self.storage, kinds=kinds)) if kinds else stage

    def check(self, owner: str) -> None:
        known = f"the slots are {sorted(self.found)}" if self.found else "it has none"
        unknown = next((name for name in self.slots if name not in self.found), None)
        if unknown is not None:
            near = nearest(unknown, self.found)
            raise ValueError(f"state_dtype: {owner} has no slot {show(unknown)}; {known}.{near}")
        if not self.reached:
            raise ValueError(
                f"state_dtype: nothing of {owner} is stored otherwise; {known}, and a default leaves alone what holds "
                'weights. Name a slot, as in v="blockwise8".'
            )


def _arrays(stage: AnyStage) -> list[str]:
    """The slots of a stage that are an array of each parameter, or of some."""
    layout = stage.layout
    if layout.slots is None:
        return []
    row = layout.row(jax.ShapeDtypeStruct((2, 2), jnp.float32))
    given = [field for field in layout.fields if getattr(row, field) is not None or field in layout.partial]
    return [field for field in given if field not in layout.shared]
