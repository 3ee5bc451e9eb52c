"""How closely each optimizer reproduces which library, as the rows say: for the README and the documentation."""

from rows import ROWS

LIBRARIES = {
    "keras3": "Keras 3",
    "tf_keras": "tf.keras",
    "legacy": "tf.keras legacy",
    "tf_addons": "TF Addons",
    "torch": "PyTorch",
}


def table():
    """One line per row: its name, its name in configs, its source, its largest tolerance for each library."""
    heads = ["optimizer", "in configs", "from", *LIBRARIES.values()]
    lines = [heads, ["---"] * len(heads)]
    for row in ROWS:
        agreed = [agreement(row, library) for library in LIBRARIES]
        lines.append([f"`{row.name}`", f"`{row.make.class_name}`", row.source, *agreed])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def agreement(row, library):
    """The largest tolerance of the settings recorded from a library; empty where there is none."""
    tolerances = [variant.tolerance for variant in recorded(row, library)]
    return f"{max(tolerances):.0e}".replace("e-0", "e-") if tolerances else ""


def recorded(row, library):
    return [v for v in row.variants if v.reference and v.reference.startswith(f"{library}/")]
