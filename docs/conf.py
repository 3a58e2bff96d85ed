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
exclude_patterns = ["downloads"]
suppress_warnings = ["ref.python"]  # a name of a field, such as state, that several classes have
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
html_favicon = "_static/icon.svg"
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
    shown = []
    literal = None  # the indent from which lines are set as they stand
    for line in lines:
        before = next((each for each in reversed(shown) if each.strip()), "")
        if line.strip() and literal is not None and indent(line) < literal:
            literal = None
        begins = shown and not shown[-1].strip() and line.strip() and indent(line) >= indent(before) + 4
        if begins and literal is None and not before.lstrip().startswith((":", "..", "*")):
            literal = indent(line)
            if re.search("[^:]:$", before):
                shown[-2] += ":"
            elif not before.endswith("::"):
                shown += [" " * indent(before) + "::", ""]
        if literal is None:
            line = re.sub(r"(``.*?``)|\|", lambda match: match[1] or r"\|", line)
        shown.append(line)
    lines[:] = shown


def indent(line):
    """Return how many spaces a line begins with."""
    return len(line) - len(line.lstrip())


def setup(app):
    """Connect what is changed on the way."""
    app.connect("autodoc-process-docstring", readable, priority=900)  # after numpydoc
