"""How closely each optimizer reproduces which library, as the rows say; and the list of all for the README."""

import textwrap

from rows import ROWS

LIBRARIES = {
    "keras3": "Keras 3",
    "tf_keras": "tf.keras",
    "legacy": "tf.keras legacy",
    "tf_addons": "TF Addons",
    "torch": "PyTorch",
}


def names():
    """All rows in the order of the table, in lines of at most 120 characters."""
    return textwrap.fill(" · ".join(f"`{row.name}`" for row in ROWS) + ".", 120, break_on_hyphens=False) + "\n"


def agreement(row, library):
    """The largest tolerance of the settings recorded from a library; empty where there is none."""
    tolerances = [variant.tolerance for variant in recorded(row, library)]
    return f"{max(tolerances):.0e}".replace("e-0", "e-") if tolerances else ""


def recorded(row, library):
    return [v for v in row.variants if v.reference and v.reference.startswith(f"{library}/")]
