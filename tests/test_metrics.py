import pytest

from joma.errors import BadInput
from joma.measure.attention.statistics import AttentionStatistics
from joma.measure.models.weights import SPECTRA
from joma.metrics import DEFAULT, METRICS, choose_metrics, sources_of


def test_every_statistic_of_the_kernel_has_a_record_and_every_watched_record_a_statistic():
    of_kernel = {f"attention_{name}" for name in AttentionStatistics._fields}
    assert of_kernel == set(choose_metrics("attention", "watch"))


def test_every_metric_of_weights_has_a_function():
    assert set(SPECTRA) == set(choose_metrics("weights", "scan"))


def test_names_carry_their_unit():
    assert all(name.endswith("_nats") == (metric.unit == "nats") for name, metric in METRICS.items())


def test_a_source_means_all_of_its_metrics_in_the_order_of_the_records():
    assert choose_metrics("weights,attention_entropy_nats", "scan") == (
        "attention_entropy_nats",
        "stable_rank",
        "spectral_norm",
        "effective_rank",
    )
    assert choose_metrics(("all",), "scan") == tuple(name for name, m in METRICS.items() if "scan" in m.measured_by)
    assert sources_of(choose_metrics(DEFAULT, "watch")) == {"attention", "weights"}


@pytest.mark.parametrize(
    ("names", "instrument", "message"),
    [
        ("atention", "scan", "did you mean 'attention'"),
        ("stable-rank", "watch", "did you mean 'stable_rank'"),
        ("val_loss_nats", "watch", "no metric 'val_loss_nats' for watch"),
        ("attention_window_share", "scan", "for scan"),
        (" , ", "scan", "no metric is named"),
        ((), "watch", "no metric is named"),
    ],
)
def test_an_unknown_metric_is_refused_with_the_nearest(names, instrument, message):
    with pytest.raises(BadInput, match=message):
        choose_metrics(names, instrument)
