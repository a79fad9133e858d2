"""Sphinx configuration. `make docs` builds docs/_build/html without a network."""

import sys
from pathlib import Path

import lrwidgets

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "lrwidgets"
author = "lrwidgets developers"
copyright = author  # without a year: a build depends on the sources alone
version = release = lrwidgets.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_nb",
    "sphinx_design",
    "api_pages",
    "notebook_pages",
    "offline_check",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_extensions", "_templates", "notebooks/*/**", "api/packages.md"]
nitpicky = True
suppress_warnings = ["myst.xref_ambiguous"]

# Markdown
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

# Docstrings
default_role = "code"  # single backticks are code, as in Markdown
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
numpydoc_show_class_members = False

# Notebooks are executed; outputs are kept until a notebook or a source file changes (see notebook_pages).
nb_execution_mode = "cache"
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_ipywidgets_js = {}  # widgets are shown as pictures: their JavaScript would come from a CDN
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]
nb_merge_streams = True

# HTML
html_theme = "pydata_sphinx_theme"
html_title = "lrwidgets"
html_static_path = ["_static"]
html_css_files = ["lrwidgets.css"]
html_favicon = "_static/logo.svg"
html_show_sourcelink = False
html_copy_source = False
html_context = {"default_mode": "auto"}
html_sidebars = {"index": [], "get-started": [], "changelog": []}
html_theme_options = {
    "logo": {"text": "lrwidgets", "image_light": "_static/logo.svg", "image_dark": "_static/logo.svg"},
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "show_toc_level": 2,
    "secondary_sidebar_items": {"[!n]**": ["page-toc"], "napari": ["page-toc"], "notebooks**": [], "contributing": []},
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
