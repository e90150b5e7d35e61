"""Which price a GPU gets, and what it says about itself."""

from decimal import Decimal

import pytest

from gpucost import config
from gpucost._config_file import Config
from gpucost._data import rows
from gpucost.errors import UsageError
from gpucost.manifest import Gpu, Manifest
from gpucost.prices import SOURCES, Quote, resolve, why_unpriced
from gpucost.prices.book import quote

H100 = "NVIDIA H100 80GB HBM3"
STARTED_NS = 1_785_000_000_000_000_000  # 2026-07-25
DAY_NS = 86_400_000_000_000


def manifest_of(*gpus: Gpu, **fields) -> Manifest:
    return Manifest("r", ["c"], STARTED_NS, 0, gpus=list(gpus), **fields)


def price_of(gpu: Gpu, *, cli=None, environ=None, config=None, **fields) -> Quote | None:
    return resolve(manifest_of(gpu, **fields), cli, environ or {}, config)[gpu.uuid]


def test_the_sources_answer_in_their_order():
    gpu = Gpu("GPU-1", H100)
    closed = Quote(Decimal(5), "then", "list price").to_json()
    ask = {
        "cli": "1",
        "price_request": "2",
        "environ": {"GPUCOST_PRICE": "3"},
        "config": Config(price=Decimal(4)),
        "quotes": {"GPU-1": closed},
    }
    found = []
    for name in list(ask):
        found.append(price_of(gpu, **ask).amount)
        del ask[name]
    found.append(price_of(gpu).amount)
    assert found == [1, 2, 3, 4, 5, Decimal("6.88")]
    assert list(SOURCES) == ["command line", "recording", "environment", "configuration", "closed run", "book"]


def test_each_quote_says_who_said_it():
    gpu = Gpu("GPU-1", H100)
    assert price_of(gpu, cli="$1/h").source == "--price"
    assert price_of(gpu, environ={"GPUCOST_PRICE": "1"}).source == "GPUCOST_PRICE"
    assert price_of(gpu, price_request="1").basis == "user"
    assert price_of(gpu, config=Config(path="/a/gpucost.toml", price=Decimal(1))).source == "gpucost.toml price"


def test_the_configuration_answers_for_a_uuid_before_a_name_before_all():
    prices = {"GPU-1": Decimal(1), H100: Decimal(2)}
    settings = Config(price=Decimal(3), prices=prices)
    found = [
        price_of(gpu, config=settings).amount
        for gpu in (Gpu("GPU-1", H100), Gpu("GPU-2", H100), Gpu("GPU-3", "Tesla T4"))
    ]
    assert found == [1, 2, 3]


def test_an_empty_variable_is_not_a_price():
    assert price_of(Gpu("GPU-1", H100), environ={"GPUCOST_PRICE": ""}).basis == "list price"


@pytest.mark.parametrize("ask", [{"cli": "abc"}, {"environ": {"GPUCOST_PRICE": "abc"}}])
def test_a_bad_price_said_now_is_an_error(ask):
    with pytest.raises(UsageError):
        price_of(Gpu("GPU-1", H100), **ask)


@pytest.mark.parametrize(
    "junk", [{"price_request": "abc"}, {"quotes": {"GPU-1": {"amount": "NaN"}}}, {"quotes": {"GPU-1": 7}}]
)
def test_junk_in_a_manifest_is_no_price_and_no_crash(junk):
    assert price_of(Gpu("GPU-1", H100), **junk).basis == "list price"


def test_a_gpu_that_nobody_knows_has_no_price_and_the_reason_says_what_to_do():
    gpu = Gpu("GPU-1", "NVIDIA Imaginary 9000")
    assert price_of(gpu) is None
    assert "--price" in why_unpriced(gpu)


def test_a_price_of_exactly_zero_is_kept_and_said():
    found = price_of(Gpu("GPU-1", "NVIDIA Imaginary 9000"), cli="0")
    assert found.amount == 0
    assert "zero" in found.note


