"""The report page: one HTML file that says what a run made, and what it guarantees."""

import datetime
import hashlib
import logging
import math
import os
import pathlib
import shlex

import jinja2

from tfdps import checks, files
from tfdps.accounting import ledger
from tfdps.accounting.plan import make_plan
from tfdps.data import arrays
from tfdps.report import (
    audit_section,
    guarantee,
    pictures,
    plots,
    results,
    utility_section,
    wording,
)
from tfdps.samplers import saved_model_sampler
from tfdps.training import nonprivate
from tfdps.training.run_dir import RunDir

_logger = logging.getLogger(__name__)

_WIDE, _NARROW = (8.4, 3.9), (4.6, 4.2)  # inches: the plot on a desk and on a telephone
_BELIEFS = (0.01, 0.1, 0.5)
_FALSE_ALARMS = (0.001, 0.01, 0.1)


def write_report(model_dir: str | os.PathLike[str], *, public: bool = False) -> pathlib.Path:
    """Writes report/index.html, or public.html, of the run at `model_dir`, whole or not at all.

    The page needs nothing but itself: pictures and style are inside, nothing is loaded.

    Guarantee: with `public` the page, public.html, holds the export, the ledger's charges and
    public settings, so what epsilon covers, and figures from the literature. Without it, index.html
    has also what evaluation and audit computed from private records and the real images that
    evaluation left there, tagged nonprivate/, and this machine's paths.

    Args:
      model_dir: a run that has an export.
      public: make the page for sending on.

    Returns:
      pathlib.Path of the page.

    Raises:
      UsageError: no run, no export, a ledger, evaluation.json, audit.json or file of real images
        that is damaged or does not fit; `public` for a run without a guarantee, of tfdps 0.1, or
        whose audit found a violation.

    Examples:
      >>> import tfdps
      >>> config = tfdps.RunConfig(mechanism="joint", num_steps=20, model_dir="run")
      >>> card = tfdps.train(config)
      >>> tfdps.write_report("run").as_posix()
      'run/report/index.html'
    """
    run = RunDir(model_dir)
    config, spec, num_records = run.read()
    sampler = saved_model_sampler.load(run.root)
    plan = (
        ledger.read_plan(run.ledger)
        if config.private
        else make_plan(config, num_records, num_classes=spec.num_classes)
    )
    evaluation, audit = _measurements(run, sampler.card, public=public)
    if public:
        _refuse_false_claims(plan, audit)
        audit = None
    spent, privacy = _spent(run, plan, sampler.card)
    page = (
        _environment()
        .get_template("page.html.j2")
        .render(
            public=public,
            plan=plan,
            spec=spec,
            card=sampler.card,
            privacy=privacy,
            samples=pictures.sample_strips(sampler),
            real=None if public else _real(run, sampler),
            interpolations=pictures.interpolation_strips(sampler),
            spent=spent,
            plots=_plots(spent, plan),
            evaluation=evaluation,
            audit=audit,
            published=utility_section.comparison(spec, config.label, privacy["epsilon"]),
            commands={
                mode: results.command(mode, run.root, spec.name) for mode in ("evaluate", "audit")
            },
            passed=arrays.is_name(spec.name),
            command=_command(config, sampler.card, public=public),
            files=_files(run.export),
            page_date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        )
    )
    path = run.report / ("public.html" if public else "index.html")
    files.write_whole(path, page)
    _logger.info(f"Report  {path}")
    if public:
        _logger.info("Send this file, not its folder: evaluation and audit keep theirs there.")
    return path


def _spent(run, plan, card):
    """(Spending or None, the dict of the ledger's figures that the page shows)."""
    if not plan.private:
        return None, {"epsilon": math.inf, "steps": 0, "stages": []}
    charges, exported = run.charges(plan), card.steps
    total = sum(charge.steps for charge in charges)
    if exported > total:
        raise checks.UsageError(
            f"the export was made after {exported} noisy steps, but the ledger {run.ledger} covers "
            f"{total}: entries are missing from it. Restore it from a backup."
        )
    if not total:
        raise checks.UsageError(f"the ledger {run.ledger} has no steps. Train first.")
    if any(charge.sampling_probability < 1 for charge in charges):
        _logger.info("Drawing the report; a point of epsilon by PLD takes a second or more.")
    spent = plots.spending(charges, plan.delta)
    epsilon = spent.at_end[plan.accountant]
    return spent, {
        "epsilon": epsilon,
        "by": spent.at_end,
        "steps": total,
        "stages": guarantee.stages_spent(plan, total),
        "exported_steps": exported,
        "beliefs": [(before, guarantee.belief_at_most(epsilon, before)) for before in _BELIEFS],
        "recognised": [(f, guarantee.recognised_at_most(charges, f)) for f in _FALSE_ALARMS],
    }


def _measurements(run, card, *, public):
    """(the utility section or None, the audit section or None); a public page has no utility."""
    found = []
    for name, mode, view in (
        ("evaluation.json", "evaluate", utility_section.measured),
        ("audit.json", "audit", audit_section.measured),
    ):
        path, made_by = run.report / name, results.command(mode, run.root, card.dataset)
        content = None if public and mode == "evaluate" else results.read(path, made_by)
        if content is not None:
            with results.refusing_damage(path, made_by):
                content = view(content)
            content["outdated"] = results.is_older(content["created"], card.created)
        found.append(content)
    return found


def _real(run, sampler):
    """Strips of the real images that evaluation left; None where it left none."""
    found = nonprivate.read_real_images(run.report, sampler.image_shape)
    return None if found is None else pictures.real_strips(sampler, *found)


def _refuse_false_claims(plan, audit):
    if not plan.private:
        raise checks.UsageError(
            "report_public must be off for a run without a mechanism: no guarantee covers its "
            "images, so there is nothing to send on. Train with --mechanism=joint, or leave it out."
        )
    if plan.noise is None:
        raise checks.UsageError(
            "report_public must be off for a run of tfdps 0.1: its noise was not Gaussian, so the page "
            "would claim what does not hold. Train again, in a new --model_dir."
        )
    if audit is not None and audit["violated"]:
        raise checks.UsageError(
            "report_public must be off for this run: its audit found a violation, so the page would "
            "claim what does not hold. The full page has the audit's findings."
        )


def _plots(spent, plan):
    """{"wide": svg, "narrow": svg}, or None without a mechanism."""
    if spent is None:
        return None
    return {
        name: plots.epsilon_svg(
            spent, target=plan.target_epsilon, width=width, height=height, prefix=name
        )
        for name, (width, height) in (("wide", _WIDE), ("narrow", _NARROW))
    }


def _command(config, card, *, public):
    """The command that made the run; the public one as the model card has it, without paths.

    Of a run whose records a program passed it has the settings all the same.
    """
    flags = card.flags if public else config.to_flags().splitlines()
    parts = ["python -m tfdps.launch", *(shlex.quote(flag) for flag in flags)]
    return " \\\n    ".join(parts)


def _files(export):
    """[(path within the export, size in bytes, sha256)] of every file, in order."""
    return [
        (
            path.relative_to(export).as_posix(),
            path.stat().st_size,
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in sorted(export.rglob("*"))
        if path.is_file()
    ]


def _environment():
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        autoescape=True,  # class names, paths and texts of JSON files may hold < & "
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in (
        "upper_bound",
        "figure",
        "percent",
        "percent_at_most",
        "count",
        "size",
        "factor",
        "plain",
        "one_in",
        "day",
    ):
        environment.filters[name] = getattr(wording, name)
    return environment
