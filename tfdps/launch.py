"""The command: python -m tfdps.launch --flagfile=digits.flags --model_dir=runs/digits."""

import functools
import sys
import time

import tfdps
from tfdps import checks
from tfdps.commands import entry
from tfdps.config import flags
from tfdps.distributed import preemption, startup

_RESTART_SECONDS = 2  # for the other workers to notice too
_MOST_RESTARTS = 20


def main(argv=None):
    """Runs the command line; returns the exit status, see `entry.run`.

    Args:
      argv: the program's name and its arguments, as in sys.argv, the default; or flags alone.
    """
    if argv is None:
        argv = sys.argv  # whose first may be -c
    else:
        argv = [str(word) for word in argv]
        if not argv or argv[0].startswith("-"):  # no program's name begins so
            argv = ["tfdps", *argv]
    if any(argument in ("--help", "-help", "-h", "--helpfull") for argument in argv[1:]):
        print(flags.help_text(), end="")
        return 0
    if "--version" in argv[1:]:
        print(f"tfdps {tfdps.__version__}")
        return 0
    return entry.run(
        "tfdps",
        lambda: _run(argv),
        interrupted=". The same command again resumes a training.",
        missing=startup.what_is_missing,
    )


def _run(argv):
    values, config = flags.parse(argv)
    modes = {
        "train": functools.partial(_train, arguments=argv[1:]),
        "account": _account,
        "sample": _sample,
        "export": _export,
        "evaluate": _evaluate,
        "audit": _audit,
        "report": _report,
        "demo": _demo,
    }
    modes[values.mode](values, config)


def _run_dir(config):
    """The run's folder; its module takes what training takes, and not all modes do."""
    from tfdps.training import run_dir

    return run_dir.RunDir(config.model_dir)


def _train(values, config, *, arguments):
    options = flags.evaluation_options(values)
    run = _run_dir(config)
    if config.strategy != "multiworker":  # of several workers the chief alone has a folder
        run.prepare()  # a wrong folder should not wait for TensorFlow
    with preemption.StopRequest().on_sigterm() as stop:
        startup.load_tensorflow()
        from tfdps.training import start

        card = _with_all_workers(lambda: start.train(config, stop=stop), arguments)
    if card is not None:
        _refresh_report(config, options)


def _with_all_workers(work, arguments):
    """Does what a worker of several has to do; starts this process anew when another is gone."""
    from tfdps.distributed.replicas import WorkerLostError

    try:
        return work()
    except WorkerLostError as error:
        if startup.restarts() >= _MOST_RESTARTS:  # each may cost steps that were paid for
            raise checks.UsageError(
                f"another worker is gone ({error}), more than {_MOST_RESTARTS} times by now. Find out "
                "why, and start all workers again to resume."
            ) from error
        print(
            f"tfdps: another worker is gone ({error}). Waiting for it: start it again with the same "
            "command, and all go on from the last checkpoint.",
            file=sys.stderr,
            flush=True,
        )
        time.sleep(_RESTART_SECONDS)
        startup.restart(arguments)


def _evaluate(values, config):
    options = flags.evaluation_options(values)
    from tfdps.evaluation import start

    start.evaluate(config, options)
    _refresh_report(config, options)


def _audit(values, config):
    options = flags.evaluation_options(values)
    from tfdps.auditing import start

    start.audit(config, options)
    _refresh_report(config, options)


def _report(values, config):
    options = flags.evaluation_options(values)
    _run_dir(config).read()
    from tfdps.report import page

    page.write_report(config.model_dir, public=options.report_public)


def _refresh_report(config, options):
    """Draws the page anew where there is a run with its results beside it, unless --noreport.

    And the one for sending on, a file of its own, where that is asked for.
    """
    if not options.report or options.report_dir or not _run_dir(config).started:
        return
    from tfdps.report import page

    page.write_report(config.model_dir)
    if options.report_public:
        page.write_report(config.model_dir, public=True)


def _export(values, config):
    del values
    _run_dir(config).read()
    startup.load_tensorflow()
    from tfdps.training import job

    job.export_checkpoint(config)


def _account(values, config):
    del values
    from tfdps.accounting import account_lines, plan
    from tfdps.config import automatic
    from tfdps.data import counting, names

    size, lines = config.dataset_size, ()
    if size is None:
        startup.load_tensorflow()
        size, lines = counting.counted_of(config)
    for line in lines:
        print(line)
    classes = None
    if config.chosen_where_open and config.num_atoms is None:
        if config.class_names is None and names.source(config.dataset) == "tfds":
            startup.load_tensorflow()
        classes = counting.num_classes_of(config)
        config, choices = automatic.settled(config, size, num_classes=classes)
        print(automatic.line(choices))
    for line in account_lines.account(config, plan.make_plan(config, size), num_classes=classes):
        print(line)


def _sample(values, config):
    if not values.out:
        raise checks.UsageError("out is missing: give --out=grid.png, samples.npz or folder/.")
    checks.at_least("num", values.num, 1)
    if not config.model_dir:
        raise checks.UsageError("model_dir is missing: give the --model_dir of a run or an export.")
    from tfdps.commands import sample
    from tfdps.samplers import saved_model_sampler

    sampler = saved_model_sampler.load(config.model_dir)
    lines = sample.draw(sampler, values.out, num=values.num, labels=values.labels, seed=values.seed)
    for line in lines:
        print(line)


def _demo(values, config):
    path = values.export or config.model_dir
    if not path:
        raise checks.UsageError(
            "export is missing: give --export=PATH, an export, a generator.onnx or a model_dir."
        )
    from tfdps.serving import demo

    demo.serve(path, port=values.port)


def run():
    """The console script `tfdps`."""
    sys.exit(main())


if __name__ == "__main__":
    run()