def test_a_list_price_is_the_lowest_and_tells_its_range_and_its_date():
    found = quote(H100)
    assert (found.amount, found.provider, found.mode, found.as_of) == (
        Decimal("6.88"),
        "aws",
        "on_demand",
        "2026-07-20",
    )
    assert found.note == "lowest of 14 on-demand list prices, 6.88 to 15.98 USD per GPU-hour"


def test_names_are_matched_exactly():
    assert quote("H100") is None
    assert quote("NVIDIA H100 PCIe") is None
    assert quote(H100.lower()) is None


def test_surcharges_and_fractions_are_not_prices_of_a_gpu():
    assert quote("Tesla P4") is None, "only known as a surcharge on a machine"
    found = [row for row in rows("gpu_prices.csv") if row["price_key"] == "L4"]
    assert {row["scope"] for row in found} == {"host", "fraction"}
    whole = [Decimal(row["usd_per_hour"]) / Decimal(row["gpu_count"]) for row in found if row["scope"] == "host"]
    assert quote("NVIDIA L4").amount == min(whole)


def test_every_shipped_price_has_a_licensed_source_and_every_machine_price_a_date():
    found = rows("gpu_prices.csv")
    assert len(found) == 243
    assert {row["provider"] for row in found} == {"aws", "azure", "gcp"}
    assert all("Apache-2.0" in row["source"] for row in found)
    assert all(row["as_of"] for row in found if row["scope"] == "host")


def test_a_price_is_stale_by_the_run_not_by_today():
    gpu = Gpu("GPU-1", H100)
    as_of_ns = 1_784_505_600_000_000_000  # 2026-07-20, the date of the list price
    stale = [
        resolve(Manifest("r", ["c"], as_of_ns + days * DAY_NS, 0, gpus=[gpu]))["GPU-1"].stale
        for days in (-400, 0, 90, 91, 4000)
    ]
    assert stale == [False, False, False, True, True]


def test_a_price_somebody_gave_is_never_stale():
    assert price_of(Gpu("GPU-1", H100), cli="1").stale is False


def test_a_mig_device_costs_its_fraction_of_the_gpu():
    gpu = Gpu("MIG-1", "NVIDIA H100 80GB HBM3 MIG 3g.40gb", mig_parent_uuid="GPU-1", mig_fraction=0.5)
    assert price_of(gpu).amount == Decimal("3.44")
    assert price_of(gpu, cli="2").amount == Decimal("1.0")
    assert "0.5 of 2 USD" in price_of(gpu, cli="2").note


def test_a_mig_device_of_unknown_fraction_has_no_price():
    gpu = Gpu("MIG-1", "NVIDIA H100 80GB HBM3 MIG 3g.40gb", mig_parent_uuid="GPU-1")
    assert price_of(gpu, cli="2") is None
    assert "fraction" in why_unpriced(gpu)


def test_a_configured_price_of_the_slice_itself_is_not_divided_again():
    gpu = Gpu("MIG-1", "NVIDIA H100 80GB HBM3 MIG 3g.40gb", mig_parent_uuid="GPU-1", mig_fraction=0.5)
    assert price_of(gpu, config=Config(prices={"MIG-1": Decimal(2)})).amount == 2
    assert price_of(gpu, config=Config(prices={H100: Decimal(2)})).amount == 1


def test_a_quote_survives_the_manifest():
    found = quote(H100)
    assert Quote.from_json(found.to_json()) == found


def test_a_configuration_file_reaches_the_price(tmp_path):
    (tmp_path / "gpucost.toml").write_text(f'price = 1.5\n[prices]\n"{H100}" = "2.25/h"\n')
    settings = config.load(tmp_path)
    assert price_of(Gpu("GPU-1", H100), config=settings).amount == Decimal("2.25")
    assert price_of(Gpu("GPU-2", "Tesla T4"), config=settings).amount == Decimal("1.5")
