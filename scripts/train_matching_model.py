"""Train the matching model that ships with the package, and write its report.

    python scripts/train_matching_model.py [--leads N] [--seed N] [--check]

Input: invented leads whose truth is known, nothing else; the same arguments give the same files. ``--check`` writes
nothing and fails if the shipped files are not what training gives.
"""

import argparse
import math
import sys
from dataclasses import replace
from datetime import date

from leads_pipeline.config import MatchingSettings
from leads_pipeline.matching.evaluation import Labelled, ScoredSet, limits_of, score_set
from leads_pipeline.matching.model import COMPARISONS, PARAMETERS_FILE, Parameters, model_directory
from leads_pipeline.matching.scoring import PairScorer
from leads_pipeline.matching.training import RANDOM_PAIRS, labelled, train
from leads_pipeline.synthetic import TUNING_SEEDS, hard_leads

REPORT_FILE = "report.md"
VERSION = "2"
# Ages depend on a day; any fixed one will do.
SEED, HELD_OUT_SEED = TUNING_SEEDS[:2]
TODAY = date(2026, 1, 1)
CUT_OFFS = (3.0, 4.0, 5.0, 6.0, 8.0)
SETTINGS = MatchingSettings()
CAP = SETTINGS.max_candidates_per_key


def main() -> int:
    arguments = _arguments()
    records = invented(arguments.leads, seed=arguments.seed)
    parameters = train(
        records,
        seed=arguments.seed,
        version=VERSION,
        max_candidates_per_key=CAP,
        trained={
            "leads": arguments.leads,
            "records": len(records),
            "seed": arguments.seed,
            "random_pairs": RANDOM_PAIRS,
        },
    )
    scorer = PairScorer(parameters)
    held_out = {
        size: score_set(invented(size, seed=HELD_OUT_SEED), scorer, max_candidates_per_key=CAP)
        for size in (arguments.leads // 4, arguments.leads)
    }
    written = {PARAMETERS_FILE: parameters.to_json(), REPORT_FILE: report(parameters, held_out)}
    if arguments.check:
        stale = [name for name, text in written.items() if (model_directory() / name).read_text("utf-8") != text]
        print(f"differs from what training gives: {', '.join(stale)}" if stale else "the shipped model is up to date")
        return 1 if stale else 0
    for name, text in written.items():
        (model_directory() / name).write_text(text, encoding="utf-8")
    print(written[REPORT_FILE])
    return 0


def invented(count: int, *, seed: int) -> list[Labelled]:
    """Generated leads as identity resolution sees them."""
    return labelled(((lead.payload, lead.truth) for lead in hard_leads(count, seed=seed)), today=TODAY)


def report(parameters: Parameters, held_out: dict[int, ScoredSet]) -> str:
    """The report, in Markdown."""
    trained = parameters.trained
    lines = ["# The shipped matching model", ""]
    lines += [f"Version {parameters.version}, trained by `scripts/train_matching_model.py` on {trained['records']:,}"]
    lines += [f"usable leads out of {trained['leads']:,} invented ones (seed {trained['seed']})."]
    lines += ["No data of living people went into it."]
    lines += ["", "## On leads that it has not seen", ""]
    lines += ["Pairwise, after rules, scoring, vetoes and clustering; another seed than in training.", ""]
    lines += ["| leads | merge weight | precision | recall | F1 |", "|---:|---:|---:|---:|---:|"]
    for size, scored in held_out.items():
        for cut_off in CUT_OFFS:
            score = scored.clustered_at(replace(limits_of(SETTINGS), merge_weight=cut_off))
            lines.append(f"| {size:,} | {cut_off:g} | {score.precision:.3f} | {score.recall:.3f} | {score.f1:.3f} |")
    lines += ["", "Share of true pairs that share a blocking key, which bounds the recall:", ""]
    lines += [f"- {size:,} leads: {scored.blocking_recall:.3f}" for size, scored in held_out.items()]
    prior = math.log2(parameters.prior / (1 - parameters.prior))
    lines += ["", "## Weights", ""]
    lines += [
        f"Prior {prior:.2f} at {parameters.prior_contacts:,} contacts; it falls by 1 with each doubling. An agreement"
    ]
    lines += ["whose value has a frequency of its own weighs log2(m / frequency) instead of the weight shown; names"]
    lines += ["that were exchanged weigh as much more as the whole name is rarer than those that agree by chance.", ""]
    lines += ["| comparison | level | m | u | weight |", "|---|---|---:|---:|---:|"]
    for comparison in COMPARISONS:
        for level in comparison.levels:
            m, u = parameters.levels[comparison.name][level.name]
            own = " (by frequency)" if level.frequency_of else ""
            lines.append(f"| {comparison.name} | {level.name}{own} | {m:.4g} | {u:.4g} | {math.log2(m / u):+.2f} |")
    return "\n".join(lines) + "\n"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--leads", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--check", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
