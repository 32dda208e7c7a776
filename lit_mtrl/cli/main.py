"""The command line. Heavy imports happen inside the commands, so that ``--help`` is instant."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from collections.abc import Sequence

from lit_mtrl.config.folders import adding
from lit_mtrl.config.keys import described
from lit_mtrl.config.trust import trusting
from lit_mtrl.core.errors import ConfigError
from lit_mtrl.core.limits import raise_open_files
from lit_mtrl.core.processes import (
    keep_freed_memory,
    nobody_reads,
    open_standard_streams,
    rank_of_process,
    require_rank_variables,
    spin_briefly,
)
from lit_mtrl.core.signals import Ended
from lit_mtrl.core.text import one_line

OVERRIDE = re.compile(r"--([\w./@]+=.*)", re.DOTALL)
EPILOG = """overrides: key=value in Hydra's grammar, such as network.width=1024 or network=mlp;
--a.b=c is the same as a.b=c.
`python -m lit_mtrl list` shows experiments and groups, `fit --help` every key."""


class Parser(argparse.ArgumentParser):
    """Errors are one line and exit code 2."""

    def error(self, message: str) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise ConfigError(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    The exit code: 0 done, 1 failed while running, 2 nothing was started because the input is wrong; ended by a signal,
    128 and its number: 130 interrupted, 143 SIGTERM, 129 its terminal was closed, 141 nobody reads what it prints.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    open_standard_streams()
    raise_open_files()
    spin_briefly()
    keep_freed_memory()
    try:
        try:
            args = _parse(argv)
            with trusting(getattr(args, "trust", [])), adding(getattr(args, "config_dir", [])):
                return _run(args)
        finally:
            sys.stdout.flush()  # or it would fail at the interpreter's end
    except ConfigError as error:
        print(f"error: {one_line(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Ended as ended:
        if not ended.logged and rank_of_process() == 0:
            print(ended, file=sys.stderr)
        return 128 + ended.signum
    except BrokenPipeError:
        if not nobody_reads(sys.stdout):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # where the interpreter writes what is left
        return 128 + signal.SIGPIPE


def _run(args: argparse.Namespace) -> int:
    if args.command == "doctor":  # also where what the other commands import is missing
        from lit_mtrl.doctor.examine import doctor

        return doctor(args.tracking_uri, args.json)
    require_rank_variables()
    from lit_mtrl.cli import commands

    if hasattr(args, "overrides"):
        from lit_mtrl.config.overrides import quote_texts

        args.overrides = quote_texts(args.overrides)
    return getattr(commands, args.command)(args)


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser(prog="lit_mtrl", description="Multi-task reinforcement learning in PyTorch.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=text,
            description=text,
            epilog=_epilog(name),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    fit = command("fit", "train an agent")
    params = command("params", "parameter counts of actor and critics")
    bench = command("bench", "how fast this machine collects, updates and trains, against its limits")
    for sub in (fit, params, bench):
        sub.add_argument(
            "--config",
            action="append",
            default=[],
            metavar="FILE",
            help="an experiment (path or bare name), or the config.yaml that a run saved; several merge in order",
        )
    for sub in (fit, params):
        sub.add_argument("--print-config", action="store_true", help="print the composed configuration and stop")
    fit.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="DIR",
        help="continue the run of DIR, or of the output folder of --config",
    )
    fit.add_argument("--multirun", "-m", action="store_true", help="one run per combination of comma-separated values")
    test = command("test", "evaluate a checkpoint: per-task table")
    test.add_argument("--ckpt", required=True, metavar="FILE", help="such as outputs/.../checkpoints/best.ckpt")
    doctor = command("doctor", "what this machine or container can run, and what would help")
    for sub in (params, test, doctor):
        sub.add_argument("--json", action="store_true", help="print JSON")
    for sub in (fit, params, test, bench):
        sub.add_argument(
            "--trust",
            action="append",
            default=[],
            metavar="PACKAGE",
            help="run classes of this package where a configuration, also one that somebody saved, names them",
        )
    _bench_options(bench)
    for sub in (fit, params, test, bench):
        sub.add_argument("overrides", nargs="*", metavar="key=value")
    listing = command("list", "experiments and config groups, one line each")
    for sub in (fit, params, test, bench, listing):
        sub.add_argument(
            "--config-dir",
            action="append",
            default=[],
            metavar="DIR",
            help="a folder of your own, laid out like conf/, whose files are found beside ours; your modules lie beside"
            " it or in it",
        )
    report = command("report", "figures, tables and one page from recorded runs")
    _report_options(report)
    new = command("new", "a template of your own network, algorithm, critic, weighting, suite or callback")
    new.add_argument("kind", metavar="KIND", help="network, algorithm, critic, weighting, suite or callback")
    new.add_argument("name", metavar="NAME", help="of the module, and of its yaml, such as my_net")
    new.add_argument("--dir", default=".", metavar="DIR", help="where to write it; default: here")
    ui = command("ui", "MLflow's pages on the runs, for this machine")
    ui.add_argument("--port", type=int, default=5000)
    for sub in (report, ui, doctor):
        sub.add_argument("--tracking-uri", metavar="URI", help="the store; sqlite:///mlflow.db by default")

    options = {
        option
        for sub in (fit, params, test, bench, listing, new, report, ui, doctor)
        for option in sub._option_string_actions
    }
    args, rest = parser.parse_known_args([_as_override(arg, options) for arg in argv])
    overrides = [arg for arg in rest if "=" in arg or arg.startswith("~")]
    for arg in rest:
        if arg not in overrides:
            from lit_mtrl.core.suggest import unknown_option

            raise ConfigError(unknown_option(arg, sorted(options)))
    if hasattr(args, "overrides"):
        args.overrides = [*args.overrides, *overrides]
    elif overrides:
        raise ConfigError(f"{args.command} takes no overrides: {overrides[0]}")
    return args


def _epilog(command: str) -> str | None:
    if command == "fit":
        width = max(len(key) for key, _ in described())
        lines = (f"  {key:<{width}}  {text}" for key, text in described())
        return "\n".join([EPILOG, "", "keys (of the groups that are chosen; defaults: --print-config):", *lines])
    return EPILOG if command in ("params", "test", "bench") else None


def _bench_options(bench: argparse.ArgumentParser) -> None:
    bench.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        help="of limits, collection, update and end_to_end; default: all",
    )
    bench.add_argument(
        "--networks",
        nargs="+",
        default=[],
        metavar="NAME",
        help="to update in every mode; default: all, but in eager except for the configured one",
    )
    bench.add_argument("--seconds", type=float, default=2.0, metavar="S", help="how long to measure each figure (2)")
    bench.add_argument("--compare", action="store_true", help="time gymnasium's AsyncVectorEnv, too")
    bench.add_argument(
        "--peer",
        metavar="PYTHON",
        help="time the JAX package metaworld_algorithms, too, by a Python (3.12 or later) in which it is installed",
    )
    bench.add_argument("--json", metavar="FILE", help="write all figures there")


def _report_options(report: argparse.ArgumentParser) -> None:
    report.add_argument("--experiment", nargs="+", default=[], metavar="NAME", help="MLflow experiments")
    report.add_argument("--runs", nargs="+", default=[], metavar="DIR", help="run folders, or folders of them, instead")
    report.add_argument("--out", metavar="DIR", help="default: reports/NAME")
    report.add_argument("--group", nargs="+", metavar="KEY", help="tags or parameters; default: what differs but seeds")
    report.add_argument(
        "--where", action="append", default=[], metavar="KEY=VALUE", help="only runs with this tag or parameter"
    )
    report.add_argument(
        "--statistic", default="iqm", metavar="NAME", help="of the seeds: iqm, mean, median or optimality_gap"
    )
    report.add_argument(
        "--published", nargs="+", default=[], metavar="PAPER", help="numbers to lay over, e.g. mclean2025"
    )
    report.add_argument("--unfinished", action="store_true", help="count runs that have not reached their budget, too")
    report.add_argument(
        "--mixed-protocols", action="store_true", help="allow different horizons, rewards or goals within a group"
    )
    report.add_argument("--log", action="store_true", help="put the result into MLflow, too: into its sweeps' runs")
    report.add_argument(
        "--ui", default="http://127.0.0.1:5000", metavar="URL", help="MLflow's pages, for links to runs"
    )


def _as_override(arg: str, options: set[str]) -> str:
    """``--a.b=c`` to ``a.b=c``, unless ``--a.b`` is an option of ours."""
    match = OVERRIDE.fullmatch(arg)
    return match[1] if match and arg.split("=", 1)[0] not in options else arg
