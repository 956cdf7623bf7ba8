"""How the site is built: ``python dev.py docs``.

The reference pages say where a group of names stands by a line ``<!-- names: GROUP -->``, which
`insert_names` replaces. Whatever is public and in no group comes under ``other``, and a public name
that the built site does not document is a warning, which ends the build.
"""

import inspect
import re
import sys
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

import raddle

sys.path.insert(0, str(Path(__file__).parent))
from reference_groups import documented, groups

project = "raddle"
author = "the raddle developers"
release = version = raddle.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["requirements.txt"]
html_theme = "furo"
html_title = f"raddle {release}"
html_show_copyright = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
# The pages of other folders, which are included, have links to files that the site does not have.
suppress_warnings = ["myst.xref_missing"]

# What a docstring names is a link if the reference has it.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_rtype = False
# Doctests stay as they are: what they show is that they run.
trim_doctest_flags = True
pygments_style = "friendly"
pygments_dark_style = "monokai"

#: What Python's own documentation has.
PARENTS = "object, Mapping, Iterator, AsyncIterator, Generic"
CONSTANTS = {
    "FIRST_COMPLETED": "For `wait`: until one future is completed.",
    "FIRST_EXCEPTION": "For `wait`: until one has failed, or all are completed.",
    "ALL_COMPLETED": "For `wait`: until all are completed.",
}
MARK = re.compile(r"^<!-- names: (\w+) -->$", re.MULTILINE)


def directive(name: str) -> str:
    """Return the lines that document one public name."""
    thing = getattr(raddle, name)
    if not callable(thing):
        return f".. py:data:: {name}\n   :module: raddle\n\n   {CONSTANTS[name]}\n"
    if not inspect.isclass(thing):
        return f".. autofunction:: raddle.{name}\n"
    if issubclass(thing, BaseException):
        return f".. autoexception:: raddle.{name}\n"
    return f".. autoclass:: raddle.{name}\n   :members:\n   :inherited-members: {PARENTS}\n"


def insert_names(app: Sphinx, page: str, source: list[str]) -> None:
    """Put the public names of a group in the place of its mark."""

    def names(mark: re.Match[str]) -> str:
        lines = "\n".join(map(directive, groups(raddle.__all__)[mark[1]]))
        return f"```{{eval-rst}}\n{lines}\n```"

    if page.startswith("reference/"):
        source[0] = MARK.sub(names, source[0])


def miss_names(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of public names that the site does not document."""
    found = env.domaindata["py"]["objects"]
    for name in documented(raddle.__all__):
        if f"raddle.{name}" not in found:
            logging.getLogger(__name__).warning("the reference lacks raddle.%s", name)


def setup(app: Sphinx) -> None:
    """Tell Sphinx what to call when."""
    app.connect("source-read", insert_names)
    app.connect("env-check-consistency", miss_names)
