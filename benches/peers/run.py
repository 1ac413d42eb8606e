#!/usr/bin/env python3
"""Whole processes beside peers: Gearwheel's bench_client, bench_worker and bench_server, libgearman, gearman-rs, and raw bytes.

usage: run.py [--reps N] [--secs S] [--only TEXT] [--size BYTES] [--runtime NAME] [--install] [--smoke]

Needs gearmand (or GEARMAND=path), a C compiler and libgearman's headers; builds what it runs. Each run has a fresh server on a
free port of 127.0.0.1, and a worker that is registered before the client begins. Repetitions are the outermost loop, and each
goes through a row the other way round than the one before, so that the drift of a shared machine falls on all alike. Figures
are medians; a ratio is the median of the ratios within each repetition. Only figures of one run of this script can be compared.
"""
import argparse, os, statistics, subprocess, sys

import measure, rows

COLUMNS = ('jobs/s', 'MB/s', 'p50 us', 'client CPU', 'worker CPU', 'server CPU', 'bytes a job', 'instructions a job')


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--reps', type=int, default=5)
    parser.add_argument('--secs', type=float, default=1.0)
    parser.add_argument('--only', default='', help='rows with this in their names')
    parser.add_argument('--size', type=int, default=16, help='bytes of payload, but in the rows of large ones')
    parser.add_argument('--runtime', default='blocking', help="of Gearwheel's client and worker")
    parser.add_argument('--install', action='store_true', help='install what is missing by apt-get')
    parser.add_argument('--smoke', action='store_true', help='each row for a moment, not optimised: to see that it works')
    found = parser.parse_args()
    if found.smoke:
        found.reps, found.secs = 1, measure.MOMENT
    return found


def repeat(chosen, peers, reps):
    """What the runs found: by row, who and repetition. Nothing where one failed."""
    found = {}
    for repetition in range(reps):
        for row in chosen:
            if repetition >= times(row, reps):
                continue
            for run in row.runs[::-1 if repetition % 2 else 1]:
                found[row.name, run.who, repetition] = {}
                try:
                    found[row.name, run.who, repetition] = measure.measure(run, peers)
                except (RuntimeError, OSError, ValueError, ArithmeticError, subprocess.SubprocessError) as error:
                    print(f'{row.name}, {run.who}: {error}', file=sys.stderr)
        print(f'repetition {repetition + 1} of {reps}', file=sys.stderr)
    return found


def times(row, reps):
    return 1 if row.once else reps


class Findings:
    def __init__(self, found):
        self.found = found

    def runs(self, row, who):
        """In their order, which is the same for all of a row."""
        return [figures for (of, name, _), figures in self.found.items() if (of, name) == (row, who)]

    def figures(self, row, who, column, other=None):
        """One a repetition: of one run, or its ratio to another's."""
        runs = self.runs(row, who)
        others = self.runs(*other) if other else [{column: 1}] * len(runs)
        return [one[column] / to[column] for one, to in zip(runs, others) if column in one and to.get(column)]

    def failed(self, row, who):
        return self.runs(row, who).count({})

    def columns(self, section):
        names = {row.name for row in section}
        there = {column for (row, _, _), figures in self.found.items() if row in names for column in figures}
        return [column for column in COLUMNS if column in there]


def table(section, findings):
    columns = findings.columns(section)
    print(f'\n## {section[0].section}\n\n| what | who | {" | ".join(columns)} |')
    print('| --- | --- |' + ' ---: |' * len(columns))
    for row in section:
        for run in row.runs:
            cells = [cell(findings, row, run, column) for column in columns]
            print(f'| {row.name} | {run.who} | {" | ".join(cells) if any(cells) else "failed" + " |" * (len(columns) - 1)} |')


def cell(findings, row, run, column):
    figures = findings.figures(row.name, run.who, column)
    ratios = findings.figures(row.name, run.who, column, (row.name, row.runs[0].who))
    to_first = f' ({statistics.median(ratios):.2f})' if ratios and run is not row.runs[0] else ''
    return shown(statistics.median(figures)) + to_first if figures else ''


def shown(figure):
    return f'{figure:,.0f}' if abs(figure) >= 1000 else f'{figure:.1f}' if abs(figure) >= 10 else f'{figure:.2f}'


def judge(targets, findings):
    measured = {row for row, _, _ in findings.found}
    print('\n## What was aimed at\n\n| what | who | aim | found | lowest to highest | |\n| --- | --- | --- | ---: | ---: | --- |')
    for target in targets:
        if target.row not in measured or (target.other and target.other[0] not in measured):
            continue
        cells = ' | '.join(verdict(target, findings))
        print(f'| {target.row}: {target.column} | {target.who} | {aim(target)} | {cells} |')


def aim(target):
    if target.relation == 'works':
        return target.relation
    words = f'{"at least" if target.relation == ">=" else "at most"} {target.bound:g}'
    if not target.other:
        return words
    row, who = target.other
    return f'{words} × {who}' + ('' if row == target.row else f' in "{row}"')


def verdict(target, findings):
    """What was found, how far it spread, and whether it will do: a run that failed will not."""
    figures = findings.figures(target.row, target.who, target.column, target.other)
    if not figures:
        return '', '', '**not met**: failed'
    found, failed = statistics.median(figures), findings.failed(target.row, target.who)
    met = {'>=': lambda: found >= target.bound, '<=': lambda: found <= target.bound, 'works': lambda: True}[target.relation]()
    words = f'**not met**: {failed} failed' if failed else 'met' if met else '**not met**'
    return shown(found), f'{shown(min(figures))} to {shown(max(figures))}', words


def main():
    settings = options()
    chosen = [row for row in rows.rows(settings) if settings.only in row.name]
    if not chosen:
        sys.exit(f'no row has "{settings.only}" in its name')
    measure.require(settings.install, may_pass_over=settings.smoke)
    peers = measure.build(settings.runtime, optimised=not settings.smoke)
    before = os.getloadavg()[0]
    findings = Findings(repeat(chosen, peers, settings.reps))
    print(f'Payloads of {settings.size} bytes, {settings.runtime}, medians of {settings.reps} interleaved runs of '
          f'{settings.secs:g} s, load {before:.0f} to {os.getloadavg()[0]:.0f}. CPU: us a job. In brackets: to the first of the row.')
    for name in dict.fromkeys(row.section for row in chosen):
        table([row for row in chosen if row.section == name], findings)
    judge(rows.targets(settings), findings)
    if {} in findings.found.values():
        sys.exit('some runs failed')


if __name__ == '__main__':
    main()
