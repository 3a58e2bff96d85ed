"""Sphinx's settings. `docs/build.py` lays the sources out and calls Sphinx."""

import re

import lstm_numba

project = "lstm_numba"
author = "the lstm_numba authors"
release = version = lstm_numba.__version__
html_title = "lstm_numba"

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # formulas are set without a network
    "sphinx_copybutton",
]
nitpicky = False
default_role = "py:obj"  # names in docstrings, as links where there is a page

# Notebooks are executed by `make notebooks`; the site shows what is stored.
nb_execution_mode = "off"
nb_mime_priority_overrides = [("html", "text/html", 0)]  # pictures with their alternative text
nb_render_markdown_format = "myst"
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 4

numpydoc_show_class_members = False
autodoc_member_order = "bysource"
add_module_names = False
autodoc_preserve_defaults = True
autodoc_typehints = "none"  # numpydoc's sections say the types
autodoc_default_options = {"members": True, "inherited-members": False}

html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_sidebars = {"index": [], "explore": [], "figures": []}
html_show_sourcelink = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": True,
    "show_nav_level": 1,
    "navbar_align": "left",
    "secondary_sidebar_items": ["page-toc"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_context = {"default_mode": "auto"}


def readable(app, what, name, thing, options, lines):
    """Set indented formulas of a docstring as they stand, and take |x| for an absolute value, not for markup."""
    for number, line in enumerate(lines):
        following = next((each for each in lines[number + 1 :] if each.strip()), "")
        deeper = len(following) - len(following.lstrip()) >= len(line) - len(line.lstrip()) + 4
        if re.search(r"(?<!:):$", line) and lines[number + 1 : number + 2] == [""] and deeper:
            lines[number] = line + ":"
    if "|" in "".join(lines):
        lines[:] = [re.sub(r"(``.*?``)|\|", lambda match: match[1] or r"\|", line) for line in lines]


def setup(app):
    """Connect what is changed on the way."""
    app.connect("autodoc-process-docstring", readable, priority=900)  # after numpydoc
