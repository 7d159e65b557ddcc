"""Benchmark of conditions, imputation and conditional probabilities of ``TVAESynthesizer``.

Two thirds of a table (Adult: its official train part) are learnt, by the default model, by one
whose ``condition_columns`` are those of the conditions, and by one in random column order; the
rest judges. See README.md for the measures.

    python benchmarks/conditional.py --datasets adult magic default --data-dir DIR --report
"""

import argparse
import json
import os
import sys
import time
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import _data  # noqa: E402
import _report  # noqa: E402
import _worker  # noqa: E402

N_COLUMNS, N_CONDITIONS, LEAST_ROWS, MOST_ROWS, N_REPEATS = 4, 20, 100, 4000, 3
N_TIMED, N_IMPUTED, GAP_SHARE = 10_000, 4000, 0.2
# Values of a number on which distributions are compared.
N_BINS = 20


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets", nargs="*", default=["adult"])
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("SKVAE_DATA"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "conditional.json")
    parser.add_argument("--report", action="store_true", help="write into benchmarks/RESULTS.md")
    arguments = parser.parse_args()
    if arguments.data_dir is None:
        parser.error("say --data-dir, or set SKVAE_DATA")
    return arguments


def two_parts(dataset):
    """Return rows to learn from and rows to judge by: enough of the latter to condition on."""
    import pandas as pd

    if len(dataset.holdout) > len(dataset.train) / 4:
        return dataset.train, dataset.holdout
    rows = pd.concat([dataset.train, dataset.holdout]).sample(frac=1, random_state=0)
    cut = len(rows) * 2 // 3
    return rows[:cut].reset_index(drop=True), rows[cut:].reset_index(drop=True)


def is_number(column):
    from pandas.api.types import is_numeric_dtype

    return is_numeric_dtype(column) and column.nunique() > 2


def fulfils(table, conditions):
    """Return which rows fulfil conditions that are values or ranges."""
    import numpy as np

    rows = np.ones(len(table), bool)
    for name, wanted in conditions.items():
        found = table[name].between(*wanted) if isinstance(wanted, tuple) else table[name] == wanted
        rows &= found.to_numpy()
    return rows


