"""Sampling under conditions: they hold in each row and steer the other columns."""

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from skvae import TVAESynthesizer
from skvae._synthesis.conditional import _PILOTS
from skvae.models import AutoregressiveTVAE
from skvae.models.enumeration import code_log_proba, propose_latents
from skvae.models.given import draw_given
from skvae.models.lookahead import Pilots
from skvae.models.particles import Evidence, systematic

NEXT = {"a": "b", "b": "c", "c": "a"}


def make_table(n=1500, seed=0):
    """``late`` follows ``early`` in nine rows of ten, ``x`` is around its position."""
    rng = np.random.default_rng(seed)
    early = rng.choice(list("abc"), n, p=[0.6, 0.3, 0.1])
    follows = rng.random(n) < 0.9
    late = np.where(follows, [NEXT[level] for level in early], rng.choice(list("abc"), n))
    x = np.select([early == "a", early == "b"], [0.0, 5.0], 10.0) + rng.normal(0, 0.5, n)
    flag = np.where(rng.random(n) < 0.2, None, rng.random(n) < 0.5)
    return pd.DataFrame(
        {
            "early": early,
            "x": x,
            "whole": np.rint(40 * x + 100).astype(int),
            "flag": flag,
            "late": late,
        }
    )


def fitted(**params):
    settings = {"max_epochs": 30, "batch_size": 64, "device": "cpu", "random_state": 0}
    return TVAESynthesizer(**{**settings, **params}).fit(make_table())


@pytest.fixture(scope="module")
def plain():
    return fitted()


@pytest.fixture(scope="module", params=["plain", "first", "random", "paper"])
def any_model(request, plain):
    if request.param == "plain":
        return plain
    if request.param == "paper":
        return TVAESynthesizer.from_preset(
            "paper", max_epochs=60, device="cpu", random_state=0
        ).fit(make_table())
    return fitted(
        **{"first": {"condition_columns": ["late", "x"]}, "random": {"column_order": "random"}}[
            request.param
        ]
    )


CONDITIONS = {
    "value": ({"late": "c"}, lambda r: r["late"] == "c"),
    "set": ({"late": ["a", "c"]}, lambda r: r["late"].isin(["a", "c"])),
    "range": ({"x": (4.7, 5.2)}, lambda r: r["x"].between(4.7, 5.2)),
    "whole": ({"whole": (290, 310)}, lambda r: r["whole"].between(290, 310)),
    "number": ({"whole": 300}, lambda r: r["whole"] == 300),
    "open": ({"x": (None, 0.1)}, lambda r: r["x"] <= 0.1),
    "missing": ({"flag": None}, lambda r: r["flag"].isna()),
    "two": (
        {"late": "c", "x": (4, None)},
        lambda r: (r["late"] == "c") & (r["x"] >= 4),
    ),
}


@pytest.mark.parametrize(
    "wanted",
    [
        {"conditions": {"late": "c", "x": (4, None)}},
        {"rebalance": {"late": {"c": 0.5}}},
        {"rebalance": {"late": {"c": 0.5}, "early": {"a": 0.2}}},
    ],
    ids=["conditions", "rebalance", "rebalance two"],
)
class TestHowMany:
    def test_no_rows_are_an_empty_table_of_the_same_columns(self, any_model, wanted):
        rows = any_model.sample(0, **wanted, random_state=0)
        assert rows.shape == (0, 5)
        pd.testing.assert_series_equal(rows.dtypes, any_model.sample(3, random_state=0).dtypes)

    @pytest.mark.filterwarnings("ignore:Conditions on:UserWarning")
    def test_one_particle_a_row_is_enough_to_draw(self, any_model, wanted):
        rows = any_model.sample(1500, **wanted, n_particles=1, random_state=0)
        assert len(rows) == 1500
        assert (rows["late"] == "c").mean() == (1 if "conditions" in wanted else 0.5)


class TestPilots:
    def test_they_are_kept_small_and_drawn_once_for_a_temperature_and_device(self, plain):
        plain.sample(5, conditions={"late": "c"}, random_state=0)
        (temperature, device), pilots = _PILOTS[plain.model_]
        assert (temperature, device) == (plain.temperature, torch.device("cpu"))
        assert pilots.codes.dtype == torch.int32
        plain.sample(5, conditions={"late": "a"}, random_state=0)
        assert _PILOTS[plain.model_][1] is pilots

    def test_those_of_another_device_are_not_used(self, plain):
        rows = plain.sample(50, conditions={"late": "c"}, random_state=0)
        (temperature, _), pilots = _PILOTS[plain.model_]
        elsewhere = Pilots(None, pilots.codes.to("meta"))
        _PILOTS[plain.model_] = (temperature, torch.device("meta")), elsewhere
        again = plain.sample(50, conditions={"late": "c"}, random_state=0)
        pd.testing.assert_frame_equal(again, rows)


