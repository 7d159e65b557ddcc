"""Sphinx configuration."""

from importlib.metadata import version as installed_version

project = "skvae"
author = "the skvae developers"
copyright = f"2026, {author}"
version = release = installed_version("skvae")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "numpydoc",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_templates"]

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc's sections state the types
numpydoc_class_members_toctree = False
numpydoc_show_inherited_class_members = False

# Links into other projects' documentation. Off by default, so that the documentation builds
# without a network; `sphinx-build -t online` turns them on.
intersphinx_mapping = (
    {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "pandas": ("https://pandas.pydata.org/docs", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
    }
    if tags.has("online")  # noqa: F821 (sphinx puts `tags` here)
    else {}
)

html_theme = "pydata_sphinx_theme"
html_title = "skvae"
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False}
html_show_sourcelink = False
