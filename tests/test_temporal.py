from datetime import UTC, time, timedelta, timezone

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from skvae.tabular import TabularTransformer, infer_schema

N_ROWS = 400


def moments(unit, *, step=1, n_rows=N_ROWS, start="2019-03-01"):
    """Moments a whole number of steps of a unit apart."""
    rng = np.random.default_rng(0)
    counts = np.datetime64(start, unit).astype(np.int64) + step * rng.integers(0, 3000, n_rows)
    return counts.astype(f"M8[{unit}]")


def schema_of(column, **kwargs):
    return infer_schema(pd.DataFrame({"x": column}), **kwargs)[0]


def with_holes(cells, missing=None):
    cells = np.array(list(cells), dtype=object)
    cells[::7] = missing
    return cells


SECONDS = pd.DatetimeIndex(moments("s").astype("M8[ns]"))
COLUMNS = {
    "datetime64[ns]": pd.Series(moments("ns")),
    "datetime64[us]": pd.Series(moments("us")),
    "datetime64[ms]": pd.Series(moments("ms")),
    "datetime64[s]": pd.Series(moments("s")),
    "days": pd.Series(moments("D").astype("M8[ns]")),
    "year 9999": pd.Series(moments("D", start="9990-01-01", n_rows=N_ROWS).astype("M8[s]")),
    "zoned": pd.Series(SECONDS.tz_localize("UTC").tz_convert("Europe/Berlin")),
    "fixed offset": pd.Series(SECONDS.tz_localize("UTC").tz_convert(timezone(timedelta(hours=5)))),
    "zoned[s]": pd.Series(SECONDS.as_unit("s").tz_localize("UTC")),
    "timedelta64[ns]": pd.Series(moments("ns").astype(np.int64).astype("m8[ns]")),
    "timedelta64[s]": pd.Series((moments("s") - np.datetime64("2019-06-01")).astype("m8[s]")),
    "timestamp[us]": pd.Series(SECONDS).astype(pd.ArrowDtype(pa.timestamp("us"))),
    "timestamp[ns, tz]": pd.Series(SECONDS).astype(pd.ArrowDtype(pa.timestamp("ns", "Asia/Tokyo"))),
    "date32": pd.Series(moments("D").tolist(), dtype=pd.ArrowDtype(pa.date32())),
    "date64": pd.Series(moments("D").tolist(), dtype=pd.ArrowDtype(pa.date64())),
    "duration": pd.Series(SECONDS - SECONDS[0]).astype(pd.ArrowDtype(pa.duration("ms"))),
    "time64": pd.Series(SECONDS.time, dtype=pd.ArrowDtype(pa.time64("us"))),
    "time32": pd.Series(SECONDS.time, dtype=pd.ArrowDtype(pa.time32("s"))),
    "dates": pd.Series(moments("D").tolist(), dtype=object),
    "far dates": pd.Series(moments("D", start="9990-01-01").tolist(), dtype=object),
    "datetimes": pd.Series(np.array(moments("us").tolist(), dtype=object), dtype=object),
    "zoned datetimes": pd.Series(
        np.array([d.replace(tzinfo=UTC) for d in moments("s").tolist()], dtype=object), dtype=object
    ),
    "timestamps": pd.Series(SECONDS.astype(object), dtype=object),
    "times": pd.Series(SECONDS.time, dtype=object),
    "timedeltas": pd.Series([timedelta(minutes=k % 90) for k in range(N_ROWS)], dtype=object),
    "ISO strings": pd.Series(moments("D").astype(str), dtype=object),
    "string dtype": pd.Series(moments("D").astype(str), dtype="string"),
    "clock strings": pd.Series(SECONDS.strftime("%d/%m/%Y %H:%M:%S"), dtype=object),
}