class TestConditionsHold:
    @pytest.mark.filterwarnings("ignore:Conditions on:UserWarning")
    @pytest.mark.parametrize("name", CONDITIONS)
    def test_in_each_row(self, any_model, name):
        conditions, holds = CONDITIONS[name]
        rows = any_model.sample(200, conditions=conditions, random_state=0)
        assert len(rows) == 200
        assert holds(rows).all()
        pd.testing.assert_series_equal(rows.dtypes, make_table().dtypes)

    def test_the_columns_before_follow(self, any_model):
        rows = any_model.sample(1500, conditions={"late": "c"}, random_state=0)
        real = make_table(60_000, seed=1).query("late == 'c'")
        shares = rows["early"].value_counts(normalize=True)
        expected = real["early"].value_counts(normalize=True)
        # Without the condition: 0.6, 0.3, 0.1.
        margin = 0.12 if any_model.decoder == "autoregressive" else 0.3
        assert shares.sub(expected, fill_value=0).abs().max() < margin
        assert rows["x"].mean() == pytest.approx(real["x"].mean(), abs=5 * margin)

    def test_rows_are_not_copies_of_each_other(self, plain):
        rows = plain.sample(400, conditions={"late": "b"}, random_state=0)
        assert rows["x"].nunique() > 395

    def test_a_seed_gives_the_same_rows(self, plain):
        first, again, other = (
            plain.sample(30, conditions={"late": "b"}, random_state=seed) for seed in (1, 1, 2)
        )
        pd.testing.assert_frame_equal(first, again)
        assert not first.equals(other)

    def test_few_effective_particles_are_reported(self, plain):
        with pytest.warns(
            UserWarning, match=r"Conditions on \['late', 'early'\] left .* effective"
        ):
            plain.sample(500, conditions={"late": "a", "early": "a"}, n_particles=1, random_state=0)

    def test_conditions_of_other_types_are_refused(self, plain):
        with pytest.raises(ValueError, match="conditions are of type list, expected a dict"):
            plain.sample(3, conditions=["late"])