def draw_conditions(train, holdout, rng):
    """Return columns, and conditions on one or two of them that enough rows fulfil."""
    columns = [str(name) for name in rng.choice(train.columns, N_COLUMNS, replace=False)]
    found = []
    while len(found) < N_CONDITIONS:
        names = rng.choice(columns, 1 + (len(found) >= N_CONDITIONS // 2), replace=False)
        conditions = {name: one_condition(train[name], rng) for name in names}
        counts = [fulfils(table, conditions).sum() for table in (train, holdout)]
        if min(counts) >= LEAST_ROWS and counts[0] < 0.7 * len(train):
            found.append(conditions)
    return columns, found


def one_condition(column, rng):
    cells = column.dropna().sample(2, random_state=int(rng.integers(2**31)))
    if is_number(column) and column.nunique() > 10:
        return tuple(sorted(cells.tolist()))
    return cells.iloc[0]


class Distances:
    """Total variation of single columns, numbers in bins of equal mass, outside some columns."""

    def __init__(self, train):
        import numpy as np

        shares = np.linspace(0, 1, N_BINS + 1)[1:-1]
        self.edges = {
            name: np.unique(np.nanquantile(train[name].astype(float), shares))
            for name in train
            if is_number(train[name]) and train[name].nunique() > N_BINS
        }

    def cells(self, table):
        import numpy as np

        return {
            name: np.searchsorted(self.edges[name], table[name].astype(float), "right")
            if name in self.edges
            else table[name].astype(str).to_numpy()
            for name in table
        }

    def __call__(self, first, second, without):
        import numpy as np
        import pandas as pd

        first, second = self.cells(first), self.cells(second)
        shares = [
            [pd.Series(cells[name]).value_counts(normalize=True) for cells in (first, second)]
            for name in first
            if name not in without
        ]
        return float(np.mean([a.sub(b, fill_value=0).abs().sum() / 2 for a, b in shares]))


def judge_conditions(model, train, holdout, conditions):
    """Return the distance of conditional rows to unseen ones over that of real rows to them."""
    import numpy as np

    distance, rng, ratios = Distances(train), np.random.default_rng(0), []
    for wanted in conditions:
        learnt, unseen = train[fulfils(train, wanted)], holdout[fulfils(holdout, wanted)]
        n_rows = min(len(learnt), len(unseen), MOST_ROWS)
        pairs = []
        for repeat in range(N_REPEATS):
            seeds = rng.integers(2**31, size=2)
            target = unseen.sample(n_rows, random_state=seeds[0])
            real = learnt.sample(n_rows, random_state=seeds[1])
            made = model.sample(n_rows, conditions=wanted, random_state=repeat)
            assert fulfils(made, wanted).all()
            pairs.append([distance(rows, target, wanted) for rows in (made, real)])
        made, real = np.mean(pairs, axis=0)
        ratios.append(float(made / real))
    return ratios


def time_ratio(model, conditions):
    """Return the time of conditional rows over that of rows without, mean and most."""
    import numpy as np

    def seconds(**params):
        runs = []
        for seed in range(3):
            start = time.process_time()
            model.sample(N_TIMED, random_state=seed, **params)
            runs.append(time.process_time() - start)
        return min(runs)

    seconds()
    free = seconds()
    ratios = [seconds(conditions=wanted) / free for wanted in conditions[:: N_CONDITIONS // 4]]
    return float(np.mean(ratios)), float(np.max(ratios))


def judge_imputation(holdout, gaps, train, guess, proba):
    """Return mean RMSE (of numbers, in deviations) and log-loss (of categories)."""
    import numpy as np

    errors, losses = [], []
    for name in holdout:
        rows = (gaps[name].isna() & holdout[name].notna()).to_numpy()
        if is_number(train[name]):
            off = guess[name][rows].astype(float) - holdout[name][rows].astype(float)
            errors.append(np.sqrt(np.mean(off**2)) / train[name].astype(float).std())
        else:
            shares = proba(name)
            values = list(map(str, shares.columns))
            held = [values.index(v) if v in values else -1 for v in holdout[name][rows].astype(str)]
            told = np.append(shares.to_numpy()[rows], np.zeros((rows.sum(), 1)), axis=1)
            losses.append(-np.log(np.maximum(told[np.arange(len(held)), held], 1e-6)).mean())
    return {"rmse": float(np.mean(errors)), "log_loss": float(np.mean(losses))}


def one_hot(table, train):
    """Return numbers and indicators, missing where the cell is."""
    import pandas as pd

    parts = {}
    for name in train:
        if is_number(train[name]):
            parts[name] = table[name].astype(float)
        else:
            for value in sorted(train[name].dropna().unique(), key=str):
                same = (table[name] == value).astype(float)
                parts[f"{name}|{value}"] = same.mask(table[name].isna())
    return pd.DataFrame(parts)


def baselines(train, gaps, holdout, rng):
    """Judge the mean or most frequent value, and scikit-learn's IterativeImputer."""
    import numpy as np
    import pandas as pd
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    def simple(middle):
        return {n: gaps[n].astype(float).fillna(middle(train[n].astype(float))) for n in numbers}

    def frequencies(name):
        shares = train[name].value_counts(normalize=True)
        return pd.DataFrame(np.tile(shares, (len(gaps), 1)), columns=shares.index)

    numbers = [name for name in train if is_number(train[name])]
    rows = {
        "median and frequencies": judge_imputation(
            holdout, gaps, train, simple(pd.Series.median), frequencies
        ),
        "mean and frequencies": judge_imputation(
            holdout, gaps, train, simple(pd.Series.mean), frequencies
        ),
    }
    start = time.process_time()
    learnt = train.sample(min(len(train), 10_000), random_state=0)
    learnt = one_hot(learnt.mask(rng.random(learnt.shape) < GAP_SHARE), train)
    middle, spread = learnt.mean(), learnt.std().replace(0, 1)
    imputer = IterativeImputer(max_iter=5, random_state=0).fit((learnt - middle) / spread)
    filled = imputer.transform((one_hot(gaps, train) - middle) / spread)
    filled = pd.DataFrame(filled, columns=learnt.columns) * spread + middle

    def shares(name):
        own = filled[[c for c in filled if c.startswith(f"{name}|")]].clip(1e-3, 1)
        return own.div(own.sum(axis=1), axis=0).set_axis([c.split("|", 1)[1] for c in own], axis=1)

    row = judge_imputation(holdout, gaps, train, filled, shares)
    rows["IterativeImputer"] = {**row, "seconds": time.process_time() - start}
    return rows


def judge_target(model, train, holdout, target):
    """Return the AUC of the target's conditional probability, and XGBoost's."""
    import pandas as pd
    from sklearn.metrics import roc_auc_score
    from xgboost import XGBClassifier

    top = sorted(holdout[target].unique(), key=str)[-1]
    y = [part[target] == top for part in (train, holdout)]
    start = time.process_time()
    ours = roc_auc_score(y[1], model.conditional_proba(holdout, target)[top])
    seconds = time.process_time() - start
    both = pd.concat([train, holdout]).drop(columns=target)
    codes = both.apply(lambda c: c if is_number(c) else c.astype("category").cat.codes)
    peer = XGBClassifier(n_estimators=150, max_depth=6, learning_rate=0.1, n_jobs=1)
    peer.fit(codes[: len(train)], y[0])
    theirs = roc_auc_score(y[1], peer.predict_proba(codes[len(train) :])[:, 1])
    return {"auc": float(ours), "seconds": seconds, "xgboost": float(theirs)}


def run(name, arguments):
    """Return all figures of one table."""
    import numpy as np

    from skvae import TVAESynthesizer

    dataset = _data.load(name, arguments.data_dir)
    train, holdout = two_parts(dataset)
    rng = np.random.default_rng(arguments.seed)
    columns, conditions = draw_conditions(train, holdout, rng)
    judged = holdout.head(N_IMPUTED)
    gaps = judged.mask(rng.random(judged.shape) < GAP_SHARE)
    record = {"columns": columns, "models": {}, "imputation": baselines(train, gaps, judged, rng)}
    variants = {
        "default": {},
        "condition_columns": {"condition_columns": columns},
        "random order": {"column_order": "random"},
    }
    for label, params in variants.items():
        start = time.process_time()
        model = TVAESynthesizer(random_state=0, device="cpu", **params).fit(train)
        row = {"fit": time.process_time() - start}
        row["ratios"] = judge_conditions(model, train, holdout, conditions)
        row["time"] = time_ratio(model, conditions)
        if not dataset.regression:
            row["target"] = judge_target(model, train, holdout, dataset.target)
        start = time.process_time()
        guess = model.impute(gaps, method="mean", random_state=0)
        seconds = time.process_time() - start
        scores = judge_imputation(
            judged, gaps, train, guess, lambda c, model=model: model.conditional_proba(gaps, c)
        )
        record["imputation"][f"skvae, {label}"] = {**scores, "seconds": seconds}
        record["models"][label] = row
        print(name, label, json.dumps(row.get("target", {})), flush=True)
    return record


def tables(content):
    """Return the tables as markdown."""
    from statistics import mean

    parts = []
    for name, record in content.items():
        if name == "command":
            continue
        lines = [
            f"### {name}: conditions on {', '.join(f'`{c}`' for c in record['columns'])}",
            "",
            "| model | fit s | distance, mean (most) | time, mean (most) | AUC of target |",
            "|---|---|---|---|---|",
        ]
        for label, row in record["models"].items():
            target = row.get("target", {})
            lines.append(
                f"| {label} | {row['fit']:.1f} | {mean(row['ratios']):.2f} "
                f"({max(row['ratios']):.2f}) | {row['time'][0]:.2f} ({row['time'][1]:.2f}) "
                f"| {target['auc']:.4f} (XGBoost {target['xgboost']:.4f}) |"
                if target
                else f"| {label} | {row['fit']:.1f} | {mean(row['ratios']):.2f} | | |"
            )
        lines += ["", "| imputation | RMSE | log-loss | s |", "|---|---|---|---|"]
        for label, row in record["imputation"].items():
            lines.append(
                f"| {label} | {row['rmse']:.3f} | {row['log_loss']:.3f} "
                f"| {row.get('seconds', 0.0):.1f} |"
            )
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def section(content):
    """Return the section of RESULTS.md: what was measured, and the tables."""
    head = (
        "## Conditions, imputation, conditional shares\n\n"
        f"`{content['command']} --datasets ...`, one thread. *distance*: total variation of "
        "every other column between conditional rows and unseen real ones, over that between "
        "as many learnt rows and the same unseen ones, for 20 random conditions on one or two "
        "of the columns named; 1 is as good as real. *time*: of 10,000 conditional rows over "
        "10,000 others. RMSE in deviations of the column and log-loss in nats, means over "
        "columns, with 20 % of the cells of 4,000 unseen rows removed; CPU seconds."
    )
    return f"{head}\n\n{tables(content)}"


def main():
    arguments = parse_arguments()
    _worker.limit_threads(arguments.threads)
    warnings.simplefilter("ignore")
    content = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    content["command"] = f"python benchmarks/conditional.py --seed {arguments.seed} --report"
    for name in arguments.datasets:
        content[name] = run(name, arguments)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(content, indent=1) + "\n")
    print(tables(content))
    if arguments.report:
        _report.write(HERE)


if __name__ == "__main__":
    main()
