"""What the build of the documentation adds: texts from other files, and the tables of all flags.

A comment `<!-- include: PATH -->` in a page stands for the text of a file, and
`<!-- include: PATH NAME -->` for what stands in it between `<!-- begin NAME -->` and
`<!-- end NAME -->`; PATH is relative to the page. Links in the text are made relative to the page.
A link to a picture outside docs/ puts the picture into the site. Other links that leave docs/ become
plain text, since the site does not have those files. Links of notebooks to pages, which their plugin
leaves as they are, lead to the pages.

`<!-- flags: RunConfig -->` stands for a table of a dataclass of settings, `<!-- flags: other -->`
for the flags that belong to a mode.
"""

import dataclasses
import logging
import os
import pathlib
import re
import sys
import typing

ROOT = pathlib.Path(__file__).parents[1]
if str(ROOT) not in sys.path:  # this checkout, whatever is installed; MkDocs restores the path
    sys.path.insert(0, str(ROOT))

from absl import flags as absl_flags  # noqa: E402

from tfdps.config import evaluation_options, flags, run_config  # noqa: E402

_INCLUDE = re.compile(r"<!-- include: (\S+?)(?: (\w+))? -->")
_FLAGS = re.compile(r"<!-- flags: (\w+) -->")
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#:]+)(#[^)\s]*)?\)")
_PAGE_LINK = re.compile(r'href="([^":#]+\.(?:md|ipynb))(#[^"]*)?"')
_PICTURES = (".png", ".svg")
_RESUME = {
    "guarantee": "no: it enters the guarantee",
    "model": "no: it shapes the generator",
    "free": "yes",
}


def on_page_markdown(markdown, page, config, files):
    """Returns the Markdown of a page with what its comments stand for; MkDocs calls it."""
    source = pathlib.Path(page.file.abs_src_path)
    if source.suffix != ".md":
        return markdown
    text = with_includes(markdown, source)
    text = _FLAGS.sub(lambda match: flags_table(match[1]), text)
    return _LINK.sub(lambda match: _inside(match, source, config, files), text)


def on_page_content(html, page, config, files):
    """Returns the HTML of a notebook with links to pages; MkDocs calls it for each page."""
    if not page.file.src_uri.endswith(".ipynb"):
        return html
    from mkdocs.utils import get_relative_url  # tests of the tables do without MkDocs

    folder = os.path.dirname(page.file.src_uri)

    def link(match):
        target, anchor = match.groups(default="")
        file = files.get_file_from_path(os.path.normpath(os.path.join(folder, target)))
        if file is None:
            message = "'%s' links to '%s', which is no page."  # an error of a strict build
            logging.getLogger("mkdocs.hooks").warning(message, page.file.src_uri, target)
            return match[0]
        return f'href="{get_relative_url(file.url, page.url)}{anchor}"'

    return _PAGE_LINK.sub(link, html)


def with_includes(markdown, source):
    """Returns the text of a page, a pathlib.Path, with the files that it includes."""
    return _INCLUDE.sub(lambda match: _included(source, *match.groups()), markdown)


def _included(source, path, name):
    file = (source.parent / path).resolve()
    text = file.read_text(encoding="utf-8")
    if name:
        text = text.split(f"<!-- begin {name} -->\n")[1].split(f"<!-- end {name} -->")[0]

    def relative(match):
        picture, label, target, anchor = match.groups(default="")
        target = os.path.relpath(file.parent / target, source.parent).replace(os.sep, "/")
        return f"{picture}[{label}]({target}{anchor})"

    return _LINK.sub(relative, text)


def _inside(match, source, config, files):
    """A link of a page, so that it leads to something that the site has."""
    picture, label, target, anchor = match.groups(default="")
    path = (source.parent / target).resolve()
    if path.is_relative_to(ROOT / "docs") or not path.exists():
        return match[0]  # a strict build refuses what does not exist
    if path.suffix not in _PICTURES:
        return label
    from mkdocs.structure.files import File

    name = "pictures/" + str(path.relative_to(ROOT)).replace(os.sep, "-")
    if files.get_file_from_path(name) is None:
        files.append(File.generated(config, name, abs_src_path=str(path)))
    up = "../" * (len(source.relative_to(ROOT / "docs").parts) - 1)
    return f"{picture}[{label}]({up}{name}{anchor})"


def flags_table(name):
    """Returns the flags of RunConfig, EvaluationOptions or a mode ("other") as a Markdown table."""
    if name == "other":
        return _other_flags()
    settings = {
        "RunConfig": run_config.RunConfig,
        "EvaluationOptions": evaluation_options.EvaluationOptions,
    }[name]
    resumed = name == "RunConfig"
    rows = ["| flag | type | default | meaning |" + (" changed on resuming |" if resumed else "")]
    rows.append("|---|---|---|---|" + ("---|" if resumed else ""))
    for field in dataclasses.fields(settings):
        cells = [f"`--{field.name}`", _type(field.type), _default(field.default), _meaning(field)]
        if resumed:
            cells.append(_RESUME[field.metadata["resume"]])
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _meaning(field):
    text, choices = _cell(field.metadata["help"]), field.metadata.get("choices")
    if choices:
        text += " One of " + ", ".join(f"`{choice}`" for choice in choices) + "."
    return text


def _other_flags():
    """The flags that are in no dataclass, as the command line defines them."""
    values = absl_flags.FlagValues()
    flags._define(values)
    known = {
        field.name
        for settings in (run_config.RunConfig, evaluation_options.EvaluationOptions)
        for field in dataclasses.fields(settings)
    }
    rows = ["| flag | type | default | meaning |", "|---|---|---|---|"]
    for flag in values.flags_by_module_dict()["tfdps"]:
        if flag.name not in known:
            text, choices = (
                _cell(flag.help.split(">: ")[-1]),
                getattr(flag.parser, "enum_values", None),
            )
            if choices:
                text += " One of " + ", ".join(f"`{choice}`" for choice in choices) + "."
            kind = {"string enum": "text", "string": "text", "int": "integer"}[flag.flag_type()]
            rows.append(f"| `--{flag.name}` | {kind} | {_default(flag.default)} | {text} |")
    return "\n".join(rows)


def _type(annotation):
    kinds = {str: "text", int: "integer", float: "number", bool: "yes or no"}
    for kind in (*typing.get_args(annotation), annotation):
        if kind in kinds:
            return kinds[kind]
    raise TypeError(f"no name for the type {annotation}")


def _default(value):
    if value is None:
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _cell(text):
    """A text that may stand in a cell of a table."""
    for character in "|*<":
        text = text.replace(character, "\\" + character)
    return text