class TestTablesOfConditions:
    def test_fixed_cells_come_back_and_empty_ones_are_drawn(self, any_model):
        wanted = pd.DataFrame(
            {"x": [5.25, np.nan, 0.125] * 20, "late": ["c", "a", None] * 20}, index=range(7, 67)
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            rows = any_model.sample(conditions=wanted, random_state=0)
        assert rows.index.equals(wanted.index)
        assert list(rows.columns) == list(make_table().columns)
        for name in wanted:
            known = wanted[name].notna()
            np.testing.assert_array_equal(rows.loc[known, name], wanted.loc[known, name])
        assert rows["x"].notna().all()
        assert rows["x"][wanted["x"].isna()].nunique() > 15

    def test_cells_that_no_row_can_hold_are_refused(self, plain):
        with pytest.raises(ValueError, match="the conditions on 'late' hold 'z'"):
            plain.sample(conditions=pd.DataFrame({"late": ["a", "z"]}))

    def test_booleans_are_no_numbers(self, plain):
        with pytest.raises(ValueError, match=r"conditions\['whole'\] asks for True, a boolean"):
            plain.sample(conditions=pd.DataFrame({"whole": [True, False]}))

    def test_another_number_of_rows_is_refused(self, plain):
        with pytest.raises(ValueError, match="n_samples=3 with conditions of 2 rows"):
            plain.sample(3, conditions=pd.DataFrame({"late": ["a", "b"]}))


class TestRebalance:
    def test_shares_are_met_to_the_row(self, any_model):
        rows = any_model.sample(200, rebalance={"early": {"c": 0.5, "b": 0.1}}, random_state=0)
        assert rows["early"].value_counts().to_dict() == {"c": 100, "a": 80, "b": 20}

    def test_it_goes_with_conditions(self, plain):
        rows = plain.sample(
            100, conditions={"x": (4, 12)}, rebalance={"late": {"c": 0.5}}, random_state=0
        )
        assert (rows["late"] == "c").sum() == 50
        assert rows["x"].between(4, 12).all()

    @pytest.mark.parametrize(
        ("rebalance", "message"),
        [
            ({"early": {"a": 0.7, "b": 0.7}}, "sum to 1.4, expected at most 1"),
            ({"early": {"a": 2}}, "expected a share from 0 to 1"),
            ({"early": {"z": 0.5}}, "asks for 'z'"),
            ({"early": {"a": 0.2, "b": 0.2, "c": 0.2}}, "names all values"),
            ({}, "rebalance={}, expected a dict of columns"),
            (["early"], r"rebalance=\['early'\], expected a dict of columns"),
            ({"early": 0.5}, r"rebalance\['early'\]=0.5, expected a dict of value to share"),
            ({"early": {"a": True}}, r"\['early'\]\['a'\]=True, expected a share from 0 to 1"),
            ({"early": {"z": 0.5}}, r"^rebalance\['early'\] asks for 'z'"),
            ({"other": {"a": 0.5}}, "rebalance names 'other', which is not a column"),
            ({"x": {5.25: 0.2}}, r"rebalance\['x'\] names 5.25, a number among the rare ones"),
            ({"x": {(1, 2): 0.2}}, "ranges have no shares"),
            ({"whole": {True: 0.2}}, r"^rebalance\['whole'\] asks for True, a boolean"),
            ({"early": {"a": 0.1, frozenset("ab"): 0.2}}, "names a value twice"),
        ],
    )
    def test_what_cannot_be_is_refused(self, plain, rebalance, message):
        with pytest.raises(ValueError, match=message):
            plain.sample(10, rebalance=rebalance)

    def test_one_column_is_not_in_conditions_too(self, plain):
        with pytest.raises(ValueError, match=r"rebalance\['late'\] and conditions\['late'\]"):
            plain.sample(10, conditions={"late": "a"}, rebalance={"late": {"a": 0.5}})

    def test_shares_of_several_columns_are_all_met(self, any_model):
        rows = any_model.sample(
            600,
            rebalance={"early": {"c": 0.5, "b": 0.3}, "late": {"a": 0.25}, "flag": {None: 0.1}},
            random_state=0,
        )
        assert rows["early"].value_counts().to_dict() == {"c": 300, "b": 180, "a": 120}
        assert (rows["late"] == "a").sum() == 150
        assert rows["flag"].isna().sum() == 60

    def test_columns_keep_how_they_go_together(self, plain):
        free = plain.sample(4000, random_state=0)
        rows = plain.sample(
            4000, rebalance={"early": {"c": 0.4}, "late": {"a": 0.3}}, random_state=0
        )

        def log_odds(table):
            counts = pd.crosstab(table["early"] == "c", table["late"] == "a").to_numpy()
            return np.log(counts[0, 0] * counts[1, 1] / (counts[0, 1] * counts[1, 0]))

        # Drawn apart, the columns would be independent: log odds of 0.
        assert log_odds(free) > 2
        assert log_odds(rows) == pytest.approx(log_odds(free), abs=0.5)

    def test_several_columns_go_with_conditions(self, plain):
        rows = plain.sample(
            200,
            conditions={"x": (4, 12)},
            rebalance={"late": {"c": 0.5}, "flag": {True: 0.7}},
            random_state=0,
        )
        assert rows["x"].between(4, 12).all()
        assert (rows["late"] == "c").sum() == 100
        assert (rows["flag"] == True).sum() == 140  # noqa: E712


@pytest.fixture(scope="module")
def towns():
    """A table whose column of 160 levels goes with the one before it, and with one after it."""
    rng = np.random.default_rng(0)
    n = 6000
    town = np.minimum(rng.zipf(1.3, n), 400)
    region = np.where(rng.random(n) < 0.95, town % 3, rng.integers(0, 3, n))
    return pd.DataFrame(
        {
            "region": [f"r{k}" for k in region],
            "town": [f"t{k}" for k in town],
            "size": np.log(town) + rng.normal(0, 0.2, n),
        }
    )


@pytest.fixture(scope="module", params=["table", "first", "random"])
def of_towns(request, towns):
    params = {"first": {"condition_columns": ["town"]}, "random": {"column_order": "random"}}
    return TVAESynthesizer(
        max_categories=24,
        max_epochs=12,
        device="cpu",
        random_state=0,
        **params.get(request.param, {}),
    ).fit(towns)


class TestColumnsOfManyLevels:
    def test_one_level_steers_the_other_columns(self, of_towns, towns):
        assert max(of_towns.model_.cardinalities[:2]) <= 24
        for level in ("t1", "t2"):
            rows = of_towns.sample(500, conditions={"town": level}, random_state=0)
            real = towns[towns["town"] == level]
            assert (rows["town"] == level).all()
            top = real["region"].mode()[0]
            assert (rows["region"] == top).mean() > 0.8
            assert rows["size"].mean() == pytest.approx(real["size"].mean(), abs=0.2)

    def test_levels_of_a_list_come_as_often_as_they_do_by_nature(self, of_towns, towns):
        levels = ["t1", "t4", "t30", "t31"]
        rows = of_towns.sample(4000, conditions={"town": levels}, random_state=0)
        real = towns["town"][towns["town"].isin(levels)].value_counts(normalize=True)
        found = rows["town"].value_counts(normalize=True)
        assert found.sub(real, fill_value=0).abs().sum() / 2 < 0.06
        assert set(found.index) <= set(levels)

    def test_rare_levels_alone(self, of_towns):
        rows = of_towns.sample(300, conditions={"town": ["t29", "t31"]}, random_state=0)
        assert rows["town"].value_counts(normalize=True).between(0.25, 0.75).all()
        assert rows["size"].mean() == pytest.approx(np.log(30), abs=0.4)

    def test_tables_of_cells(self, of_towns):
        wanted = pd.DataFrame({"town": ["t3", "t31", None] * 20})
        rows = of_towns.sample(conditions=wanted, random_state=0)
        known = wanted["town"].notna()
        assert (rows["town"][known] == wanted["town"][known]).all()
        assert rows["town"][~known].nunique() > 5

    def test_shares(self, of_towns):
        rows = of_towns.sample(200, rebalance={"town": {"t2": 0.5, "t31": 0.2}}, random_state=0)
        assert (rows["town"] == "t2").sum() == 100
        assert (rows["town"] == "t31").sum() == 40
        assert rows["town"].nunique() > 5

    def test_a_level_that_is_not_there_is_refused(self, of_towns):
        with pytest.raises(ValueError, match=r"conditions\['town'\] asks for 'u1'.*'t1'"):
            of_towns.sample(conditions={"town": ["t2", "u1"]})

    def test_the_factorized_decoder_takes_one_level_at_a_time(self, towns):
        model = TVAESynthesizer(
            decoder="factorized", max_categories=24, max_epochs=1, device="cpu", random_state=0
        ).fit(towns)
        rows = model.sample(50, conditions={"town": "t31"}, random_state=0)
        assert (rows["town"] == "t31").all()
        with pytest.raises(ValueError, match=r"Several values of 'town'.*decoder='autoregressive'"):
            model.sample(5, conditions={"town": ["t1", "t2"]})


class TestParameters:
    def test_temperature_makes_rows_more_or_less_alike(self, plain):
        follows = []
        for temperature in (0.3, 1.0, 5.0):
            rows = plain.set_params(temperature=temperature).sample(2000, random_state=0)
            follows.append((rows["early"].map(NEXT) == rows["late"]).mean())
        plain.set_params(temperature=1.0)
        assert follows[0] > follows[1] + 0.02
        assert follows[1] > follows[2] + 0.1

    def test_the_paper_s_model_has_no_order(self):
        for params in ({"condition_columns": ["x"]}, {"column_order": "random"}):
            with pytest.raises(ValueError, match=r"needs\s.*decoder='autoregressive'"):
                TVAESynthesizer.from_preset("paper", **params).fit(make_table(50))

    def test_a_condition_column_must_be_there(self):
        with pytest.raises(ValueError, match="condition_columns names 'y'"):
            TVAESynthesizer(max_epochs=1, condition_columns=["y"]).fit(make_table(50))


@pytest.fixture
def small():
    """A model of three columns with random weights, small enough to enumerate."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        sizes = [2, 3, 2]
        model = AutoregressiveTVAE(
            sizes,
            [None] * 3,
            [np.ones(n) for n in sizes],
            latent_dim=2,
            hidden=(8, 8),
            column_hidden=(8, 8),
            embedding_dim=4,
        )
        for parameter in model.parameters():
            parameter.data.normal_(std=0.7)
        model.causal.project_parameters()
    return model.eval()


def joint(model, z):
    """p(x) of every row, with latents integrated by Monte Carlo."""
    rows = torch.tensor(list(itertools.product(*(range(n) for n in model.cardinalities))))
    with torch.no_grad():
        log_prob = torch.stack(
            [
                model.log_likelihood(
                    (row.expand(len(z), -1),), model.decode(z, (row.expand(len(z), -1),))
                )
                for row in rows
            ]
        )
    return rows, log_prob.double().exp().mean(1)


class TestAgainstEnumeration:
    def test_particles_have_the_conditional_distribution(self, small):
        generator = torch.Generator().manual_seed(0)
        rows, prob = joint(small, torch.randn(20_000, 2, generator=generator))
        n = 40_000
        evidence = Evidence(torch.tensor([[-1, -1, 1]]), torch.zeros(1, 3))
        draws = draw_given(
            small,
            torch.randn(n, 2, generator=generator),
            torch.tensor([n]),
            evidence,
            torch.tensor([n]),
            generator=generator,
        )
        expected = prob * (rows[:, 2] == 1)
        expected = expected / expected.sum()
        found = torch.stack([(draws.codes == row).all(1).double().mean() for row in rows])
        assert (found - expected).abs().sum() / 2 < 0.015
        assert 0 < draws.effective.item() <= 4 * n

    @pytest.mark.parametrize("known", [[1, -1, 1], [-1, -1, 1], [0, -1, -1]])
    def test_code_probabilities_are_those_of_the_joint(self, small, known):
        generator = torch.Generator().manual_seed(0)
        rows, prob = joint(small, torch.randn(20_000, 2, generator=generator))
        agrees = torch.stack([(rows[:, c] == k) | (k < 0) for c, k in enumerate(known)]).all(0)
        expected = torch.stack([prob[agrees & (rows[:, 1] == k)].sum() for k in range(3)])
        found = code_log_proba(
            small,
            torch.tensor([known]).repeat(200, 1),
            torch.zeros(200, 3),
            1,
            [torch.ones(n) for n in small.cardinalities],
            n_latents=64,
            generator=generator,
        )
        np.testing.assert_allclose(found.exp().mean(0), expected / expected.sum(), atol=0.01)


class TestProposedLatents:
    def propose(self, small, n_latents, n_rows=20_000):
        codes = torch.full((n_rows, 3), -1)
        counts = [torch.ones(n) for n in small.cardinalities]
        generator = torch.Generator().manual_seed(0)
        found = propose_latents(small, codes, torch.zeros(n_rows, 3), counts, n_latents, generator)
        return found[0].view(n_rows, n_latents, -1), found[1].view(n_rows, n_latents)

    @pytest.mark.parametrize("n_latents", [1, 2, 3, 8, 13])
    def test_weighted_they_are_draws_from_the_prior(self, small, n_latents):
        z, log_weight = self.propose(small, n_latents)
        weight = log_weight.exp()[:, :, None]
        assert weight.mean() == pytest.approx(1.0, abs=0.02)
        assert ((weight * z).mean((0, 1))).abs().max() < 0.02
        assert ((weight * z.square()).mean((0, 1)) - 1).abs().max() < 0.04
        assert (weight * z.prod(2, keepdim=True)).mean().abs() < 0.02

    def test_each_of_the_prior_s_is_normal_and_pairs_are_opposite_and_at_right_angles(self, small):
        z, _ = self.propose(small, 13)
        for latents in (z[:, 0], z[:, 1], z[:, 8]):
            assert latents.mean(0).abs().max() < 0.03
            assert (latents.var(0) - 1).abs().max() < 0.05
            assert (latents.abs() < 0.6745).float().mean() == pytest.approx(0.5, abs=0.01)
        torch.testing.assert_close(z[:, 0], -z[:, 1])
        pair, next_pair = z[:, 4] - z[:, 5], z[:, 6] - z[:, 7]  # of the posterior
        cosines = torch.cosine_similarity(pair / pair.std(0), next_pair / pair.std(0))
        assert cosines.abs().max() < 0.1


def test_systematic_draws_stay_within_their_groups_and_follow_the_weights():
    weight = torch.tensor([0.5, 0.25, 0.25, 0.0, 1.0], dtype=torch.float64)
    index = systematic(weight, torch.tensor([3, 2]), torch.tensor([8, 3]), None)
    assert torch.bincount(index, minlength=5).tolist() == [4, 2, 2, 0, 3]
