"""Sphinx: `make docs` builds the site into docs/_build/html."""

import os
import pathlib
import sys
import warnings

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # the pictures are of the same numbers everywhere
HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]
warnings.simplefilter("error", UserWarning)

import jaxopt_suite  # noqa: E402

project = "jaxopt_suite"
version = release = jaxopt_suite.__version__
author = "the maintainers of jaxopt_suite"
copyright = author

extensions = ["myst_parser", "_extension.site"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "_extension", "_static"]

smartquotes = False  # what stands in quotes is code

html_theme = "furo"
html_title = "jaxopt_suite"
html_static_path = ["_static"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sourcelink = False
html_use_index = False  # the search finds names
html_domain_indices = False
maximum_signature_line_length = 100
add_module_names = False
pygments_style = "friendly"
pygments_dark_style = "monokai"
