"""The records of a folder by a CSV file: which files, of which class, whose, in which split.

file,label,person,split
scans/0001.png,healthy,p17,train
scans/0002.png,ill,p17,train
scans/0003.png,ill,p4,test
"""

import collections
import csv
import dataclasses
import io
import os
import pathlib

from tfdps import checks
from tfdps.config import text_files
from tfdps.data import folder_files, image_files

_FILE, _LABEL, _PERSON, _SPLIT = "file", "label", "person", "split"
_COLUMNS = (_FILE, _LABEL, _PERSON, _SPLIT)
_MOST_NAMED = 5  # of the lines that are wrong


def listing(path, csv_path, *, split="train", labelled=True, class_names=None):
    """Returns the folder_files.Listing of a folder, by a CSV file, in the file's order.

    Classes are in natural order of their names (2 before 10). Rows of other splits are left out; where
    there is no column split, all rows are of train.

    Args:
      path: the folder.
      csv_path: of the CSV file: UTF-8, commas, a first line with the columns' names. "file" is a path
        below the folder; "label" the class; "person", which is optional, whose picture it is, any text.
      split: whose rows to take.
      labelled: False: all records are one class, and no column label is read.
      class_names: the declared classes, of which some may have no record; None where none are.

    Raises:
      UsageError: there is no such file, or lines are wrong: all of them counted, the first named.
    """
    folder = folder_files.folder_at(path)
    columns, rows = _read(csv_path, labelled)
    left_out = collections.Counter()
    if _SPLIT in columns:
        splits = sorted({row[_SPLIT] for _, row in rows})
        if split not in splits:
            raise checks.UsageError(
                f"split must be one of {checks.listed(splits)}, as {csv_path} has them; received "
                f"{split!r}."
            )
    else:
        checks.one_of("split", split, ("train",))
    chosen = [row for _, row in rows if row.get(_SPLIT, split) == split]
    others = [row for _, row in rows if row.get(_SPLIT, split) != split]
    if others:
        left_out["of other splits"] = len(others)
    for name in columns:
        if name not in _COLUMNS or (name == _LABEL and not labelled):
            left_out[f"column {name!r}"] = 1
    _check_rows(folder, csv_path, rows)
    _count_others(folder, csv_path, rows, left_out)
    found = _listed(folder, chosen, columns, left_out, labelled, class_names)
    if not others:
        return found
    unread = _listed(folder, others, columns, {}, False, (folder.name,))
    return dataclasses.replace(found, others=unread)


def _listed(folder, chosen, columns, left_out, labelled, class_names):
    if labelled:
        found = {row[_LABEL] for row in chosen} | set(class_names or ())
        names = tuple(sorted(found, key=folder_files.natural))
    else:
        names = (folder_files.only_name(class_names) or folder.name,)
    number = {name: k for k, name in enumerate(names)}
    return folder_files.Listing(
        folder,
        names,
        [folder / row[_FILE] for row in chosen],
        [number[row[_LABEL]] if labelled else 0 for row in chosen],
        dict(left_out),
        [row[_PERSON] for row in chosen] if _PERSON in columns else None,
    )


def _read(path, labelled):
    """(names of the columns, [(line number, {column: text})])."""
    needed = (_FILE, _LABEL) if labelled else (_FILE,)
    lines = csv.reader(io.StringIO(text_files.read(path, "labels_csv"), newline=""), strict=True)
    rows, wrong = [], []
    try:
        columns = [name.strip() for name in next(lines, [])]
        missing = [name for name in needed if name not in columns]
        if missing or len(set(columns)) < len(columns):
            raise checks.UsageError(
                f"labels_csv must begin with a line of columns, different names with commas between, "
                f"{' and '.join(needed)} among them; received {','.join(columns)!r} in {path}."
            )
        for values in lines:
            if not "".join(values).strip():
                continue
            row = {name: value.strip() for name, value in zip(columns, values, strict=False)}
            empty = [name for name in _COLUMNS if row.get(name) == ""]
            if len(values) != len(columns):
                wrong.append(f"line {lines.line_num} has {len(values)} values")
            elif empty and not (empty == [_LABEL] and not labelled):
                wrong.append(f"line {lines.line_num} has no {checks.listed(empty)}")
            rows.append((lines.line_num, row))
    except csv.Error as error:
        raise checks.UsageError(f"labels_csv {path}, line {lines.line_num}: {error}.") from error
    _refuse(path, wrong, f"each line must have the {len(columns)} columns of the first")
    if not rows:
        raise checks.UsageError(f"labels_csv {path} has no line but the first.")
    return columns, rows


def _check_rows(folder, path, rows):
    """Refuses files that are not there, are no images by their ending, or come twice."""
    seen, wrong = {}, []
    for line, row in rows:
        name = os.path.normpath(row[_FILE])
        file = folder / name
        if os.path.isabs(name) or name.startswith(".."):
            wrong.append(f"line {line}: {name} is no path below the folder")
        elif name in seen:
            wrong.append(f"line {line}: {name} is in line {seen[name]} already")
        elif not file.is_file():
            wrong.append(f"line {line}: there is no {name}")
        elif not image_files.is_image(file):
            wrong.append(f"line {line}: {name} is no image by its ending")
        row[_FILE] = name
        seen.setdefault(name, line)
    _refuse(path, wrong, f"files must be images below {folder}, each once")


def _refuse(path, wrong, rule):
    if not wrong:
        return
    more = f"; and {len(wrong) - _MOST_NAMED} more" if len(wrong) > _MOST_NAMED else ""
    raise checks.UsageError(
        f"labels_csv {path}: {rule}; received {'; '.join(wrong[:_MOST_NAMED])}{more}."
    )


def _count_others(folder, path, rows, left_out):
    """Counts what lies in the folder and is in no row."""
    named, beside = {folder / row[_FILE] for _, row in rows}, collections.Counter()
    for file in folder_files.images_below(folder, beside):
        if file not in named:
            left_out[f"{file.suffix.lower()} not in {os.path.basename(path)}"] += 1
    if pathlib.Path(os.path.abspath(os.path.expanduser(path))).is_relative_to(folder):
        beside[".csv"] -= 1  # the file itself
    left_out.update({what: count for what, count in beside.items() if count > 0})