@pytest.mark.parametrize("holes", [False, True], ids=["whole", "missing cells"])
@pytest.mark.parametrize("name", COLUMNS)
def test_every_cell_comes_back_as_it_was(name, holes):
    column = COLUMNS[name].copy()
    if holes:
        column[::7] = None
    schema = schema_of(column)
    assert schema.kind in ("datetime", "timedelta", "time")
    assert schema.is_number
    values = schema.read_numbers(column)
    assert values.dtype == np.float64
    assert np.isnan(values).tolist() == column.isna().tolist()
    back = pd.Series(schema.write_numbers(values), name="x")
    pd.testing.assert_series_equal(back, column.rename("x"))
    if column.dtype == object:
        assert {type(cell) for cell in back} == {type(cell) for cell in column}


@pytest.mark.parametrize("marker", [None, np.nan, pd.NaT, pd.NA], ids=str)
def test_missing_dates_get_the_marker_back_that_they_came_with(marker):
    column = pd.Series(with_holes(moments("D").tolist(), marker), dtype=object)
    schema = schema_of(column)
    assert schema.write_numbers(schema.read_numbers(column))[7] is marker


@pytest.mark.parametrize(
    ("dates", "unit"),
    [
        (moments("Y", start="1900").astype("M8[s]")[:40] + np.timedelta64(0, "s"), "Y"),
        (moments("M", start="1900").astype("M8[s]"), "M"),
        (moments("D").astype("M8[ns]"), "D"),
        (moments("h").astype("M8[ns]"), "h"),
        (moments("m").astype("M8[ns]"), "m"),
        (moments("ms").astype("M8[ns]"), "ms"),
        (moments("ns"), "ns"),
    ],
)
def test_the_unit_is_the_coarsest_that_holds_all(dates, unit):
    assert schema_of(pd.Series(dates)).unit == unit


@pytest.mark.parametrize(("unit", "step"), [("M", 1), ("D", 7), ("m", 5), ("h", 12)])
def test_generated_dates_lie_on_the_grid_of_the_column(unit, step):
    if unit == "M":
        column = pd.Series(moments("M", start="1800", n_rows=3000).astype("M8[s]"))
    else:
        column = pd.Series(moments(unit, step=step, n_rows=3000).astype("M8[s]"))
    table = pd.DataFrame({"when": column})
    transformer = TabularTransformer(random_state=0)
    encoded = transformer.fit_encode(table)
    rng = np.random.default_rng(1)
    places = rng.random(encoded.places.shape)
    back = transformer.decode(encoded.codes, places, rng)["when"]
    assert not set(back) <= set(column)
    assert back.between(column.min(), column.max()).all()
    counts = back.to_numpy().astype(f"M8[{unit}]")
    assert (counts == back.to_numpy()).all()
    first = column.to_numpy().astype(f"M8[{unit}]").astype(np.int64)[0]
    assert ((counts.astype(np.int64) - first) % step == 0).all()


def test_midnights_stay_midnights_in_a_zone_that_changes_its_clock():
    days = pd.date_range("2015-01-01", periods=3000, tz="Europe/Berlin")
    transformer = TabularTransformer(random_state=0).fit(pd.DataFrame({"day": days}))
    Z = transformer.transform(pd.DataFrame({"day": days}))
    Z[:, 1] = np.random.default_rng(0).random(len(Z))
    back = transformer.inverse_transform(Z)["day"]
    assert back.dtype == days.dtype
    assert (back.dt.normalize() == back).all()


def test_hours_that_come_twice_or_never_are_written():
    hours = pd.date_range("2023-01-01", "2024-01-01", freq="20min", tz="Europe/Berlin")
    column = pd.Series(hours)
    schema = schema_of(column)
    values = schema.read_numbers(column)
    back = pd.Series(schema.write_numbers(values))
    unlike = column[back != column]
    assert len(unlike) == 3  # the first of the hours that come twice
    assert (unlike.dt.strftime("%m-%d %H") == "10-29 02").all()
    gap = np.arange(values.min(), values.max() + 1)  # some of these minutes never were
    assert pd.Series(schema.write_numbers(gap)).dt.tz is not None


def test_nanoseconds_over_years_are_rounded_to_microseconds():
    rng = np.random.default_rng(0)
    column = pd.Series((10**18 + rng.integers(0, 10**17, 500)).astype("M8[ns]"))
    schema = schema_of(column)
    assert schema.unit == "us"
    back = pd.Series(schema.write_numbers(schema.read_numbers(column)))
    assert (column - back).abs().max() < pd.Timedelta("1us")


