"""Settings of Sphinx for the site; `python -m website` makes its source folder and calls it."""

import tomllib

from website.navigation import ROOT

project = "Faregate"
author = "the authors of Faregate"
release = version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
    "version"
]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton", "website.docstrings"]
root_doc = "index"
#: Blocks without a language are shown as they are.
highlight_language = "none"
#: JSON with an ellipsis, or SQL of one dialect, is for people.
suppress_warnings = ["misc.highlighting_failure"]

#: Pages are CommonMark with the tables and lists of a git host: nothing of MyST's own.
myst_disable_syntax = ["myst_block_break", "myst_line_comment", "myst_target", "myst_role"]
myst_enable_extensions = ["strikethrough", "tasklist"]
myst_heading_anchors = 4

#: Docstrings write code in single backticks.
default_role = "code"
autoclass_content = "both"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
maximum_signature_line_length = 80

html_theme = "furo"
#: The default underlines names.
pygments_dark_style = "a11y-high-contrast-dark"
html_title = "Faregate"
html_favicon = "static/icon.svg"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_copy_source = False
html_show_sourcelink = False
html_domain_indices = False
html_show_copyright = False
#: The prompt is not copied, nor is what a command prints.
copybutton_prompt_text = "$ "
