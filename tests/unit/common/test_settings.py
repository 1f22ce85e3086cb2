import pytest

from services.common.settings import CommonSettings, ExportSettings, ServiceSettings, child_environment, load
from services.embedding.settings import EmbeddingSettings

ALL = [CommonSettings, ServiceSettings, EmbeddingSettings, ExportSettings]


@pytest.mark.parametrize("settings", ALL)
def test_every_field_is_documented(settings):
    assert [name for name, field in settings.model_fields.items() if not field.description] == []


def test_a_bad_value_is_one_line_and_exit_2(monkeypatch, capsys):
    monkeypatch.setenv("FLOTILLA_LOG_LEVEL", "LOUD")
    with pytest.raises(SystemExit) as caught:
        load(CommonSettings)
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines()[0].startswith("FLOTILLA_LOG_LEVEL='LOUD': ")


def test_profiles_of_single_models_are_pairs(monkeypatch, capsys):
    monkeypatch.setenv("FLOTILLA_EMBEDDING_PROFILES", "a-model=cpu-int8, other = cpu-fp32,")
    assert load(EmbeddingSettings).profiles == {"a-model": "cpu-int8", "other": "cpu-fp32"}
    for value, fault in (
        ("cpu-int8", "is not of the form"),
        ("=x", "is not of the form"),
        ("a=x,a=y", "is there twice"),
    ):
        monkeypatch.setenv("FLOTILLA_EMBEDDING_PROFILES", value)
        with pytest.raises(SystemExit):
            load(EmbeddingSettings)
        line = capsys.readouterr().err
        assert line.startswith(f"FLOTILLA_EMBEDDING_PROFILES={value!r}: ")
        assert fault in line


def test_an_empty_variable_counts_as_unset(monkeypatch):
    monkeypatch.setenv("FLOTILLA_EMBEDDING_TRITON_URL", "")
    monkeypatch.setenv("FLOTILLA_MODEL_STORE", "")
    settings = load(EmbeddingSettings)
    assert settings.triton_url is None
    assert settings.common.model_store.is_absolute()


@pytest.mark.parametrize(
    ("environment", "traces", "metrics"),
    [
        ({}, False, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, True, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "TRUE"}, False, False),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, True, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_METRICS_EXPORTER": "none"}, True, False),
    ],
)
def test_export_follows_the_standard_variables(monkeypatch, environment, traces, metrics):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = load(ExportSettings)
    assert (settings.traces, settings.metrics) == (traces, metrics)


def test_a_child_gets_only_what_it_needs(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("SECRET", "s")
    assert child_environment()["CUDA_VISIBLE_DEVICES"] == "1"
    assert "SECRET" not in child_environment()


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({}, None),
        ({"EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "http://c:4318/v1/traces"),
        ({"EXPORTER_OTLP_ENDPOINT": "http://c:4318/"}, "http://c:4318/v1/traces"),
        ({"EXPORTER_OTLP_TRACES_ENDPOINT": "http://d/traces"}, "http://d/traces"),
        ({"EXPORTER_OTLP_ENDPOINT": "http://c:4317", "EXPORTER_OTLP_PROTOCOL": "grpc"}, None),
        ({"EXPORTER_OTLP_ENDPOINT": "http://c:4318", "TRACES_EXPORTER": "none"}, None),
        ({"EXPORTER_OTLP_METRICS_ENDPOINT": "http://c:4318"}, None),
    ],
)
def test_tritons_spans_go_where_ours_go_if_that_is_http(monkeypatch, environment, url):
    for name, value in environment.items():
        monkeypatch.setenv(f"OTEL_{name}", value)
    assert ExportSettings().traces_url == url