def test_another_unit_or_zone_than_in_fit_is_read():
    schema = schema_of(pd.Series(SECONDS))
    as_seconds = schema.read_numbers(pd.Series(SECONDS.as_unit("s")))
    np.testing.assert_array_equal(as_seconds, schema.read_numbers(pd.Series(SECONDS)))
    zoned = pd.Series(SECONDS.tz_localize("UTC"))
    schema = schema_of(zoned)
    elsewhere = zoned.dt.tz_convert("America/New_York")
    np.testing.assert_array_equal(schema.read_numbers(elsewhere), schema.read_numbers(zoned))


@pytest.mark.parametrize(
    ("now", "found"),
    [
        (pd.Series([1.5, 2.5]), "holds float64"),
        (pd.Series(["a", "b"]), "now holds object"),
        (pd.Series(pd.to_timedelta([1, 2])), "holds timedelta"),
        (pd.Series(SECONDS.tz_localize("UTC")), "with a zone"),
    ],
)
def test_what_is_no_date_any_more_is_refused_by_the_name_of_the_column(now, found):
    schema = schema_of(pd.Series(SECONDS))
    with pytest.raises(
        ValueError, match=f"Column 'x' held datetimes in fit.*{found}.*dtype it had"
    ):
        schema.read_numbers(now)


def test_times_with_a_zone_are_refused():
    with pytest.raises(ValueError, match=r"Column 'x' holds times of day with a zone.*tzinfo=None"):
        schema_of(pd.Series([time(1, tzinfo=UTC)] * 30, dtype=object))


def test_cells_with_and_without_a_zone_are_refused():
    cells = [pd.Timestamp("2020-01-01", tz="UTC"), pd.Timestamp("2020-01-01")] * 15
    with pytest.raises(ValueError, match="Column 'x' holds 15 cells with a time zone among 30"):
        schema_of(pd.Series(cells, dtype=object))


@pytest.mark.parametrize("cells", [["2020"] * 30, ["12"] * 30, ["a-1"] * 30, ["2020-13-01"] * 30])
def test_strings_that_are_not_all_dates_stay_strings(cells):
    assert schema_of(pd.Series(cells)).kind == "categorical"
    mixture = ["2020-01-31"] * 29 + ["unknown"]
    assert schema_of(pd.Series(mixture)).kind == "categorical"


def test_dates_written_day_first_are_told_from_those_written_month_first():
    for date_format in ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y"):
        written = pd.DatetimeIndex(moments("D").astype("M8[s]")).strftime(date_format)
        assert schema_of(pd.Series(written)).date_format == date_format


def test_a_column_without_any_date_stays_empty():
    column = pd.Series([pd.NaT] * 8, dtype="datetime64[ns]")
    table = pd.DataFrame({"when": column, "x": range(8)})
    transformer = TabularTransformer().fit(table)
    back = transformer.inverse_transform(transformer.transform(table))
    pd.testing.assert_series_equal(back["when"], column.rename("when"))


def test_a_date_that_equals_an_earlier_one_is_a_copy():
    rng = np.random.default_rng(0)
    made = moments("s", n_rows=2000)
    changed = np.where(rng.random(2000) < 0.5, made, made + rng.integers(0, 10**6, 2000))
    table = pd.DataFrame({"made": made, "changed": changed})
    transformer = TabularTransformer(random_state=0)
    encoded = transformer.fit_encode(table)
    back = transformer.decode(encoded.codes, rng.random(encoded.places.shape), rng)
    same = (table["made"] == table["changed"]).to_numpy()
    assert (back["made"] == back["changed"])[same].mean() > 0.97


def test_dates_are_categories_if_the_user_says_so():
    column = pd.Series(pd.to_datetime(["2020-01-31", "2020-02-29"] * 20))
    table = pd.DataFrame({"when": column})
    transformer = TabularTransformer(column_kinds={"when": "categorical"}).fit(table)
    back = transformer.inverse_transform(transformer.transform(table))
    pd.testing.assert_frame_equal(back, table)
