"""What the benchmark measures on a synthetic table; definitions in README.md."""

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score, root_mean_squared_error
from sklearn.model_selection import train_test_split
from xgboost import XGBClassifier, XGBRegressor

from skvae.metrics import column_shapes, pair_trends, two_sample_score

FOLD_SEEDS = (0, 1, 2)
N_DETECTIONS = 5
N_DCR_ROWS = 4000


class Judge:
    """Scores synthetic tables of one data set; what they share is computed once."""

    def __init__(self, dataset):
        self.dataset = dataset
        self.train = dataset.ordered(dataset.train)
        self.holdout = dataset.ordered(dataset.holdout)
        self.coded_train, self.coded_holdout = self._coded(self.train), self._coded(self.holdout)
        self.train_keys = set(_row_keys(self.coded_train))

    def reference(self):
        """Return the figures that real data reach, to be read beside every method's."""
        n = min(len(self.holdout), len(self.train))
        return {
            "n_train": len(self.train),
            "n_holdout": len(self.holdout),
            "utility": self._utility(self.coded_train),
            "auc_holdout": self._detection(self.coded_train, n),
            "copies": self._copies(self.coded_holdout),
        }

    def score(self, synthetic, *, is_holdout=False):
        """Score one synthetic table; `is_holdout` leaves out what the holdout cannot be asked."""
        synthetic = self.dataset.ordered(synthetic)
        coded = self._coded(synthetic)
        discrete = list(self.dataset.discrete)
        scores = {
            "shape": column_shapes(self.train, synthetic, discrete_columns=discrete),
            "trend": pair_trends(self.train, synthetic, discrete_columns=discrete),
            "trend_f": pair_trends(self.train, synthetic, bins="real", discrete_columns=discrete),
        }
        scores = {name: result.error_percent for name, result in scores.items()}
        detections = [
            two_sample_score(self.train, synthetic, classifier="xgboost", random_state=seed)
            for seed in FOLD_SEEDS
        ]
        scores["c2st"] = float(np.mean([result.value for result in detections]))
        scores["auc_train"] = float(np.mean([result.auc for result in detections]))
        scores["c2st_logistic"] = two_sample_score(
            self.train, synthetic, classifier="logistic", random_state=0
        ).value
        scores["copies"] = self._copies(coded)
        if not is_holdout:
            n = min(len(self.holdout), len(synthetic))
            scores["auc_holdout"] = self._detection(coded, n)
            scores["utility"] = self._utility(coded)
            scores["dcr"] = self._dcr(coded)
        return scores

    def _coded(self, table):
        """Numbers as float64 and categories as codes over the sorted levels of all real rows.

        A missing cell is NaN; a level that no real row holds is -1.
        """
        coded = {}
        for c in self.dataset.numerical:
            coded[c] = pd.to_numeric(table[c]).to_numpy(float, na_value=np.nan)
        for c in self.dataset.discrete:
            real = pd.concat([self.train[c], self.holdout[c]]).dropna()
            codes = pd.Index(real.unique()).sort_values().get_indexer(table[c]).astype(float)
            coded[c] = np.where(table[c].isna(), np.nan, codes)
        return pd.DataFrame(coded)

    def _utility(self, coded):
        """Train on these rows, test on the holdout: AUC, or RMSE for a regression."""
        target = self.dataset.target
        options = {"n_estimators": 150, "max_depth": 6, "learning_rate": 0.1}
        x, y = coded.drop(columns=target), coded[target]
        known = y.notna() & (self.dataset.regression | (y >= 0))
        x, y = x[known], y[known]
        x_test, y_test = self.coded_holdout.drop(columns=target), self.coded_holdout[target]
        if self.dataset.regression:
            model = XGBRegressor(**options, random_state=0).fit(x, y)
            return float(root_mean_squared_error(y_test, model.predict(x_test)))
        if y.nunique() < 2:
            return 0.5  # nothing to learn from one class
        model = XGBClassifier(**options, random_state=0).fit(x, y.astype(int))
        return float(roc_auc_score(y_test, model.predict_proba(x_test)[:, 1]))

    def _detection(self, coded, n):
        """AUC of a detector between `n` rows and `n` unseen rows, and its standard error."""
        aucs = []
        for seed in range(N_DETECTIONS):
            sides = [table.sample(n, random_state=seed) for table in (self.coded_holdout, coded)]
            x, y = pd.concat(sides, ignore_index=True), np.repeat([1, 0], n)
            x, x_test, y, y_test = train_test_split(
                x, y, test_size=0.3, stratify=y, random_state=seed
            )
            model = XGBClassifier(
                n_estimators=100,
                max_depth=6,
                learning_rate=0.2,
                random_state=seed,
            ).fit(x, y)
            aucs.append(roc_auc_score(y_test, model.predict_proba(x_test)[:, 1]))
        return {"mean": float(np.mean(aucs)), "se": float(np.std(aucs, ddof=1) / N_DETECTIONS**0.5)}

    def _copies(self, coded):
        """Share of rows that equal a row of train in every cell."""
        return float(np.mean([key in self.train_keys for key in _row_keys(coded)]))

    def _dcr(self, coded):
        """Share of rows nearer to train than to an equally large holdout; ties count half."""
        n = min(len(self.holdout), len(self.train))
        # With one seed for all, tables made from each other would be sampled at related rows.
        rows = coded.sample(min(N_DCR_ROWS, len(coded)), random_state=11)
        rows, train, holdout = (
            self._ranked(table)
            for table in (
                rows,
                self.coded_train.sample(n, random_state=12),
                self.coded_holdout.sample(n, random_state=13),
            )
        )
        to_train, to_holdout = _nearest(rows, train), _nearest(rows, holdout)
        tie = np.isclose(to_train, to_holdout, rtol=0, atol=1e-9)
        return float(np.mean(np.where(tie, 0.5, to_train < to_holdout)))

    def _ranked(self, coded):
        """Ranks of numbers within train, and indicators over sqrt(2): two levels are 1 apart."""
        blocks = []
        for c in self.dataset.numerical:
            known = np.sort(self.coded_train[c].dropna().to_numpy())
            cells = coded[c].to_numpy()
            ranks = sum(np.searchsorted(known, cells, side) for side in ("left", "right"))
            missing = np.isnan(cells)
            blocks.append(np.where(missing, 0.5, ranks / (2 * len(known)))[:, None])
            if self.coded_train[c].isna().any():
                blocks.append(missing[:, None] / np.sqrt(2))
        for c in self.dataset.discrete:
            codes = coded[c].fillna(-2).to_numpy()
            last = pd.concat([self.coded_train[c], self.coded_holdout[c]]).max()
            blocks.append((codes[:, None] == np.arange(-2, last + 1)) / np.sqrt(2))
        return np.hstack(blocks)


def _row_keys(coded):
    return pd.util.hash_pandas_object(coded, index=False).to_numpy().tolist()


def _nearest(rows, targets, chunk=500):
    """Squared distance from each row to the nearest of the targets."""
    norms = (targets**2).sum(axis=1)
    nearest = [
        (norms - 2 * part @ targets.T).min(axis=1) + (part**2).sum(axis=1)
        for part in np.array_split(rows, max(1, len(rows) // chunk))
    ]
    return np.concatenate(nearest)
